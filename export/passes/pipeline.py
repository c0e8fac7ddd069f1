"""The passes in the order in which they help each other, for one form of up-sampling."""

from __future__ import annotations

import onnx_ir as ir

from .affine import AFFINE
from .base import Pass, apply_passes
from .dead_channels import DEAD_BIASES, DEAD_CHANNELS
from .folding import FOLD_BACKWARD, FOLD_FORWARD
from .instance_norm import INSTANCE_NORMS
from .matrix import MATRIX
from .packing import PACKING
from .reorder import BEFORE_SHUFFLING, BEFORE_UPSAMPLING
from .simplify import PADS, SIMPLIFY
from .upsampling_forms import FORMS

TRACED = "traced"
"""Form of up-sampling that leaves it as it was traced."""
_FOR_CPU = (AFFINE, PACKING)
"""Fill the SIMD lanes of a CPU, and keep its memory layout. NVIDIA's compiler merges chains of pointwise operations
itself, and the matrix products of conditional norms into a few; as convolutions of one pixel, each is a kernel to
start."""


def list_passes(form: str, gpu: bool = False) -> tuple[Pass, ...]:
    """All passes for a form of FORMS, or TRACED.

    Args:
        gpu: True for the passes that suit NVIDIA GPUs.
    """
    every = (
        SIMPLIFY,
        PADS,
        INSTANCE_NORMS,
        DEAD_CHANNELS,
        DEAD_BIASES,
        BEFORE_UPSAMPLING,
        FOLD_BACKWARD,
        AFFINE,
        FOLD_FORWARD,
        MATRIX,
        *((FORMS[form],) if form != TRACED else ()),
        PACKING,
        BEFORE_SHUFFLING,
    )
    return tuple(step for step in every if not (gpu and step in _FOR_CPU))


def optimize_graph(model: ir.Model, form: str, gpu: bool = False) -> tuple[ir.Model, tuple[str, ...]]:
    """An optimised copy of a graph, and the names of the passes that changed something. Takes the arguments of
    `list_passes`. Raises VerificationError when a pass breaks a promise."""
    return apply_passes(model, list_passes(form, gpu))
