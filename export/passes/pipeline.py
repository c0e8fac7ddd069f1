"""The passes in the order in which they help each other, for one form of up-sampling."""

from __future__ import annotations

import onnx_ir as ir

from .affine import AFFINE
from .base import Pass, apply_passes
from .dead_channels import DEAD_BIASES, DEAD_CHANNELS
from .folding import FOLD_BACKWARD, FOLD_FORWARD
from .matrix import MATRIX
from .packing import PACKING
from .reorder import BEFORE_SHUFFLING, BEFORE_UPSAMPLING
from .simplify import PADS, SIMPLIFY
from .upsampling_forms import FORMS


def list_passes(form: str) -> tuple[Pass, ...]:
    """All passes for a form of FORMS."""
    return (
        SIMPLIFY,
        PADS,
        DEAD_CHANNELS,
        DEAD_BIASES,
        BEFORE_UPSAMPLING,
        FOLD_BACKWARD,
        AFFINE,
        FOLD_FORWARD,
        MATRIX,
        FORMS[form],
        PACKING,
        BEFORE_SHUFFLING,
    )


def optimize_graph(model: ir.Model, form: str) -> tuple[ir.Model, tuple[str, ...]]:
    """An optimised copy of a graph, and the names of the passes that changed something. Raises VerificationError when a
    pass breaks a promise."""
    return apply_passes(model, list_passes(form))
