"""8 bits in the form of NVIDIA's compilers: quantize/dequantize pairs in front of convolutions of an fp16 graph.

int8 is symmetric, with zero points of 0; fp8 is float8e4m3fn. Between such pairs TensorRT-RTX 1.7.1 multiplies 8-bit
numbers and writes float16, with bias and activation, where a weight has one scale; where it has one per output channel,
float32, and it fuses nothing. So a weight gets one scale, unless its layer needs several to be in int8 at all.
Transposed convolutions get no pairs: they are computed in float16 whatever is around them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import NamedTuple

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from ganrt.errors import VerificationError
from ganrt.spec import Spec

from ..passes import Array, Patch, read_constant
from . import fp16
from .calibration import QuantizationRange, Samples, measure_ranges
from .fp32_islands import HalfGraph
from .int8 import Layer, correct_bias, find_layers, measure_shift
from .judge import MARGIN, Judge, format_share
from .sensitivity import choose_kept_layers
from .trials import Trials

_OLDEST_OPSET = 19
"""Of pairs in float16, and of float8. What it changed in other operators of version 18 are additions."""
_SMALLEST = 2.0**-24
"""Smallest scale: the smallest number of float16."""


class NumberFormat(NamedTuple):
    """8-bit numbers."""

    precision: str
    dtype: ir.DataType
    largest: float

    def round(self, values: Array) -> Array:
        """The nearest numbers of the format, as its own dtype."""
        clipped: Array = np.clip(values, -self.largest, self.largest)
        if self.dtype is ir.DataType.INT8:
            return np.rint(clipped).astype(np.int8)
        return clipped.astype(ml_dtypes.float8_e4m3fn)

    def find_amax(self, found: QuantizationRange, headroom: float) -> float:
        """What the largest number stands for. int8 clips rare large values; steps of fp8 grow with the value, so that
        it need not."""
        return found.high if self.dtype is ir.DataType.INT8 else headroom * float(found.peaks.max())


FORMATS = {
    "int8": NumberFormat("int8", ir.DataType.INT8, 127.0),
    "fp8": NumberFormat("fp8", ir.DataType.FLOAT8E4M3FN, 448.0),
}
"""Precision -> its numbers."""


class RoundedWeight(NamedTuple):
    """A weight in 8 bits."""

    numbers: Array
    scale: Array
    """One number, or one per output channel."""
    shift: Array
    """What rounding adds to each output channel on average."""


RoundedWeights = dict[tuple[str, str, bool], RoundedWeight]
"""(name of a convolution, precision, whether there is a scale per output channel) -> its weight."""


def find_half_layers(half: HalfGraph) -> list[Layer]:
    """What can be quantized, in the order of the graph: convolutions in float16 with constant weights, of more than one
    pixel."""
    return _find_convs(half.source, half.islands)


def _find_convs(model: ir.Model, islands: Collection[str]) -> list[Layer]:
    found = []
    for layer in find_layers(model):
        nodes = tuple(node for node in layer.nodes if node.op_type == "Conv" and node.name not in islands)
        if nodes:
            found.append(Layer(layer.name, layer.source, nodes))
    return found


class HalfQuantizer:
    """Converts one fp16 graph to formats of 8 bits, except for the layers that cost the images more than they may.

    Args:
        quality: worst PSNR in dB to reach on the samples.
    """

    def __init__(self, half: HalfGraph, spec: Spec, samples: Samples, quality: float) -> None:
        self._half, self._spec, self._samples, self._quality = half, spec, samples, quality
        self._layers = {layer.name: layer for layer in find_half_layers(half)}
        self._rounded: RoundedWeights = {}

    @cached_property
    def _judge(self) -> Judge:
        return Judge(self._half.source, self._spec, self._samples, self._quality + MARGIN)

    @cached_property
    def _ranges(self) -> dict[str, QuantizationRange]:
        return measure_ranges(self._half.source, list(self._layers), self._samples, symmetric=True)

    def convert(self, precision: str) -> tuple[ir.Model, dict[str, object]]:
        """Return the graph and notes on what was decided, for the record. Raises VerificationError when no layer can be
        converted."""
        names = list(self._layers)
        if not names:
            raise VerificationError(
                f"{precision} was asked for, but this graph has no convolutions in float16 with constant weights"
            )
        every = _Lowered(frozenset(names))
        trials = Trials(self._judge, lambda lowered: self._quantize(precision, lowered), every)
        choice = self._choose_layers(precision, trials)
        kept, per_channel, alone = choice
        if len(kept) == len(names):
            raise VerificationError(
                f"{precision} was asked for, but no convolution of this model reaches {self._quality:g} dB in it "
                "without a texture on flat parts; ask for less with --quality"
            )
        lowered = self._spell_out(choice)
        notes: dict[str, object] = {
            "calibrated on": self._samples.origin,
            **trials.measure(lowered).describe(),
            f"layers in {precision}": len(names) - len(kept),
            "convolutions kept in float": {name: f"{format_share(alone[name])} on its own" for name in kept},
        }
        if per_channel:
            notes["with a scale per channel"] = list(per_channel)
        return self._quantize(precision, lowered), notes

    def _count_macs(self, name: str) -> float:
        weights = [read_constant(node.inputs[1]) for node in self._layers[name].nodes]
        return float(self._ranges[name].pixels * sum(weight.size for weight in weights if weight is not None))

    def _choose_layers(self, precision: str, trials: Trials[_Lowered]) -> _LayerChoice:
        names = list(self._layers)
        every = _Lowered(frozenset(names))
        # Beside the error of 8 bits that of float16 is small, and it takes several times as long to compute on a CPU.
        # Not for fp8: ONNX Runtime 1.32 drops a Relu in front of a pair in fp8, unless there are casts between them.
        estimates = trials
        if precision != "fp8":
            estimates = Trials(
                self._judge, lambda lowered: self._quantize_convs(precision, lowered), every, trials.measure(every)
            )

        def error(lowered: Collection[str], per_channel: Collection[str] = ()) -> float:
            return trials.measure(_Lowered(frozenset(lowered), frozenset(per_channel))).error

        def estimate(lowered: Collection[str], per_channel: Collection[str] = ()) -> float:
            return estimates.estimate(_Lowered(frozenset(lowered), frozenset(per_channel)))

        kept, alone = choose_kept_layers(names, error, 1.0, self._count_macs, estimate)

        def lower_kept(tried: Collection[str]) -> list[str]:
            return [name for name in names if name not in kept or name in tried]

        per_channel: tuple[str, ...] = ()
        for name in sorted(kept, key=alone.__getitem__) if precision == "int8" else ():  # the least harmful ones first
            tried = (*per_channel, name)
            if estimate(lower_kept(tried), tried) <= 1.0:
                per_channel = tried
        while per_channel and error(lower_kept(per_channel), per_channel) > 1.0:
            per_channel = per_channel[:-1]
        in_order = tuple(name for name in kept if name in per_channel)
        return _LayerChoice(tuple(name for name in kept if name not in per_channel), in_order, alone)

    def _spell_out(self, choice: _LayerChoice) -> _Lowered:
        return _Lowered(frozenset(self._layers) - set(choice.kept), frozenset(choice.per_channel))

    def _quantize(self, precision: str, lowered: _Lowered) -> ir.Model:
        return convert_rest_to_half(self._quantize_convs(precision, lowered), self._half)

    def _quantize_convs(self, precision: str, lowered: _Lowered) -> ir.Model:
        """Float32 around the pairs."""
        scales = {name: name in lowered.per_channel for name in lowered.layers}
        headroom = self._samples.headroom or 1.0
        return quantize_convs(self._half, self._ranges, FORMATS[precision], scales, headroom, self._rounded)


class _Lowered(NamedTuple):
    """Which layers are in 8 bits."""

    layers: frozenset[str]
    per_channel: frozenset[str] = frozenset()
    """Those with a scale per output channel; the others have one scale."""


class _LayerChoice(NamedTuple):
    """What becomes of the layers; those that are not named are in 8 bits with one scale."""

    kept: tuple[str, ...]
    """In float16."""
    per_channel: tuple[str, ...]
    """In 8 bits, with a scale per output channel."""
    alone: Mapping[str, float]
    """Name -> its error on its own, where that was measured."""


def quantize_convs(
    half: HalfGraph,
    ranges: Mapping[str, QuantizationRange],
    numbers: NumberFormat,
    scales: Mapping[str, bool],
    headroom: float = 1.0,
    rounded: RoundedWeights | None = None,
) -> ir.Model:
    """Return the graph in float32 with pairs in front of convolutions.

    Args:
        ranges: name of a layer -> symmetric quantization range of its input tensor.
        scales: name of each layer to quantize -> whether its weights get a scale per output channel.
        headroom: factor of the largest values that were measured, for fp8.
        rounded: weights that were rounded for another choice of layers; new ones are added.
    """
    copy, rounded = half.source.clone(), {} if rounded is None else rounded
    copy.opset_imports[""] = max(_OLDEST_OPSET, copy.opset_imports[""])
    for layer in _find_convs(copy, half.islands):
        if layer.name not in scales:
            continue
        found = ranges[layer.name]
        for node in layer.nodes:
            key = (str(node.name), numbers.precision, scales[layer.name])
            if key not in rounded:
                rounded[key] = _round_weight(node, numbers, scales[layer.name], found.mean)
            _quantize_weight(node, numbers, rounded[key])
        _quantize_source(layer, numbers, numbers.find_amax(found, headroom))
    copy.graph.sort()
    RemoveUnusedNodesPass()(copy)  # and the float weights
    NameFixPass()(copy)
    return copy


def convert_rest_to_half(quantized: ir.Model, half: HalfGraph) -> ir.Model:
    """Return a graph of `quantize_convs` with float16 around its pairs, but for the islands."""
    return fp16.convert_nodes(fp16.prepare_graph(quantized), half.islands)


def _round_weight(node: ir.Node, numbers: NumberFormat, per_channel: bool, mean: Array) -> RoundedWeight:
    """A weight in 8 bits with one scale, or one per output channel.

    Args:
        mean: of each channel of the input.
    """
    weight = read_constant(node.inputs[1])
    assert weight is not None
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)) if per_channel else None)
    scale = _choose_scale(largest, numbers)
    along = scale.reshape(-1, *[1] * (weight.ndim - 1)) if per_channel else scale
    rounded = numbers.round(weight / along)
    apart = (rounded.astype(np.float32) * along - weight).astype(np.float64)
    return RoundedWeight(rounded, scale, measure_shift(node, apart, mean))


def _quantize_weight(node: ir.Node, numbers: NumberFormat, rounded: RoundedWeight) -> None:
    """Replace a weight by 8-bit numbers and their scale."""
    value = node.inputs[1]
    assert value is not None
    patch = Patch(node)
    parts = [
        patch.add_constant(rounded.numbers, f"{value.name}.{numbers.precision}"),
        patch.add_constant(rounded.scale, f"{value.name}.scale"),
        patch.add_constant(numbers.round(np.zeros_like(rounded.scale)), f"{value.name}.zero"),
    ]
    node.replace_input_with(1, patch.add_op("DequantizeLinear", parts, **({"axis": 0} if rounded.scale.ndim else {})))
    correct_bias(node, rounded.shift)


def _quantize_source(layer: Layer, numbers: NumberFormat, amax: float) -> None:
    """Put a pair between a tensor and its convolutions."""
    scale = _choose_scale(np.asarray(amax), numbers)
    patch = Patch(layer.nodes[0])
    inputs = [
        patch.add_constant(scale, f"{layer.name}.scale"),
        patch.add_constant(numbers.round(np.zeros_like(scale)), f"{layer.name}.zero"),
    ]
    pair = patch.add_op("DequantizeLinear", [patch.add_op("QuantizeLinear", [layer.source, *inputs]), *inputs])
    for node, place in list(layer.source.uses()):
        if node in layer.nodes:
            node.replace_input_with(place, pair)


def _choose_scale(amax: Array, numbers: NumberFormat) -> Array:
    """Float32 that float16 holds exactly, rounded up so that nothing is clipped."""
    wanted = np.maximum(np.asarray(amax, np.float64) / numbers.largest, _SMALLEST)
    nearest = wanted.astype(np.float16)
    above = np.nextafter(nearest, np.float16(np.inf))
    return np.where(nearest < wanted, above, nearest).astype(np.float32)
