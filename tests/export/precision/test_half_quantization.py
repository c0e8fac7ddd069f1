"""8 bits between float16, as NVIDIA's compilers take it: the form of the graph, its images, and what is compiled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from helpers.fp16_graphs import SPEC, Chain, chain
from hypothesis import given
from hypothesis import strategies as st

from ganrt.agreement import compare
from ganrt.errors import VerificationError
from ganrt.export.engines import Compiler, RtxEngineOptions, parse_layers
from ganrt.export.passes import read_constant
from ganrt.export.precision import calibration, half_quantization
from ganrt.export.precision.calibration import Evaluator, measure_ranges
from ganrt.export.precision.fp32_islands import HalfGraph, convert_with_fp32_islands
from ganrt.export.precision.half_quantization import (
    FORMATS,
    HalfQuantizer,
    convert_rest_to_half,
    find_half_layers,
    quantize_convs,
)
from ganrt.export.precision.judge import Measured

SAMPLES = calibration.draw_samples(SPEC, 8)
STEPS = ["conv", "relu", "conv", "skip", "relu", "conv"]


def to_half(model: ir.Model) -> HalfGraph:
    return convert_with_fp32_islands(model, SPEC, SAMPLES, 40.0)


def quantize_all(half: HalfGraph, precision: str, per_channel: bool = False) -> ir.Model:
    names = [layer.name for layer in find_half_layers(half)]
    ranges = measure_ranges(half.source, names, SAMPLES, symmetric=True)
    made = quantize_convs(half, ranges, FORMATS[precision], dict.fromkeys(names, per_channel))
    return convert_rest_to_half(made, half)


def measure_psnr(made: ir.Model, half: HalfGraph) -> float:
    found, wanted = (
        np.concatenate([Evaluator(graph)(rows)[0] for rows in SAMPLES.given]) for graph in (made, half.source)
    )
    return float(compare(found, wanted, SPEC.output.range).psnr.min())


def with_small_channel() -> ir.Model:
    """Two convolutions. One output channel of the first has weights a thousand times smaller than the others, which the
    second makes up for."""
    made = Chain()
    sizes = np.array([1.0, 1.0, 1.0, 1e-3], np.float32)
    first, second = (made.random.normal(0, 1 / 6, (4, 4, 3, 3)).astype(np.float32) for _ in range(2))
    made.add_op("Conv", made.last, made.weight(first * sizes.reshape(-1, 1, 1, 1)), pads=[1, 1, 1, 1])
    made.with_constant("Mul", (1 / sizes).reshape(1, -1, 1, 1))
    made.add_op("Conv", made.last, made.weight(second), pads=[1, 1, 1, 1])
    return made.model()


@pytest.fixture(scope="module")
def half() -> HalfGraph:
    return to_half(chain(STEPS))


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    with Compiler() as opened:
        yield opened


def list_products(compiler: Compiler, model: ir.Model, folder: Path, *targets: str) -> list[str]:
    """What the convolutions of a batch of 1 compute in and make."""
    file = folder / "model.onnx"
    ir.save(model, file)
    launches = parse_layers(compiler.compile(file, RtxEngineOptions((1,), targets=targets)).layers)[0]
    return [launch.types for launch in launches if launch.is_product]


@pytest.mark.parametrize(("precision", "dtype", "largest"), [("int8", "INT8", 127.0), ("fp8", "FLOAT8E4M3FN", 448.0)])
def test_pairs_have_one_half_scale_and_a_zero_point_of_0(
    half: HalfGraph, precision: str, dtype: str, largest: float
) -> None:
    made = quantize_all(half, precision)
    pairs = [node for node in made.graph if node.op_type == "DequantizeLinear"]
    convolutions = [node for node in made.graph if node.op_type == "Conv"]
    assert len(convolutions) == 4
    for node in convolutions:
        assert {value.producer().op_type for value in node.inputs[:2]} == {"DequantizeLinear"}  # type: ignore[union-attr]
        assert node.outputs[0].dtype == ir.DataType.FLOAT16
    for node in pairs:
        numbers, scale, zero = node.inputs
        assert numbers is not None and scale is not None and zero is not None
        assert numbers.dtype == zero.dtype == ir.DataType[dtype]
        assert scale.dtype == ir.DataType.FLOAT16 and read_constant(scale).shape == ()  # type: ignore[union-attr]
        assert read_constant(zero).astype(np.float32) == 0  # type: ignore[union-attr]
    stored = [read_constant(node.inputs[0]) for node in pairs]
    assert {float(np.abs(array.astype(np.float32)).max()) for array in stored if array is not None} == {largest}


@pytest.mark.parametrize(("precision", "least", "most"), [("int8", 38.0, 60.0), ("fp8", 30.0, 55.0)])
def test_the_images_are_nearly_those_of_float32(half: HalfGraph, precision: str, least: float, most: float) -> None:
    """And not more than nearly, as if nothing was quantized."""
    assert least < measure_psnr(quantize_all(half, precision), half) < most


@given(st.floats(0.0, 1e4), st.sampled_from(sorted(FORMATS)))
def test_scales_are_halves_and_clip_nothing(amax: float, precision: str) -> None:
    numbers = FORMATS[precision]
    scale = half_quantization._choose_scale(np.asarray(amax), numbers)
    assert scale > 0 and scale == scale.astype(np.float16)
    assert amax <= scale * numbers.largest
    if amax > 0.1:
        assert scale * numbers.largest <= 1.001 * amax


@pytest.mark.parametrize("precision", FORMATS)
def test_numbers_are_rounded_to_the_nearest(precision: str) -> None:
    numbers = FORMATS[precision]
    values = np.random.default_rng(0).uniform(-500, 500, 1000).astype(np.float32)
    fp8 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    every = np.arange(-127, 128) if precision == "int8" else fp8[np.isfinite(fp8)]
    nearest = np.abs(values[:, None] - every).min(axis=1)
    np.testing.assert_array_equal(np.abs(values - numbers.round(values).astype(np.float32)), nearest)


def test_transposed_convolutions_and_islands_get_no_pairs() -> None:
    made = Chain()
    for step in ("conv", "relu", "conv"):
        made.add(step)
    kernel = made.random.normal(0, 1 / 6, (4, 4, 3, 3)).astype(np.float32)
    made.add_op("ConvTranspose", made.last, made.weight(kernel), pads=[1, 1, 1, 1])
    half = to_half(made.model())
    first = next(str(node.name) for node in half.source.graph if node.op_type == "Conv")
    half = half._replace(islands={*half.islands, first})
    found = quantize_all(half, "int8").graph
    pairs = {node.op_type: [value.producer() for value in node.inputs[:2]] for node in found if node.name != first}  # type: ignore[union-attr]
    assert all(node is not None and node.op_type == "DequantizeLinear" for node in pairs["Conv"])
    assert not any(node is not None and node.op_type == "DequantizeLinear" for node in pairs["ConvTranspose"])
    kept = next(node for node in found if node.name == first)
    assert kept.inputs[1].is_initializer() and kept.outputs[0].dtype == ir.DataType.FLOAT  # type: ignore[union-attr]


def test_a_layer_that_needs_it_gets_a_scale_per_channel() -> None:
    half = to_half(with_small_channel())
    assert measure_psnr(quantize_all(half, "int8"), half) < 34 < measure_psnr(quantize_all(half, "int8", True), half)
    made, notes = HalfQuantizer(half, SPEC, SAMPLES, 34.0).convert("int8")
    assert (
        notes["with a scale per channel"] == ["z"]
        and notes["layers in int8"] == 2
        and not notes["convolutions kept in float"]
    )
    scales = [read_constant(node.inputs[1]) for node in made.graph if node.op_type == "DequantizeLinear"]
    assert sorted(scale.shape for scale in scales if scale is not None) == [(), (), (), (4,)]
    assert measure_psnr(made, half) >= 34


def test_fp8_needs_one_scale_even_there() -> None:
    """Its steps are small for small weights."""
    _, notes = HalfQuantizer(to_half(with_small_channel()), SPEC, SAMPLES, 34.0).convert("fp8")
    assert notes["layers in fp8"] == 2 and "with a scale per channel" not in notes


def test_layers_that_cost_too_much_are_kept_in_float(half: HalfGraph) -> None:
    quality = measure_psnr(quantize_all(half, "fp8"), half) + 1.0
    made, notes = HalfQuantizer(half, SPEC, SAMPLES, quality).convert("fp8")
    kept = notes["convolutions kept in float"]
    assert isinstance(kept, dict) and len(kept) + notes["layers in fp8"] == 4  # type: ignore[operator]
    assert kept and all(text.endswith("of the error allowed on its own") for text in kept.values())
    assert notes["worst PSNR there"] >= quality and measure_psnr(made, half) >= quality  # type: ignore[operator]


def test_int8_clips_and_fp8_leaves_room() -> None:
    found = calibration.QuantizationRange(-2.0, 2.0, np.zeros(2), 1, np.array([1.0, 4.0]))
    assert FORMATS["int8"].find_amax(found, 1.25) == 2.0
    assert FORMATS["fp8"].find_amax(found, 1.25) == 5.0


def test_a_quality_that_no_layer_reaches_is_an_error(half: HalfGraph) -> None:
    with pytest.raises(VerificationError, match="fp8 was asked for, but no convolution of this model reaches 90 dB"):
        HalfQuantizer(half, SPEC, SAMPLES, 90.0).convert("fp8")


def test_a_graph_without_convolutions_is_an_error() -> None:
    half = to_half(chain(["relu", "scale"]))
    with pytest.raises(VerificationError, match="int8 was asked for, but this graph has no convolutions in float16"):
        HalfQuantizer(half, SPEC, SAMPLES, 30.0).convert("int8")


def test_older_graphs_get_the_operator_set_that_has_pairs_in_half(half: HalfGraph) -> None:
    old = to_half(chain(STEPS))
    old.source.opset_imports[""] = 18
    assert quantize_all(old, "int8").opset_imports[""] == 19
    assert quantize_all(half, "int8").opset_imports[""] == 20


def test_symmetric_ranges_clip_where_that_is_better() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(0, 1, 5000), [-20.0]]).astype(np.float32)
    low, high = calibration.choose_symmetric_range(values)
    assert low == -high and 3 < high < 20
    assert calibration.choose_symmetric_range(np.zeros(3, np.float32)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("precision", "targets", "wanted"),
    [
        ("int8", ("sm86", "sm89", "sm120"), "Int8 -> Half"),
        ("fp8", ("sm89", "sm120"), "FP8 -> Half"),
    ],
)
def test_the_compiler_multiplies_8_bits_and_makes_halves(
    compiler: Compiler, half: HalfGraph, precision: str, targets: tuple[str, ...], wanted: str, tmp_path: Path
) -> None:
    assert list_products(compiler, quantize_all(half, precision), tmp_path, *targets) == 4 * [wanted]


def test_scales_per_channel_are_compiled_to_float(compiler: Compiler, half: HalfGraph, tmp_path: Path) -> None:
    """Why a weight gets one scale where it can."""
    found: list[Any] = list_products(compiler, quantize_all(half, "int8", True), tmp_path, "sm89")
    assert found == 4 * ["Int8 -> Float"]


def test_fp8_behind_a_relu_is_judged_with_the_relu() -> None:
    """ONNX Runtime 1.32 drops a Relu in front of a pair in fp8 of a float32 graph, and images are then far off."""
    made = Chain()
    for step in ("conv", "Relu", "conv", "Relu", "conv"):
        if step == "conv":
            made.add(step)
        else:
            made.add_op(step)
    _, notes = HalfQuantizer(to_half(made.model()), SPEC, SAMPLES, 25.0).convert("fp8")
    assert notes["layers in fp8"] == 3 and notes["convolutions kept in float"] == {}


@pytest.mark.parametrize("precision", FORMATS)
def test_weights_that_were_rounded_for_another_choice_are_the_same(precision: str) -> None:
    half = to_half(chain(STEPS))
    names = [layer.name for layer in find_half_layers(half)]
    ranges = measure_ranges(half.source, names, SAMPLES, symmetric=True)
    rounded: half_quantization.RoundedWeights = {}
    for per_channel in (True, False):
        for chosen in (names[:1], names):
            scales = dict.fromkeys(chosen, per_channel)
            fresh, again = (
                quantize_convs(half, ranges, FORMATS[precision], scales, 1.0, known) for known in (None, rounded)
            )
            assert ir.to_proto(fresh).SerializeToString() == ir.to_proto(again).SerializeToString()
    assert len(rounded) == 2 * len(names) and {kind for _, kind, _ in rounded} == {precision}


def test_scales_per_channel_that_fail_on_all_samples_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three layers exceed what is allowed with one scale; with several scales each fits, but not both."""
    with_one, with_several = {"a": 1.5, "b": 2.0, "c": 0.1}, {"a": 0.2, "b": 0.9}

    class Costs:
        """Errors add up, and one sample shows half of them."""

        def __init__(self, *arguments: object) -> None: ...

        def measure(self, choice: half_quantization._Lowered) -> Measured:
            costs = [(with_several if name in choice.per_channel else with_one)[name] for name in choice.layers]
            return Measured(sum(costs), 0.0, 0.0, 0, {})

        def estimate(self, choice: half_quantization._Lowered) -> float:
            return self.measure(choice).error / 2

    monkeypatch.setattr(half_quantization, "Trials", Costs)
    monkeypatch.setattr(HalfQuantizer, "_count_macs", lambda self, name: 1.0)
    quantizer = HalfQuantizer(to_half(chain(["conv"])), SPEC, SAMPLES, 34.0)
    quantizer._layers = dict.fromkeys("abc")  # type: ignore[assignment]
    found = quantizer._choose_layers("int8", Costs())  # type: ignore[arg-type]
    assert (found.kept, found.per_channel) == (("b",), ("a",))
