"""Golden samples: (seed, sample number) pairs and the float32 images that the PyTorch original made for them."""

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
"""(seed, first sample number) of each run: small and large seeds, and an index that crosses 32 bits, so that a proof
also covers the random numbers of the machine it is made on."""
_RUN_LENGTH = 16
_PICTURES = 2
"""Samples of each run for models that take pictures, which cost much more a sample."""
_BYTES = 2**22
"""Large images get fewer samples, so that the file stays about this small."""


@dataclass(frozen=True)
class Golden:
    """Run r holds the samples starts[r], starts[r] + 1, ... of seeds[r]; all runs are equally long."""

    seeds: NDArray[np.uint64]
    starts: NDArray[np.uint64]
    images: Floats
    """float32 (samples, C, H, W), run after run."""

    KEYS: ClassVar = ("seeds", "starts", "images")

    @classmethod
    def make(cls, spec: Spec, original: Callable[[Feeds], Floats]) -> Golden:
        """Ask the original for its images. `original`: feeds -> float32 NCHW of the same batch size."""
        size = proof_picture_size(spec)
        first = original(feeds.draw_feeds(spec, *_RUNS[0], 1, size=size))
        length = min(_PICTURES if spec.images else _RUN_LENGTH, _BYTES // (len(_RUNS) * first.nbytes))
        seeds, starts = (np.array(column, np.uint64) for column in zip(*_RUNS, strict=True))
        images = [original(feeds.draw_feeds(spec, seed, start, max(1, length), size=size)) for seed, start in _RUNS]
        return cls(seeds, starts, np.concatenate(images).astype(np.float32, copy=False))

    def feeds(self, spec: Spec) -> Feeds:
        """The inputs of the samples, in the order of `images`."""
        count, size = len(self.images) // len(self.seeds), proof_picture_size(spec)
        runs = [
            feeds.draw_feeds(spec, int(s), int(i), count, size=size)
            for s, i in zip(self.seeds, self.starts, strict=True)
        ]
        return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}

    def subset(self, per_run: int) -> Golden:
        """The first `per_run` samples of each run."""
        shape = self.images.shape
        grouped = self.images.reshape(len(self.seeds), -1, *shape[1:])[:, :per_run]
        return Golden(self.seeds, self.starts, grouped.reshape(-1, *shape[1:]))

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz: what it takes in memory is what it is on disk."""
        np.savez(path, seeds=self.seeds, starts=self.starts, images=self.images)

    @classmethod
    def load(cls, path: Path, spec: Spec) -> Golden:
        """Read what `save` wrote. Raises BundleError when it is anything else; nothing in it is executed."""
        try:
            with zipfile.ZipFile(path) as archive:
                if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                    raise BundleError(f"{path.name} is compressed; golden samples are stored plainly")
            with np.load(path, allow_pickle=False) as arrays:
                golden = cls(*(arrays[key] for key in cls.KEYS))
        except BundleError:
            raise
        except Exception as error:  # zipfile and NumPy's header parser raise almost anything on damaged files
            raise BundleError(f"{path.name} cannot be read as golden samples: {error}") from error
        golden._check(path.name, spec)
        return golden

    def _check(self, name: str, spec: Spec) -> None:
        shape, runs = self.images.shape, self.seeds.size
        wanted = (spec.output.channels, *(spec.output.size or shape[2:]))
        if self.images.dtype != np.float32 or len(shape) != 4 or shape[1:] != wanted or self.images.size == 0:
            raise BundleError(
                f"{name} holds {self.images.dtype} of shape {shape}; the spec makes float32 (N, {wanted})"
            )
        columns = (self.seeds, self.starts)
        if any(c.dtype != np.uint64 or c.shape != (runs,) for c in columns) or runs == 0 or shape[0] % runs:
            raise BundleError(
                f"{name} holds {shape[0]} images of {runs} runs; seeds and starts must be uint64, one each"
            )
        if int(self.starts.max()) + shape[0] // runs > MAX_64 or not np.isfinite(self.images).all():
            raise BundleError(f"{name} holds images that are not finite, or numbered beyond 2^64")


def proof_picture_size(spec: Spec) -> tuple[int, int]:
    """Height and width of the made-up pictures of a proof: small, not square, and as the size rules of the inputs
    say."""
    rule = math.lcm(*(item.multiple_of for item in spec.images))
    return -(-48 // rule) * rule, -(-64 // rule) * rule
