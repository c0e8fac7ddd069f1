"""`load()` and `Generator`, the class users meet: everything pleasant about a session, written once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from ganrt import batching, choosing, feeds
from ganrt.backend import PictureSession, Session, open_session
from ganrt.batching import Batch
from ganrt.bundle import Bundle
from ganrt.checks import require_whole
from ganrt.choosing import Candidate, LoadRequest
from ganrt.errors import GanrtError, MachineError, MissingLibraryError, RequestError, UnprovenError
from ganrt.feeds import Draw, Feeds, Labels
from ganrt.images import Floats, Pictures, to_uint8
from ganrt.info import Info
from ganrt.latents import check_seed
from ganrt.proof import Proof
from ganrt.session_config import SessionConfig
from ganrt.spec import Spec
from ganrt.transform import Picture, transform
from ganrt.trust import require_proof

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_log = logging.getLogger(__name__)


def load(
    bundle: str | Path | Bundle,
    backend: str = "auto",
    *,
    variant: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch: int | None = None,
    unproven: bool = False,
    **options: Any,
) -> Generator:
    """Load a bundle, or a bare .onnx file that ganrt exported.

    The configuration that `ganrt tune` measured fastest on this machine is used, if it fits the arguments. Without a
    tuned record, or if that configuration cannot be opened any more, the first one is used that is installed here, runs
    the bundle and is proven to make the original's images: backends in the order tensorrt, onnxruntime, openvino,
    pytorch, reference; in float32; a variant with fewer MACs before the graph as it was traced.

    Args:
        bundle: a bundle's folder, an .onnx file, or a `Bundle` that was read already.
        backend: a name that `ganrt doctor` lists, or `auto`.
        variant: name of one variant, such as `int8-phases`; `precision` is then ignored.
        device: `auto` (a GPU where the backend finds one), `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16`, `fp16`, `int8`, or `auto`: that of the tuned record, else float32.
        batch: how many pictures you will mostly ask for at a time, which decides between the winners of the tuned
            record. By default the configuration that is best over all measured sizes.
        unproven: also use a variant that was not proven on this machine, or that failed.
        options: options of the backend, such as `threads=2`.

    Raises BundleError, MachineError, RequestError, UnprovenError.
    """
    read = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    refusals: list[tuple[Candidate, GanrtError]] = []
    request = LoadRequest(backend, variant, device, options, precision, batch)
    for candidate in choosing.find_candidates(read, request):
        try:
            session, proof = _open_proven(read, candidate.config, unproven)
        except GanrtError as error:
            refusals.append((candidate, error))
            continue
        for skipped, reason in refusals:
            if skipped.seconds or not isinstance(reason, MissingLibraryError):
                _log.warning("%s is skipped%s: %s", skipped, " although it was tuned" * bool(skipped.seconds), reason)
        info = Info.of_session(session, read, candidate.config, proof, candidate.reason)
        _log.info("%s: %s (%s)", read.folder, info.config, info.reason)
        return Generator(read.spec, session, candidate.seconds, info)
    raise _summarize_refusals(read, [error for _, error in refusals])


def _summarize_refusals(bundle: Bundle, refusals: list[GanrtError]) -> GanrtError:
    """One error for the refusals of all candidates: UnprovenError if one of them is, else the class that all installed
    backends agree on."""
    classes = {type(e) for e in refusals if not isinstance(e, MissingLibraryError)}
    if UnprovenError in classes:
        classes = {UnprovenError}
    kind = classes.pop() if len(classes) == 1 else MachineError
    reasons = dict.fromkeys(map(str, refusals))
    if len(reasons) == 1:
        return refusals[0]
    return kind(
        f"no backend of this machine can run {bundle.folder}:\n" + "\n".join(f"- {reason}" for reason in reasons)
    )


def _open_proven(bundle: Bundle, config: SessionConfig, unproven: bool) -> tuple[Session, Proof | None]:
    session = open_session(bundle, config)
    try:
        return session, None if unproven else require_proof(bundle, config.variant, session)
    except BaseException:
        session.close()
        raise


class Generator:
    """A model ready to make images. Threads may share one; each call has the session to itself while it computes.

    Image k of `sample` is sample number `start + k` of its seed: the same picture in any batch, on any backend and
    machine.
    """

    def __init__(
        self, spec: Spec, session: Session, seconds: Mapping[int, float] | None = None, info: Info | None = None
    ) -> None:
        """Take over a session; `close` closes it.

        Args:
            seconds: batch size -> measured seconds; `ganrt.batching.plan_batches` uses it to cut
                larger requests.
            info: what stands behind the pictures; by default what the session states.
        """
        self.spec = spec
        """What goes in and what comes out."""
        self.session = session
        """The session that computes."""
        self.seconds = dict(seconds or {})
        """Batch size -> measured seconds."""
        self.info = info or Info.of_session(session)
        """Which bundle, variant, backend, device, library versions, proof and tuning stand behind the pictures."""
        self._lock = threading.Lock()

    @overload
    def sample(
        self, n: int, seed: int = 0, start: int = 0, labels: Labels = None, truncation: float | None = None
    ) -> Pictures: ...

    @overload
    def sample(
        self,
        n: int,
        seed: int = 0,
        start: int = 0,
        labels: Labels = None,
        truncation: float | None = None,
        *,
        output: str,
    ) -> Any: ...

    def sample(
        self,
        n: int,
        seed: int = 0,
        start: int = 0,
        labels: Labels = None,
        truncation: float | None = None,
        *,
        output: str = "numpy",
    ) -> Any:
        """Make n pictures: uint8 (n, H, W, C), RGB or grey, owned by the caller.

        Args:
            seed: in [0, 2^64).
            start: number of the first sample, so that a job can be continued or shared out.
            labels: None (drawn from the seed), one class, or one class per image.
            truncation: largest magnitude of a latent value; smaller is more typical and less varied.
            output: `numpy`, or `dlpack` for an object that torch, JAX or CuPy take without a copy (`from_dlpack`). On a
                GPU it is the session's own memory, valid until the generator is used again; n is at most its largest
                batch.

        Raises RequestError for an argument that is out of range or that this model does not have, BackendError when
        the model makes values that are not finite (of arrays on a GPU nobody looks at them).
        """
        draw = self._check_draw(n, seed, start, labels, truncation)
        if output == "dlpack" and self.session.device != "cpu":
            return self._sample_on_device(draw)
        if output not in ("numpy", "dlpack"):
            raise RequestError(f"output is {output!r}; choose numpy or dlpack")
        pictures = self._allocate(draw.rows)
        with self._lock:
            for batch, made in self._make_batches(draw):
                pictures[batch.first : batch.first + batch.rows] = made
        return pictures

    def _make_batches(self, draw: Draw) -> Iterator[tuple[Batch, Pictures]]:
        """The pictures of samples, batch by batch: made on the device where the session can, else of its images."""
        output, cut = self.spec.output, (self.max_batch, self.seconds)
        if isinstance(self.session, PictureSession):
            yield from batching.run_pictures(self.session, output, draw, *cut)
            return

        def feeds_of(batch: Batch) -> Feeds:
            drawn = draw.part(batch.first, batch.rows).feeds(self.spec)
            return batching.take_batch(drawn, Batch(0, batch.rows, batch.size))

        for batch, images in batching.run_batches(self.session, output, draw.rows, feeds_of, *cut):
            yield batch, to_uint8(images, output.range)

    def _sample_on_device(self, draw: Draw) -> Any:
        session = self.session
        if not isinstance(session, PictureSession):
            raise RequestError(f"the {session.backend} backend makes no pictures on {session.device}; use tensorrt")
        most = session.batch_sizes[-1]
        if not 1 <= draw.rows <= most:
            raise RequestError(f"{draw.rows} pictures were asked for as one array on the GPU; ask for 1 to {most}")
        with self._lock:
            return session.submit_draw(draw).device_arrays()[self.spec.output.name]

    def stream(
        self,
        n: int,
        seed: int = 0,
        start: int = 0,
        labels: Labels = None,
        truncation: float | None = None,
        batch: int | None = None,
    ) -> Iterator[Pictures]:
        """Yield the pictures of `sample`, at most `batch` at a time; the next ones are computed while you use these.

        Memory is bounded by two batches however large n is. The arguments are checked at once, before the first batch.
        For n = 0 one empty array comes, so that joining the batches always works.
        """
        draw = self._check_draw(n, seed, start, labels, truncation)
        size = self.max_batch if batch is None else require_whole("batch", batch)

        def compute(first: int) -> Pictures:
            part = draw.part(first, min(size, draw.rows - first))
            return self.sample(part.rows, part.seed, part.start, part.labels, part.truncation)

        return _compute_ahead(compute, range(0, max(draw.rows, 1), size))

    def __call__(self, **inputs: ArrayLike) -> Floats:
        """Run the model on inputs of your own, by their names in the Spec: `g(z=z)`.

        Returns float32 (N, C, H, W) in the model's own range (`spec.output.range`, not clamped), owned by the caller.
        Raises RequestError naming the input when one is missing, unknown, or of the wrong shape, dtype or value.
        """
        checked = feeds.check_inputs(self.spec, inputs)
        count = len(next(iter(checked.values())))
        if count == 0:
            raise RequestError("the inputs have no rows; give one at least")
        with self._lock:
            return batching.run_all(self.session, self.spec.output, checked, self.max_batch, self.seconds)

    def transform(self, *pictures: Picture, tile: int | None = None, **inputs: Any) -> Pictures:
        """Run pictures through an image-to-image model: `g.transform(photo)`, `g.transform(photo, style=painting)`.

        Args:
            pictures: the image inputs in the order of the Spec; files, Pillow images, or uint8 arrays HWC or NHWC.
            tile: side in pixels of overlapping tiles for large pictures, 0 for none; by default the size decides.
            inputs: inputs by name: pictures as above, scalars as a number (their default if left out).

        Returns uint8 (H, W, C), or (N, H, W, C) when an array of several pictures was given. Raises RequestError naming
        the input that is wrong, ArtifactError for a file that cannot be read.
        """
        if not self.spec.images:
            raise RequestError(f"this {self.spec.family} model takes no picture; use sample()")
        if len(pictures) > len(self.spec.images):
            raise RequestError(f"{len(pictures)} pictures were given; this model takes {len(self.spec.images)}")
        positional = {item.name: picture for item, picture in zip(self.spec.images, pictures, strict=False)}
        twice = sorted(positional.keys() & inputs.keys())
        if twice:
            raise RequestError(f"{twice[0]} was given twice")
        made = transform(self.spec, {**positional, **inputs}, lambda feeds: self(**feeds), tile)
        several = any(getattr(value, "ndim", 0) == 4 for value in [*pictures, *inputs.values()])
        return made if several else made[0]

    @property
    def max_batch(self) -> int:
        """Most images computed at a time; larger requests are cut."""
        return batching.largest_batch(self.spec.output)

    def close(self) -> None:
        """Free the session. Calling it twice is fine."""
        with self._lock:
            self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Generator {self.spec.family} on {self.info.config} ({self.session.device}, {self.info.precision})>"

    def _check_draw(self, n: int, seed: int, start: int, labels: Labels, truncation: float | None) -> Draw:
        """Check every argument before any work. The labels become None, one class, or an array of one per image."""
        seed, start, n = check_seed(seed, start, n)
        one = labels is None or isinstance(labels, int | np.integer)
        chosen = feeds.check_labels(self.spec, labels, 1 if one else n)
        feeds.draw_feeds(self.spec, seed, start, 0, None, truncation)
        return Draw(seed, start, n, labels if one else chosen, truncation)

    def _allocate(self, n: int) -> Pictures:
        output = self.spec.output
        height, width = output.size or (0, 0)
        try:
            return np.empty((n, height, width, output.channels), np.uint8)
        except (MemoryError, ValueError) as error:
            raise RequestError(f"{n} pictures of {width} x {height} do not fit into memory; use stream()") from error


def _compute_ahead(compute: Callable[[int], Pictures], places: range) -> Iterator[Pictures]:
    """Yield compute(place) for every place, the next one always under way in a thread."""
    with ThreadPoolExecutor(1, "ganrt-stream") as worker:
        ahead: Future[Pictures] | None = None
        for place in places:
            current, ahead = ahead, worker.submit(compute, place)
            if current is not None:
                yield current.result()
        if ahead is not None:
            yield ahead.result()
