"""`Generator`: sample images, run inputs and transform pictures with any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from ganrt import batching, feeds
from ganrt.backend import Session, open_session
from ganrt.batching import Batch
from ganrt.bundle import Bundle
from ganrt.checks import require_whole
from ganrt.choosing import Candidate
from ganrt.draw_ahead import DrawAhead
from ganrt.errors import BackendError, RequestError
from ganrt.fair_lock import FairLock
from ganrt.images import Floats, Pictures
from ganrt.info import Info
from ganrt.least_size import reject_small_pictures
from ganrt.photos import Frame, Photo, ReadOptions, split_opacity
from ganrt.picture_inputs import Picture, Values, have_one_shape, is_list, read_list
from ganrt.picture_lists import split_request
from ganrt.sample_request import Draw, Labels, SampleRequest, Seeds, Truncation, check_request
from ganrt.sampling import RunBatches, compute_ahead, make_device_pictures, make_pictures
from ganrt.spec import Spec
from ganrt.transform import collect_inputs, name_inputs, transform

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Generator:
    """A loaded model. Threads may share one: each in turn uses the session for a batch, in order of arrival.

    A forked child opens a session of its own when it first uses the generator; one on a GPU raises BackendError there.
    A pickled or copied generator is its bundle's path and its configuration, with which it is loaded again.

    Picture k of `sample` is sample number `start + k` of its seed: the same in every batch, on every backend and
    machine, up to rounding.
    """

    def __init__(
        self,
        spec: Spec,
        session: Session,
        seconds: Mapping[int, float] | None = None,
        info: Info | None = None,
        bundle: Bundle | None = None,
    ) -> None:
        """Take ownership of a session; `close` closes it.

        Args:
            spec: inputs and output of the model.
            session: computes the images.
            seconds: batch size -> measured seconds, with which `ganrt.batching.plan_batches` splits requests.
            info: origin of the images; by default the facts of the session.
            bundle: opens another session in a forked child or another process; None if neither is needed.
        """
        self.spec = spec
        """Inputs and output of the model."""
        self._session = session
        self._bundle = bundle and replace(bundle, store=bundle.store.resolve())  # the current folder may change
        self._closed = False
        self.seconds = dict(seconds or {})
        """Batch size -> measured seconds; empty if not tuned."""
        self.info = info or Info.of_session(session)
        """Bundle, variant, backend, device, library versions, proof and reason of the choice."""
        self._draw_ahead = DrawAhead(spec)
        self._lock = FairLock()
        self._opening = FairLock()

    @property
    def session(self) -> Session:
        """The session that computes the images; owned by the generator. A forked child gets a new one."""
        session = self._session
        if not session.is_inherited:
            return session
        with self._opening:
            if self._session.is_inherited and self._bundle and self.info.config.device == "cpu" and not self._closed:
                self._session = open_session(self._bundle, self.info.config)
            return self._session

    def __reduce__(self) -> tuple[Callable[..., Generator], tuple[Any, ...]]:
        if self._bundle is None:
            raise RequestError("this generator was made from a session, so it cannot be pickled; load a bundle instead")
        candidate = Candidate(self.info.config, self.info.reason, self.seconds)
        from ganrt.loading import load_again

        return load_again, (self._bundle.path, candidate, self.info.proof is None)

    @overload
    def sample(
        self,
        n: int | None = None,
        seed: Seeds = 0,
        start: Seeds = 0,
        labels: Labels = None,
        truncation: Truncation = None,
    ) -> Pictures: ...

    @overload
    def sample(
        self,
        n: int | None = None,
        seed: Seeds = 0,
        start: Seeds = 0,
        labels: Labels = None,
        truncation: Truncation = None,
        *,
        output: str,
    ) -> Any: ...

    def sample(
        self,
        n: int | None = None,
        seed: Seeds = 0,
        start: Seeds = 0,
        labels: Labels = None,
        truncation: Truncation = None,
        *,
        output: str = "numpy",
    ) -> Any:
        """Generate n pictures: uint8 (n, H, W, C), grey, RGB or RGB and opacity, owned by the caller.

        Each argument is one value, or a sequence or array of one per picture, so that requests of many users can share
        a batch; each gets the pictures that it would get alone.

        Args:
            n: number of pictures, from 0; None for the length of the sequences, or 1 without any.
            seed: from 0 to 2^64 - 1.
            start: sample number. One number is that of the first picture, to continue a job or to split it between
                machines; with a seed per picture, that of every picture.
            labels: classes; None, also for a single picture, for one that is drawn from the seed.
            truncation: largest magnitude of a latent value; smaller values give more typical, less varied pictures.
                None, also for a single picture, is the model's own. In an array NaN stands for None.
            output: `numpy`, or `dlpack` for an object that torch, JAX or CuPy read without a copy (`from_dlpack`). On a
                GPU the session owns its memory, which is valid until the generator is used again, and n is at most the
                session's largest batch size.

        Raises RequestError, naming the argument and the position, if an entry is out of range, the model has no such
        input, or the lengths differ; BackendError if an image has values that are not finite (not checked for `dlpack`
        on a GPU).
        """
        request = self._check_request(n, seed, start, labels, truncation)
        if output == "dlpack" and self.session.device != "cpu":
            with self._lock:
                return make_device_pictures(self.session, self.spec, request)
        if output not in ("numpy", "dlpack"):
            raise RequestError(f"output is {output!r}; choose numpy or dlpack")
        return self._sample(request, 0, request.rows)

    def draw(
        self,
        n: int | None = None,
        seed: Seeds = 0,
        start: Seeds = 0,
        labels: Labels = None,
        truncation: Truncation = None,
    ) -> Draw:
        """Return what `sample` draws for these arguments: the seed, sample number and class of each picture, and its
        truncation if there are any. Nothing is computed. Raises RequestError as `sample` does."""
        request = check_request(self.spec, n, seed, start, labels, truncation)
        try:
            draw = request.take_rows(0, request.rows)
            return replace(draw, labels=feeds.draw_classes(self.spec, draw))
        except (MemoryError, ValueError) as error:
            raise RequestError(f"what is drawn for {request.rows} pictures does not fit into memory") from error

    def make(self, draw: Draw) -> Pictures:
        """Generate the pictures of a draw: of `draw`, or of several that were joined. It is not checked again.

        Returns uint8 (draw.rows, H, W, C), owned by the caller. Raises what `sample` raises while it computes.
        """
        request = SampleRequest(draw.rows, draw.seeds, draw.indices, draw.labels, draw.truncation)
        return self._sample(request, 0, draw.rows)

    def _check_request(
        self, n: int | None, seed: Seeds, start: Seeds, labels: Labels, truncation: Truncation
    ) -> SampleRequest:
        """Check all arguments, and that the model takes no pictures, before any work."""
        request = check_request(self.spec, n, seed, start, labels, truncation)
        feeds.require_no_pictures(self.spec)
        return request

    def _sample(self, request: SampleRequest, first: int, rows: int) -> Pictures:
        return make_pictures(self.session, self.spec.output, request, first, rows, self._draw_ahead, self._run_in_turns)

    def _run_in_turns(self, rows: int, run: RunBatches) -> None:
        """Run the batches of some rows. The lock is held while batches are in flight, and handed over between them if
        other threads wait."""
        left = batching.plan_batches(rows, self.session.batch_sizes, self.max_batch, self.seconds)
        for first in left:
            with self._lock:
                run(batching.take_turn(first, left, self._lock))

    def stream(
        self,
        n: int | None = None,
        seed: Seeds = 0,
        start: Seeds = 0,
        labels: Labels = None,
        truncation: Truncation = None,
        batch: int | None = None,
    ) -> Iterator[Pictures]:
        """Yield the pictures of `sample` in arrays of at most `batch`; the next one is computed in a thread meanwhile.

        Memory is bounded by two batches for any n. Arguments are those of `sample`, checked before the first batch;
        `batch` is `max_batch` by default. For n = 0 one empty array is yielded, so that the result can always be
        concatenated. Raises what `sample` raises.
        """
        request = self._check_request(n, seed, start, labels, truncation)
        size = self.max_batch if batch is None else require_whole("batch", batch)

        def compute(first: int) -> Pictures:
            return self._sample(request, first, min(size, request.rows - first))

        return compute_ahead(compute, range(0, max(request.rows, 1), size))

    def __call__(self, **inputs: ArrayLike) -> Floats:
        """Run the model on your own inputs, by their names in the Spec: `g(z=z)`.

        Args:
            inputs: array-likes of shape (N, ...), N at least 1; images are float32 NCHW as the network takes them: in
                the range of their input, or normalized if the Spec says so.

        Returns images, float32 (N, C, H, W), owned by the caller, as the network makes them: in `spec.output.range`,
        but not clamped to it, or normalized. Raises RequestError, naming the input, if one is missing, unknown, or of a
        wrong shape, dtype or value.
        """
        checked = feeds.check_inputs(self.spec, inputs)
        count = len(next(iter(checked.values())))
        if count == 0:
            raise RequestError("the inputs have no rows; give at least one")
        parts: list[Floats] = []

        def run(batches: Iterator[Batch]) -> None:
            batching.run_batches(
                self.session,
                self.spec.output,
                batches,
                lambda batch: batching.take_batch(checked, batch),
                lambda _, images: parts.append(images),
            )

        self._run_in_turns(count, run)
        return np.concatenate(parts)

    @overload
    def transform(
        self,
        *pictures: Picture,
        tile: int | None = None,
        seed: Seeds = 0,
        start: Seeds = 0,
        labels: Labels = None,
        depth: int = 8,
        **inputs: Any,
    ) -> Values: ...

    @overload
    def transform(
        self,
        *pictures: Picture | Sequence[Picture],
        tile: int | None = None,
        seed: Seeds = 0,
        start: Seeds = 0,
        labels: Labels = None,
        depth: int = 8,
        **inputs: Any,
    ) -> Values | list[Values]: ...

    def transform(
        self,
        *pictures: Picture | Sequence[Picture],
        tile: int | None = None,
        seed: Seeds = 0,
        start: Seeds = 0,
        labels: Labels = None,
        depth: int = 8,
        **inputs: Any,
    ) -> Values | list[Values]:
        """Run pictures through an image-to-image model: `g.transform(photo)`, `g.transform(photo, style=painting)`.

        Args:
            pictures: image inputs in the order of the Spec: paths, contents of files, open files, Pillow images, photos
                of `ganrt.read_photo`, or uint8 or uint16 arrays HWC or NHWC; or lists of such pictures. They may have
                opacity, which is put back.
            tile: side of overlapping tiles in input pixels; 0 for none; None uses tiles for large pictures if it can.
            seed: where the model also takes latents or labels, those that are not given are drawn: for picture k of one
                seed, sample `start + k` of it; with a seed per picture, sample `start` of each.
            start: number of the first sample, or of each picture's.
            labels: classes for a model that takes them, one or one per picture; None for classes that are drawn.
            depth: bits of a value that files of 16 bits are read with, 8 or 16.
            inputs: inputs by name: pictures as above; scalars as a number, or their default if left out.

        A list may hold pictures of different sizes as the first input; what is given for each picture (seeds, labels,
        lists and arrays of other inputs) is then split likewise.

        Returns (H, W, C), or (N, H, W, C) if an input was a list or an NHWC array, with the dtype of the first picture,
        and with a channel for opacity if it has that; for a list of different sizes, a list of (H, W, C), in its order.
        The caller owns them. Raises RequestError, naming the input that is wrong, and for a picture that is too small
        for the model; ArtifactError for a file that cannot be read.
        """
        options = ReadOptions(depth)
        named = name_inputs(self.spec, pictures, inputs)
        first = self.spec.images[0]
        if is_list(named.get(first.name)):
            read = read_list(first, named[first.name], options)
            if not have_one_shape(read):
                request = {**named, first.name: read, "seed": seed, "start": start, "labels": labels}
                parts = split_request(self.spec, request, len(read))
                return [self.transform(**part, tile=tile, depth=depth)[0] for part in parts]
            named[first.name] = np.concatenate(read)
        given, several = collect_inputs(self.spec, (), named, seed, start, labels, options)
        try:
            made = transform(self.spec, given, self._compute, tile)
        except BackendError:
            reject_small_pictures(self.spec, given, self._compute)
            raise
        return made if several else made[0]

    def _compute(self, inputs: feeds.Feeds) -> Floats:
        return self(**inputs)

    def transform_photo(self, photo: Photo, *others: Picture, **options: Any) -> Photo:
        """Run each frame of a photo through the model: `encode_photo(g.transform_photo(read_photo(path)), "png")`.

        Args:
            photo: the first image input.
            others, options: as for `transform`.

        Returns a photo with all that the given one holds. Raises what `transform` raises.
        """

        def change(frame: Frame) -> Frame:
            made = self.transform(Photo((frame,)), *others, **options)
            return Frame(*split_opacity(made), frame.milliseconds)

        return photo.map_frames(change)

    def transform_stream(
        self,
        pictures: Iterable[Picture],
        *,
        tile: int | None = None,
        seed: int = 0,
        start: int = 0,
        labels: Labels = None,
        depth: int = 8,
        **inputs: Any,
    ) -> Iterator[Values]:
        """Yield `transform(picture)` for each of many pictures, which may have different sizes; the next one is read
        and computed in a thread meanwhile.

        Args:
            pictures: the first image input of each; read when its turn comes.
            seed, start: picture k gets what is drawn for sample `start + k` of the seed.
            tile, labels, depth, inputs: as for `transform`, for every picture.

        Memory is bounded by two pictures and results for any number. Raises what `transform` raises, at the picture
        that it is about.
        """

        def compute(numbered: tuple[int, Picture]) -> Values:
            number, picture = numbered
            return self.transform(picture, tile=tile, seed=seed, start=number, labels=labels, depth=depth, **inputs)

        if isinstance(pictures, str | Path | bytes | bytearray | memoryview | Photo):
            raise RequestError(f"pictures is one {type(pictures).__name__}; give a list, or another iterable, of them")
        return compute_ahead(compute, enumerate(pictures, start))

    @property
    def max_batch(self) -> int:
        """Most images computed at a time; larger requests are split."""
        return batching.largest_batch(self.spec.output)

    def close(self) -> None:
        """Close the session, once the batches in flight are done; calls that have more to do raise BackendError. May be
        called twice."""
        with self._lock:
            self._closed = True
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Generator {self.spec.family} on {self.info.config} ({self.session.device}, {self.info.precision})>"
