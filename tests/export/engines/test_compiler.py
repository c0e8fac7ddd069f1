"""The real compiler of TensorRT for RTX in its worker process: what it compiles, what it rejects, what crashes it, and
what export, verify and build make of it on a machine without a GPU."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner
from helpers.fp16_graphs import SPEC, Chain, chain
from onnx import TensorProto, helper, numpy_helper

from ganrt.bundle import Bundle, Variant
from ganrt.cli.main import main
from ganrt.errors import EngineError, MachineError, RequestError
from ganrt.export import verification
from ganrt.export.engines import ahead, compilation_trials, compiler
from ganrt.export.engines.ahead import CompilationTrial, try_compilation
from ganrt.export.engines.compilation_trials import CompilationTrials
from ganrt.export.engines.compiler import CompiledPlan, Compiler
from ganrt.export.engines.options import RtxEngineOptions
from ganrt.gpu import engine_cache
from ganrt.machine import has_nvidia_gpu
from ganrt.stores import FileDigest, FolderStore

WITHOUT_GPU = pytest.mark.skipif(has_nvidia_gpu(), reason="a machine with a GPU proves the engine")
ONE = RtxEngineOptions((1,), targets=("sm89",))


@pytest.fixture(scope="module")
def worker() -> Iterator[Compiler]:
    with Compiler() as opened:
        yield opened


@pytest.fixture
def copied(bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.read(shutil.copytree(bundle.folder, tmp_path / "copied.ganrt"))


def save(folder: Path, nodes: list[onnx.NodeProto], kind: int = TensorProto.FLOAT, **weights: np.ndarray) -> Path:
    """Save a graph from x (N, 4, 8, 8) to y."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", kind, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    file = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), file)
    return file


def make_bundle(model: ir.Model, folder: Path) -> Bundle:
    ir.save(model, folder / "model.onnx")
    files = {"model.onnx": FileDigest.of(folder / "model.onnx")}
    return Bundle(FolderStore(folder), SPEC, {"fp32": Variant("model.onnx", 20, "fp32")}, files)


def test_a_graph_that_crashes_the_compiler_is_an_error_and_the_next_one_is_compiled(
    worker: Compiler, tmp_path: Path
) -> None:
    """Attention whose three inputs are one tensor, in the release of 2026."""
    crashing = save(tmp_path, [helper.make_node("Attention", ["x", "x", "x"], ["y"], name="a")], TensorProto.FLOAT16)
    with pytest.raises(EngineError, match=r"the compiler of TensorRT for RTX crashed on this graph \(signal 11\)"):
        worker.compile(crashing, ONE)
    assert worker.compile(save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])]), ONE).plan


def test_what_the_parser_rejects_names_the_node(worker: Compiler, tmp_path: Path) -> None:
    file = save(tmp_path, [helper.make_node("Det", ["x"], ["y"], name="head/Det")])
    with pytest.raises(EngineError, match=r"TensorRT for RTX 1\.\S+ cannot parse the graph: at Det 'head/Det'"):
        worker.compile(file, ONE)


def test_pictures_of_any_size_need_one(worker: Compiler, tmp_path: Path) -> None:
    graph = onnx.load(save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])]))
    for axis in (2, 3):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    onnx.save(graph, tmp_path / "free.onnx")
    with pytest.raises(RequestError, match=r"x takes pictures of any size, .* give it with --size"):
        worker.compile(tmp_path / "free.onnx", ONE)
    assert worker.compile(tmp_path / "free.onnx", RtxEngineOptions((1, 2), (32, 48), ("sm86",)), [(16, 64)]).plan


def test_modules_of_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])])
    for name in ("json", "numpy", "runpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the current folder')")
    monkeypatch.chdir(tmp_path)
    with Compiler() as opened:
        assert opened.compile(file, ONE).plan


def test_an_interrupted_compilation_ends_the_worker(tmp_path: Path) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    file = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])])
    with Compiler() as opened:
        with pytest.raises(KeyboardInterrupt):
            opened.compile(file, ONE, progress=interrupt)
        assert opened._worker is None
        assert opened.compile(file, ONE).plan


def test_a_worker_that_was_killed_is_an_error(tmp_path: Path) -> None:
    with Compiler() as opened:
        opened._worker = compiler._start_worker()
        opened._worker.kill()
        opened._worker.wait()
        with pytest.raises(EngineError, match="signal 9"):
            opened.compile(tmp_path / "model.onnx", ONE)


def test_progress_is_reported(worker: Compiler, tmp_path: Path) -> None:
    shares: list[float] = []
    worker.compile(save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])]), ONE, progress=shares.append)
    assert shares and all(0 <= share <= 1 for share in shares)


def test_nothing_of_the_library_reaches_standard_output(tmp_path: Path) -> None:
    """Clip with a minimum alone makes it print a warning there, in fp16."""
    weights = {"low": np.array(0, np.float16)}
    file = save(tmp_path, [helper.make_node("Clip", ["x", "low"], ["y"])], TensorProto.FLOAT16, **weights)
    script = (
        "import sys; from pathlib import Path; from ganrt.export.engines import builder, Compiler, RtxEngineOptions\n"
        "from ganrt.gpu import load_tensorrt_rtx\n"
        "options = RtxEngineOptions((1,))\n"
        "print('before', flush=False)\n"
        "with Compiler() as compiler:\n"
        "    compiler.compile(Path(sys.argv[1]), options)\n"
        "builder.build_plan(load_tensorrt_rtx(), Path(sys.argv[1]), [], '', options, [])\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "before\nafter\n", done.stderr
    assert done.stderr.strip()  # else the library has stopped printing, and this test shows nothing


def test_turing_rejects_products_of_computed_matrices_with_advice(
    worker: Compiler, bundle: Bundle, tmp_path: Path
) -> None:
    """It has no float32 matrix product. Constant weights become convolutions."""
    options = RtxEngineOptions((1,), targets=("sm75",))
    assert ahead.compile_variant(worker, bundle, "fp32-phases", options).plan
    made = Chain()
    made.add_op("MatMul", made.last, made.add_op("Transpose", perm=[0, 1, 3, 2]))
    with pytest.raises(EngineError, match=r"FP32 GEMM is not supported.*\. Turing has no .*: use fp16"):
        ahead.compile_variant(worker, make_bundle(made.model(), tmp_path), "fp32", options)


@pytest.mark.usefixtures("rtx")
def test_all_usual_targets_take_a_variant(worker: Compiler, bundle: Bundle) -> None:
    trial = try_compilation(worker, bundle, "fp32")
    assert trial.targets == ("sm86", "sm89", "sm120") and trial.reasons == {}
    assert trial.compiler.startswith("TensorRT for RTX 1.")


class PickyCompiler(Compiler):
    """Rejects sm86."""

    def __init__(self) -> None:
        self.tried: list[tuple[str, ...]] = []

    def compile(self, file: Path, options: RtxEngineOptions, *_: object) -> CompiledPlan:
        self.tried.append(options.targets)
        if "sm86" in options.targets:
            raise EngineError("no sm86")
        return CompiledPlan(b"plan", "")


@pytest.mark.usefixtures("rtx")
def test_if_one_target_is_rejected_each_is_tried_alone(bundle: Bundle) -> None:
    picky = PickyCompiler()
    trial = try_compilation(picky, bundle, "fp32")
    assert picky.tried == [("sm86", "sm89", "sm120"), ("sm86",), ("sm89",), ("sm120",)]
    assert trial.targets == ("sm89", "sm120") and trial.reasons == {"sm86": "no sm86"}
    text = verification._describe_trial(bundle, "fp32", trial)
    assert text.endswith("takes it for sm89, sm120; rejects it for sm86: no sm86")


@pytest.mark.usefixtures("rtx")
def test_fp8_is_tried_for_ada_and_later(bundle: Bundle) -> None:
    fp8 = Bundle(bundle.store, bundle.spec, {"fp8": Variant("model.onnx", 20, "fp8")}, bundle.files)
    picky = PickyCompiler()
    assert try_compilation(picky, fp8, "fp8").targets == ("sm89", "sm120")
    assert picky.tried == [("sm89", "sm120")]


@pytest.mark.usefixtures("rtx")
def test_verify_notes_what_the_compiler_takes(copied: Bundle) -> None:
    lines: list[str] = []
    found = verification.verify(copied, backends="onnxruntime", progress=lines.append)
    assert found.passed and "compiling fp32-phases for RTX GPUs" in lines
    notes = Bundle.read(copied.folder).variants["fp32-phases"].notes
    assert notes["NVIDIA's compiler"].endswith("takes it for sm86, sm89, sm120")
    assert "NVIDIA's compiler: TensorRT for RTX 1." in CliRunner().invoke(main, ["info", str(copied.folder)]).stdout


@pytest.mark.usefixtures("rtx")
def test_a_rejection_names_the_module(tmp_path: Path) -> None:
    model = chain(["conv"])
    node = next(node for node in model.graph if node.op_type == "Conv")
    node.name = "blocks.0.conv/Conv"
    determinant = ir.node("Det", [node.outputs[0]], name="blocks.1/Det")
    model.graph.append(determinant)
    determinant.outputs[0].name = "unused"
    determinant.outputs[0].dtype = ir.DataType.FLOAT
    bundle = make_bundle(model, tmp_path)
    with Compiler() as opened:
        trial = try_compilation(opened, bundle, "fp32")
    assert trial.targets == () and set(trial.reasons) == {"sm86", "sm89", "sm120"}
    text = verification._describe_trial(bundle, "fp32", trial)
    assert "rejects it for sm86, sm89, sm120: cannot parse the graph: at Det 'blocks.1/Det'" in text


def test_an_exception_beside_the_compiler_ends_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, rtx: None) -> None:
    working = threading.Event()

    def compile_forever(opened: Compiler, bundle: Bundle, variant: str) -> CompilationTrial:
        while True:
            try:
                opened.compile(bundle.onnx(variant), ONE)
            finally:
                working.set()

    monkeypatch.setattr(compilation_trials, "try_compilation", compile_forever)
    with pytest.raises(KeyboardInterrupt), CompilationTrials(bundle) as compilation:
        assert working.wait(60)
        raise KeyboardInterrupt
    first, *others = compilation.trials.values()
    assert isinstance(first.exception(), MachineError) and "was stopped" in str(first.exception())
    assert all(other.cancelled() for other in others)


def test_without_the_compiler_verify_notes_nothing(copied: Bundle) -> None:
    """Other tests do not see it; see conftest.py."""
    assert not ahead.has_compiler()
    verification.verify(copied, backends="onnxruntime")
    assert "NVIDIA's compiler" not in Bundle.read(copied.folder).variants["fp32"].notes


def test_a_compiler_that_does_not_start_is_reported_and_skipped(
    copied: Bundle, monkeypatch: pytest.MonkeyPatch, rtx: None
) -> None:
    monkeypatch.setattr(compiler, "_WORKER", "helpers.broken_compile_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    lines: list[str] = []
    assert verification.verify(copied, backends="onnxruntime", progress=lines.append).passed
    assert "skipped: TensorRT for RTX cannot be imported: libcudart is missing" in lines


@pytest.mark.parametrize("damage", ["no graph", "another output"])
def test_a_graph_that_cannot_be_compiled_does_not_end_verify(copied: Bundle, damage: str, rtx: None) -> None:
    file = copied.onnx("fp32-phases")
    graph = onnx.load(file)
    graph.graph.output[0].name = graph.graph.node[-1].output[0] = "other"
    file.write_bytes(b"no graph" if damage == "no graph" else graph.SerializeToString())
    replace(copied, files={**copied.files, file.name: FileDigest.of(file)}).write_manifest()
    lines: list[str] = []
    found = verification.verify(copied.folder, backends="onnxruntime", progress=lines.append)
    assert len(found.failures) == 1 and "compiling fp32 for RTX GPUs" in lines
    assert any(line.startswith(f"skipped: {file} ") for line in lines)
    assert "NVIDIA's compiler" in Bundle.read(copied.folder).variants["fp32"].notes


@pytest.mark.parametrize("kind", ["ImportError", "OSError"])
def test_a_broken_library_is_reported(
    copied: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rtx: None, kind: str
) -> None:
    (tmp_path / "tensorrt_rtx.py").write_text(f"raise {kind}('libtensorrt_rtx.so.1 is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    ahead.load_tensorrt_rtx.cache_clear()
    lines: list[str] = []
    assert verification.verify(copied, backends="onnxruntime", progress=lines.append).passed
    text = "TensorRT for RTX is installed but broken (libtensorrt_rtx.so.1 is missing): install it again"
    assert f"skipped: {text}" in lines
    done = CliRunner().invoke(main, ["build", str(copied.folder), "--backend", "tensorrt-rtx"])
    assert done.exit_code == MachineError.exit_code and text in done.stderr


@pytest.mark.parametrize("out", [".", "file/x.plan"])
def test_a_copy_that_cannot_be_written_is_an_error_before_the_build(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["build", str(bundle.folder), "--backend", "tensorrt-rtx", "--out", out])
    assert done.exit_code in (RequestError.exit_code, MachineError.exit_code)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_building_without_it_names_the_extra(bundle: Bundle) -> None:
    ahead.load_tensorrt_rtx.cache_clear()
    done = CliRunner().invoke(main, ["build", str(bundle.folder), "--backend", "tensorrt-rtx"])
    assert done.exit_code == MachineError.exit_code
    assert 'compiling for RTX GPUs needs tensorrt_rtx, which is not installed: pip install "ganrt[tensorrt-rtx]"' in (
        done.stderr
    )


@WITHOUT_GPU
@pytest.mark.usefixtures("rtx")
def test_the_command_compiles_on_a_machine_without_a_gpu(bundle: Bundle, tmp_path: Path) -> None:
    arguments = ["build", str(bundle.folder), "--backend", "tensorrt-rtx", "--target", "sm89", "--batch", "1"]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "x.plan")])
    assert done.exit_code == 0, done.output
    assert "fp32 for sm89, in fp32 100%; built, not proven: the first load on such a GPU proves it" in done.stdout
    sidecar = json.loads((tmp_path / "x.plan.json").read_text())
    plan = (tmp_path / "x.plan").read_bytes()
    assert sidecar["sha256"] in done.stdout and sidecar["key"]["options"]["targets"] == ["sm89"]
    assert engine_cache.read_verified(tmp_path / "x.plan", sidecar["sha256"]) == plan
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0 and "is there already" in again.stderr
    loading = ["sample", str(bundle.folder), "--backend", "tensorrt-rtx", "--out", str(tmp_path / "a.png")]
    failed = CliRunner().invoke(main, loading)
    assert failed.exit_code == 3 and failed.stderr.count("\n") == 1
    assert "the tensorrt-rtx backend needs an NVIDIA GPU, and this machine has none" in failed.stderr


def test_fp8_is_for_ada_and_later(worker: Compiler, bundle: Bundle) -> None:
    fp8 = Bundle(bundle.store, bundle.spec, {"fp8": Variant("model.onnx", 20, "fp8")}, bundle.files)
    with pytest.raises(RequestError, match="sm86 does not compute in fp8; name some of sm89, sm120, sm121"):
        ahead.compile_variant(worker, fp8, "fp8", RtxEngineOptions())


def test_turing_computes_no_int8(worker: Compiler, bundle: Bundle) -> None:
    int8 = Bundle(bundle.store, bundle.spec, {"int8": Variant("model.onnx", 20, "int8")}, bundle.files)
    with pytest.raises(RequestError, match=r"with sm75 among its targets, an engine .* computes int8 in float"):
        ahead.compile_variant(worker, int8, "int8", RtxEngineOptions(targets=("sm75", "sm89")))


def test_bf16_is_not_compiled(worker: Compiler, bundle: Bundle) -> None:
    bf16 = Bundle(bundle.store, bundle.spec, {"bf16": Variant("model.onnx", 20, "bf16")}, bundle.files)
    with pytest.raises(RequestError, match="bf16 is bf16; engines are built of fp32, fp16, int8, fp8"):
        ahead.compile_variant(worker, bf16, "bf16", ONE)


class FussyCompiler(Compiler):
    """Compiles for one target at a time."""

    def compile(self, file: Path, options: RtxEngineOptions, *_: object) -> CompiledPlan:
        if len(options.targets) > 1:
            raise EngineError("too many targets")
        return CompiledPlan(b"plan", "")


@pytest.mark.usefixtures("rtx")
def test_what_fails_for_all_targets_together_only_is_noted(bundle: Bundle) -> None:
    trial = try_compilation(FussyCompiler(), bundle, "fp32")
    assert trial.targets == ("sm86", "sm89", "sm120")
    text = verification._describe_trial(bundle, "fp32", trial)
    assert text.endswith("takes it for sm86, sm89, sm120; rejects it for all of them together: too many targets")


def test_a_worker_that_fails_by_itself_is_no_crash_of_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_WORKER", "helpers.no_such_worker")
    file = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])])
    with (
        Compiler() as opened,
        pytest.raises(EngineError, match="process of the compiler ended with exit code 1; what it printed says"),
    ):
        opened.compile(file, ONE)
