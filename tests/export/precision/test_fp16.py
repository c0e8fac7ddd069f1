"""fp16 in the graph: types that are consistent, casts that are shared, values that are float16's, and islands."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from helpers.fp16_graphs import SPEC, STEPS, Chain, chain
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import ganrt
from ganrt.backend import open_session
from ganrt.bundle import Bundle, Variant
from ganrt.errors import BundleError, MachineError, VerificationError
from ganrt.export import export
from ganrt.export.passes.graph import Patch
from ganrt.export.precision import calibration, fp16, fp32_islands
from ganrt.export.precision.calibration import Evaluator
from ganrt.export.precision.magnitudes import Magnitudes, measure_magnitudes
from ganrt.export.precision.sensitivity import choose_kept_layers, release_layers
from ganrt.fp16_emulation import emulate_fp16
from ganrt.proving import prove
from ganrt.session_config import SessionConfig
from ganrt.stores import FolderStore

CHAINS = st.lists(st.sampled_from(STEPS), min_size=1, max_size=8)
UNMEASURED = Magnitudes({}, {})


def latents(seed: int = 0, count: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4, 6, 6)).astype(np.float32)


def reference(model: ir.Model, z: np.ndarray) -> np.ndarray:
    """By the ONNX project's evaluator, in NumPy's float16 where the graph says so."""
    with np.errstate(all="ignore"):
        evaluator: Any = ReferenceEvaluator(ir.to_proto(model))
        return evaluator.run(None, {"z": z})[0]


def lowered(model: ir.Model, kept: set[str]) -> ir.Model:
    model = fp16.prepare_graph(model)
    return fp16.convert_nodes(model, fp16.extend_islands(model, kept))


def by_rule(model: ir.Model) -> dict[str, str]:
    return fp32_islands.find_islands_by_rule(fp16.prepare_graph(model), UNMEASURED)


def mixed_nodes(model: ir.Model) -> list[str]:
    """Operators that see or make more than one floating type, by ONNX's own inference; the scales of a Resize are
    float32 by definition, and a Cast is there to change types."""
    graph = onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.input, *graph.output]}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16}
    return [
        node.name
        for node in graph.node
        if node.op_type != "Cast"
        and len(
            {kinds[n] for n in [*node.input[: 1 if node.op_type == "Resize" else None], *node.output] if n} & floats
        )
        > 1
    ]


@given(steps=CHAINS, seed=st.integers(0, 99), data=st.data())
def test_types_are_consistent_and_casts_are_shared(steps: list[str], seed: int, data: st.DataObject) -> None:
    model = fp16.prepare_graph(chain(steps, seed))
    names = [str(node.name) for node in model.graph]
    kept = set(data.draw(st.lists(st.sampled_from(names), unique=True)))
    made = fp16.convert_nodes(model, fp16.extend_islands(model, kept))
    assert mixed_nodes(made) == []
    edges = [*made.graph.inputs, *made.graph.outputs]
    assert [(v.name, v.dtype) for v in edges] == [(n, ir.DataType.FLOAT) for n in ("z", "image")]
    casts = [node for node in made.graph if node.op_type == "Cast"]
    assert all(count == 1 for count in Counter(id(cast.inputs[0]) for cast in casts).values())
    for cast in casts:  # no value goes down and up again without work in between, or up and down
        source = cast.inputs[0].producer()  # type: ignore[union-attr]
        while source is not None and source.op_type in fp16.MOVING:
            source = source.inputs[0].producer()  # type: ignore[union-attr]
        assert source is None or source.op_type != "Cast", "a value was cast twice"
    single = {node.name for node in made.graph if node.outputs[0].dtype == ir.DataType.FLOAT} - {None}
    assert {name for name in kept if name in names} <= single | {n for n in names if "shape" in n}


@settings(max_examples=20)
@given(steps=CHAINS, seed=st.integers(0, 99))
def test_the_values_are_those_of_float16(steps: list[str], seed: int) -> None:
    """The evaluator of the ONNX project computes in NumPy's float16; ours spells that out in float32."""
    model, z = chain(steps, seed), latents(seed)
    made = lowered(model, set(by_rule(model)))
    wanted, exact = reference(made, z), reference(model, z)
    found = Evaluator(made)({"z": z})[0]
    size = np.abs(exact).max()
    np.testing.assert_allclose(wanted, exact, rtol=0, atol=0.02 * size)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0.01 * size)


@given(value=st.floats(width=32, allow_nan=False), factor=st.floats(-60000, 60000, width=16))
def test_every_tensor_is_rounded_as_numpy_rounds(value: float, factor: float) -> None:
    made = Chain()
    made.with_constant("Mul", factor)
    made.with_constant("Add", 1.0)
    z = np.full((1, 4, 6, 6), value, np.float32)
    with np.errstate(all="ignore"):
        wanted = (z.astype(np.float16) * np.float16(factor) + np.float16(1)).astype(np.float32)
    np.testing.assert_array_equal(Evaluator(lowered(made.model(), set()))({"z": z})[0], wanted)


def overflowing() -> Chain:
    """Reaches about 4e5 between two multiplications, and is harmless again at the end."""
    made = Chain()
    made.add("conv")
    made.with_constant("Mul", 500.0)
    made.with_constant("Mul", 300.0)
    made.with_constant("Mul", 1 / 300.0)
    made.with_constant("Mul", 1 / 500.0)
    return made


def test_overflow_is_seen_and_gets_its_island() -> None:
    model, z = overflowing().model(), latents()
    everything = lowered(model, set())
    assert np.isinf(reference(everything, z)).any() and not np.isfinite(Evaluator(everything)({"z": z})[0]).all()
    made, notes, *_ = fp32_islands.convert_with_fp32_islands(model, SPEC, calibration.draw_samples(SPEC, 8), 36.0)
    kept = notes["kept in float32"]
    assert set(kept) == {"n_mul2", "n_mul3"} and notes["operators in float16"] == 2
    assert all(reason.startswith("reaches ") and reason.endswith("e5") for reason in kept.values())
    assert notes["worst PSNR there"] > 60 and np.isfinite(reference(made, z)).all()
    assert notes["calibrated on"] == "samples 0 to 7 of seed 2024"
    assert "kept whatever they reach there" not in notes
    assert "overflow and rounding, not speed" in notes["computed on the CPU"]


def test_a_graph_without_float16_is_left_as_it_is() -> None:
    proto = ir.to_proto(overflowing().model())
    assert emulate_fp16(proto) is proto


def test_weights_that_float16_cannot_hold() -> None:
    made = Chain()
    made.with_constant("Mul", 1e5)
    made.with_constant("Mul", np.full((1, 4, 1, 1), 1e-6))
    made.with_constant("Add", 3e-8)
    made.with_constant("Add", np.array([0.0, 1e-9, 1.0, 0.5]).reshape(1, 4, 1, 1))  # like the last digit of the 1
    assert by_rule(made.model()) == {
        "n_mul0": "has a weight of 1e5",
        "n_mul1": "has weights up to 1e-6",
        "n_add2": "has a constant of 3e-8",
    }
    made.add("conv")
    _, notes, *_ = fp32_islands.convert_with_fp32_islands(made.model(), SPEC, calibration.draw_samples(SPEC, 8), 36.0)
    assert notes["weights that become 0"] == "1 of 148, each below 3e-8"


def test_norms_and_exponentials_stay_by_rule() -> None:
    assert by_rule(chain(["conv", "norm", "relu", "pixel", "softmax"])) == {
        "n_instancenormalization1": "adds up squares",
        "n_pow3": "makes what is summed",
        "n_reducemean4": "adds up many values",
        "n_add5": "has a constant of 1e-8",
        "n_sqrt6": "squares, roots and reciprocals leave the range soonest",
        "n_reciprocal7": "squares, roots and reciprocals leave the range soonest",
        "n_softmax9": "takes exponentials",
    }


def test_the_record_says_that_norms_stay_for_what_samples_cannot_show() -> None:
    _, notes, *_ = fp32_islands.convert_with_fp32_islands(
        chain(["conv", "norm", "conv"]), SPEC, calibration.draw_samples(SPEC, 8), 36.0
    )
    assert re.fullmatch(
        r"adds up squares: \d+(\.\d+)? on the samples", notes["kept in float32"]["n_instancenormalization1"]
    )
    assert notes["kept whatever they reach there"].endswith("larger pictures reach more")


def test_arithmetic_on_sizes_is_exact() -> None:
    made = Chain()
    made.add("conv")
    features = made.last
    made.add_op("Cast", made.add_op("Shape"), to=TensorProto.FLOAT)
    made.with_constant("Mul", 1.0)
    made.add_op("Reshape", features, made.add_op("Cast", to=TensorProto.INT64))
    found = by_rule(made.model())
    assert found == dict.fromkeys(["n_cast2", "n_mul3", "n_cast4"], "computes with sizes")


def test_what_is_between_islands_joins_them() -> None:
    made = Chain()
    made.add("norm")
    made.add("scale")
    made.add("relu")
    made.add("norm")
    made.add("conv")
    made.add("norm")
    model = fp16.prepare_graph(made.model())
    kept = set(fp32_islands.find_islands_by_rule(model, UNMEASURED))
    assert fp16.extend_islands(model, kept) - kept == {"n_mul1", "n_leakyrelu2", "n_image"}  # and not the convolution
    assert fp16.extend_islands(model, kept, moving_alone=True) - kept == {"n_image"}


def test_sums_and_peaks_are_those_of_the_samples() -> None:
    from ganrt.export.precision import calibration

    model = fp16.prepare_graph(chain(["norm", "pixel"]))
    found = measure_magnitudes(model, calibration.draw_samples(SPEC, 6))
    z = np.concatenate([rows["z"] for rows in calibration.draw_samples(SPEC, 6).given])
    assert found.tensors["z"] == pytest.approx(np.abs(z).max())
    assert found.sums["n_instancenormalization0"] == pytest.approx(np.square(z).sum((2, 3)).max(), rel=1e-5)
    assert found.sums["n_reducemean2"] == pytest.approx(found.tensors["reducemean2"] * 4, rel=1e-5)
    assert set(found.sums) == {"n_instancenormalization0", "n_reducemean2"}


def test_what_the_picture_cannot_do_without_is_found() -> None:
    """Adding 1000 rounds to halves in float16; taking it away again shows that."""
    made = Chain()
    made.add("conv")
    made.with_constant("Add", 1000.0)
    made.with_constant("Sub", 1000.0)
    made.add("conv")
    _, notes, *_ = fp32_islands.convert_with_fp32_islands(made.model(), SPEC, calibration.draw_samples(SPEC, 8), 36.0)
    assert list(notes["kept in float32"]) == ["n_add1", "n_sub2"] and notes["worst PSNR there"] >= 45
    assert notes["kept in float32"]["n_add1"].endswith("% of the error allowed with it in float16")


@given(errors=st.lists(st.floats(0.0, 1.0) | st.just(np.inf), min_size=1, max_size=80), allowed=st.floats(0.01, 1.0))
def test_no_island_is_there_in_vain(errors: list[float], allowed: float) -> None:
    """More layers than are judged one by one, and some whose picture is not finite."""
    names = [str(k) for k in range(len(errors))]

    def error(lowered: Collection[str]) -> float:
        return float(np.sum([errors[int(name)] for name in lowered]))

    found, _ = choose_kept_layers(names, error, allowed)
    kept = release_layers(names, found, error, allowed)
    left = [name for name in names if name not in kept]
    assert set(kept) <= set(found) and error(left) <= allowed
    assert all(error([*left, name]) > allowed for name in kept)


def test_a_float_constant_and_a_filled_tensor_take_the_type_of_their_users() -> None:
    made = Chain()
    made.add_op(
        "ConstantOfShape", made.add_op("Shape", "z"), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5])
    )
    made.add_op("Add", "z", made.last)
    constant = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.FLOAT, [], [0.25]))
    made.nodes.append(constant)
    made.add_op("Mul", made.last, "c")
    product = made.last
    made.add_op("Add", made.add_op("Cast", made.add_op("Greater", product, "c"), to=TensorProto.FLOAT), product)
    model, z = made.model(), latents()
    made_half = lowered(model, set())
    assert [node.op_type for node in made_half.graph].count("Cast") == 3  # the edges, and the one that was there
    np.testing.assert_allclose(reference(made_half, z), reference(model, z), rtol=0, atol=2e-3)
    np.testing.assert_array_equal(Evaluator(made_half)({"z": z})[0], reference(made_half, z))


def test_what_cannot_be_converted() -> None:
    with pytest.raises(VerificationError, match="no operator of this model can take it at 150 dB"):
        fp32_islands.convert_with_fp32_islands(chain(["conv", "relu"]), SPEC, calibration.draw_samples(SPEC, 8), 150.0)
    unknown = Chain()
    unknown.add_op("Magic", domain="elsewhere")
    with pytest.raises(VerificationError, match=r"the type of magic0, made by Magic n_magic0, is not known"):
        fp16.prepare_graph(unknown.model())
    branch = helper.make_graph(
        [helper.make_node("Identity", ["z"], ["out"])],
        "b",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    forked = Chain()
    forked.add_op("If", forked.weight(np.array(True)), then_branch=branch, else_branch=branch)
    with pytest.raises(VerificationError, match=r"this graph has control flow \(If n_if0\)"):
        fp16.prepare_graph(forked.model())


def test_a_conversion_that_mixes_types_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp16, "_is_weight", lambda _: True)
    monkeypatch.setattr(fp16._Casts, "_convert_weight", lambda _, value: value)
    with pytest.raises(VerificationError, match="not valid ONNX; please report this"):
        fp16.convert_nodes(fp16.prepare_graph(chain(["conv"])), set())


@pytest.mark.parametrize(
    ("value", "text"), [(7.5, "7.5"), (364.4, "364"), (1000.0, "1e3"), (3.2e5, "3.2e5"), (1e-8, "1e-8"), (2e12, "2e12")]
)
def test_figures_in_words(value: float, text: str) -> None:
    assert fp32_islands.format_figure(value) == text


@pytest.fixture(scope="module")
def made(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    source = bundles["dcgan"].folder / Bundle.WEIGHTS
    return export(str(source), tmp_path_factory.mktemp("half") / "x.ganrt", precisions=("fp16",))


def test_an_export_in_fp16_is_proven_and_loads(made: Bundle) -> None:
    variant = made.variants["fp16-phases"]
    assert variant.passes[-1] == "fp16" and variant.notes["worst PSNR there"] >= fp32_islands.QUALITY
    assert [proof.backend for proof in variant.proofs] == ["onnxruntime"] and variant.proofs[0].passed
    assert variant.proofs[0].details["float16"] == "spelled out in float32"
    assert made.onnx("fp16-phases").stat().st_size < 0.75 * made.onnx("fp32-phases").stat().st_size
    with ganrt.load(made.folder, precision="fp16") as low, ganrt.load(made.folder) as high:
        assert (low.session.backend, low.session.precision) == ("onnxruntime", "fp16")
        assert np.abs(low.sample(4, seed=1).astype(int) - high.sample(4, seed=1)).max() <= 2


def test_the_cpu_provider_is_not_believed_about_fp16(made: Bundle) -> None:
    """What the session makes is what float16 rounds to, not what float32 would have been."""
    z = {"z": np.random.default_rng(5).normal(size=(2, 8)).astype(np.float32)}
    with ganrt.load(made.folder, variant="fp16-phases") as generator:
        found = generator(**z)
    path = made.onnx("fp16-phases")
    evaluator: Any = ReferenceEvaluator(str(path))
    wanted = evaluator.run(None, z)[0]
    by_itself = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, z)[0]
    assert np.array_equal(found, found.astype(np.float16)) and not np.array_equal(by_itself, found)
    np.testing.assert_allclose(found, wanted, atol=5e-3)


def test_verify_finds_an_overflow_that_nobody_foresaw(made: Bundle, tmp_path: Path) -> None:
    """The graph in float32 makes the right pictures; in float16 what is in front of its last operator is infinite."""
    model = ir.load(made.onnx("fp32"))
    last = next(node for node in model.graph if node.op_type == "Tanh")
    patch = Patch(last)
    for factor in (1e6, 1e-6):
        made_larger = patch.add_op("Mul", [last.inputs[0], patch.add_constant(np.array(factor, np.float32), "factor")])
        last.replace_input_with(0, made_larger)
    graphs = {"fp32": model, "fp16": lowered(model, set())}
    for name, graph in graphs.items():
        ir.save(graph, tmp_path / f"{name}.onnx")
    variants = {name: Variant(f"{name}.onnx", 20, name) for name in graphs}
    golden = made.read_golden()
    assert golden is not None
    proofs = {}
    for name in graphs:
        whole = replace(made, store=FolderStore(tmp_path), variants=variants, files={}).with_files(f"{name}.onnx")
        with open_session(whole, SessionConfig("onnxruntime", name, "cpu")) as session:
            proofs[name] = prove(session, made.spec, golden, "key").proof
    assert proofs["fp32"].passed
    assert "saturated where the original is not" in proofs["fp16"].failures[0]


@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_without_onnx_fp16_on_the_cpu_says_what_it_is_for(
    made: Bundle, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setitem(sys.modules, "ganrt.fp16_emulation", None)
    monkeypatch.setitem(sys.modules, "onnx.reference", None)  # of the backend `reference`
    monkeypatch.delitem(sys.modules, "ganrt.backends.reference", raising=False)
    with pytest.raises(MachineError, match="which is made for GPUs: use fp32 or int8 on this machine") as found:
        ganrt.load(made.folder, backend, device="cpu", precision="fp16")
    assert "ganrt[" not in str(found.value) and "pip install onnx" in str(found.value)


def test_a_damaged_graph_is_the_bundles_fault(made: Bundle, tmp_path: Path) -> None:
    (tmp_path / "model.fp16-phases.onnx").write_bytes(b"\x00damaged")
    with pytest.raises(BundleError, match="onnxruntime cannot load"):
        open_session(
            replace(made, store=FolderStore(tmp_path)).with_files("model.fp16-phases.onnx"),
            SessionConfig("onnxruntime", "fp16-phases"),
        )
