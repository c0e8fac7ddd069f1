"""How large the numbers inside a graph get on the model's own samples: the values of its tensors, and the sums that
norms and means take on the way."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ..passes import Patch
from .calibration import Evaluator, Samples
from .fp16 import is_float


class Magnitudes(NamedTuple):
    """Largest magnitudes on all samples."""

    tensors: dict[str, float]
    """Name of a float32 tensor that is no weight -> of its values."""
    sums: dict[str, float]
    """Name of a node that sums squares (InstanceNormalization) or values (ReduceMean, ReduceSum) -> of such a
    sum."""


def measure_magnitudes(model: ir.Model, samples: Samples) -> Magnitudes:
    """Run a prepared float32 graph on the samples. Maxima are taken inside the graph, so that its tensors need not
    all be in memory at once."""
    probed = model.clone()
    tensors = [value for value in probed.graph.inputs if is_float(value)]
    tensors += [value for node in probed.graph for value in node.outputs if is_float(value)]
    nodes = list(probed.graph)
    end = ir.node("Identity", [probed.graph.outputs[0]])
    probed.graph.append(end)
    patch = Patch(end)
    peaks = {str(value.name): [_add_amax(patch, value)] for value in tensors}
    sums = {str(node.name): found for node in nodes if (found := _add_sum(patch, node))}
    probed.graph.outputs[:] = [value for group in (*peaks.values(), *sums.values()) for value in group]
    for number, value in enumerate(probed.graph.outputs):
        value.name = f"amax.{number}"
    run = Evaluator(probed)
    rows = np.array([run(given) for given in samples.given], np.float64)
    most = iter(rows.max(axis=0))
    tensor_peaks = {name: float(next(most)) for name in peaks}
    totals = {name: float(next(most) * next(most) / next(most)) for name in sums}
    totals |= {str(n.name): tensor_peaks[str(n.outputs[0].name)] for n in model.graph if n.op_type == "ReduceSum"}
    return Magnitudes(tensor_peaks, totals)


def _add_amax(patch: Patch, value: ir.Value) -> ir.Value:
    return patch.add_op("ReduceMax", [patch.add_op("Abs", [value])], keepdims=0)


def _add_sum(patch: Patch, node: ir.Node) -> list[ir.Value]:
    """Three numbers whose first times the second, divided by the third, is the largest sum; none for other nodes."""
    source = node.inputs[0] if node.inputs else None
    if node.domain != "" or source is None or not is_float(source):
        return []
    if node.op_type == "InstanceNormalization":
        mean = patch.add_op("GlobalAveragePool", [patch.add_op("Mul", [source, source])])
    elif node.op_type == "ReduceMean":
        mean = patch.add_copy(node, [patch.add_op("Abs", [source]), *node.inputs[1:]])
    else:
        return []
    return [_add_amax(patch, mean), *(patch.add_op("Size", [value]) for value in (source, mean))]
