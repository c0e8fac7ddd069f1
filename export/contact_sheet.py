"""The worst samples of a comparison as one picture: original, candidate, and their difference made visible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ganrt.images import Floats, Pictures, make_grid, show_opaque, to_uint8
from ganrt.levels import find_levels, undo_normalization
from ganrt.proof import Proof
from ganrt.proving import GoldenComparison
from ganrt.spec import Output

_ROWS = 6
_SIDE = 96
"""Small pictures are scaled up to about this many pixels."""


def sheet_stem(variant: str, proof: Proof) -> str:
    """How the file of a proof's contact sheet begins; a digest follows."""
    return f"worst-{variant}-{proof.backend}-{proof.device.replace(':', '')}-"


def draw_contact_sheet(compared: GoldenComparison, output: Output) -> Pictures:
    """uint8 HWC: a row per sample, the worst first; the difference is stretched so that its largest value is white."""
    worst = np.argsort(compared.agreement.psnr)[:_ROWS]
    made = [image for group in compared.found for image in group]
    originals = [image for group in compared.golden.groups for image in group.images]
    expected, found = (_stack_plain([images[k] for k in worst], output) for images in (originals, made))
    high = output.range[1]
    difference = np.abs(np.nan_to_num(found, nan=high) - expected)
    if output.channels == 4:  # opaque, lest a difference of colours is transparent; one of opacity shows in all colours
        difference = np.maximum(difference[:, :3], difference[:, 3:])
    columns = (
        show_opaque(to_uint8(expected, output.range)),
        show_opaque(to_uint8(_replace_nonfinite(found, high), output.range)),
        to_uint8(difference / max(float(difference.max()), 1e-30), (0.0, 1.0)),
    )
    sheet = np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:])
    return make_grid(sheet, columns=len(columns), scale=max(1, _SIDE // sheet.shape[1]))


def _stack_plain(images: Sequence[Floats], output: Output) -> Floats:
    """Stack images (C, H, W) of different sizes, their normalization undone, each in the upper left corner."""
    plain = [undo_normalization(image[None], find_levels(output))[0] for image in images]
    height, width = (max(image.shape[axis] for image in plain) for axis in (1, 2))
    stacked = np.full((len(plain), output.channels, height, width), output.range[0], np.float32)
    for row, image in zip(stacked, plain, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return stacked


def _replace_nonfinite(images: Floats, value: float) -> Floats:
    return np.nan_to_num(images, nan=value, posinf=value, neginf=value)
