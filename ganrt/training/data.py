"""Training pictures for generators that are trained on noise, and their shuffling."""

from __future__ import annotations

import functools
import hashlib
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrt import images, latents
from ganrt.errors import ArtifactError, MissingLibraryError, RequestError
from ganrt.images import Pictures

FOLDER = "folder:"
"""Prefix of the path of a folder of pictures."""
_ORDER_STREAM = 2**16
"""Random stream of the shuffling, beyond those that the inputs of a Spec use."""


@dataclass(frozen=True)
class TrainingImages:
    """Pictures of one square size, all in memory."""

    pictures: Pictures
    """uint8 (N, size, size, channels)."""
    labels: NDArray[np.int64] | None
    """Class of each picture, int64 (N,), or None if the source has no labels."""
    name: str
    """The source as given to `load_images`."""

    def __len__(self) -> int:
        return len(self.pictures)

    def digest(self) -> str:
        """sha256 of the pictures and labels, which ties a run to its data."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pictures).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def load_images(source: str, size: int, channels: int) -> TrainingImages:
    """Load pictures, crop them to the central square and resize them (bicubic) to size x size.

    Args:
        source: `digits`: the 1,797 handwritten digits of scikit-learn, 8 x 8 (Alpaydin, Kaynak 1998; CC BY 4.0).
            `folder:PATH`: every png, jpg and webp file at any depth, in the order of their paths.
            `FILE.npz`: the array `images`, uint8 (N, H, W) or (N, H, W, C), and `labels`, whole numbers (N,), if any.
        size: side of the result in pixels.
        channels: 1 or 3. Files are converted, digits repeated; arrays must have this number of channels.

    Raises RequestError for an unknown source or an array of another shape or dtype, ArtifactError for files that are
    missing or damaged, MissingLibraryError when scikit-learn is missing.
    """
    labels = None
    if source == "digits":
        scans, labels = load_digits()
        pictures = _crop_and_resize_all(np.repeat(scans[..., None], channels, axis=-1), size)
    elif source.startswith(FOLDER):
        pictures = _load_folder(Path(source.removeprefix(FOLDER)), size, channels)
    elif source.endswith(".npz"):
        arrays, labels = _load_npz(Path(source), channels)
        pictures = _crop_and_resize_all(arrays, size)
    else:
        raise RequestError(f"there is no data {source!r}; choose digits, {FOLDER}PATH or FILE.npz")
    return TrainingImages(pictures, labels, source)


def load_digits() -> tuple[Pictures, NDArray[np.int64]]:
    """The scans, uint8 (1797, 8, 8) with their 17 levels scaled to 0 to 255, and their digits, int64 (1797,)."""
    try:
        import sklearn.datasets
    except ImportError as error:
        raise MissingLibraryError(error.name or "sklearn", "train", "the data `digits`") from error
    scans, digits = sklearn.datasets.load_digits(return_X_y=True)
    return np.rint(scans.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), digits.astype(np.int64)


def shuffle_indices(seed: int, count: int, first: int, number: int) -> NDArray[np.int64]:
    """Indices of the pictures at the positions first, first + 1, ... of a run over `count` pictures: int64 (number,).

    Each epoch of `count` positions is a permutation that depends on (seed, epoch) only.
    """
    epochs, places = np.divmod(np.arange(first, first + number), count)
    chosen = np.empty(number, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        chosen[here] = _permutation(seed, count, int(epoch))[places[here]]
    return chosen


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, count: int, epoch: int) -> NDArray[np.int64]:
    """Sort by 64 random bits each; numpy's own shuffle may change between versions."""
    keys = latents.words(seed, epoch * count, count, _ORDER_STREAM, 2)
    return np.lexsort((keys[:, 1], keys[:, 0]))


def _load_folder(folder: Path, size: int, channels: int) -> Pictures:
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder, so no pictures can be read from it")
    files = images.list_picture_files(folder)
    if not files:
        raise ArtifactError(f"{folder} holds no pictures: no file in it ends in {', '.join(images.SUFFIXES)}")
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda path: _crop_and_resize(images.read_picture(path, channels), size), files)))


def _load_npz(path: Path, channels: int) -> tuple[Pictures, NDArray[np.int64] | None]:
    arrays = _read_arrays(path)
    if "images" not in arrays:
        raise RequestError(f"{path} has no array `images`; it has {', '.join(sorted(arrays)) or 'none'}")
    pictures = arrays["images"]
    wanted = f"uint8 of shape (N, H, W, {channels})" + (" or (N, H, W)" if channels == 1 else "")
    grey = pictures[..., None] if pictures.ndim == 3 else pictures
    if pictures.dtype != np.uint8 or grey.ndim != 4 or grey.shape[-1] != channels or 0 in grey.shape:
        raise RequestError(f"{path}: images is {pictures.dtype} of shape {pictures.shape}; wanted {wanted}")
    labels = arrays.get("labels")
    if labels is None:
        return grey, None
    if labels.shape != grey.shape[:1] or labels.dtype.kind not in "iu":
        raise RequestError(
            f"{path}: labels is {labels.dtype} of shape {labels.shape}; wanted whole numbers of shape ({len(grey)},)"
        )
    return grey, labels.astype(np.int64)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays `images` and `labels` of a .npz file, and empty arrays for the others. No code in it is executed."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] if name in ("images", "labels") else np.empty(0) for name in names}
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(f"{path} cannot be read as an .npz file of arrays: {error}") from error


def _crop_and_resize_all(pictures: Iterable[Pictures], size: int) -> Pictures:
    return np.stack([_crop_and_resize(picture, size) for picture in pictures])


def _crop_and_resize(picture: Pictures, size: int) -> Pictures:
    """Crop uint8 HWC to the central square and resize it to (size, size, C)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images.resize(picture[top : top + side, left : left + side], (size, size))
