"""Picture files with everything that makes them pictures: opacity, color profile, orientation, depth, frames, metadata.

photo = read_photo("logo.png")
content = encode_photo(photo, "webp")
"""

from ganrt.photos.formats import FILE_FORMATS, list_losses
from ganrt.photos.metadata import Metadata
from ganrt.photos.opacity import Plane, fill_hidden_color, resize_plane, split_opacity
from ganrt.photos.photo import Frame, Photo
from ganrt.photos.reader import DEFAULTS, MAX_PIXELS, ReadOptions, read_photo
from ganrt.photos.writer import encode_photo

__all__ = [
    "DEFAULTS",
    "FILE_FORMATS",
    "MAX_PIXELS",
    "Frame",
    "Metadata",
    "Photo",
    "Plane",
    "ReadOptions",
    "encode_photo",
    "fill_hidden_color",
    "list_losses",
    "read_photo",
    "resize_plane",
    "split_opacity",
]
