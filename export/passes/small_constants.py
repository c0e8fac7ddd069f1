"""Constants so small that the exporter's optimizer takes them for zero.

It removes `x + c` where c is within 1e-8 of 0 (onnxscript 0.7, its rule for additions of zero). But 1e-8 is what a
pixel norm adds so that zeros stay zeros: without it they are divided by zero, and the graph makes NaN where PyTorch
makes the picture of the mean latent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir

_SMALL = 1e-7
"""Well above what is taken for zero."""


@contextmanager
def hide_small_constants(model: ir.Model) -> Iterator[None]:
    """Inside, small scalar constants that a graph adds or subtracts are inputs of it, of which an optimiser knows
    nothing; afterwards they are initializers, in the same graph."""
    found = []
    for node in list(model.graph):
        tensor = ir.convenience.get_const_tensor(node.outputs[0]) if node.op_type == "Constant" else None
        added = any(user.op_type in ("Add", "Sub") for user in node.successors())
        if tensor is None or not added or not _is_small(tensor.numpy()):
            continue
        old = node.outputs[0]
        value = ir.Value(name=old.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape([]))
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        model.graph.remove(node)
        model.graph.inputs.append(value)
        found.append((value, tensor))
    try:
        yield
    finally:
        for value, tensor in found:
            model.graph.inputs.remove(value)
            value.const_value = tensor
            if value.uses():
                model.graph.register_initializer(value)


def _is_small(array: np.ndarray) -> bool:
    return array.ndim == 0 and array.dtype.kind == "f" and 0.0 < abs(float(array)) < _SMALL
