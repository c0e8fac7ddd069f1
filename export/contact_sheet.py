"""The worst samples of a comparison as one picture: original, candidate, and their difference made visible."""

from __future__ import annotations

import numpy as np

from ganrt.images import Floats, Pictures, make_grid, to_uint8
from ganrt.proof import Proof
from ganrt.proving import Comparison
from ganrt.spec import Output

_ROWS = 6
_SIDE = 96
"""Small pictures are scaled up to about this many pixels."""


def sheet_stem(variant: str, proof: Proof) -> str:
    """How the file of a proof's contact sheet begins; a digest follows."""
    return f"worst-{variant}-{proof.backend}-{proof.device.replace(':', '')}-"


def draw_contact_sheet(comparison: Comparison, output: Output) -> Pictures:
    """uint8 HWC: a row per sample, the worst first; the difference is stretched so that its largest value is white."""
    worst = np.argsort(comparison.agreement.psnr)[:_ROWS]
    expected, found = comparison.expected[worst], comparison.found[worst]
    high = output.range[1]
    difference = np.abs(np.nan_to_num(found, nan=high) - expected)
    columns = (
        to_uint8(expected, output.range),
        to_uint8(_replace_nonfinite(found, high), output.range),
        to_uint8(difference / max(float(difference.max()), 1e-30), (0.0, 1.0)),
    )
    sheet = np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:])
    return make_grid(sheet, columns=len(columns), scale=max(1, _SIDE // sheet.shape[1]))


def _replace_nonfinite(images: Floats, value: float) -> Floats:
    return np.nan_to_num(images, nan=value, posinf=value, neginf=value)
