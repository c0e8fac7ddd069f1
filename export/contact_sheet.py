"""The worst samples of a comparison as one picture: original, candidate, and their difference made visible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ganrt.images import Floats, Pictures, make_grid, to_uint8
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
    expected, found = (_stack_padded([images[k] for k in worst], output.range[0]) for images in (originals, made))
    high = output.range[1]
    difference = np.abs(np.nan_to_num(found, nan=high) - expected)
    columns = (
        to_uint8(expected, output.range),
        to_uint8(_replace_nonfinite(found, high), output.range),
        to_uint8(difference / max(float(difference.max()), 1e-30), (0.0, 1.0)),
    )
    sheet = np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:])
    return make_grid(sheet, columns=len(columns), scale=max(1, _SIDE // sheet.shape[1]))


def _stack_padded(images: Sequence[Floats], low: float) -> Floats:
    """Stack images (C, H, W) of different sizes, each in the upper left corner."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    stacked = np.full((len(images), images[0].shape[0], height, width), low, np.float32)
    for row, image in zip(stacked, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return stacked


def _replace_nonfinite(images: Floats, value: float) -> Floats:
    return np.nan_to_num(images, nan=value, posinf=value, neginf=value)
