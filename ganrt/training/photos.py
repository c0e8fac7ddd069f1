"""Photographs for training image-to-image tasks, and random crops of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganrt import images, latents
from ganrt.errors import ArtifactError, MissingLibraryError, RequestError
from ganrt.images import Pictures, list_picture_files
from ganrt.training.data import FOLDER
from ganrt.wording import count_things

_TRAINING = ("astronaut", "chelsea", "stereo_motorcycle")
_HELD_OUT = ("coffee", "rocket")
"""Colour photographs of skimage.data. Those for training are joined by the two of scikit-learn."""
_SAMPLES = ("china.jpg", "flower.jpg")
_TENTH = 10
"""Every tenth picture of a folder is held out."""
_STREAM = 2**16 + 5
"""Random stream of the crops, after those of `trainer`."""
_WIDEST = 2.0
"""Largest side of a crop in the photograph, as a multiple of the side it is resized to."""


@dataclass(frozen=True)
class Photos:
    """Photographs of any size in memory, split into training and held-out ones."""

    training: list[Pictures]
    """uint8 (H, W, 3) each."""
    held_out: list[Pictures]
    """uint8 (H, W, 3) each, never trained on."""
    name: str
    """The source as given to `load_photos`."""

    def __len__(self) -> int:
        return len(self.training)

    def digest(self) -> str:
        """sha256 of the training pictures in order."""
        digest = hashlib.sha256()
        for picture in self.training:
            digest.update(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes())
        return digest.hexdigest()


def load_photos(source: str, least: int) -> Photos:
    """Load photographs.

    Args:
        source: `photos`: seven photographs that come with scikit-image and scikit-learn, two of them held out;
            `folder:PATH`: every png, jpg and webp file at any depth, in the order of their paths.
        least: smallest side in pixels that is accepted.

    Raises RequestError for another source, ArtifactError when a file cannot be read, there are fewer than two, or one
    is too small; MissingLibraryError when a library of `photos` is missing.
    """
    if source == "photos":
        training, held_out = _load_bundled()
    elif source.startswith(FOLDER):
        training, held_out = _load_folder(Path(source.removeprefix(FOLDER)), least)
    else:
        raise RequestError(f"there is no data {source!r} of photographs; choose photos or {FOLDER}PATH")
    return Photos(training, held_out, source)


def draw_crops(photos: list[Pictures], side: int, seed: int, first: int, count: int) -> Pictures:
    """Crops first, first + 1, ... of a seed: each of a random photograph, position and size, and mirrored at random.

    Returns uint8 (count, side, side, 3). Row k depends on (seed, first + k) and the photographs only.
    """
    drawn = latents.uniform(seed, first, count, _STREAM, 5, 0.0, 1.0).astype(np.float64)
    made = np.empty((count, side, side, 3), np.uint8)
    for row, (which, size, down, across, mirror) in zip(made, drawn, strict=True):
        photo = photos[int(which * len(photos))]
        most = min(min(photo.shape[:2]), int(_WIDEST * side))
        wide = side + int(size * (most - side + 1))
        top, left = (
            int(share * (length - wide + 1)) for share, length in zip((down, across), photo.shape, strict=False)
        )
        crop = images.resize(np.ascontiguousarray(photo[top : top + wide, left : left + wide]), (side, side))
        row[:] = crop[:, ::-1] if mirror < 0.5 else crop
    return made


def _load_bundled() -> tuple[list[Pictures], list[Pictures]]:
    try:
        import skimage.data
        import sklearn.datasets
    except ImportError as error:
        raise MissingLibraryError(error.name or "skimage", "train", "the data `photos`") from error

    def photo(name: str) -> Pictures:
        found = getattr(skimage.data, name)()
        return np.asarray(found[0] if isinstance(found, tuple) else found, np.uint8)

    samples = [np.asarray(sklearn.datasets.load_sample_image(name), np.uint8) for name in _SAMPLES]
    return [*map(photo, _TRAINING), *samples], [*map(photo, _HELD_OUT)]


def _load_folder(folder: Path, least: int) -> tuple[list[Pictures], list[Pictures]]:
    files = list_picture_files(folder)
    if len(files) < 2:
        found = count_things(len(files), "picture")
        raise ArtifactError(f"{folder} holds {found}; at least 2 are needed, as one is held out")
    pictures = [images.read_picture(path, 3) for path in files]
    for path, picture in zip(files, pictures, strict=True):
        if min(picture.shape[:2]) < least:
            height, width = picture.shape[:2]
            raise ArtifactError(f"{path} has {width} x {height} pixels; crops of {least} are taken: leave it out")
    return [p for k, p in enumerate(pictures) if k % _TENTH], pictures[::_TENTH]
