"""int8 variants: scales, where the pairs go, what is kept in float, and the whole way through an export."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from helpers.optional import unwrap
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import ShapeInferencePass

import ganrt
from ganrt.backend import BACKENDS, Session, backend_names, open_session
from ganrt.bundle import Bundle
from ganrt.errors import MachineError, RequestError, VerificationError
from ganrt.export import export, variants
from ganrt.export.passes.graph import Array, read_constant
from ganrt.export.precision import PictureCrops, calibration, int8
from ganrt.export.precision.calibration import Evaluator, QuantizationRange
from ganrt.export.precision.sensitivity import choose_kept_layers
from ganrt.images import from_uint8
from ganrt.models import build_generator
from ganrt.session_config import SessionConfig
from ganrt.spec import Image, Latent, Output, Spec

SPEC = Spec("small", (Latent("z", (4, 6, 6)),), Output(3, (-1.0, 1.0), (12, 12)))


def network(seed: int = 0) -> ir.Model:
    """z -> convolution, relu, depth-to-space, convolution with a skip from z's enlargement."""
    random = np.random.default_rng(seed)
    weights = {
        "w1": random.normal(0, 0.2, (16, 4, 3, 3)),
        "w2": random.normal(0, 0.2, (3, 4, 3, 3)),
        "b2": random.normal(0, 0.2, 3),
    }
    nodes = [
        helper.make_node("Conv", ["z", "w1"], ["c1"], pads=[1, 1, 1, 1], name="first"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("DepthToSpace", ["r1"], ["d1"], blocksize=2),
        helper.make_node("Conv", ["d1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], name="second"),
        helper.make_node("Tanh", ["c2"], ["image"]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 4, 6, 6])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def lowered(model: ir.Model, names: Collection[str] | None = None) -> ir.Model:
    every = [layer.name for layer in int8.find_layers(model)]
    extents = calibration.measure_ranges(model, every, calibration.draw_samples(SPEC, 4))
    return int8.quantize(model, extents, every if names is None else names)


def test_layers_are_the_convolutions_of_one_tensor() -> None:
    assert [(layer.name, [node.name for node in layer.nodes]) for layer in int8.find_layers(network())] == [
        ("z", ["first"]),
        ("d1", ["second"]),
    ]


@given(seed=st.integers(0, 99))
def test_weights_are_within_half_a_step_per_channel(seed: int) -> None:
    before, after = network(seed), lowered(network(seed))
    weights = {name: unwrap(value.const_value).numpy() for name, value in before.graph.initializers.items()}
    for name in ("w1", "w2"):
        steps, scale = (unwrap(read_constant(after.graph.initializers[f"{name}.{part}"])) for part in ("int8", "scale"))
        assert steps.dtype == np.int8 and np.abs(steps).max() == 127 and scale.shape == (len(steps),)
        apart = np.abs(steps * scale[:, None, None, None] - weights[name])
        assert (apart <= 0.501 * scale[:, None, None, None]).all()
    assert not {"w1", "w2"} & set(after.graph.initializers)  # the float weights are gone


def test_eight_bits_are_moved() -> None:
    made = lowered(network())
    shuffle = next(node for node in made.graph if node.op_type == "DepthToSpace")
    assert unwrap(unwrap(shuffle.inputs[0]).producer()).op_type == "DequantizeLinear"
    zeros = [unwrap(read_constant(node.inputs[2])) for node in made.graph if node.op_type == "QuantizeLinear"]
    assert [zero.dtype for zero in zeros] == [np.uint8] * 2
    assert 64 < zeros[0] < 192 and zeros[1] == 0  # z takes both signs; what a relu made does not


def test_the_picture_is_nearly_the_same_and_other_layers_are_left_alone() -> None:
    given = calibration.draw_samples(SPEC, 4).given[0]
    wanted = Evaluator(network())(given)[0]
    assert 1e-4 < np.abs(Evaluator(lowered(network()))(given)[0] - wanted).max() < 0.1
    np.testing.assert_array_equal(Evaluator(lowered(network(), []))(given)[0], wanted)
    assert [n.op_type for n in lowered(network(), ["d1"]).graph].count("QuantizeLinear") == 1


def test_extents_are_those_of_the_samples() -> None:
    found = calibration.measure_ranges(network(), ["z", "c1", "r1"], calibration.draw_samples(SPEC, 6))
    drawn = np.concatenate([rows["z"] for rows in calibration.draw_samples(SPEC, 6).given])
    assert 0.4 * drawn.max() <= found["z"].high <= drawn.max() and 0.4 * drawn.min() >= found["z"].low >= drawn.min()
    assert found["c1"].low < 0 and found["r1"].low == 0
    np.testing.assert_allclose(found["z"].mean, drawn.mean(axis=(0, 2, 3)), atol=0.05)


def test_pictures_take_the_place_of_made_up_ones() -> None:
    inputs = (Image("content", "content", 3, (0.0, 1.0)), Image("mask", "mask", 1, (-1.0, 1.0)))
    spec = Spec("s", inputs, Output(3, (0.0, 1.0), None))
    pictures = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
    crops = PictureCrops({"content": pictures}, ({"content": pictures[:2]},), 5, (3, 2), ())
    found, made_up = calibration.draw_samples(spec, 8, crops), calibration.draw_samples(spec, 8)
    assert [rows["content"].shape for rows in found.given] == [(4, 3, 48, 64), (2, 3, 48, 64)]
    np.testing.assert_array_equal(found.given[1]["content"], from_uint8(pictures[4:], (0.0, 1.0)))
    np.testing.assert_array_equal(found.given[0]["mask"], made_up.given[0]["mask"])
    assert found.origin == f"samples 0 to 5 of seed 2024, with {crops}"
    assert made_up.origin == "samples 0 to 7 of seed 2024" and len(made_up.given[1]["mask"]) == 4


def test_rare_large_values_are_clipped_and_even_ones_are_not() -> None:
    even = np.linspace(-1, 1, 1001)
    assert calibration.choose_range(even) == pytest.approx((-1.0, 1.0), abs=0.03)
    assert calibration.choose_range(np.abs(even)) == pytest.approx((0.0, 1.0), abs=0.03)
    assert calibration.choose_range(1 + even / 2)[0] == 0  # borders are padded with zeros
    rare = np.concatenate([np.random.default_rng(0).normal(0, 0.1, 1_000_000), [3.0]])
    assert calibration.choose_range(rare)[1] < 2.0
    assert calibration.choose_range(np.zeros(3)) == (0.0, 0.0)


def test_rounded_weights_leave_the_mean_where_it_was() -> None:
    """One weight is large, so the others are rounded badly; the input is positive, so all of that adds up."""
    spec = Spec("small", (Image("low_res", "low_res", 16, (0.0, 1.0), (12, 12)),), Output(3, (0.0, 1.0), (12, 12)))
    random = np.random.default_rng(0)
    weight = random.uniform(0.001, 0.0039, (3, 16, 1, 1)).astype(np.float32)
    weight[:, 0] = 1
    made = helper.make_graph(
        [helper.make_node("Conv", ["low_res", "w"], ["image"])],
        "g",
        [helper.make_tensor_value_info("low_res", TensorProto.FLOAT, ["n", 16, 12, 12])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    extents = calibration.measure_ranges(model, ["low_res"], calibration.draw_samples(spec, 8))
    given = calibration.draw_samples(spec, 4).given[0]
    wanted, found = Evaluator(model)(given)[0], Evaluator(int8.quantize(model, extents, ["low_res"]))(given)[0]
    uncorrected = (np.rint(weight * 127) / 127 - weight).sum(axis=(1, 2, 3)) * given["low_res"].mean()
    assert np.abs(uncorrected).max() > 0.005
    assert np.abs((found - wanted).mean(axis=(0, 2, 3))).max() < 0.001


def test_nothing_is_quantised_right_behind_a_product_or_for_a_single_pixel() -> None:
    weights = {"w": np.ones((4, 4, 1, 1)), "shape": np.array([-1, 4, 6, 6]), "hw": np.array([2, 3])}
    nodes = [
        helper.make_node("MatMul", ["z", "z"], ["product"]),
        helper.make_node("Reshape", ["product", "shape"], ["picture"]),
        helper.make_node("Conv", ["picture", "w"], ["c"]),
        helper.make_node("ReduceMean", ["c", "hw"], ["pixel"]),
        helper.make_node("Conv", ["pixel", "w"], ["image"]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 4, 6, 6])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 4, 1, 1])],
        [
            numpy_helper.from_array(value.astype(np.float32) if name == "w" else value, name)
            for name, value in weights.items()
        ],
    )
    model = ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    ShapeInferencePass()(model)
    assert [layer.name for layer in int8.find_layers(model)] == ["picture"]
    lower = int8.quantize(model, {"picture": QuantizationRange(-1.0, 1.0, np.zeros(4), 36, np.ones(4))}, ["picture"])
    pair = next(node for node in lower.graph if node.op_type == "QuantizeLinear")
    assert unwrap(unwrap(pair.inputs[0]).producer()).op_type == "Reshape"


@given(errors=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40), allowed=st.floats(0.01, 1.0))
def test_as_few_layers_are_kept_as_it_takes(errors: list[float], allowed: float) -> None:
    names = [str(k) for k in range(len(errors))]

    def error(lowered: Collection[str]) -> float:
        return sum(errors[int(name)] for name in lowered)

    kept, alone = choose_kept_layers(names, error, allowed)
    left = set(names) - set(kept)
    assert error(left) <= allowed or not left
    if len(names) <= 32 and kept:  # judged one by one: no larger set of layers would do
        assert error(sorted(names, key=lambda n: errors[int(n)])[: len(left) + 1]) > allowed
        assert set(alone) == set(names)
    assert bool(alone) == (error(names) > allowed)


@given(
    errors=st.lists(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), min_size=1, max_size=20),
    allowed=st.floats(0.01, 1.0),
)
def test_a_picture_decides_what_all_pictures_would(errors: list[list[float]], allowed: float) -> None:
    """The choice is that of a search which asks for the error on all pictures whenever the ranking says so."""
    names, asked = [str(k) for k in range(len(errors))], []
    worst = int(np.argmax(np.sum(errors, axis=0)))

    def measure(lowered: Collection[str]) -> Array:
        return np.sum([errors[int(name)] for name in sorted(lowered, key=int)], axis=0)

    def error(lowered: Collection[str]) -> float:
        asked.append(set(lowered))
        return float(np.max(measure(lowered)))

    def estimate(lowered: Collection[str]) -> float:
        return float(measure(lowered)[worst])

    kept, _ = choose_kept_layers(names, error, allowed, estimate=estimate)
    assert all(estimate(lowered) <= allowed for lowered in asked[1:])
    total, left = error(names), sorted(names, key=lambda name: estimate([name]))
    share = total / max(sum(estimate([name]) for name in names), 1e-300)
    while left and (error(left) > allowed or (share * sum(estimate([name]) for name in left) > 1.5 * allowed)):
        left.pop()
    assert set(kept) == (set(names) - set(left) if total > allowed else set())


def test_what_costs_little_to_keep_is_kept_first() -> None:
    errors, work = {"large": 3.0, "small": 2.0, "good": 0.1}, {"large": 10.0, "small": 1.0, "good": 1.0}
    kept, _ = choose_kept_layers(
        list(errors), lambda lowered: sum(errors[name] for name in lowered), 3.5, work.__getitem__
    )
    assert kept == ("small",)


@pytest.fixture(scope="module")
def made(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    source = bundles["dcgan"].folder / Bundle.WEIGHTS
    return export(str(source), tmp_path_factory.mktemp("int8") / "x.ganrt", precisions=("fp32", "int8"), quality=34.0)


def test_an_export_proves_every_variant_on_what_runs_it(made: Bundle) -> None:
    assert list(made.variants) == ["fp32", "fp32-phases", "int8-phases", "int8-half-phases"]
    assert made.variants["int8-phases"].passes == ("matrix", "phases", "before-shuffling", "int8")
    assert made.variants["int8-phases"].notes["worst PSNR there"] >= 34
    for name, variant in made.variants.items():
        rows = [(backend, BACKENDS[backend]) for backend in backend_names("cpu")]
        suits = [(backend, row) for backend, row in rows if row.graphs and (row.gpu or not variant.for_gpu)]
        graphs = {backend for backend, row in suits if variant.precision in row.precisions}
        assert {proof.backend for proof in variant.proofs} - {"pytorch"} == graphs - {"reference"}
        assert all(proof.passed for proof in variant.proofs), name


@pytest.mark.parametrize(
    ("family", "settings"),
    [("resnet", {"size": 32, "width": 2, "latent": 4}), ("srresnet", {"scale": 2, "width": 4, "blocks": 1})],
)
def test_only_forms_that_save_work_are_called_lighter(
    family: str, settings: dict[str, int], made: Bundle, tmp_path: Path
) -> None:
    assert not made.variants["fp32-phases"].fewer_macs  # transposed convolutions multiply as often as their phases
    torch.manual_seed(0)
    torch.save(build_generator(family, settings).state_dict(), tmp_path / "r.pth")
    assert export(str(tmp_path / "r.pth"), tmp_path / "r.ganrt").in_precision("fp32") == ["fp32-phases", "fp32"]


def test_load_takes_the_variant_that_is_asked_for(made: Bundle) -> None:
    fast_name, traced_name = "fp32-phases", "fp32"
    with ganrt.load(made.folder, variant=fast_name) as fast, ganrt.load(made.folder, variant=traced_name) as traced:
        apart = np.abs(fast.sample(4, seed=1).astype(int) - traced.sample(4, seed=1))
        assert apart.max() <= 1
    with ganrt.load(made.folder, precision="int8") as low:
        assert low.session.precision == "int8"
    with pytest.raises(
        RequestError, match="the pytorch backend does not run int8-phases; it runs only the variant fp32"
    ):
        ganrt.load(made.folder, "pytorch", variant="int8-phases")
    with pytest.raises(RequestError, match=r"the openvino backend does not run .*; it runs fp32, bf16, int8"):
        bundle = Bundle.read(made.folder)
        half = {"fp16-x": variants.Variant(bundle.variants["fp32"].file, 20, "fp16")}
        open_session(variants.replace(bundle, variants=half), SessionConfig("openvino", "fp16-x"))
    with pytest.raises(RequestError, match="openvino backend does not run int8-half-phases, made for NVIDIA GPUs; it"):
        ganrt.load(made.folder, "openvino", variant="int8-half-phases")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precisions": ("fp4",)}, RequestError, "precision is 'fp4'; choose some of fp32, bf16, fp16, int8, fp8"),
        ({"forms": ("winograd",)}, RequestError, "form is 'winograd'; choose some of phases, subpixel, transposed"),
        (
            {"precisions": ("int8",), "quality": 150.0},
            VerificationError,
            "no layer of this model reaches 150 dB",
        ),
    ],
)
def test_what_cannot_be_exported(
    options: dict[str, Any], error: type[Exception], message: str, bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        export(str(bundle.folder / Bundle.WEIGHTS), tmp_path / "x.ganrt", **options)
    assert not (tmp_path / "x.ganrt").exists()


def test_a_model_without_convolutions_has_no_int8(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    source = bundles["mlp"].folder / Bundle.WEIGHTS
    with pytest.raises(VerificationError, match="int8 was asked for, but this graph has no convolutions"):
        export(str(source), tmp_path / "x.ganrt", precisions=("int8",))


def test_bf16_needs_a_processor_with_bf16_units(made: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none, OpenVINO would take float32 without a word."""
    from ganrt.backends import openvino as backend

    monkeypatch.setattr(backend.openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    low = {"bf16-phases": variants.replace(made.variants["fp32-phases"], precision="bf16")}
    with pytest.raises(MachineError, match="this processor has no bf16 units; use fp32 or int8"):
        open_session(variants.replace(made, variants=low), SessionConfig("openvino", "bf16-phases"))
    with open_session(made, SessionConfig("openvino", "int8-phases")) as session:  # the rest is float32
        assert "bf16" not in session.details["computed in"]


def test_a_precision_that_openvino_does_not_really_use_is_refused(made: Bundle) -> None:
    """The float graph under the name of int8: nothing in it is quantised, whatever the processor."""
    pretended = variants.replace(made.variants["fp32-phases"], precision="int8")
    bundle = variants.replace(made, variants={"int8-x": pretended})
    with pytest.raises(MachineError, match=r"int8-x was to run in int8, but all its convolutions .* run in"):
        open_session(bundle, SessionConfig("openvino", "int8-x"))


def test_an_export_that_nothing_here_can_prove_is_refused(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganrt.export import verification

    real = verification.open_session
    told: list[str] = []

    def refuse(bundle: Bundle, config: SessionConfig) -> Session:
        if config.variant == "int8-phases":
            raise MachineError("this processor cannot")
        return real(bundle, config)

    monkeypatch.setattr(verification, "open_session", refuse)
    source = str(bundle.folder / Bundle.WEIGHTS)
    with pytest.raises(VerificationError, match="was not exported: nothing on this machine runs int8-phases"):
        export(source, tmp_path / "x.ganrt", progress=told.append, precisions=("int8",), quality=34.0)
    assert "skipped: this processor cannot" in told and not (tmp_path / "x.ganrt").exists()
