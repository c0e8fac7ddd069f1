"""Building engines with each version of TensorRT, its errors, and when an engine is built at all; on a strict fake of
the library."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from click.testing import CliRunner
from fakes.gpu import FakeMachine, Start, start
from helpers.fp16_graphs import SPEC, chain

from ganrt.bundle import Bundle, Variant
from ganrt.cli.main import main
from ganrt.errors import EngineError, MachineError, RequestError
from ganrt.export.precision import fp16, fp32_islands, int8
from ganrt.export.precision.calibration import draw_samples, measure_ranges
from ganrt.gpu import engine_cache
from ganrt.spec import Image, Output, Spec
from ganrt.stores import FileDigest, FolderStore

__all__ = ["start"]
VERSIONS = ["8.6.0", "10.13.3", "10.16.1", "11.4.0"]


def make_bundle(model: ir.Model, folder: Path, precision: str = "fp32", spec: Spec = SPEC) -> Bundle:
    """Make a bundle of one graph with all that a build reads."""
    ir.save(model, folder / "model.onnx")
    files = {"model.onnx": FileDigest.of(folder / "model.onnx")}
    return Bundle(FolderStore(folder), spec, {precision: Variant("model.onnx", 20, precision)}, files)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Precision -> a convolution, a norm and another convolution."""
    model = chain(["conv", "norm", "relu", "conv"])
    named, given = fp16.prepare_graph(model), draw_samples(SPEC, 4)
    names = [layer.name for layer in int8.find_layers(model)]
    graphs = {
        "fp32": model,
        "fp16": fp32_islands.convert_with_fp32_islands(named, SPEC, given, 40.0)[0],
        "int8": int8.quantize(model, measure_ranges(model, names, given), names),
    }
    return {p: make_bundle(graph, tmp_path_factory.mktemp(p), p) for p, graph in graphs.items()}


def build(machine: FakeMachine, bundle: Bundle, **options: Any) -> engine_cache.Engine:
    options.setdefault("batches", (1, 4))
    made: engine_cache.Engine = machine.engines.build(
        bundle, variant=next(iter(bundle.variants)), options=machine.engines.EngineOptions(**options)
    )
    return made


def read_header(engine: engine_cache.Engine) -> dict[str, Any]:
    return json.loads(engine_cache.read_plan(engine).removeprefix(b"fake plan ").partition(b"\n")[0])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_computes_in_the_precision_of_its_variant(
    start: Start, version: str, precision: str, small: dict[str, Bundle]
) -> None:
    machine = start(version)
    engine = build(machine, small[precision])
    assert engine.notes["computed in"] == {precision: 1.0}
    flags = set(read_header(engine)["flags"])
    weak = {"fp16": {"FP16", "OBEY_PRECISION_CONSTRAINTS"}, "int8": {"INT8"}, "fp32": set()}[precision]
    assert flags == (weak if version == "8.6.0" else set())  # TF32 is off; typed networks have no precision flags


def test_before_10_norms_are_pinned_to_float32(start: Start, small: dict[str, Bundle]) -> None:
    machine = start("8.6.0")
    layers = read_header(build(machine, small["fp16"]))["layers"]
    types = {layer["op"]: layer["type"] for layer in layers}
    assert types["InstanceNormalization"] == "FLOAT" and types["Conv"] == "HALF"
    assert any("instancenormalization" in name for name in machine.trt.pinned)
    assert not any("_conv" in name for name in machine.trt.pinned)


def test_each_batch_size_has_a_profile_or_all_share_one(start: Start, small: dict[str, Bundle]) -> None:
    machine = start()
    each = read_header(build(machine, small["fp32"], batches=(1, 8)))["profiles"]
    assert each == [{"z": [[1, 4, 6, 6]] * 3}, {"z": [[8, 4, 6, 6]] * 3}]
    one = read_header(build(machine, small["fp32"], batches=(1, 8), ranged=True))["profiles"]
    assert one == [{"z": [[1, 4, 6, 6], [8, 4, 6, 6], [8, 4, 6, 6]]}]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_options_reach_the_builder(start: Start, version: str, small: dict[str, Bundle]) -> None:
    machine = start(version)
    build(
        machine,
        small["fp32"],
        optimization_level=5,
        workspace_mib=64,
        version_compatible=True,
        hardware_compatible="ampere-plus",
    )
    config = machine.trt.configs[-1]
    level = machine.trt.module.HardwareCompatibilityLevel
    assert config.builder_optimization_level == 5 and config.max_aux_streams == 0
    assert config.hardware_compatibility_level is level.AMPERE_PLUS
    assert config._limits == {"WORKSPACE": 64 << 20}
    assert config._sources == {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"}
    assert {flag.name for flag in config._flags} == {"VERSION_COMPATIBLE"}


def test_the_error_of_a_graph_that_cannot_be_parsed_names_the_nodes(start: Start, small: dict[str, Bundle]) -> None:
    for version, where in (("8.6.0", "at 'n_leakyrelu"), ("11.4.0", "at LeakyRelu 'n_leakyrelu")):
        machine = start(version)
        machine.trt.unsupported.add("LeakyRelu")
        said = rf"cannot parse the graph: {where}.*': UNSUPPORTED_NODE: no importer"
        with pytest.raises(EngineError, match=said):
            build(machine, small["fp32"])


def test_the_error_of_a_failed_build_quotes_the_builder(start: Start, small: dict[str, Bundle]) -> None:
    machine = start()
    machine.trt.build_errors = [
        "Error Code 10: Could not find any implementation",
        "for node conv_7",
        "for node conv_7",
    ]
    with pytest.raises(EngineError, match=r"built no engine: Error Code 10: Could not find .*; for node conv_7$"):
        build(machine, small["fp32"])
    machine.trt.build_errors = []
    assert build(machine, small["fp32"])


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_engine_that_silently_runs_in_float32_is_an_error(
    start: Start, precision: str, small: dict[str, Bundle]
) -> None:
    machine = start()
    machine.trt.silently_float32 = True
    with pytest.raises(EngineError, match=f"was to compute in {precision}, but .* run in fp32 100%; use another"):
        build(machine, small[precision])
    assert list(engine_cache.iterate_engines()) == []


def test_an_engine_is_built_once_and_again_when_anything_it_depends_on_changes(
    start: Start, small: dict[str, Bundle]
) -> None:
    machine = start()
    first = build(machine, small["fp32"])
    assert build(machine, small["fp32"]) == first and machine.trt.builds == 1
    build(machine, small["fp32"], optimization_level=2)
    build(machine, small["fp16"])
    assert machine.trt.builds == 3
    machine.engines.build(
        small["fp32"], variant="fp32", options=machine.engines.EngineOptions(batches=(1, 4)), rebuild=True
    )
    assert machine.trt.builds == 4
    newer = start("11.4.0")
    build(newer, small["fp32"])
    assert newer.trt.builds == 1


def test_every_option_is_in_the_key_by_its_name(start: Start, small: dict[str, Bundle]) -> None:
    machine = start()
    engine = build(machine, small["fp32"])
    names = {field.name for field in dataclasses.fields(machine.engines.EngineOptions)}
    assert set(engine.key.options) == names | {"precision", "revision"}


def test_a_build_reuses_the_timings_of_earlier_ones(start: Start, small: dict[str, Bundle]) -> None:
    machine = start()
    build(machine, small["fp32"])
    (file,) = engine_cache.ensure_folder().glob("timings-*.cache")
    assert file.read_bytes() == b"timings of 10.16.1.11"
    build(machine, small["fp16"])
    assert machine.trt.configs[-1]._timings._content == file.read_bytes()
    file.write_bytes(b"damaged")
    build(machine, small["int8"])
    assert machine.trt.configs[-1]._timings._content == b"" and file.read_bytes() == b"timings of 10.16.1.11"


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize("version", VERSIONS[1:])
def test_one_engine_serves_many_checkpoints(start: Start, version: str, stripped: bool, tmp_path: Path) -> None:
    machine = start(version)
    bundles = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        bundles.append(make_bundle(chain(["conv", "norm", "conv"], seed), tmp_path / str(seed)))
    first, second = (build(machine, bundle, refittable=True, stripped=stripped) for bundle in bundles)
    assert machine.trt.builds == 1
    assert second.notes["refitted"] is True and second.key.graph == bundles[1].digest("fp32")
    assert engine_cache.read_plan(first) != engine_cache.read_plan(second)
    again = machine.engines.EngineOptions(batches=(1, 4), refittable=True, stripped=stripped)
    assert "refitted" not in machine.engines.build(bundles[1], variant="fp32", options=again, rebuild=True).notes
    assert machine.trt.builds == 2
    (tmp_path / "other").mkdir()
    other = make_bundle(chain(["conv", "relu"]), tmp_path / "other")
    assert "refitted" not in build(machine, other, refittable=True, stripped=stripped).notes


def test_weights_of_another_architecture_are_rejected(start: Start, small: dict[str, Bundle], tmp_path: Path) -> None:
    machine = start()
    plan = engine_cache.read_plan(build(machine, small["fp32"], refittable=True))
    ir.save(chain(["relu", "conv"]), tmp_path / "other.onnx")
    with pytest.raises(EngineError, match=r"does not take these weights: at LeakyRelu 'n_leakyrelu0': UNSUPPORTED"):
        library = machine.modules["ganrt.gpu.nvinfer"].load_tensorrt()
        machine.modules["ganrt.export.engines.builder"].refit_engine(library, plan, tmp_path / "other.onnx", False)


@pytest.mark.parametrize(
    ("version", "options", "error", "message"),
    [
        ("8.6.0", {"refittable": True}, RequestError, "8.6.0 cannot refit from an ONNX file; that needs 10.0"),
        (
            "8.6.0",
            {"hardware_compatible": "same-capability"},
            RequestError,
            "builds no same-capability engines; they need 10.10",
        ),
        ("10.16.1", {"batches": ()}, RequestError, r"batches are \(\); name whole numbers from 1, ascending"),
        ("10.16.1", {"batches": (4, 1)}, RequestError, r"batches are \(4, 1\); name whole numbers"),
        ("10.16.1", {"hardware_compatible": "all"}, RequestError, "choose one of none, same-capability, ampere-plus"),
        ("10.16.1", {"optimization_level": 6}, RequestError, "the optimization level is 6; it must be .* from 0 to 5"),
        (
            "10.16.1",
            {"workspace_mib": -1},
            RequestError,
            "the workspace in MiB is -1; it must be",
        ),
        ("10.16.1", {"batches": (0, 1)}, RequestError, "a batch size is 0; it must be a whole number from 1"),
        ("10.16.1", {"batches": (True, 4)}, RequestError, "a batch size is True; it must be a whole number from 1"),
        ("10.16.1", {"stripped": True}, RequestError, "a stripped engine is only good for refitting: ask for both"),
    ],
)
def test_invalid_options(
    start: Start, version: str, options: dict[str, Any], error: type[Exception], message: str, small: dict[str, Bundle]
) -> None:
    machine = start(version)
    with pytest.raises(error, match=message):
        build(machine, small["fp32"], **options)


def test_a_model_that_takes_any_size_needs_one(start: Start, tmp_path: Path) -> None:
    machine = start()
    model = chain(["conv", "relu"])
    model.graph.inputs[0].shape = ir.Shape(["n", 4, "h", "w"])
    spec = Spec("any", (Image("z", "content", 3, (0.0, 1.0)),), Output(3, (0.0, 1.0), None, 1))
    bundle = make_bundle(model, tmp_path, spec=spec)
    with pytest.raises(RequestError, match=r"z takes pictures of any size, and an engine is built for one: .* --size"):
        build(machine, bundle)
    profile = read_header(build(machine, bundle, size=(80, 60)))["profiles"][0]
    # The golden pictures are of 48 x 64, 113 x 71 and 37 x 101 pixels.
    assert profile == {"z": [[1, 4, 37, 60], [1, 4, 80, 60], [1, 4, 113, 101]]}


def test_without_a_gpu_the_builder_is_not_called(
    start: Start, small: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake crashes when TensorRT is called without a GPU, as 8.6 can."""
    from ganrt import machine as facts

    machine = start("8.6.0", count=0)
    with pytest.raises(MachineError, match="engines are built for an NVIDIA GPU; the CPU was asked for"):
        machine.engines.build(small["fp32"], variant="fp32", device="cpu")
    with pytest.raises(
        MachineError, match=r"cuda:3 was asked for, but the last GPU here is cuda:-1|CUDA does not start"
    ):
        machine.engines.build(small["fp32"], variant="fp32", device="cuda:3")
    monkeypatch.setattr(facts, "_NVIDIA_NODES", ())
    with pytest.raises(MachineError, match="machine has no NVIDIA GPU; tensorrt-rtx compiles them on any"):
        machine.engines.build(small["fp32"], variant="fp32")


def test_an_unsupported_precision(start: Start, small: dict[str, Bundle]) -> None:
    bundle = dataclasses.replace(small["fp32"], variants={"bf16": Variant("model.onnx", 20, "bf16")})
    with pytest.raises(RequestError, match="bf16 is bf16; engines are built of fp32, fp16, int8"):
        start().engines.build(bundle, variant="bf16")


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        (  # 8.6 and 10: format and type in one text
            [
                {
                    "LayerType": "CaskConvolution",
                    "Inputs": [{"Name": "half", "Format/Datatype": "Row major linear FP32"}],
                },
                {"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Channel major FP16 format"}]},
                {"LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
            ],
            {"fp32": 0.5, "fp16": 0.5},
        ),
        (  # 11: a key of its own
            [{"LayerType": "kgen", "Metadata": "[ONNX Layer: node_conv2d]", "Inputs": [{"Datatype": "Half"}]}],
            {"fp16": 1.0},
        ),
        (
            [
                {"LayerType": "gemm", "Inputs": [{"Format": "Int8", "Location": "Device"}, {"Datatype": "Float"}]},
                {"LayerType": "gemm", "Inputs": [{"Datatype": "Float"}]},
                {"LayerType": "gemm", "Inputs": [{"Datatype": "Float"}]},
            ],
            {"fp32": 0.6667, "int8": 0.3333},
        ),
        ([{"LayerType": "PointWise", "Inputs": [], "Outputs": [{"Datatype": "BFloat16"}]}], {"bf16": 1.0}),
    ],
)
def test_all_forms_of_the_inspectors_json_are_parsed(start: Start, layers: list[Any], found: dict[str, float]) -> None:
    inspection = start().modules["ganrt.export.engines.inspection"]
    assert inspection.parse_precision_shares(json.dumps({"Layers": layers})) == found


def test_an_engine_of_unknown_precision_is_an_error(start: Start) -> None:
    """Before 10.0 the types of a graph need not be those of the engine. Later they are, and TensorRT 11 may compile a
    whole network into one layer, of which the inspector reports a float32 input and nothing else."""
    inspection = start().modules["ganrt.export.engines.inspection"]
    whole = {"Name": "{ForeignNode[conv_1...conv_9]}", "LayerType": "Myelin", "Inputs": [{"Datatype": "Float"}]}
    for layers in (["conv_1 + relu_1", "conv_2"], [whole]):
        shares = inspection.parse_precision_shares(json.dumps({"Layers": layers}))
        assert shares == {}
        inspection.require_precision("fp16", shares, strongly_typed=True)
        with pytest.raises(EngineError, match="the engine inspector reports no precision of any layer"):
            inspection.require_precision("fp16", shares, strongly_typed=False)


def test_the_command_builds_and_proves(start: Start, bundle: Bundle) -> None:
    machine = start()
    arguments = ["build", str(bundle.folder), "--batch", "4", "--batch", "1", "--device", "cuda"]
    arguments += ["--optimization-level", "1"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("fp32 in fp32 100%, proven on NVIDIA Fake 100\n")
    assert "building an engine of fp32 for batches of 1, 4; this takes minutes" in done.stderr
    assert "is there already" in CliRunner().invoke(main, arguments).stderr and machine.trt.builds == 1
    assert CliRunner().invoke(main, [*arguments, "--rebuild"]).exit_code == 0 and machine.trt.builds == 2
    refused = CliRunner().invoke(main, ["build", str(bundle.folder), "--hardware", "all"])
    assert refused.exit_code == 2 and "choose one of none, same-capability, ampere-plus" in refused.stderr


def test_a_build_reports_its_progress(start: Start, small: dict[str, Bundle]) -> None:
    machine = start()
    shares: list[float] = []
    options = machine.engines.EngineOptions(batches=(1,))
    machine.engines.build(
        small["fp32"], variant="fp32", options=options, progress=lambda share, _: shares.append(share)
    )
    assert shares == [0.0, 0.25, 0.5, 1.0]


def test_a_command_that_names_tensorrt_builds_the_engine_that_is_missing(
    start: Start, bundle: Bundle, tmp_path: Path
) -> None:
    machine = start()
    arguments = ["sample", str(bundle.folder), "-n", "4", "--backend", "tensorrt", "--device", "cuda", "--out"]
    done = CliRunner().invoke(main, [*arguments, str(tmp_path / "a.png")])
    assert done.exit_code == 0 and machine.trt.builds == 1, done.output
    assert "no engine for TensorRT 10.16.1.11 on NVIDIA Fake 100 is in the cache" in done.stderr
    assert "building an engine of fp32 for batches of 1, 8, 32" in done.stderr
    assert CliRunner().invoke(main, [*arguments, str(tmp_path / "b.png")]).exit_code == 0 and machine.trt.builds == 1
    newer = start("11.4.0")
    assert CliRunner().invoke(main, [*arguments, str(tmp_path / "c.png")]).exit_code == 0 and newer.trt.builds == 1
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in "abc"}) == 1


def test_8_bits_between_float16_need_tensorrt_10(start: Start, small: dict[str, Bundle]) -> None:
    bundle = small["int8"]
    variants = {"int8-half-traced": dataclasses.replace(bundle.variants["int8"], for_gpu=True)}
    with pytest.raises(RequestError, match=r"8\.6\.0 takes no 8 bits between float16, as int8-half-traced has them"):
        build(start("8.6.0"), dataclasses.replace(bundle, variants=variants))
    assert build(start("10.16.1"), dataclasses.replace(bundle, variants=variants)).path.is_file()
