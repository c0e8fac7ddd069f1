"""Golden samples: seeds and sample numbers, and the float32 images that the PyTorch original made from them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ganrt import feeds
from ganrt.errors import BundleError
from ganrt.feeds import Feeds
from ganrt.images import Floats
from ganrt.latents import MAX_64
from ganrt.spec import Spec

_RUNS = ((0, 0), (7, 0), (2**64 - 1, 2**63), (12345678901234567890, 2**32 - 2))
"""(seed, first sample number) of each run. Small and large seeds, and sample numbers that cross 2^32, so that a proof
also covers the random numbers of its machine."""
_RUN_LENGTH = 16
"""Samples per run."""
_PICTURES = 2
"""Samples per run for models with image inputs, which take much longer per sample."""
_BYTES = 2**22
"""Target size of the images in bytes; large images get fewer samples per run, but at least one."""


@dataclass(frozen=True)
class Golden:
    """Runs of equal length. Run r holds the samples starts[r], starts[r] + 1, ... of seed seeds[r]."""

    seeds: NDArray[np.uint64]
    """Seed of each run, uint64 (runs,)."""
    starts: NDArray[np.uint64]
    """Number of the first sample of each run, uint64 (runs,)."""
    images: Floats
    """Images of the original, float32 (samples, C, H, W), run after run; all finite."""

    KEYS: ClassVar = ("seeds", "starts", "images")
    """Arrays in the file."""

    @classmethod
    def make(cls, spec: Spec, original: Callable[[Feeds], Floats]) -> Golden:
        """Compute golden samples.

        Args:
            spec: inputs of the model.
            original: runs the PyTorch original: feeds -> images, float32 NCHW of the same batch size.
        """
        size = proof_picture_size(spec)
        first = original(feeds.draw_feeds(spec, *_RUNS[0], 1, size=size))
        length = min(_PICTURES if spec.images else _RUN_LENGTH, _BYTES // (len(_RUNS) * first.nbytes))
        seeds, starts = (np.array(column, np.uint64) for column in zip(*_RUNS, strict=True))
        images = [original(feeds.draw_feeds(spec, seed, start, max(1, length), size=size)) for seed, start in _RUNS]
        return cls(seeds, starts, np.concatenate(images).astype(np.float32, copy=False))

    def draw_feeds(self, spec: Spec) -> Feeds:
        """Draw the inputs of the samples, in the order of `images`."""
        count, size = len(self.images) // len(self.seeds), proof_picture_size(spec)
        runs = [
            feeds.draw_feeds(spec, int(s), int(i), count, size=size)
            for s, i in zip(self.seeds, self.starts, strict=True)
        ]
        return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}

    def subset(self, per_run: int) -> Golden:
        """Return the first `per_run` samples of each run."""
        shape = self.images.shape
        grouped = self.images.reshape(len(self.seeds), -1, *shape[1:])[:, :per_run]
        return Golden(self.seeds, self.starts, grouped.reshape(-1, *shape[1:]))

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz file, so that reading it takes no more memory than its size."""
        np.savez(path, seeds=self.seeds, starts=self.starts, images=self.images)

    @classmethod
    def load(cls, path: Path, spec: Spec) -> Golden:
        """Read a file that `save` wrote. Nothing in it is executed. Raises BundleError if it is damaged or does not fit
        the Spec."""
        try:
            with zipfile.ZipFile(path) as archive:
                if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                    raise BundleError(f"{path.name} is compressed; golden samples must be stored uncompressed")
            with np.load(path, allow_pickle=False) as arrays:
                golden = cls(*(arrays[key] for key in cls.KEYS))
        except BundleError:
            raise
        except Exception as error:  # zipfile and NumPy raise almost any exception on damaged files
            raise BundleError(f"{path.name} cannot be read as golden samples: {error}") from error
        golden._check(path.name, spec)
        return golden

    def _check(self, name: str, spec: Spec) -> None:
        shape, runs = self.images.shape, self.seeds.size
        wanted = (spec.output.channels, *(spec.output.size or shape[2:]))
        if self.images.dtype != np.float32 or len(shape) != 4 or shape[1:] != wanted or self.images.size == 0:
            raise BundleError(
                f"{name} holds {self.images.dtype} of shape {shape}; the Spec makes float32 (N, {wanted})"
            )
        columns = (self.seeds, self.starts)
        if any(c.dtype != np.uint64 or c.shape != (runs,) for c in columns) or runs == 0 or shape[0] % runs:
            raise BundleError(
                f"{name} holds {shape[0]} images in {runs} runs; seeds and starts must be uint64, one per run"
            )
        if int(self.starts.max()) + shape[0] // runs > MAX_64 or not np.isfinite(self.images).all():
            raise BundleError(f"{name} holds images that are not finite, or numbered beyond 2^64")


def proof_picture_size(spec: Spec) -> tuple[int, int]:
    """Return height and width of the synthetic images of a proof: 48 x 64 pixels, rounded up to multiples that all
    image inputs allow."""
    rule = math.lcm(*(item.multiple_of for item in spec.images))
    return -(-48 // rule) * rule, -(-64 // rule) * rule
