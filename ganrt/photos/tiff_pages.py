"""Pages of TIFF files that Pillow opens, and reads wrongly, in part, or in 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import ArtifactError
from ganrt.photos.codecs_library import import_codecs

if TYPE_CHECKING:
    import PIL.Image

_BITS, _PHOTOMETRIC, _PLANAR, _EXTRA, _FORMAT = 258, 262, 284, 338, 339
"""Tags of TIFF 6.0, section 8."""
_SIGNED = 2
_UNKNOWN, _ASSOCIATED = 0, 1
"""Meaning of an extra channel."""


class TiffKind(NamedTuple):
    """How a page stores its values."""

    bits: int
    white_is_zero: bool
    planar: bool
    associated: bool
    """Whether colors are multiplied by opacity."""
    unknown: bool
    """Whether there is a channel that is neither color nor opacity."""


def find_tiff_kind(image: PIL.Image.Image) -> TiffKind | None:
    """The kind of the page that Pillow is at; None for other files. Raises ArtifactError for signed bytes, which Pillow
    takes as unsigned."""
    if image.format != "TIFF":
        return None
    tags: Any = getattr(image, "tag_v2", {})
    bits = max(tags.get(_BITS) or (1,))
    if bits == 8 and _SIGNED in (tags.get(_FORMAT) or ()):
        raise ArtifactError("its values are signed numbers of 8 bits; scale them to 0 to 255")
    extra = tags.get(_EXTRA) or ()
    return TiffKind(
        bits, tags.get(_PHOTOMETRIC) == 0, tags.get(_PLANAR) == 2, extra[:1] == (_ASSOCIATED,), _UNKNOWN in extra
    )


def decode_tiff(content: bytes, number: int, kind: TiffKind) -> NDArray[np.uint16]:
    """Decode a page of 16 bits of color: (H, W, 3 or 4), not turned upright.

    Raises MissingLibraryError without imagecodecs, ArtifactError for a page that cannot be read.
    """
    codecs = import_codecs()
    try:
        values = codecs.tiff_decode(content, index=number)
    except Exception as error:  # errors of each codec, and whatever their checks raise
        raise ArtifactError(f"its 16-bit values cannot be read: {error}") from error
    if values.ndim == 3 and kind.planar:
        values = np.moveaxis(values, 0, 2)
    if values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] < 3:
        raise ArtifactError(f"its values are {values.dtype} of shape {values.shape}, not 16 bits of color")
    values = values[..., : 3 if kind.unknown else 4]
    return _divide_by_opacity(values) if kind.associated and values.shape[2] == 4 else values


def _divide_by_opacity(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    opacity = values[..., 3:].astype(np.float32)
    color = values[..., :3] * (65535 / np.maximum(opacity, 1))
    return np.concatenate([np.rint(color.clip(0, 65535)).astype(np.uint16), values[..., 3:]], axis=2)
