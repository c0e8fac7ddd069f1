"""Picture files of all kinds, each with what is seen in it, so that what is made of a file can be judged."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import PIL.ImageCms
import tifffile
from numpy.typing import NDArray

from ganrt.photos import Plane

_MILLISECONDS = 120
"""For each frame of an animation: formats count hundredths of a second."""
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Kind:
    """A picture file, and what it shows."""

    name: str
    content: bytes
    frames: Sequence[Plane]
    """Color (H, W, 1 or 3), upright and sRGB, with opacity as one more channel if the file has it."""
    exact: bool = True
    """Whether the file keeps every value."""
    description: str = ""
    """EXIF image description, in files that have one."""


def make_kinds(seed: int) -> list[Kind]:
    """One file of each kind. Sizes and content depend on the seed."""
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(24, 64, 2))
    color = _draw_photo(random, height, width)
    grey, deep = color[..., :1], _draw_photo(random, height, width).astype(np.uint16) * 257 + np.uint16(seed % 100)
    opacity = _draw_opacity(height, width)
    rgba = np.dstack([color, opacity])
    small = _reduce_colors(color)
    frames = [np.roll(color, 5 * k, axis=1) for k in range(3)]
    few = [_reduce_colors(frame) for frame in frames]
    swapped, red_second = _swap_profile(), color[..., [1, 0, 2]]
    return [
        Kind("rgb.png", _save(color, "PNG", dpi=(300, 300)), [color]),
        Kind("grey.png", _save(grey, "PNG"), [grey]),
        Kind("black_and_white.png", _save(grey, "PNG", "1"), [_threshold(grey)]),
        Kind("palette.png", _save(small, "PNG", "P"), [small]),
        Kind("transparent_palette.png", *_make_transparent_palette(small)),
        Kind("hidden_black.png", _save(_hide(rgba, 0), "PNG"), [rgba]),
        Kind("hidden_white.png", _save(_hide(rgba, 255), "PNG"), [rgba]),
        Kind("hidden_noise.png", _save(_hide(rgba, None), "PNG"), [rgba]),
        Kind("grey_opacity.png", _save(np.dstack([grey, opacity]), "PNG"), [np.dstack([grey, opacity])]),
        Kind("grey16.png", _save(deep[..., :1], "PNG"), [deep[..., :1]]),
        Kind("rgb16.png", bytes(imagecodecs.png_encode(deep)), [deep]),
        Kind("profile.png", _save(color, "PNG", icc_profile=swapped), [red_second]),
        Kind("animation.png", _save_frames(frames, "PNG"), frames),
        Kind("photo.jpg", _save(color, "JPEG", quality=95, dpi=(72, 72)), [color], exact=False),
        Kind("grey.jpg", _save(grey, "JPEG", quality=95), [grey], exact=False),
        *(_make_turned(color, orientation) for orientation in range(2, 9)),
        Kind("profile.jpg", _save(color, "JPEG", quality=95, icc_profile=swapped), [red_second], exact=False),
        Kind("cmyk.jpg", _save(color, "JPEG", "CMYK", quality=95), [color], exact=False),
        Kind("lossless.webp", _save(color, "WEBP", lossless=True), [color]),
        Kind("opacity.webp", _save(_hide(rgba, 0), "WEBP", lossless=True, exact=True), [rgba]),
        Kind("animation.webp", _save_frames(frames, "WEBP", lossless=True), frames),
        Kind("photo.avif", _save(color, "AVIF", quality=95), [color], exact=False),
        Kind("still.gif", _save(small, "GIF", "P"), [small]),
        Kind("animation.gif", _save_frames(few, "GIF", mode="P"), few),
        Kind("photo.tif", _save(color, "TIFF", compression="tiff_lzw"), [color]),
        Kind("cmyk.tif", _save(color, "TIFF", "CMYK"), [color]),
        Kind("pages.tif", _save_frames(frames, "TIFF"), frames),
        Kind("rgb16.tif", _save_tiff(deep), [deep]),
        Kind("photo.bmp", _save(color, "BMP"), [color]),
    ]


def _draw_photo(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth colors: what a lossy format keeps within some levels."""
    coarse = PIL.Image.fromarray(random.integers(40, 216, (4, 5, 3), np.uint8))
    made: NDArray[np.uint8] = np.asarray(coarse.resize((width, height), PIL.Image.Resampling.BICUBIC))
    return made


def _draw_opacity(height: int, width: int) -> NDArray[np.uint8]:
    """A disc with a soft edge."""
    down, across = np.mgrid[0:height, 0:width]
    distance = np.hypot(down - height / 2, across - width / 2) - min(height, width) / 3
    made: NDArray[np.uint8] = np.rint(255 * (0.5 - distance / 4).clip(0, 1)).astype(np.uint8)
    return made


def _reduce_colors(color: Plane) -> Plane:
    """At most 27 colors, which a palette keeps."""
    made: Plane = color // 86 * 86 + 20
    return made


def _threshold(grey: Plane) -> Plane:
    return np.asarray(PIL.Image.fromarray(grey[..., 0]).convert("1").convert("L"))[..., None]


def _hide(rgba: Plane, level: int | None) -> Plane:
    """Other colors where nothing is seen; None for noise."""
    made, hidden = rgba.copy(), rgba[..., 3] == 0
    noise = np.random.default_rng(1).integers(0, 256, (int(hidden.sum()), 3))
    made[hidden, :3] = noise if level is None else level
    return made


def _to_image(values: Plane, mode: str = "") -> PIL.Image.Image:
    image = PIL.Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    if mode == "P":
        return image.quantize(64)
    return image.convert(mode) if mode else image


def _save(values: Plane, form: str, mode: str = "", **options: Any) -> bytes:
    buffer = io.BytesIO()
    _to_image(values, mode).save(buffer, form, **options)
    return buffer.getvalue()


def _save_frames(frames: Sequence[Plane], form: str, mode: str = "", **options: Any) -> bytes:
    first, *others = (_to_image(frame, mode) for frame in frames)
    buffer = io.BytesIO()
    timing = {} if form == "TIFF" else {"duration": _MILLISECONDS, "loop": 0}
    first.save(buffer, form, save_all=True, append_images=others, **timing, **options)
    return buffer.getvalue()


def _save_tiff(values: Plane) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", metadata=None)
    return buffer.getvalue()


def _make_transparent_palette(small: Plane) -> tuple[bytes, list[Plane]]:
    """A palette whose first color is transparent."""
    image, buffer = _to_image(small, "P"), io.BytesIO()
    image.save(buffer, "PNG", transparency=0)
    opacity = np.where(np.asarray(image) == 0, 0, 255).astype(np.uint8)
    return buffer.getvalue(), [np.dstack([small, opacity])]


_TURNS: dict[int, Callable[[Plane], Plane]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}
"""EXIF orientation -> how the stored pixels are turned to be upright (CIPA DC-008, section 4.6.4)."""


def _make_turned(color: Plane, orientation: int) -> Kind:
    exif = PIL.Image.Exif()
    exif[_ORIENTATION], exif[0x010E] = orientation, "a test picture"
    content = _save(color, "JPEG", quality=95, exif=exif.tobytes())
    turned = _TURNS[orientation](color)
    return Kind(f"orientation{orientation}.jpg", content, [turned], exact=False, description="a test picture")


def _swap_profile() -> bytes:
    """sRGB with red and green exchanged."""
    profile = bytearray(PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.find(b"rXYZ"), profile.find(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)
