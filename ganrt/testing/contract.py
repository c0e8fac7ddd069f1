"""The promises of a session while it is used, each a function whose docstring is the promise that a ContractError
names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganrt.agreement import THRESHOLDS, compare
from ganrt.backend import BackendModule, PictureSession, Session, import_backend
from ganrt.batching import run_all
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.errors import BackendError, ContractError, GanrtError, RequestError
from ganrt.feeds import Array, Feeds, draw_rows
from ganrt.images import to_uint8
from ganrt.levels import find_levels
from ganrt.machine import parse_device
from ganrt.proving import BATCH, allowed_drift, find_drifts, measure_distance, take_rows
from ganrt.sample_request import SampleRequest, mix_requests
from ganrt.spec import Spec
from ganrt.testing.life_cycle import check_life_cycle

_ANY = (1, 2, 5)
"""Batch sizes to try with a session that takes any size."""
_DLPACK_DEVICES = {"cpu": (1,), "cuda": (2, 13)}
"""Kind of device -> DLDeviceType: kDLCPU; kDLCUDA or kDLCUDAManaged."""


def check_backend(
    backend: str | BackendModule,
    bundle: Bundle,
    *,
    variant: str = FAITHFUL,
    device: str = "cpu",
    life_cycle: bool = True,
    **options: Any,
) -> None:
    """Check a backend's sessions with the golden samples of a bundle: first the promises of this module, then those of
    `check_life_cycle`.

    Args:
        backend: a module with `open`, or a name from the table of backends.
        bundle: an exported bundle.
        variant: name of the variant to open.
        device: `cpu`, `cuda` or `cuda:N`; not `auto`, because the session must run on the requested device.
        life_cycle: False to skip `check_life_cycle`, which takes seconds.
        options: passed to `open`.

    Raises ContractError, naming the first broken promise; RequestError for a bundle without golden samples.
    """
    golden = bundle.read_golden()
    if golden is None:
        raise RequestError(f"{bundle.path} has no golden samples to compare with; use an exported bundle")
    module = import_backend(backend) if isinstance(backend, str) else backend
    check_session(
        lambda: module.open(bundle, variant, device, **options),
        bundle.spec,
        golden.groups[0].draw_feeds(bundle.spec),
        golden.groups[0].images,
        device,
        bundle.variant(variant).precision,
    )
    if life_cycle:
        check_life_cycle(backend, bundle, variant=variant, device=device, **options)


def check_session(
    open_session: Callable[[], Session],
    spec: Spec,
    inputs: Feeds,
    expected: Array,
    device: str = "cpu",
    precision: str = "fp32",
) -> None:
    """Check a session without a bundle.

    Args:
        open_session: opens the session on `device` in `precision`; it is closed afterwards.
        spec: inputs and output of the model.
        inputs: sample inputs, at least 6 rows, no two with the same image.
        expected: the right images of these rows, float32 NCHW.
        device: `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16`, `fp16` or `int8`; decides how far images may differ.

    Raises ContractError, naming the first broken promise; RequestError for fewer than 6 rows.
    """
    if len(expected) < 6:
        raise RequestError(f"{len(expected)} samples were given; the check needs at least 6")
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
    """Call `act`. Any exception breaks the promise; one that is not a GanrtError breaks another as well."""
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
    """A session under test with sample inputs and the images expected of them; the arguments of `check_session`."""

    session: Session
    spec: Spec
    inputs: Feeds
    expected: Array
    device: str
    precision: str

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes to try."""
        return tuple(self.session.batch_sizes) or _ANY

    @property
    def size(self) -> int:
        """Batch size for checks that need only one: at least 2 if the session has such a size."""
        return next((size for size in self.sizes if size > 1), self.sizes[-1])

    def row_indices(self, first: int, size: int) -> Array:
        """Indices of `size` samples from `first` on, starting again at 0 after the last."""
        return np.arange(first, first + size) % len(self.expected)

    def take_feeds(self, rows: Array) -> Feeds:
        return take_rows(self.inputs, rows)

    def run(self, rows: Array) -> Array:
        """Compute the images of some rows as one batch."""
        return self.session.submit(self.take_feeds(rows)).wait()[self.spec.output.name]

    def describe_drift(self, images: Array, right: Array) -> str | None:
        """Describe how images differ from earlier ones of the same session; None if they do not."""
        if images.shape != right.shape:
            return f"in shape, {images.shape} instead of {right.shape}"
        most = measure_distance(self.spec, images.astype(np.float64), right)
        return None if most <= allowed_drift(self.spec, self.precision, self.expected) else f"by {most:.3g}"

    def describe_error(self, images: Array, rows: Array) -> str | None:
        """Describe how images differ from the expected ones; None if they agree."""
        expected = self.expected[rows]
        agreement = compare(images, expected, find_levels(self.spec.output))
        reasons = agreement.failures(THRESHOLDS[self.precision])
        if not reasons:
            return None
        if np.isfinite(images).all():
            worst = images[agreement.worst : agreement.worst + 1]
            twin = compare(np.repeat(worst, len(self.expected), 0), self.expected, find_levels(self.spec.output)).psnr
            if twin.max() >= THRESHOLDS[self.precision]:
                return (
                    f"row {agreement.worst} holds the image of sample {twin.argmax()}, not of {rows[agreement.worst]}"
                )
        return reasons[-1]


def _check_device_and_precision(case: _Case) -> Iterator[str]:
    """`device` and `precision` of a session are the requested ones."""
    kind, number = parse_device(case.device, vulkan=True)
    device = "cpu" if kind == "cpu" else f"{kind}:{number}"
    if case.session.device != device:
        yield f"{device} was requested, and the session runs on {case.session.device!r}: a silent fallback"
    if case.session.precision != case.precision:
        yield f"{case.precision} was requested, and the session computes in {case.session.precision!r}"


def _check_attributes(case: _Case) -> Iterator[str]:
    """`batch_sizes` is an ascending tuple of whole numbers from 1, `backend` a name, `details` a mapping of strings."""
    sizes = case.session.batch_sizes
    if not isinstance(sizes, tuple) or list(sizes) != sorted(set(sizes)) or not all(size >= 1 for size in sizes):
        yield f"batch_sizes is {sizes!r}"
    if not isinstance(case.session.backend, str) or not case.session.backend:
        yield f"backend is {case.session.backend!r}"
    if not all(isinstance(text, str) for item in case.session.details.items() for text in item):
        yield f"details is {case.session.details!r}"


def _check_output_layout(case: _Case) -> Iterator[str]:
    """`wait` returns the output of the Spec as a float32 NCHW NumPy array, one image per row of the feeds."""
    for size in case.sizes:
        outputs = case.session.submit(case.take_feeds(case.row_indices(0, size))).wait()
        images = outputs.get(case.spec.output.name)
        wanted = (size, *case.expected.shape[1:])
        if not isinstance(images, np.ndarray):
            yield f"the outputs are {sorted(outputs)}, {case.spec.output.name!r} being {type(images).__name__}"
        elif images.dtype != np.float32 or images.shape != wanted:
            yield f"a batch of {size} is {images.dtype} of shape {images.shape}, not float32 of shape {wanted}"


def _check_repeatability(case: _Case) -> Iterator[str]:
    """Running a batch again gives the same images."""
    first = case.run(case.row_indices(0, case.size)).copy()
    if not np.isfinite(first).all():
        yield f"the image of row {np.argwhere(~np.isfinite(first))[0, 0]} is not finite"
    case.run(case.row_indices(1, case.size))
    if drift := case.describe_drift(case.run(case.row_indices(0, case.size)), first):
        yield f"they differ {drift}"


def _check_feeds_ownership(case: _Case) -> Iterator[str]:
    """`submit` does not write to the feeds, accepts read-only arrays, and is done with them when it returns."""
    feeds = case.take_feeds(case.row_indices(0, case.size))
    before = {name: array.copy() for name, array in feeds.items()}
    right = case.run(case.row_indices(0, case.size)).copy()
    pending = case.session.submit(feeds)
    for name, array in feeds.items():
        if not np.array_equal(array, before[name]):
            yield f"{name} was changed by `submit`"
        array[...] = 0
    if drift := case.describe_drift(pending.wait()[case.spec.output.name], right):
        yield f"writing to the feeds after `submit` changed the result {drift}"
    for array in before.values():
        array.setflags(write=False)
    try:
        case.session.submit(before).wait()
    except GanrtError as error:
        yield f"read-only feeds were rejected: {error}"


def _check_result_ownership(case: _Case) -> Iterator[str]:
    """The caller owns returned arrays: they are writeable, and the session does not touch them again."""
    first = case.run(case.row_indices(0, case.size))
    if not first.flags.writeable:
        yield "the returned array is read-only"
    right = first.copy()
    case.run(case.row_indices(1, case.size))
    if not np.array_equal(first, right):
        yield "submitting another batch changed an earlier result: it is a shared buffer"
    first[...] = np.nan
    if drift := case.describe_drift(case.run(case.row_indices(0, case.size)), right):
        yield f"writing to a result changed later results {drift}"


def _check_two_batches_in_flight(case: _Case) -> Iterator[str]:
    """Two batches may be in flight: both are submitted before the first `wait`."""
    batches = [case.row_indices(0, case.size), case.row_indices(1, case.size)]
    right = [case.run(rows).copy() for rows in batches]
    pending = [case.session.submit(case.take_feeds(rows)) for rows in batches]
    for which, in_flight, images in zip(("first", "second"), pending, right, strict=True):
        if drift := case.describe_drift(in_flight.wait()[case.spec.output.name], images):
            yield f"the {which} of two batches differs {drift} from the same batch alone"


def _check_batch_independence(case: _Case) -> Iterator[str]:
    """An image depends only on its own row of the feeds, not on its position, the other rows or the batch size."""
    found = run_all(case.session, case.spec.output, case.inputs, BATCH)
    yield from find_drifts(case.session, case.spec, case.inputs, found)


def _check_images(case: _Case) -> Iterator[str]:
    """The images match the expected ones, within the threshold of the precision, at every batch size."""
    for size in case.sizes:
        for first in range(0, len(case.expected), size):
            rows = case.row_indices(first, size)
            if reason := case.describe_error(case.run(rows), rows):
                yield f"in a batch of {size}: {reason}"


def _check_threads(case: _Case) -> Iterator[str]:
    """Any thread may call a session, one at a time."""
    rows = case.row_indices(0, case.size)
    with ThreadPoolExecutor(1) as other:
        try:
            images = other.submit(case.run, rows).result()
        except Exception as error:
            yield f"in another thread it raised {type(error).__name__}: {error}"
            return
    if drift := case.describe_drift(images, case.run(rows)):
        yield f"in another thread the result differs {drift}"


def _check_device_arrays(case: _Case) -> Iterator[str]:
    """`device_arrays` returns DLPack objects on the session's device, with the values of `wait`."""
    rows = case.row_indices(0, case.size)
    waited = case.run(rows)
    array: Any = case.session.submit(case.take_feeds(rows)).device_arrays().get(case.spec.output.name)
    if not hasattr(array, "__dlpack__") or not hasattr(array, "__dlpack_device__"):
        yield f"{type(array).__name__} is not a DLPack object"
        return
    where = array.__dlpack_device__()[0]
    kind = case.session.device.partition(":")[0]
    if where not in _DLPACK_DEVICES.get(kind, (where,)):
        yield f"the array is on DLPack device {where}, the session on {case.session.device}"
        return
    host: Array = np.from_dlpack(array) if kind == "cpu" else np.from_dlpack(array, device="cpu")
    if drift := case.describe_drift(host, waited):
        yield f"their values differ from those of `wait` {drift}"


def _check_pictures(case: _Case) -> Iterator[str]:
    """`submit_draw` returns the pictures of the images that `submit` returns for the same samples, each row of its own
    seed, sample number, label and truncation."""
    session, name = case.session, case.spec.output.name
    if not isinstance(session, PictureSession) or case.spec.images:
        return
    size = max(s for s in case.sizes if s <= BATCH) if min(case.sizes) <= BATCH else case.sizes[0]
    request = SampleRequest(size, seed=2**40 + 3, start=2**33 - 2)
    draws = {f"a draw of {rows}": request.take_rows(0, rows) for rows in (1, size)}
    draws[f"a draw of {size} with a seed for each"] = mix_requests(case.spec, size)
    for what, draw in draws.items():
        rows = draw.rows
        feeds = draw_rows(case.spec, draw.take_rows(0, next(s for s in case.sizes if s >= rows)))
        right = to_uint8(session.submit(feeds).wait()[name][:rows], find_levels(case.spec.output))
        found = session.submit_draw(draw).wait()[name]
        if found.dtype != np.uint8 or found.shape != right.shape:
            yield f"{what} is {found.dtype} of shape {found.shape}, not uint8 of shape {right.shape}"
        elif (steps := int(np.abs(found.astype(int) - right).max())) > 1:
            yield f"{what} differs by up to {steps} of 255 steps"


def _check_bad_feeds(case: _Case) -> Iterator[str]:
    """Feeds that do not fit the Spec raise a GanrtError, and the session stays usable."""
    rows = case.row_indices(0, case.size)
    good, right = case.take_feeds(rows), case.run(rows).copy()
    name = next(iter(good))
    misshapen = np.repeat(good[name], 2, axis=1) if good[name].ndim > 1 else good[name][:, None]
    bad = {
        f"feeds without {name!r}": {n: a for n, a in good.items() if n != name},
        "feeds with an unknown input": good | {"not_an_input": good[name]},
        f"{name} of shape {misshapen.shape}": good | {name: misshapen},
        f"{name} as float16": good | {name: good[name].astype(np.float16)},
        "an empty batch": {n: a[:0] for n, a in good.items()},
    }
    if case.session.batch_sizes:
        size = case.session.batch_sizes[-1] + 1
        bad[f"a batch of {size}, which is not in `batch_sizes`,"] = case.take_feeds(case.row_indices(0, size))
    for what, feeds in bad.items():
        yield from _check_rejection(case, what, feeds)
    if drift := case.describe_drift(case.run(rows), right):
        yield f"after rejected feeds the next result differs {drift}"


def _check_rejection(case: _Case, what: str, feeds: Feeds) -> Iterator[str]:
    try:
        case.session.submit(feeds).wait()
    except GanrtError:
        return
    except Exception as error:
        yield f"{what} raised {type(error).__name__}: {error}"
    else:
        yield f"{what} returned a result"


def _check_close(case: _Case) -> Iterator[str]:
    """`close` may be called twice; `submit` afterwards raises BackendError."""
    case.session.close()
    case.session.close()
    try:
        case.run(case.row_indices(0, case.size))
    except BackendError:
        return
    except Exception as error:
        yield f"`submit` after `close` raised {type(error).__name__}: {error}"
    else:
        yield "a closed session returned a result"


_PROMISES = (
    _check_device_and_precision,
    _check_attributes,
    _check_output_layout,
    _check_repeatability,
    _check_feeds_ownership,
    _check_result_ownership,
    _check_two_batches_in_flight,
    _check_batch_independence,
    _check_images,
    _check_threads,
    _check_device_arrays,
    _check_pictures,
    _check_bad_feeds,
    _check_close,
)
"""Each check relies on the ones before it, so the first that fails is the cause."""
