"""The contract of a backend as code, for its author's tests:

    import ganrt
    from ganrt.testing import check_backend

    import my_backend  # has open(bundle, variant, device, **options) -> Session


    def test_contract():
        check_backend(my_backend, ganrt.Bundle.read("tiny.ganrt"))

Any exported bundle will do; a small one is quick. What is checked is the text of `ganrt.backend.Session`, one function
per promise below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganrt.agreement import THRESHOLDS, compare
from ganrt.backend import BackendModule, PictureSession, Session, backend_module
from ganrt.batching import run_all
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.errors import BackendError, ContractError, GanrtError, RequestError
from ganrt.feeds import Array, Draw, Feeds
from ganrt.images import to_uint8
from ganrt.machine import parse_device
from ganrt.proving import BATCH, allowed_drift, find_drifts, take_rows
from ganrt.spec import Spec

_ANY = (1, 2, 5)
"""Batch sizes to try with a session that takes any."""
_DLPACK_DEVICES = {"cpu": (1,), "cuda": (2, 13)}
"""DLDeviceType: kDLCPU; kDLCUDA and kDLCUDAManaged."""


def check_backend(
    backend: str | BackendModule, bundle: Bundle, *, variant: str = FAITHFUL, device: str = "cpu", **options: Any
) -> None:
    """Check that sessions of a backend keep their promises, on the golden samples of a bundle.

    Args:
        backend: a module with `open`, or a name from the table or an entry point.
        device: `cpu`, `cuda` or `cuda:N`; not `auto`, because the session must state what was asked for.
        options: passed to `open`.

    Raises ContractError naming the first promise that is broken.
    """
    golden = bundle.golden()
    if golden is None:
        raise RequestError(f"{bundle.folder} has no golden samples to compare with; use an exported bundle")
    module = backend_module(backend) if isinstance(backend, str) else backend
    check_session(
        lambda: module.open(bundle, variant, device, **options),
        bundle.spec,
        golden.feeds(bundle.spec),
        golden.images,
        device,
        bundle.variant(variant).precision,
    )


def check_session(
    open_session: Callable[[], Session],
    spec: Spec,
    inputs: Feeds,
    expected: Array,
    device: str = "cpu",
    precision: str = "fp32",
) -> None:
    """Check one kind of session, without a bundle.

    Args:
        open_session: opens it, on `device` and in `precision`.
        inputs: sample inputs, at least 6 rows, no two with the same image.
        expected: the right images of these rows, float32 NCHW.

    Raises ContractError naming the first promise that is broken.
    """
    if len(expected) < 6:
        raise RequestError(f"{len(expected)} samples were given; the check needs 6 at least")
    session = _call(open_session, "it opens")
    try:
        case = _Case(session, spec, inputs, expected, device, precision)
        for promise in _PROMISES:
            text = " ".join(str(promise.__doc__).rstrip(".").split())
            found = _call(lambda: next(promise(case), None), text)  # noqa: B023, called at once
            if found is not None:
                raise ContractError(text, found)
    finally:
        _call(session.close, "it can be closed at any time")


def _call(act: Callable[[], Any], promise: str) -> Any:
    """Whatever else than a GanrtError comes out of a session breaks a promise too."""
    try:
        return act()
    except ContractError:
        raise
    except GanrtError as error:
        raise ContractError(promise, f"it failed: {error}") from error
    except Exception as error:
        foreign = f"{type(error).__module__}.{type(error).__qualname__}"
        raise ContractError(f"{promise}, and no foreign exception leaves a session", f"{foreign}: {error}") from error


@dataclass(frozen=True)
class _Case:
    """A session under test, and what it should make."""

    session: Session
    spec: Spec
    inputs: Feeds
    expected: Array
    device: str
    precision: str

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.session.batch_sizes) or _ANY

    @property
    def size(self) -> int:
        """A batch size for checks that need only one: of two rows at least, where the session has it."""
        return next((size for size in self.sizes if size > 1), self.sizes[-1])

    def places(self, first: int, size: int) -> Array:
        """Rows first, first + 1, ... of the samples, from the start again after the last."""
        return np.arange(first, first + size) % len(self.expected)

    def feeds(self, places: Array) -> Feeds:
        return take_rows(self.inputs, places)

    def run(self, places: Array) -> Array:
        """The images of some rows, computed as one batch."""
        return self.session.submit(self.feeds(places)).wait()[self.spec.output.name]

    def describe_drift(self, images: Array, right: Array) -> str | None:
        """How images differ from the session's own earlier ones, or None."""
        if images.shape != right.shape:
            return f"in shape, {images.shape} for {right.shape}"
        most = float(np.abs(images.astype(np.float64) - right).max())
        return None if most <= allowed_drift(self.spec, self.precision, self.expected) else f"by {most:.3g}"

    def wrong(self, images: Array, places: Array) -> str | None:
        """How images differ from the expected ones, or None."""
        expected = self.expected[places]
        agreement = compare(images, expected, self.spec.output.range)
        reasons = agreement.failures(THRESHOLDS[self.precision])
        if not reasons:
            return None
        if np.isfinite(images).all():
            worst = images[agreement.worst : agreement.worst + 1]
            twin = compare(np.repeat(worst, len(self.expected), 0), self.expected, self.spec.output.range).psnr
            if twin.max() >= THRESHOLDS[self.precision]:
                return (
                    f"row {agreement.worst} holds the image of sample {twin.argmax()}, not of {places[agreement.worst]}"
                )
        return reasons[-1]


def _states_what_was_asked(case: _Case) -> Iterator[str]:
    """The session states the device and the precision that were asked for."""
    kind, number = parse_device(case.device)
    device = "cpu" if kind == "cpu" else f"{kind}:{number}"
    if case.session.device != device:
        yield f"{device} was asked for and the session runs on {case.session.device!r}: a silent fallback"
    if case.session.precision != case.precision:
        yield f"{case.precision} was asked for and the session computes in {case.session.precision!r}"


def _states_plain_facts(case: _Case) -> Iterator[str]:
    """`batch_sizes` is an ascending tuple of whole numbers from 1, `backend` a name, `details` maps text to text."""
    sizes = case.session.batch_sizes
    if not isinstance(sizes, tuple) or list(sizes) != sorted(set(sizes)) or not all(size >= 1 for size in sizes):
        yield f"batch_sizes is {sizes!r}"
    if not isinstance(case.session.backend, str) or not case.session.backend:
        yield f"backend is {case.session.backend!r}"
    if not all(isinstance(text, str) for item in case.session.details.items() for text in item):
        yield f"details is {case.session.details!r}"


def _gives_float32_nchw(case: _Case) -> Iterator[str]:
    """`wait` gives the output of the Spec as a float32 NumPy array, NCHW, one image per row of the feeds."""
    for size in case.sizes:
        outputs = case.session.submit(case.feeds(case.places(0, size))).wait()
        images = outputs.get(case.spec.output.name)
        wanted = (size, *case.expected.shape[1:])
        if not isinstance(images, np.ndarray):
            yield f"the outputs are {sorted(outputs)}, {case.spec.output.name!r} being {type(images).__name__}"
        elif images.dtype != np.float32 or images.shape != wanted:
            yield f"a batch of {size} came as {images.dtype} of shape {images.shape}, not float32 of shape {wanted}"


def _repeats_itself(case: _Case) -> Iterator[str]:
    """A second run of a batch equals the first."""
    first = case.run(case.places(0, case.size)).copy()
    if not np.isfinite(first).all():
        yield f"the image of row {np.argwhere(~np.isfinite(first))[0, 0]} is not finite"
    case.run(case.places(1, case.size))
    if moved := case.describe_drift(case.run(case.places(0, case.size)), first):
        yield f"it differs {moved}"


def _leaves_the_feeds_alone(case: _Case) -> Iterator[str]:
    """Feeds are not written to, may be read-only, and are the caller's again when `submit` returns."""
    feeds = case.feeds(case.places(0, case.size))
    before = {name: array.copy() for name, array in feeds.items()}
    right = case.run(case.places(0, case.size)).copy()
    pending = case.session.submit(feeds)
    for name, array in feeds.items():
        if not np.array_equal(array, before[name]):
            yield f"{name} was changed by `submit`"
        array[...] = 0
    if moved := case.describe_drift(pending.wait()[case.spec.output.name], right):
        yield f"the caller wrote into its feeds after `submit`, and the result changed {moved}"
    for array in before.values():
        array.setflags(write=False)
    try:
        case.session.submit(before).wait()
    except GanrtError as error:
        yield f"read-only feeds were refused: {error}"


def _gives_its_results_away(case: _Case) -> Iterator[str]:
    """Returned arrays are the caller's: writeable, and never touched by the session again."""
    first = case.run(case.places(0, case.size))
    if not first.flags.writeable:
        yield "the returned array is read-only"
    right = first.copy()
    case.run(case.places(1, case.size))
    if not np.array_equal(first, right):
        yield "an earlier result changed when another batch was submitted: a shared buffer was handed out"
    first[...] = np.nan
    if moved := case.describe_drift(case.run(case.places(0, case.size)), right):
        yield f"the caller wrote into a result, and later results changed {moved}"


def _takes_two_batches_at_once(case: _Case) -> Iterator[str]:
    """Two batches may be under way: both `submit` before the first `wait`."""
    batches = [case.places(0, case.size), case.places(1, case.size)]
    right = [case.run(places).copy() for places in batches]
    pending = [case.session.submit(case.feeds(places)) for places in batches]
    for which, under_way, images in zip(("first", "second"), pending, right, strict=True):
        if moved := case.describe_drift(under_way.wait()[case.spec.output.name], images):
            yield f"the {which} of two batches differs {moved} from the same batch alone"


def _makes_each_row_by_itself(case: _Case) -> Iterator[str]:
    """A row depends on its own inputs alone: not on its place, its neighbours or its batch size."""
    found = run_all(case.session, case.spec.output, case.inputs, BATCH)
    yield from find_drifts(case.session, case.spec, case.inputs, found)


def _makes_the_right_images(case: _Case) -> Iterator[str]:
    """The images are the expected ones within the threshold of the precision, at every batch size."""
    for size in case.sizes:
        for first in range(0, len(case.expected), size):
            places = case.places(first, size)
            if wrong := case.wrong(case.run(places), places):
                yield f"in a batch of {size}: {wrong}"


def _works_in_any_thread(case: _Case) -> Iterator[str]:
    """One thread at a time may call the session, not always the same one."""
    places = case.places(0, case.size)
    with ThreadPoolExecutor(1) as other:
        try:
            images = other.submit(case.run, places).result()
        except Exception as error:
            yield f"in another thread it raised {type(error).__name__}: {error}"
            return
    if moved := case.describe_drift(images, case.run(places)):
        yield f"in another thread the result differs {moved}"


def _gives_device_arrays(case: _Case) -> Iterator[str]:
    """`device_arrays` are DLPack objects on the stated device, with the values of `wait`."""
    places = case.places(0, case.size)
    waited = case.run(places)
    array: Any = case.session.submit(case.feeds(places)).device_arrays().get(case.spec.output.name)
    if not hasattr(array, "__dlpack__") or not hasattr(array, "__dlpack_device__"):
        yield f"{type(array).__name__} is no DLPack object"
        return
    where = array.__dlpack_device__()[0]
    kind = case.session.device.partition(":")[0]
    if where not in _DLPACK_DEVICES.get(kind, (where,)):
        yield f"the array is on DLPack device {where}, and the session on {case.session.device}"
        return
    host: Array = np.from_dlpack(array) if kind == "cpu" else np.from_dlpack(array, device="cpu")
    if moved := case.describe_drift(host, waited):
        yield f"their values differ from those of `wait` {moved}"


def _draws_and_makes_pictures(case: _Case) -> Iterator[str]:
    """What `submit_draw` makes are the pictures of what `submit` makes of the same samples."""
    session, name = case.session, case.spec.output.name
    if not isinstance(session, PictureSession) or case.spec.images:
        return
    size = max(s for s in case.sizes if s <= BATCH) if min(case.sizes) <= BATCH else case.sizes[0]
    for rows in {1, size}:
        draw = Draw(seed=2**40 + 3, start=2**33 - 2, rows=rows)
        feeds = draw.part(0, next(s for s in case.sizes if s >= rows)).feeds(case.spec)
        right = to_uint8(session.submit(feeds).wait()[name][:rows], case.spec.output.range)
        found = session.submit_draw(draw).wait()[name]
        if found.dtype != np.uint8 or found.shape != right.shape:
            yield f"{rows} samples came as {found.dtype} of shape {found.shape}, not uint8 of shape {right.shape}"
        elif (steps := int(np.abs(found.astype(int) - right).max())) > 1:
            yield f"of {rows} samples they differ by {steps} of 255 steps"


def _refuses_wrong_feeds(case: _Case) -> Iterator[str]:
    """Feeds that do not fit raise a GanrtError, and the session stays usable."""
    places = case.places(0, case.size)
    good, right = case.feeds(places), case.run(places).copy()
    name = next(iter(good))
    misshapen = np.repeat(good[name], 2, axis=1) if good[name].ndim > 1 else good[name][:, None]
    bad = {
        f"feeds without {name!r}": {n: a for n, a in good.items() if n != name},
        "feeds with an input that the Spec does not have": good | {"not_an_input": good[name]},
        f"{name} of shape {misshapen.shape}": good | {name: misshapen},
        f"{name} as float16": good | {name: good[name].astype(np.float16)},
        "an empty batch": {n: a[:0] for n, a in good.items()},
    }
    if case.session.batch_sizes:
        size = case.session.batch_sizes[-1] + 1
        bad[f"a batch of {size}, which it does not state,"] = case.feeds(case.places(0, size))
    for what, feeds in bad.items():
        yield from _refusal(case, what, feeds)
    if moved := case.describe_drift(case.run(places), right):
        yield f"after a refusal the next result differs {moved}"


def _refusal(case: _Case, what: str, feeds: Feeds) -> Iterator[str]:
    try:
        case.session.submit(feeds).wait()
    except GanrtError:
        return
    except Exception as error:
        yield f"{what} raised the foreign {type(error).__name__}: {error}"
    else:
        yield f"{what} gave a result"


def _closes(case: _Case) -> Iterator[str]:
    """`close` may be called twice; `submit` afterwards raises BackendError."""
    case.session.close()
    case.session.close()
    try:
        case.run(case.places(0, case.size))
    except BackendError:
        return
    except Exception as error:
        yield f"`submit` after `close` raised {type(error).__name__}: {error}"
    else:
        yield "a closed session gave a result"


_PROMISES = (
    _states_what_was_asked,
    _states_plain_facts,
    _gives_float32_nchw,
    _repeats_itself,
    _leaves_the_feeds_alone,
    _gives_its_results_away,
    _takes_two_batches_at_once,
    _makes_each_row_by_itself,
    _makes_the_right_images,
    _works_in_any_thread,
    _gives_device_arrays,
    _draws_and_makes_pictures,
    _refuses_wrong_feeds,
    _closes,
)
"""In an order in which each may rely on those before it, so that the first that is broken is the cause."""
