"""Every backend keeps the contract of ganrt.backend.Session, and `check_session` catches every broken session."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC, FakeSession, images, samples

from ganrt.backend import Pending, PictureSession, Ready, Session, backend_names
from ganrt.bundle import Bundle
from ganrt.errors import BackendError, ContractError, GanrtError, RequestError
from ganrt.feeds import Array, Feeds, draw_rows
from ganrt.images import to_uint8
from ganrt.sample_request import Draw
from ganrt.testing import check_backend, check_session


@pytest.mark.parametrize("family", ["dcgan", "mlp"])
@pytest.mark.parametrize("backend", backend_names("cpu"))
def test_every_backend_keeps_the_contract(backend: str, family: str, bundles: dict[str, Bundle]) -> None:
    check_backend(backend, bundles[family])


@pytest.mark.parametrize("batch_sizes", [(), (1,), (4,), (2, 4, 16)])
@pytest.mark.parametrize("spec", [SPEC, CLASSES], ids=lambda spec: spec.family)
def test_a_good_session_passes(spec: Any, batch_sizes: tuple[int, ...]) -> None:
    check_session(lambda: FakeSession(spec, batch_sizes), spec, *samples(spec))


def test_a_session_that_draws_and_makes_pictures_passes() -> None:
    check_session(Drawing, SPEC, *samples())


class Late(Pending):
    """Computes in `wait`, from the feeds passed to `submit`."""

    def __init__(self, work: Callable[[], dict[str, Array]]) -> None:
        self.wait = work  # type: ignore[method-assign]

    def wait(self) -> dict[str, Array]:
        raise NotImplementedError

    def device_arrays(self) -> dict[str, Any]:
        return self.wait()


class OtherDevice(FakeSession):
    device = "cuda:0"


class OtherPrecision(FakeSession):
    def __init__(self) -> None:
        super().__init__()
        self.precision = "fp16"


class UnsortedSizes(FakeSession):
    def __init__(self) -> None:
        super().__init__(batch_sizes=(8, 1))


class OtherName(FakeSession):
    def submit(self, feeds: Feeds) -> Pending:
        return Ready({"output_0": super().submit(feeds).wait()["image"]})


class Float64(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        return super().run(feeds).astype(np.float64)


class ChannelsLast(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        return super().run(feeds).transpose(0, 2, 3, 1)


class OneRowTooFew(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        return super().run(feeds)[:-1]


class ListOfRows(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        return list(super().run(feeds))  # type: ignore[return-value]


class RowsReversed(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        return super().run(feeds)[::-1].copy()


class BatchNormLeftOn(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        made = super().run(feeds)
        return made - 0.1 * made.mean(axis=0, keepdims=True)


class FirstRowEverywhere(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        return super().run(feeds)[:1].repeat(len(feeds["z"]), axis=0)


class NoiseOfItsOwn(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        return super().run(feeds) + np.float32(0.001) * len(self.batches)


class Drifting(FakeSession):
    """Images depend on the batch only if all rows are equal."""

    def run(self, feeds: Feeds) -> Array:
        noise = np.random.default_rng(0).normal(0, 0.1, len(feeds["z"])).astype(np.float32)
        return super().run(feeds) + noise[:, None, None, None] * float(len(np.unique(feeds["z"], axis=0)) == 1)


class Inverted(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        return -super().run(feeds)


class WrongInBatchesOfFive(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        made = super().run(feeds)
        return made[::-1].copy() if len(made) == 5 else made


class NotFinite(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        made = super().run(feeds)
        made[0] = np.inf
        return made


class WritesIntoFeeds(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        made = super().run(feeds)
        if feeds["z"].flags.writeable:
            feeds["z"] *= 2
        return made


class ReadsFeedsLate(FakeSession):
    def submit(self, feeds: Feeds) -> Pending:
        super().submit(feeds)
        return Late(lambda: {"image": images(SPEC, feeds)})


class RefusesReadOnly(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        if not feeds["z"].flags.writeable:
            raise ValueError("array is read-only")
        return super().run(feeds)


class SharedBuffer(FakeSession):
    buffer = np.zeros((99, 3, 4, 5), np.float32)

    def run(self, feeds: Feeds) -> Array:
        made = super().run(feeds)
        self.buffer[: len(made)] = made
        return self.buffer[: len(made)]


class ReadOnlyResult(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        made = super().run(feeds)
        made.setflags(write=False)
        return made


class ResultsCached(FakeSession):
    """Returns the same array again for the same feeds."""

    def run(self, feeds: Feeds) -> Array:
        self.cached: dict[bytes, Array] = getattr(self, "cached", {})
        return self.cached.setdefault(feeds["z"].tobytes(), super().run(feeds))


class OneSlot(FakeSession):
    """The second `submit` overwrites the result of the first."""

    def submit(self, feeds: Feeds) -> Pending:
        self.slot = super().submit(feeds).wait()["image"]
        return Late(lambda: {"image": self.slot.copy()})


class OneThread(FakeSession):
    def __init__(self) -> None:
        super().__init__()
        self.owner = threading.get_ident()

    def run(self, feeds: Feeds) -> Array:
        if threading.get_ident() != self.owner:
            raise RuntimeError("no context in this thread")
        return super().run(feeds)


class NoDlpack(FakeSession):
    def submit(self, feeds: Feeds) -> Pending:
        done = super().submit(feeds)
        done.device_arrays = lambda: {"image": 0}  # type: ignore[method-assign]
        return done


class OtherDeviceArrays(FakeSession):
    def submit(self, feeds: Feeds) -> Pending:
        done = super().submit(feeds)
        done.device_arrays = lambda: {"image": done.wait()["image"] * 0.5}  # type: ignore[method-assign]
        return done


class Unchecked(FakeSession):
    """Skips the checks of HostSession."""

    def submit(self, feeds: Feeds) -> Pending:
        if self._closed:
            raise BackendError("closed")
        return Ready({"image": self.run(feeds)})


class AnswersAnything(FakeSession):
    def submit(self, feeds: Feeds) -> Pending:
        try:
            return super().submit(feeds)
        except RequestError:
            return Ready({"image": np.zeros((1, 3, 4, 5), np.float32)})


class BrokenByBadFeeds(FakeSession):
    def submit(self, feeds: Feeds) -> Pending:
        try:
            done = super().submit(feeds).wait()["image"]
        except RequestError:
            self.broken = True
            raise
        return Ready({"image": done * (0.5 if hasattr(self, "broken") else 1.0)})


class AnswersWhenClosed(FakeSession):
    def close(self) -> None:
        pass


class ForeignWhenClosed(FakeSession):
    def submit(self, feeds: Feeds) -> Pending:
        if self._closed:
            raise AttributeError("'NoneType' object has no attribute 'run'")
        return super().submit(feeds)


class ClosesOnce(FakeSession):
    def close(self) -> None:
        if self._closed:
            raise RuntimeError("double free")
        super().close()


class ForeignException(FakeSession):
    def submit(self, feeds: Feeds) -> Pending:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


class Failing(FakeSession):
    def run(self, feeds: Feeds) -> Array:
        raise RuntimeError("out of memory")


class Drawing(FakeSession, PictureSession):
    """Draws and makes pictures itself, as sessions on a GPU do."""

    def submit_draw(self, draw: Draw) -> Pending:
        made = images(SPEC, self.draw_inputs(draw))
        return Ready({"image": self.make_pictures(made)})

    def draw_inputs(self, draw: Draw) -> Feeds:
        return draw_rows(SPEC, draw)

    def make_pictures(self, made: Array) -> Array:
        return to_uint8(made, SPEC.output.range)


class DrawsOtherSamples(Drawing):
    def draw_inputs(self, draw: Draw) -> Feeds:
        return draw_rows(SPEC, replace(draw, indices=draw.indices & np.uint64(2**32 - 1)))


class DrawsFromTheLowHalfOfTheSeed(Drawing):
    def draw_inputs(self, draw: Draw) -> Feeds:
        return draw_rows(SPEC, replace(draw, seeds=draw.seeds & np.uint64(2**32 - 1)))


class DrawsAllRowsOfOneSeed(Drawing):
    def draw_inputs(self, draw: Draw) -> Feeds:
        return draw_rows(SPEC, replace(draw, seeds=draw.seeds[:1].repeat(draw.rows)))


class CountsFromTheFirstRow(Drawing):
    def draw_inputs(self, draw: Draw) -> Feeds:
        counted = draw.indices[:1].repeat(draw.rows)
        counted += np.arange(draw.rows, dtype=np.uint64)
        return draw_rows(SPEC, replace(draw, indices=counted))


class IgnoresTruncations(Drawing):
    def draw_inputs(self, draw: Draw) -> Feeds:
        return draw_rows(SPEC, replace(draw, truncation=None))


class PicturesInFloats(Drawing):
    def make_pictures(self, made: Array) -> Array:
        return made


BROKEN: dict[type[Session], str] = {
    OtherDevice: "cpu was requested, and the session runs on 'cuda:0': a silent fallback",
    OtherPrecision: "fp32 was requested, and the session computes in 'fp16'",
    UnsortedSizes: r"batch_sizes is \(8, 1\)",
    OtherName: r"the outputs are \['output_0'\]",
    Float64: "a batch of 1 is float64",
    ChannelsLast: r"of shape \(1, 4, 5, 3\), not float32 of shape \(1, 3, 4, 5\)",
    OneRowTooFew: r"a batch of 1 is float32 of shape \(0, 3, 4, 5\)",
    ListOfRows: "'image' being list",
    RowsReversed: "permuting the rows of a batch does not permute the images",
    FirstRowEverywhere: "permuting the rows of a batch does not permute the images",
    BatchNormLeftOn: "an image depends on the other rows of its batch",
    NoiseOfItsOwn: "Running a batch again gives the same images. But they differ by 0.00",
    Drifting: "identical rows of a batch give different images",
    Inverted: "in a batch of 1: 1 of 1 samples are below 60 dB",
    WrongInBatchesOfFive: "in a batch of 5: row 0 holds the image of sample 4, not of 0",
    NotFinite: "the image of row 0 is not finite",
    WritesIntoFeeds: "z was changed by `submit`",
    ReadsFeedsLate: "writing to the feeds after `submit` changed the result by",
    RefusesReadOnly: "read-only feeds were rejected: .*array is read-only",
    SharedBuffer: "submitting another batch changed an earlier result: it is a shared buffer",
    ReadOnlyResult: "the returned array is read-only",
    ResultsCached: "writing to a result changed later results by nan",
    OneSlot: "the first of two batches differs by .* from the same batch alone",
    OneThread: "in another thread it raised BackendError: .*no context in this thread",
    NoDlpack: "int is not a DLPack object",
    OtherDeviceArrays: "their values differ from those of `wait` by",
    DrawsOtherSamples: "a draw of . differs by up to",
    DrawsFromTheLowHalfOfTheSeed: "a draw of . differs by up to",
    DrawsAllRowsOfOneSeed: "a draw of 5 with a seed for each differs by up to",
    CountsFromTheFirstRow: "a draw of 5 with a seed for each differs by up to",
    IgnoresTruncations: "a draw of 5 with a seed for each differs by up to",
    PicturesInFloats: r"a draw of 1 is float32 of shape \(1, 3, 4, 5\), not uint8 of shape \(1, 4, 5, 3\)",
    Unchecked: "feeds without 'z' raised StopIteration",
    AnswersAnything: "feeds without 'z' returned a result",
    BrokenByBadFeeds: "after rejected feeds the next result differs by",
    AnswersWhenClosed: "a closed session returned a result",
    ForeignWhenClosed: "`submit` after `close` raised AttributeError",
    ClosesOnce: "no foreign exception leaves a session. But builtins.RuntimeError: double free",
    ForeignException: "no foreign exception leaves a session. But builtins.RuntimeError: CUDA error",
    Failing: "it failed: fake failed on a batch of 1: out of memory",
}


@pytest.mark.parametrize(("session", "found"), BROKEN.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_every_broken_session_is_caught(session: type[FakeSession], found: str) -> None:
    with pytest.raises(ContractError, match=found):
        check_session(session, SPEC, *samples())


@pytest.mark.parametrize("choices", [True, False])
def test_a_session_that_draws_chosen_labels_is_caught(choices: bool) -> None:
    class DrawsLabels(FakeSession, PictureSession):
        def submit_draw(self, draw: Draw) -> Pending:
            drawn = draw_rows(CLASSES, draw if choices else replace(draw, labels=None))
            return Ready({"image": to_uint8(images(CLASSES, drawn), CLASSES.output.range)})

    def check() -> None:
        check_session(lambda: DrawsLabels(CLASSES), CLASSES, *samples(CLASSES))

    if choices:
        check()
        return
    with pytest.raises(ContractError, match="a draw of 5 with a seed for each differs by up to"):
        check()


def test_other_batch_sizes_must_be_rejected() -> None:
    class AnySize(FakeSession):
        def submit(self, feeds: Feeds) -> Pending:
            return (
                Ready({"image": images(SPEC, feeds)})
                if "z" in feeds
                and len(feeds) == 1
                and len(feeds["z"])
                and feeds["z"].shape[1:] == (6,)
                and feeds["z"].dtype == np.float32
                else super().submit(feeds)
            )

    with pytest.raises(ContractError, match="a batch of 5, which is not in `batch_sizes`, returned a result"):
        check_session(lambda: AnySize(SPEC, (1, 4)), SPEC, *samples())


def test_a_foreign_exception_when_opening_is_caught() -> None:
    def open_session() -> Session:
        raise OSError("libcudart.so.13: cannot open shared object file")

    with pytest.raises(ContractError, match=r"it opens, and no foreign exception .* builtins\.OSError: libcudart"):
        check_session(open_session, SPEC, *samples())


def test_a_contract_error_is_an_assertion_error_and_a_ganrt_error() -> None:
    with pytest.raises(ContractError) as caught:
        check_session(OtherDevice, SPEC, *samples())
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value, GanrtError)
    assert caught.value.promise == "`device` and `precision` of a session are the requested ones"


def test_too_few_samples_are_rejected() -> None:
    with pytest.raises(RequestError, match="5 samples were given; the check needs at least 6"):
        check_session(FakeSession, SPEC, *samples(count=5))


def test_every_session_is_closed() -> None:
    opened: list[FakeSession] = []

    def open_session() -> FakeSession:
        opened.append(Float64())
        return opened[0]

    with pytest.raises(ContractError):
        check_session(open_session, SPEC, *samples())
    with pytest.raises(BackendError, match="closed"):
        opened[0].submit(samples()[0])
