"""Golden samples: the inputs of samples, and the float32 images that the PyTorch original made from them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ganrt import feeds
from ganrt.errors import BundleError
from ganrt.feeds import Array, Feeds, Size
from ganrt.images import Floats, from_uint8
from ganrt.latents import MAX_64
from ganrt.levels import find_levels
from ganrt.sample_request import Draw
from ganrt.spec import Spec
from ganrt.synthetic import draw_texture

Original: TypeAlias = Callable[[Feeds], Floats]
"""Runs the PyTorch original: feeds -> images, float32 NCHW of the same batch size."""

_RUNS = ((0, 0), (7, 0), (2**64 - 1, 2**63), (12345678901234567890, 2**32 - 2))
"""(seed, first sample number) of each run. Small and large seeds, and sample numbers that cross 2^32, so that a proof
also covers the random numbers of its machine."""
_RUN_LENGTH = 16
"""Samples per run."""
_PICTURES = 2
"""Samples per run for models with image inputs, which take much longer per sample."""
_BYTES = 2**22
"""Target size of the images in bytes; large images get fewer samples per run, but at least one."""
_WORK = 10**11
"""Target number of MACs for all samples of a picture size: a proof runs each about five times."""
_MAX_GROUPS = 16
"""Most groups in a file; more are damaged or hostile."""
_BASE = (48, 64)
_OTHERS = ((112, 70), (36, 100))
"""Sides of synthetic images in pixels: those that a model is traced with, then those of other groups, which have other
shapes: a larger portrait, and a wider landscape. Their sides become odd multiples of what the model takes."""
_ENLARGED = 4
"""Models that enlarge more than this get smaller images, so that their output is not larger."""


@dataclass(frozen=True)
class GoldenGroup:
    """Samples of one picture size: runs of equal length. Run r holds the samples starts[r], starts[r] + 1, ... of seed
    seeds[r]."""

    seeds: NDArray[np.uint64]
    """Seed of each run, uint64 (runs,)."""
    starts: NDArray[np.uint64]
    """Number of the first sample of each run, uint64 (runs,)."""
    images: Floats
    """Images of the original, float32 (samples, C, H, W), run after run; all finite."""
    pictures: Mapping[str, Array] = field(default_factory=dict)
    """Name of an image input -> what it was given for each sample: synthetic images, float32 NCHW, or pictures of the
    user, uint8 NHWC. All other inputs are drawn from the seeds."""

    @classmethod
    def make(
        cls, spec: Spec, original: Original, runs: Sequence[tuple[int, int]], length: int, sizes: Mapping[str, Size]
    ) -> GoldenGroup:
        """Draw inputs with synthetic images of the given sizes, and run the original on them.

        Args:
            runs: (seed, first sample number) of each run.
            length: samples per run.
            sizes: height and width for each image input of free size.
        """
        drawn = [feeds.draw_feeds(spec, seed, start, length, size=sizes) for seed, start in runs]
        images = np.concatenate([original(given) for given in drawn]).astype(np.float32, copy=False)
        pictures = {item.name: np.concatenate([given[item.name] for given in drawn]) for item in spec.images}
        seeds, starts = (np.array(column, np.uint64) for column in zip(*runs, strict=True))
        return cls(seeds, starts, images, pictures)

    @classmethod
    def of_pictures(cls, spec: Spec, original: Original, pictures: Mapping[str, Array]) -> GoldenGroup:
        """Run the original on pictures of the user.

        Args:
            pictures: name of an image input -> uint8 NHWC, as many for each, of one size for all inputs of free size.
                Other inputs are samples of seed 0, with images of that size.
        """
        count, size = len(next(iter(pictures.values()))), proof_picture_size(spec)
        for item in spec.images:
            if item.size is None and item.name in pictures:
                size = pictures[item.name].shape[1:3]
        synthetic = feeds.draw_feeds(spec, 0, 0, count, size=size)
        every = {item.name: pictures.get(item.name, synthetic[item.name]) for item in spec.images}
        seeds, starts = np.zeros(count, np.uint64), np.arange(count, dtype=np.uint64)
        given = _gather_feeds(spec, seeds, starts, 1, every)
        images = [original({name: rows[k : k + 1] for name, rows in given.items()}) for k in range(count)]
        return cls(seeds, starts, np.concatenate(images), every)

    def draw_feeds(self, spec: Spec) -> Feeds:
        """Return the inputs of the samples, in the order of `images`."""
        return _gather_feeds(spec, self.seeds, self.starts, len(self.images) // len(self.seeds), self.pictures)

    def subset(self, per_run: int, runs: int | None = None) -> GoldenGroup:
        """Return the first `per_run` samples of each of the first runs (None: of all)."""
        kept, total = slice(runs), len(self.seeds)

        def cut(array: Array) -> Array:
            grouped = array.reshape(total, -1, *array.shape[1:])[kept, :per_run]
            return np.ascontiguousarray(grouped.reshape(-1, *array.shape[1:]))

        pictures = {name: cut(array) for name, array in self.pictures.items()}
        return GoldenGroup(self.seeds[kept], self.starts[kept], cut(self.images), pictures)

    @property
    def sizes(self) -> dict[str, Size]:
        """Name of an image input -> height and width of what it was given."""
        return {
            name: (array.shape[1], array.shape[2]) if array.dtype == np.uint8 else (array.shape[2], array.shape[3])
            for name, array in self.pictures.items()
        }

    @property
    def has_given_pictures(self) -> bool:
        """True if they are pictures of the user."""
        return any(array.dtype == np.uint8 for array in self.pictures.values())


@dataclass(frozen=True)
class Golden:
    """The golden samples of a bundle."""

    groups: tuple[GoldenGroup, ...]
    """At least one. The first has the picture size that the model was traced with; models with image inputs of free
    size have groups of other sizes; pictures that the user gave are in groups of their own."""

    @classmethod
    def make(
        cls, spec: Spec, original: Original, *, macs: int = 0, pictures: Sequence[Mapping[str, Array]] = ()
    ) -> Golden:
        """Compute golden samples.

        Args:
            spec: inputs of the model.
            original: runs the PyTorch original.
            macs: multiply-accumulate operations of one sample of the first group; heavy models get fewer samples.
            pictures: groups of pictures of the user, each as `GoldenGroup.of_pictures` takes them.
        """
        sizes = proof_sizes(spec)
        per_sample = 4 * spec.output.channels * math.prod(output_size(spec, sizes[0]))
        length = min(_PICTURES if spec.images else _RUN_LENGTH, _BYTES // (len(_RUNS) * per_sample))
        length = max(1, min(length, _WORK // (len(_RUNS) * max(1, macs))))
        groups = [GoldenGroup.make(spec, original, _RUNS, length, sizes[0])]
        groups += [GoldenGroup.make(spec, original, _RUNS[: min(2, length)], 1, other) for other in sizes[1:]]
        most = max(1, _WORK // max(1, macs))
        shorter = [{name: array[:most] for name, array in given.items()} for given in pictures]
        return cls((*groups, *(GoldenGroup.of_pictures(spec, original, given) for given in shorter)))

    def subset(self, per_run: int) -> Golden:
        """Return the first `per_run` samples of each run of the first group, and the first sample of every other."""
        return Golden((self.groups[0].subset(per_run), *(group.subset(1, 1) for group in self.groups[1:])))

    def select_for(self, precision: str) -> Golden:
        """Return the samples that a precision is proven on: for 8 bits the pictures of the user alone, if there are
        any. They are calibrated on such pictures, and clip values that synthetic images of full contrast reach."""
        given = tuple(group for group in self.groups if group.has_given_pictures)
        return Golden(given) if given and precision in ("int8", "fp8") else self

    def __str__(self) -> str:
        made, given = (
            [group for group in self.groups if group.has_given_pictures is kind and len(group.images)]
            for kind in (False, True)
        )
        parts = [f"{sum(len(group.images) for group in made)} golden samples"]
        shapes = dict.fromkeys(f"{w} x {h}" for group in made for h, w in group.sizes.values())
        parts += [f"of {', '.join(shapes)} pixels"] if shapes else []
        parts += [f"and {sum(len(group.images) for group in given)} of the given pictures"] if given else []
        return " ".join(parts)

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz file, so that reading it takes no more memory than its size."""
        arrays: dict[str, Array] = {}
        for k, group in enumerate(self.groups):
            mark = f"{k}." if k else ""
            arrays |= {mark + key: getattr(group, key) for key in _KEYS}
            arrays |= {f"{mark}pictures.{name}": array for name, array in group.pictures.items()}
        np.savez(path, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path, spec: Spec) -> Golden:
        """Read a file that `save` wrote. Nothing in it is executed. Raises BundleError if it is damaged or does not fit
        the Spec."""
        try:
            with zipfile.ZipFile(path) as archive:
                if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                    raise BundleError(f"{path.name} is compressed; golden samples must be stored uncompressed")
            with np.load(path, allow_pickle=False) as file:
                arrays = {str(key): np.asarray(file[key]) for key in file.files}
            groups = tuple(_read_groups(arrays, spec))
            for group in groups:
                _check_group(group, path.name, spec)
        except BundleError:
            raise
        except Exception as error:  # zipfile and NumPy raise almost any exception on damaged files
            raise BundleError(f"{path.name} cannot be read as golden samples: {error}") from error
        return cls(groups)


_KEYS = ("seeds", "starts", "images")
"""Arrays of a group in the file; those of later groups have its number before their names."""


def _read_groups(arrays: Mapping[str, Array], spec: Spec) -> Iterator[GoldenGroup]:
    for k in range(_MAX_GROUPS):
        mark = f"{k}." if k else ""
        if k and f"{mark}seeds" not in arrays:
            return
        seeds, starts, images = (arrays[mark + key] for key in _KEYS)
        start = f"{mark}pictures."
        pictures = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
        group = GoldenGroup(seeds, starts, images, pictures)
        yield _draw_missing_images(group, spec) if spec.images and not pictures and k == 0 else group


def _draw_missing_images(group: GoldenGroup, spec: Spec) -> GoldenGroup:
    """Add the images of a file of ganrt 0.1, which held none: textures of one size."""
    rule = math.lcm(*(item.multiple_of for item in spec.images))
    size = (_round_up(_BASE[0], rule), _round_up(_BASE[1], rule))
    count = len(group.images) // len(group.seeds)
    pictures = {
        item.name: np.concatenate(
            [
                draw_texture(item, int(seed), int(start), count, feeds.PICTURE_STREAM + k, item.size or size)
                for seed, start in zip(group.seeds, group.starts, strict=True)
            ]
        )
        for k, item in enumerate(spec.images)
    }
    return GoldenGroup(group.seeds, group.starts, group.images, pictures)


def _check_group(group: GoldenGroup, name: str, spec: Spec) -> None:
    shape, runs = group.images.shape, group.seeds.size
    wanted = (spec.output.channels, *(spec.output.size or shape[2:]))
    if group.images.dtype != np.float32 or len(shape) != 4 or shape[1:] != wanted or group.images.size == 0:
        raise BundleError(f"{name} holds {group.images.dtype} of shape {shape}; the Spec makes float32 (N, {wanted})")
    columns = (group.seeds, group.starts)
    if any(c.dtype != np.uint64 or c.shape != (runs,) for c in columns) or runs == 0 or shape[0] % runs:
        raise BundleError(
            f"{name} holds {shape[0]} images in {runs} runs; seeds and starts must be uint64, one per run"
        )
    if int(group.starts.max()) + shape[0] // runs > MAX_64 or not np.isfinite(group.images).all():
        raise BundleError(f"{name} holds images that are not finite, or numbered beyond 2^64")
    if set(group.pictures) != {item.name for item in spec.images}:
        raise BundleError(f"{name} holds pictures of {sorted(group.pictures)}; the Spec has other image inputs")
    for item in spec.images:
        array = group.pictures[item.name]
        if array.dtype not in (np.uint8, np.float32) or array.ndim != 4 or len(array) != shape[0]:
            raise BundleError(f"{name} holds {array.dtype} of shape {array.shape} for the input {item.name!r}")
    feeds.check_inputs(spec, group.draw_feeds(spec))
    if spec.output.size is None and shape[2:] != output_size(spec, group.sizes):
        height, width = output_size(spec, group.sizes)
        raise BundleError(f"{name} holds images of shape {shape}; the Spec makes images of {width} x {height} pixels")


def _gather_feeds(
    spec: Spec,
    seeds: NDArray[np.uint64],
    starts: NDArray[np.uint64],
    length: int,
    pictures: Mapping[str, Array],
) -> Feeds:
    """Inputs of the samples of some runs: images from `pictures`, all others drawn."""
    numbers = starts.repeat(length)
    numbers += np.tile(np.arange(length, dtype=np.uint64), len(starts))
    given = feeds.draw_numbers(spec, Draw(seeds.repeat(length), numbers))
    for item in spec.images:
        array = pictures[item.name]
        given[item.name] = from_uint8(array, find_levels(item)) if array.dtype == np.uint8 else array
    return {item.name: given[item.name] for item in spec.inputs}


def proof_picture_size(spec: Spec) -> Size:
    """Return height and width of the synthetic images that a model with image inputs of free size is traced with: 48 x
    64 pixels, or less for a model that enlarges much, rounded up to multiples that all image inputs allow."""
    rule, height, width = _plan_size(spec, _BASE)
    return _round_up(height, rule), _round_up(width, rule)


def proof_sizes(spec: Spec) -> list[dict[str, Size]]:
    """Return the picture sizes of a proof: name of an image input -> height and width, for each group of synthetic
    images. A Spec with image inputs of free size gets several, in which inputs that may differ in size do."""
    names = [item.name for item in spec.images]
    free = [item for item in spec.images if item.size is None]
    first = dict.fromkeys(names, proof_picture_size(spec)) if names else {}
    if not free:
        return [first]
    others = [_make_odd(*_plan_size(spec, sides)) for sides in _OTHERS]
    leading = [item.name for item in free if item.like is None]
    found = []
    for k in range(len(others)):
        sizes = {name: others[(k + place) % len(others)] for place, name in enumerate(leading)}
        for item in free:
            if item.like is not None:
                sizes[item.name] = sizes[item.like]
        found.append({name: sizes.get(name, first[name]) for name in names})
    return [first, *found]


def _plan_size(spec: Spec, sides: Size) -> tuple[int, int, int]:
    """What both sides must be multiples of, and the sides before they are rounded."""
    rule = math.lcm(*(item.multiple_of for item in spec.images))
    shrink = max(1.0, spec.output.scale / _ENLARGED) if spec.output.size is None else 1.0
    height, width = (math.ceil(side / shrink) for side in sides)
    return rule, height, width


def _make_odd(rule: int, height: int, width: int) -> Size:
    """Round up to odd multiples of `rule`, so that neither side is a multiple of 2 * rule, and keep the sides apart."""
    first, second = (-(-side // rule) // 2 * 2 + 1 for side in (height, width))
    if first == second:
        first, second = (first + 2, second) if height > width else (first, second + 2)
    return first * rule, second * rule


def _round_up(side: int, rule: int) -> int:
    return -(-side // rule) * rule


def output_size(spec: Spec, sizes: Mapping[str, Size]) -> Size:
    """Return height and width of the images that are made from pictures of some sizes (name of an input -> size)."""
    if spec.output.size is not None:
        return spec.output.size
    height, width = spec.images[0].size or sizes[spec.images[0].name]
    return height * spec.output.scale, width * spec.output.scale
