"""Memory does not grow with every new picture size."""

import os
import re
from collections.abc import Iterator

import numpy as np
import pytest
from fakes.sessions import FakeSession

import ganrt
from ganrt.backend import Session, backend_names, open_session
from ganrt.bundle import Bundle
from ganrt.feeds import Array, Feeds
from ganrt.session_config import SessionConfig
from ganrt.spec import Image, Output, Spec
from ganrt.testing import memory_growth
from ganrt.testing.memory_growth import describe_growth

RGB = (0.0, 1.0)
MODEL = Spec("same", (Image("x", "content", 3, RGB),), Output(3, RGB, None))
INPUTS = {"x": np.zeros((1, 3, 8, 8), np.float32)}


class Plain(FakeSession):
    """Returns the picture, and counts the bytes that a process would have."""

    def __init__(self) -> None:
        super().__init__(MODEL)
        self.resident = 0
        self.sizes: list[tuple[int, ...]] = []

    def run(self, feeds: Feeds) -> Array:
        self.sizes.append(feeds["x"].shape[2:])
        self.resident += self.allocate(len(set(self.sizes)))
        return feeds["x"].copy()

    def allocate(self, count: int) -> int:
        """Bytes allocated for a batch, after `count` sizes."""
        return 0


class KernelsPerSize(Plain):
    def allocate(self, count: int) -> int:
        return 2**19


class KeepsTheLastHundred(Plain):
    def allocate(self, count: int) -> int:
        return 2**19 if count < 100 else 0


class BufferOnce(Plain):
    def allocate(self, count: int) -> int:
        return 2**30 if count == 140 else 0


class LittlePerSize(Plain):
    def allocate(self, count: int) -> int:
        return 2**17


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (Plain, None),
        (KernelsPerSize, "it grew by 0.50 MiB for each new picture size"),
        (KeepsTheLastHundred, None),
        (BufferOnce, None),
        (LittlePerSize, None),
    ],
)
def test_growth_without_end_is_found(kind: type[Plain], found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    session = kind()
    monkeypatch.setattr(memory_growth, "read_resident_bytes", lambda: session.resident)
    assert describe_growth(session, MODEL, INPUTS) == found
    assert len(session.sizes) == len(set(session.sizes)) == 144 and session.sizes[0] == max(session.sizes)


class CachesPerShape(Plain):
    """Really keeps memory for each size."""

    def run(self, feeds: Feeds) -> Array:
        self.kept = [*getattr(self, "kept", []), np.ones(2**19, np.uint8)]
        return super().run(feeds)


def test_memory_that_is_kept_for_each_size_is_found() -> None:
    found = describe_growth(CachesPerShape(), MODEL, INPUTS)
    assert found is not None and re.match(r"it grew by 0\.[3-6]", found)  # the allocator gives back something else


def test_sizes_suit_the_inputs() -> None:
    images = (Image("x", "content", 3, RGB, multiple_of=6), Image("m", "mask", 1, RGB, multiple_of=4, like="x"))
    spec = Spec("two", (*images, Image("s", "style", 3, RGB, (9, 9))), Output(3, RGB, None))
    inputs = {"x": np.ones((2, 3, 6, 6), np.float32), "m": np.ones((2, 1, 6, 6), np.float32)}
    session = FakeSession(spec)
    seen: list[Feeds] = []
    session.run = lambda feeds: seen.append(feeds) or feeds["x"]  # type: ignore[method-assign, func-returns-value]
    assert describe_growth(session, spec, inputs | {"s": np.ones((2, 3, 9, 9), np.float32)}) is None
    assert {feeds["x"].shape[2] % 12 for feeds in seen} == {0} and len({feeds["x"].shape for feeds in seen}) == 144
    assert all(feeds["m"].shape[2:] == feeds["x"].shape[2:] and feeds["s"].shape == (1, 3, 9, 9) for feeds in seen)


def test_a_model_of_one_size_is_not_run() -> None:
    spec = Spec("one", (Image("x", "content", 3, RGB, (8, 8)),), Output(3, RGB, None))
    assert describe_growth(FakeSession(spec), spec, {}) is None


@pytest.fixture(params=[name for name in backend_names("cpu") if name != "reference"])
def session(request: pytest.FixtureRequest, espcn: Bundle) -> Iterator[Session]:
    with ganrt.load(espcn.folder, request.param, device="cpu") as generator:
        yield generator.session


def test_every_backend_computes_ever_new_sizes_in_bounded_memory(session: Session, espcn: Bundle) -> None:
    inputs = {"luma": np.random.default_rng(0).random((1, 1, 30, 21), np.float32)}
    before = session.submit(inputs).wait()["image"]
    assert describe_growth(session, espcn.spec, inputs) is None
    assert np.array_equal(session.submit(inputs).wait()["image"], before)


@pytest.mark.parametrize("given", [None, "500"])
def test_openvino_limits_its_kernels_in_an_environment_that_stays_as_it_was(
    given: str | None, espcn: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch reads the same variable and needs more kernels; a number that the user gave stays."""
    import openvino

    name, seen = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", []
    monkeypatch.setenv(name, given) if given else monkeypatch.delenv(name, raising=False)

    class Core(openvino.Core):  # type: ignore[misc]
        def compile_model(self, model: object, device: str, config: dict[str, object]) -> openvino.CompiledModel:
            seen.append((os.environ.get(name), config.get("CPU_RUNTIME_CACHE_CAPACITY")))
            return super().compile_model(model, device, config)

    monkeypatch.setattr(openvino, "Core", Core)
    open_session(espcn, SessionConfig("openvino")).close()
    assert seen == [(given or "32", 32)] and os.environ.get(name) == given


def test_openvino_keeps_the_kernels_of_all_batch_sizes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are few, and a request is split into batches of several sizes."""
    import openvino

    class Core(openvino.Core):  # type: ignore[misc]
        def compile_model(self, model: object, device: str, config: dict[str, object]) -> openvino.CompiledModel:
            assert "CPU_RUNTIME_CACHE_CAPACITY" not in config
            return super().compile_model(model, device, config)

    monkeypatch.setattr(openvino, "Core", Core)
    open_session(bundle, SessionConfig("openvino")).close()
