"""Round weights to 8 bits so that their errors cancel on what the layer reads (Frantar et al., "GPTQ: Accurate
Post-Training Quantization for Generative Pre-trained Transformers", 2023).

The inputs of a convolution are correlated: neighbouring pixels are nearly equal. So the weights that are not yet
rounded can make up for the error of one that is. By how much each has to change for that is measured on calibration
samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.lib.stride_tricks import sliding_window_view

from ..passes import Array, read_attribute, read_constant
from .calibration import Evaluator, QuantizationRange, Samples
from .int8 import STEPS, Layer, choose_weight_scale, find_layers, quantize_array

_ROWS = 1024
"""Pixels of each batch of samples that are looked at."""
_LARGEST = 2304
"""Weights of an output channel above which a layer is rounded to the nearest: the time grows with the cube."""
_DAMPING = 0.01
"""Added to each variance, as a share of their mean, so that directions without any are not relied on."""
_BLOCK = 64


class _Shape(NamedTuple):
    """What the inputs of an output pixel depend on; convolutions that agree in it share their covariance. Borders are
    left out: phases differ in nothing else."""

    source: str
    kernel: tuple[int, ...]
    dilations: tuple[int, ...]


def round_weights(model: ir.Model, ranges: Mapping[str, QuantizationRange], samples: Samples) -> dict[str, Array]:
    """Return name of the output of a convolution -> its weight in steps of `choose_weight_scale`, int8; without the
    convolutions that have groups, are transposed, or are too large.

    Args:
        ranges: name of a layer -> quantization range of its input tensor.
    """
    groups: dict[_Shape, list[ir.Node]] = {}
    for layer in find_layers(model):
        for node in filter(_is_covered, layer.nodes):
            groups.setdefault(_describe_shape(layer, node), []).append(node)
    rounded = {}
    for shape, covariance in _measure_covariances(model, list(groups), ranges, samples):
        weights = [np.asarray(read_constant(node.inputs[1]), np.float64) for node in groups[shape]]
        scales = [choose_weight_scale(weight, 0).astype(np.float64) for weight in weights]
        rows = np.concatenate([w.reshape(len(w), -1) / s[:, None] for w, s in zip(weights, scales, strict=True)])
        steps = round_with_feedback(rows, covariance)
        for node, weight in zip(groups[shape], weights, strict=True):
            rounded[str(node.outputs[0].name)] = steps[: len(weight)].reshape(weight.shape)
            steps = steps[len(weight) :]
    return rounded


def round_with_feedback(rows: Array, covariance: Array) -> Array:
    """Round each row of weights, in steps, to int8; the error of a column goes to the columns on its right.

    Args:
        rows: float64 (output channels, weights).
        covariance: of the values that they are multiplied with, positive definite, float64 (weights, weights).
    """
    upper = np.linalg.cholesky(np.linalg.inv(covariance)).T
    left, steps = rows.copy(), np.zeros(rows.shape, np.int8)
    for first in range(0, rows.shape[1], _BLOCK):
        last = min(first + _BLOCK, rows.shape[1])
        errors = np.zeros((len(rows), last - first))
        for column in range(first, last):
            steps[:, column] = np.clip(np.rint(left[:, column]), -STEPS, STEPS)
            error = (left[:, column] - steps[:, column]) / upper[column, column]
            left[:, column + 1 : last] -= np.outer(error, upper[column, column + 1 : last])
            errors[:, column - first] = error
        left[:, last:] -= errors @ upper[first:last, last:]
    return steps


def _is_covered(node: ir.Node) -> bool:
    weight = np.asarray(read_constant(node.inputs[1]))
    plain = node.op_type == "Conv" and read_attribute(node, "group", 1) == 1 and weight.ndim == 4
    return plain and weight[0].size <= _LARGEST


def _describe_shape(layer: Layer, node: ir.Node) -> _Shape:
    kernel = np.asarray(read_constant(node.inputs[1])).shape[2:]
    return _Shape(layer.name, kernel, tuple(read_attribute(node, "dilations", (1, 1))))


def _measure_covariances(
    model: ir.Model, shapes: Sequence[_Shape], ranges: Mapping[str, QuantizationRange], samples: Samples
) -> Iterator[tuple[_Shape, Array]]:
    """The covariance of what each output pixel is computed from, in 8 bits, damped. The fewer pixels there are, the
    more it is damped."""
    probed = model.clone()
    values = {value.name: value for node in probed.graph for value in node.outputs}
    inputs, outputs = ([str(value.name) for value in side] for side in (probed.graph.inputs, probed.graph.outputs))
    names = sorted({shape.source for shape in shapes} - set(inputs))
    probed.graph.outputs.extend(values[name] for name in names if name not in outputs)
    run = Evaluator(probed)
    moments = {shape: _Moments() for shape in shapes}
    for given in samples.given:
        batch = dict(zip(names, run(given, names) if names else (), strict=True)) | given
        for shape, found in moments.items():
            found.add(_cut_patches(quantize_array(batch[shape.source], ranges[shape.source]), shape))
    for shape, found in moments.items():
        covariance, count = found.covariance, len(found.covariance)
        damping = (_DAMPING + count / found.pixels) * np.trace(covariance) / count
        if damping > 0:
            yield shape, covariance + damping * np.eye(count)


class _Moments:
    """Sums over pixels, from which their covariance follows: the pixels themselves would not fit into memory."""

    def __init__(self) -> None:
        self.pixels = 0
        self._sum: Array = np.zeros(1)
        self._squares: Array = np.zeros((1, 1))

    def add(self, patches: Array) -> None:
        """Add pixels: float32 (pixels, weights)."""
        self.pixels += len(patches)
        self._sum = self._sum + patches.sum(axis=0, dtype=np.float64)
        self._squares = self._squares + patches.T @ patches

    @property
    def covariance(self) -> Array:
        """float64 (weights, weights)."""
        mean = self._sum / self.pixels
        covariance: Array = self._squares / self.pixels - np.outer(mean, mean)
        return covariance


def _cut_patches(values: Array, shape: _Shape) -> Array:
    """What _ROWS output pixels are computed from, spread evenly: float32 (pixels, weights)."""
    (height, width), (down, across) = shape.kernel, shape.dilations
    window = (down * (height - 1) + 1, across * (width - 1) + 1)
    missing = [max(0, side - have) for side, have in zip(window, values.shape[2:], strict=True)]
    padded = np.pad(values, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])))
    views = sliding_window_view(padded, window, axis=(2, 3))[..., ::down, ::across].transpose(0, 2, 3, 1, 4, 5)
    count = int(np.prod(views.shape[:3]))
    chosen = np.unravel_index(np.linspace(0, count - 1, min(count, _ROWS)).astype(int), views.shape[:3])
    return np.ascontiguousarray(views[chosen].reshape(len(chosen[0]), -1), np.float32)
