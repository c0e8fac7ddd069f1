"""`Photo`: a picture as a file holds it, with everything that makes it one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from ganrt.errors import RequestError
from ganrt.photos.metadata import Metadata
from ganrt.photos.opacity import Plane, resize_plane

_GREY = np.array([0.299, 0.587, 0.114])
"""Weights of Rec. ITU-R BT.601, as Pillow's."""


@dataclass(frozen=True)
class Frame:
    """One picture of a file."""

    color: Plane
    """(H, W, 1), grey, or (H, W, 3), sRGB; uint8 or uint16. Where opacity is 0, it is filled in from around."""
    opacity: Plane | None = None
    """(H, W, 1) of the same dtype; None where the file has none."""
    milliseconds: float = 0.0
    """How long an animation shows it."""

    @property
    def depth(self) -> int:
        """Bits of a value: 8 or 16."""
        return 8 * self.color.itemsize

    def join(self) -> Plane:
        """Color and opacity as one array, (H, W, 1 to 4)."""
        return self.color if self.opacity is None else np.concatenate([self.color, self.opacity], axis=2)

    def fit_channels(self, channels: int) -> Plane:
        """The frame for a model that takes so many channels, 1, 3 or 4: (H, W, channels), or one channel more for an
        opacity that the model does not take. Color becomes grey and grey becomes color; 4 channels get an opacity."""
        color, opacity = self.color, self.opacity
        if channels == 1 and color.shape[2] == 3:
            color = _to_grey(color)
        elif channels > 1 and color.shape[2] == 1:
            color = color.repeat(3, axis=2)
        if channels == 4 and opacity is None:
            opacity = np.full((*color.shape[:2], 1), np.iinfo(color.dtype).max, color.dtype)
        return replace(self, color=color, opacity=opacity).join()

    def reduce(self, side: int) -> Frame:
        """The frame with its longer side reduced to `side` pixels; itself if that is not longer."""
        height, width = self.color.shape[:2]
        if max(height, width) <= side:
            return self
        factor = side / max(height, width)
        size = max(1, round(height * factor)), max(1, round(width * factor))
        planes = [resize_plane(self.color[..., k : k + 1], size) for k in range(self.color.shape[2])]
        return self.with_color(np.concatenate(planes, axis=2))

    def with_color(self, color: Plane) -> Frame:
        """The frame with another color, (H, W, 1 or 3), perhaps of another size, which opacity is resized to."""
        opacity = None if self.opacity is None else resize_plane(self.opacity, color.shape[:2])
        return replace(self, color=color, opacity=opacity)


def _to_grey(color: Plane) -> Plane:
    if color.dtype == np.uint8:
        import PIL.Image

        return np.asarray(PIL.Image.fromarray(np.ascontiguousarray(color)).convert("L"))[..., None]
    made: Plane = np.rint(color @ _GREY).astype(color.dtype)[..., None]
    return made


@dataclass(frozen=True)
class Photo:
    """A picture with everything that makes it one. `ganrt.read_photo` reads it, `encode_photo` writes it, and
    `Generator.transform` makes a new one of it."""

    frames: tuple[Frame, ...]
    """At least one; several for an animation or the pages of a TIFF file."""
    metadata: Metadata = field(default_factory=Metadata)
    remarks: tuple[str, ...] = ()
    """What a file holds that is not part of this, in sentences without a subject."""

    def map_frames(self, change: Callable[[Frame], Frame]) -> Photo:
        """The photo with each frame changed. Pixels per inch grow with the width of the first, so that the size in
        print stays."""
        frames = tuple(change(frame) for frame in self.frames)
        factor = frames[0].color.shape[1] / self.frames[0].color.shape[1]
        return replace(self, frames=frames, metadata=self.metadata.enlarge(factor))

    def only_frame(self, name: str) -> Frame:
        """The frame of a still picture. Raises RequestError, with a name for the picture, for several."""
        if len(self.frames) > 1:
            raise RequestError(
                f"{name} has {len(self.frames)} frames; give what ganrt.read_photo reads, of which a photo of as many "
                "is made, or one of its frames"
            )
        return self.frames[0]
