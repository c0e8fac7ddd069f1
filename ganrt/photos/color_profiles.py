"""Color profiles (ICC): pictures of any color space become sRGB, which is what networks are trained on."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import ArtifactError
from ganrt.photos.codecs_library import import_codecs
from ganrt.photos.opacity import Plane

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageCms

_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK"}
"""Pillow's mode -> the name of its color space in a profile."""
_HEADER = 128
"""Bytes before the content of a profile."""
_SAME = 1
"""Difference of 8-bit values up to which a profile is that of sRGB, and what it describes is left as it is."""
_STEPS = 9
"""Values of a channel in the grid of colors that a profile is tried on."""


def fits(color: Plane, profile: bytes) -> bool:
    """Whether a profile is for the color space of a picture. One for RGB also fits grey."""
    space = profile[16:20]
    return space == _SPACES[_MODES[color.shape[2]]] or (space == _SPACES["RGB"] and color.shape[2] == 1)


def convert_to_srgb(color: Plane, profile: bytes) -> Plane:
    """Convert a picture by its profile.

    Args:
        color: (H, W, 1) for grey, 3 for RGB, 4 for CMYK as Pillow reads it; uint8, or uint16 of grey and RGB.
        profile: of the file. One of sRGB changes nothing.

    Returns (H, W, 1) for grey that stays grey, else (H, W, 3). Raises ArtifactError for a profile that is damaged or of
    another color space; MissingLibraryError for uint16 without the extra `deep`.
    """
    mode = _MODES[color.shape[2]]
    if not fits(color, profile):
        space = profile[16:20].decode("ascii", "replace").strip()
        if len(profile) < _HEADER:
            raise ArtifactError(f"its color profile is damaged: it has {len(profile)} bytes")
        raise ArtifactError(f"its color profile is for {space}, and its pixels are {mode}")
    if mode == "L" and profile[16:20] == _SPACES["RGB"]:
        made = convert_to_srgb(color.repeat(3, axis=2), profile)
        return made[..., :1] if (made == made[..., :1]).all() else made
    import PIL.ImageCms

    try:
        if mode != "CMYK" and _is_srgb(profile, mode):
            return color
        made = _convert_bytes(color, profile, mode) if color.dtype == np.uint8 else _convert_deep(color, profile, mode)
    except (PIL.ImageCms.PyCMSError, OSError, ValueError) as error:
        raise ArtifactError(f"its color profile cannot be applied: {error}") from error
    return made[..., :1] if mode == "L" else made


def convert_lab(image: PIL.Image.Image) -> NDArray[np.uint8]:
    """Convert a Pillow image of CIE L*a*b* to sRGB, (H, W, 3)."""
    import PIL.ImageCms

    lab, srgb = (PIL.ImageCms.createProfile(name) for name in ("LAB", "sRGB"))
    made = PIL.ImageCms.applyTransform(image, PIL.ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    assert made is not None, "it returns a new picture unless it is asked to change the old one"
    return np.asarray(made)


def _convert_bytes(color: Plane, profile: bytes, mode: str) -> NDArray[np.uint8]:
    import PIL.Image
    import PIL.ImageCms

    height, width = color.shape[:2]
    image = PIL.Image.frombytes(mode, (width, height), np.ascontiguousarray(color).tobytes())
    made = PIL.ImageCms.applyTransform(image, _build_transform(profile, mode))
    assert made is not None, "it returns a new picture unless it is asked to change the old one"
    return np.asarray(made)


def _convert_deep(color: Plane, profile: bytes, mode: str) -> NDArray[np.uint16]:
    codecs = import_codecs()
    space = "gray" if mode == "L" else "rgb"
    try:
        srgb = codecs.cms_profile("srgb")
        # The grid of colors that the library computes by default is off by up to 4 of 255 levels between its points.
        made = codecs.cms_transform(
            np.ascontiguousarray(color),
            profile,
            srgb,
            colorspace=space,
            outcolorspace="rgb",
            flags=codecs.CMS.FLAGS.NOOPTIMIZE,
        )
    except codecs.CmsError as error:
        raise ArtifactError(f"its color profile cannot be applied: {error}") from error
    found: NDArray[np.uint16] = made
    return found


@lru_cache(16)
def _build_transform(profile: bytes, mode: str) -> PIL.ImageCms.ImageCmsTransform:
    import PIL.ImageCms

    source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
    # The curves that Pillow's library makes of a grey profile by default are off by up to 10 of 255 levels.
    flags = PIL.ImageCms.Flags.NOOPTIMIZE if mode == "L" else PIL.ImageCms.Flags.NONE
    return PIL.ImageCms.buildTransform(source, PIL.ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)


@lru_cache(16)
def _is_srgb(profile: bytes, mode: str) -> bool:
    """Whether a profile maps colors to themselves, which is tried on a grid of them: conversion would round."""
    steps = np.linspace(0, 255, _STEPS).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    grid = grid[..., :1] if mode == "L" else grid
    made = _convert_bytes(grid, profile, mode).astype(np.int16)
    return int(np.abs(made - grid).max()) <= _SAME
