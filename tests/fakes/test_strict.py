"""The fakes have the members of each version of the real classes, and no others."""

from typing import Any

import pytest
from fakes import cuda as fake_cuda
from fakes import tensorrt as fake_tensorrt
from fakes.cuda import FakeCuda
from fakes.strict import ClosedError, make_enum, make_strict, unknown_members
from fakes.tensorrt import FakeTensorRT
from helpers import foreign_api

CUDA_CORE = foreign_api.read_versions("cuda_core_api.json")
TENSORRT = foreign_api.read_versions("tensorrt_api.json")


class Behaviour:
    """Of a Stream."""

    handle = property(lambda self: 7)

    def __init__(self) -> None:
        self._closed = False

    def sync(self) -> str:
        return "done"

    def wait(self, event_or_stream: Any) -> Any:
        return event_or_stream

    def close(self) -> None:
        self._closed = True

    def synchronise(self) -> None:
        """cuda-core has none."""


@pytest.fixture
def stream() -> Any:
    return make_strict(CUDA_CORE["1.2.2"], "Stream", Behaviour)()


def test_behaviour_exists_under_the_real_names_only(stream: Any) -> None:
    assert (stream.handle, stream.sync(), stream.wait(3), stream.wait(event_or_stream=4)) == (7, "done", 3, 4)
    with pytest.raises(AttributeError):
        stream.synchronise()


@pytest.mark.parametrize("act", [lambda s: s.sync(1), lambda s: s.wait(), lambda s: s.wait(event=1)])
def test_wrong_arguments_raise(stream: Any, act: Any) -> None:
    with pytest.raises(TypeError, match="does not take"):
        act(stream)


def test_read_only_members_cannot_be_set(stream: Any) -> None:
    for name in ("handle", "new_name"):
        with pytest.raises(AttributeError, match="cannot be set"):
            setattr(stream, name, 1)


def test_use_after_close_raises(stream: Any) -> None:
    stream.close()
    stream.close()
    for use in (lambda: stream.sync(), lambda: stream.handle):
        with pytest.raises(ClosedError, match="was used after close"):
            use()


def test_a_real_member_without_behaviour_says_so(stream: Any) -> None:
    for use in (lambda: stream.record(), lambda: stream.priority):
        with pytest.raises(NotImplementedError, match=r"the fake has no behaviour for Stream\.(record|priority)"):
            use()


def test_a_member_exists_in_the_versions_that_have_it() -> None:
    class Error:
        def node_name(self) -> str:
            return "conv"

    assert make_strict(TENSORRT["10.13.3"], "ParserError", Error)().node_name() == "conv"
    with pytest.raises(AttributeError):
        make_strict(TENSORRT["8.6.0"], "ParserError", Error)().node_name()


def test_enums_have_arbitrary_numbers() -> None:
    flags = make_enum("Flag", ("A", "B"), 5)
    assert int(flags.A) == 5 and int(flags.B) == 6 and not hasattr(flags, "C")


def test_fakes_have_no_member_that_no_version_has() -> None:
    cuda = FakeCuda()
    fakes = {
        "cuda_core_api.json": fake_cuda.define_classes(cuda),
        "tensorrt_api.json": fake_tensorrt.define_classes(FakeTensorRT(cuda, "10.16.1")),
    }
    for file, behaviours in fakes.items():
        versions = foreign_api.read_versions(file)
        unknown = {name: unknown_members(versions, name, behaviour) for name, behaviour in behaviours.items()}
        assert {name: members for name, members in unknown.items() if members} == {}
