"""Style pictures: files, or pictures that come with scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ganrt import images
from ganrt.errors import MissingLibraryError, RequestError
from ganrt.images import Pictures

BUNDLED = ("immunohistochemistry", "retina", "hubble_deep_field", "colorwheel", "brick", "grass", "gravel")
"""Names in skimage.data; the last three are grey. None of them is in the data `photos`."""


def load_style_picture(name: str, size: int) -> Pictures:
    """Load the central square of a picture, resized: uint8 (size, size, 3).

    Args:
        name: one of BUNDLED, or the path of a PNG, JPEG or WebP file.
        size: side in pixels.

    Raises RequestError when it is neither, ArtifactError when the file cannot be read, MissingLibraryError without
    scikit-image.
    """
    if name in BUNDLED:
        picture = _load_bundled(name)
    elif Path(name).is_file():
        picture = images.read_picture(Path(name), 3)
    else:
        raise RequestError(f"there is no style picture {name!r}: it is not a file and none of {', '.join(BUNDLED)}")
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images.resize(picture[top : top + side, left : left + side], (size, size))


def _load_bundled(name: str) -> Pictures:
    try:
        import skimage.data
    except ImportError as error:
        raise MissingLibraryError(error.name or "skimage", "train", "the bundled style pictures") from error
    picture = np.asarray(getattr(skimage.data, name)(), np.uint8)
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
