"""Which way up the frames of a video are shown: the display matrix of its file, applied to the pixels."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame

from ganrt.errors import ArtifactError
from ganrt.images import Pictures


class Orientation(NamedTuple):
    """How pixels are moved: rows and columns exchanged first, then flipped."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, picture: Pictures) -> Pictures:
        """The picture (H, W, C) as it is shown; a view."""
        turned = picture.transpose(1, 0, 2) if self.transpose else picture
        return turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def read_orientation(frame: VideoFrame) -> Orientation:
    """The orientation of a frame.

    FFmpeg's display matrix holds nine int32, by rows a b u, c d v, x y w: the pixel at (p, q), right and down, is shown
    at (a p + c q, b p + d q). Raises ArtifactError if that is not a rotation by a multiple of 90 degrees, perhaps
    mirrored.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    values = np.frombuffer(bytes(cast(SideData, data)), np.int32)
    a, b, c, d = (int(np.sign(value)) for value in values[[0, 1, 3, 4]])
    if a and d and not b and not c:
        return Orientation(False, d < 0, a < 0)
    if b and c and not a and not d:
        return Orientation(True, b < 0, c < 0)
    raise ArtifactError(
        f"its frames are to be shown rotated by {frame.rotation} degrees; only multiples of 90 are applied"
    )
