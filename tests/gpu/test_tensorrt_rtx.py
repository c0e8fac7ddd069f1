"""What the session of TensorRT for RTX does beside that of TensorRT, on strict fakes: kernels that are compiled on the
device and kept, captures that are refused, and engines for named GPUs."""

import gc
import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fakes.gpu import FakeMachine, Start, start
from gpu.test_tensorrt_pictures import make_darkening_bundle

import ganrt
from ganrt import machine as facts
from ganrt import tuned
from ganrt.backend import Session
from ganrt.bundle import Bundle
from ganrt.cli import engines
from ganrt.cli.engines import compile_rtx_engines
from ganrt.cli.main import main
from ganrt.errors import ArtifactError, BackendError, EngineError, MissingLibraryError, NoEngineError, RequestError
from ganrt.feeds import draw_feeds
from ganrt.golden import proof_picture_size
from ganrt.gpu import engine_cache
from ganrt.session_config import SessionConfig
from ganrt.tuned import Timing, Tuned, TunedConfig

__all__ = ["start"]
pytestmark = pytest.mark.parametrize("start", ["rtx-1.7.1"], indirect=True)


def build_engine(machine: FakeMachine, bundle: Bundle, *targets: str, **options: Any) -> engine_cache.Engine:
    options = {"batches": (1, 2), "targets": targets or ("sm86", "sm89"), **options}
    made: engine_cache.Engine = machine.engines.build(
        bundle, variant="fp32", options=machine.engines.RtxEngineOptions(**options)
    )
    return made


def open_rtx_session(machine: FakeMachine, bundle: Bundle, **options: Any) -> Session:
    session: Session = machine.backend.open(bundle, "fp32", "cuda", **options)
    return session


def run_batches(session: Session, bundle: Bundle, count: int = 1) -> np.ndarray:
    given = draw_feeds(bundle.spec, 5, 0, 2)
    made = [session.submit(given).wait() for _ in range(count)]
    return made[-1][bundle.spec.output.name]


def test_kernels_are_compiled_once_for_a_plan_a_gpu_and_a_driver(
    start: Start, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = start()
    build_engine(machine, bundle)
    written = set()
    for _ in range(2):
        with open_rtx_session(machine, bundle) as session:
            right = run_batches(session, bundle)
        (file,) = engine_cache.ensure_folder("tensorrt-rtx").glob("*.kernels")
        written.add(file.stat().st_ino)
    assert len(machine.trt.compiled) == 1 and len(written) == 1
    monkeypatch.setattr(machine.modules["ganrt.gpu.nvinfer"], "nvidia_details", lambda: {"driver": "999.1"})
    with open_rtx_session(machine, bundle) as session:
        assert np.array_equal(run_batches(session, bundle), right)
    assert len(machine.trt.compiled) == 2


def test_kernels_of_free_picture_sizes_are_compiled_at_the_first_batch_and_kept(start: Start, tmp_path: Path) -> None:
    machine, bundle = start(), make_darkening_bundle(tmp_path)
    options = machine.make_options((1,), size=(80, 60))
    machine.engines.build(bundle, variant="fp32", options=options)
    for _ in range(2):
        with machine.backend.open(bundle, "fp32", "cuda") as session:
            for sides in [(48, 64), (80, 60)]:
                session.submit({"x": np.zeros((1, 3, *sides), np.float32)}).wait()
    assert len(machine.trt.compiled) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "replaced", "unreadable"])
def test_damaged_kernels_are_compiled_again(
    start: Start, bundle: Bundle, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    machine = start()
    build_engine(machine, bundle)
    with open_rtx_session(machine, bundle) as session:
        right = run_batches(session, bundle)
    (file,) = engine_cache.ensure_folder("tensorrt-rtx").glob("*.kernels")
    content = file.read_bytes()
    if damage == "unreadable":
        file.unlink()
        file.mkdir()
    else:
        foreign = b"something else"
        digest = hashlib.sha256(foreign).digest()
        damaged = {"cut": content[:-1], "changed": content[:-1] + b"?", "replaced": digest + foreign}
        file.write_bytes(damaged[damage])
    with open_rtx_session(machine, bundle) as session:
        assert np.array_equal(run_batches(session, bundle), right)
    assert len(machine.trt.compiled) == 2 and "again" in caplog.text
    if damage != "unreadable":
        assert file.read_bytes() == content


def test_a_session_that_is_not_closed_frees_contexts_before_the_runtime_cache(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle)
    session: Any = open_rtx_session(machine, bundle)
    run_batches(session, bundle)
    session.itself = session
    del session
    gc.collect()


def test_a_cache_that_is_rejected_is_an_error(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle)
    machine.trt.rejects_runtime_cache = True
    with pytest.raises(BackendError, match=r"TensorRT for RTX 1\.7\.1\.116 rejects its runtime cache"):
        open_rtx_session(machine, bundle)


def test_work_that_cannot_be_captured_is_launched_each_time(
    start: Start, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine = start()
    build_engine(machine, bundle)
    with open_rtx_session(machine, bundle) as session:
        right = run_batches(session, bundle, 5)
        assert "graph.launch" in machine.cuda.calls
    machine.trt.capturable = False
    machine.cuda.calls.clear()
    with caplog.at_level(logging.WARNING), open_rtx_session(machine, bundle) as session:
        assert np.array_equal(run_batches(session, bundle, 5), right)
    assert "graph.launch" not in machine.cuda.calls and machine.cuda.calls.count("execute_async_v3") == 5
    assert "reports that its work cannot be captured" in caplog.text


def test_an_engine_for_other_gpus_does_not_fit(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle, "sm86", "sm120")
    with pytest.raises(
        NoEngineError, match=r"one for sm86, sm120, and this GPU is sm89\): build it .* --backend tensorrt-rtx"
    ):
        open_rtx_session(machine, bundle)
    build_engine(machine, bundle, "ampere+")
    with open_rtx_session(machine, bundle) as session:
        run_batches(session, bundle)


def test_turing_is_older_than_ampere(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle, "ampere+")
    machine.cuda.capability = (8, 0)
    open_rtx_session(machine, bundle).close()
    machine.cuda.capability = (7, 5)
    with pytest.raises(NoEngineError, match=r"one for ampere\+, and this GPU is sm75"):
        open_rtx_session(machine, bundle)


def test_a_copy_is_loaded_by_its_digest(start: Start, bundle: Bundle, tmp_path: Path) -> None:
    machine = start()
    engine = build_engine(machine, bundle)
    sidecar = engine_cache.write_copy(engine, engine_cache.read_plan(engine), tmp_path / "x.plan")
    assert sidecar == tmp_path / "x.plan.json" and engine.sha256 in sidecar.read_text()
    engine.path.unlink()
    with open_rtx_session(machine, bundle, engine=tmp_path / "x.plan", sha256=engine.sha256) as session:
        run_batches(session, bundle)
        assert session.details["engine"] == engine.sha256
    with pytest.raises(ArtifactError, match="has the sha256"):
        open_rtx_session(machine, bundle, engine=tmp_path / "x.plan", sha256="0" * 64)
    foreign = build_engine(machine, bundle, "sm86")
    with pytest.raises(EngineError, match="does not load this engine: the plan is for sm86, not sm89"):
        open_rtx_session(machine, bundle, engine=foreign.path, sha256=foreign.sha256)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ("sm87",)}, "target is 'sm87'; choose some of sm75, sm80, sm86"),
        ({"targets": ()}, r"targets are \(\); name each once, and at least one"),
        ({"targets": ("sm86", "sm86")}, "name each once"),
        ({"targets": ("ampere+", "sm86")}, r"ampere\+ names no target and cannot be combined"),
        ({"batches": (2, 1)}, "name whole numbers from 1, ascending"),
    ],
)
def test_options_that_do_not_fit(start: Start, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        start().engines.RtxEngineOptions(**options)


def test_the_command_builds_for_this_gpu_and_proves(start: Start, bundle: Bundle) -> None:
    machine = start()
    done = CliRunner().invoke(main, ["build", str(bundle.folder), "--backend", "tensorrt-rtx", "--batch", "2"])
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("fp32 for sm89 in fp32 100%, proven on NVIDIA Fake 4090\n")
    assert len(machine.trt.compiled) == 1
    with ganrt.load(bundle.folder, "tensorrt-rtx", device="cuda") as generator:
        generator.sample(3)
    assert len(machine.trt.compiled) == 1


def test_the_command_does_not_prove_an_engine_for_other_gpus(start: Start, bundle: Bundle) -> None:
    start()
    arguments = ["build", str(bundle.folder), "--backend", "tensorrt-rtx", "--target", "sm86,sm120"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(
        "fp32 for sm86, sm120, in fp32 100%; built, not proven: the first load on such a GPU proves it\n"
    )
    (engine,) = engine_cache.iterate_engines(backend="tensorrt-rtx")
    assert engine.key.options["batches"] == [1, 8, 32]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ranged"], "--ranged has no meaning for tensorrt-rtx, because it is compiled for each batch size"),
        (["--level", "3"], "--optimization-level has no meaning for tensorrt-rtx, because it is compiled without"),
        (["--workspace", "9"], "--workspace has no meaning for tensorrt-rtx"),
        (
            ["--version-compatible"],
            "--version-compatible has no meaning for tensorrt-rtx, because an engine",
        ),
        (["--hardware", "none"], "--hardware has no meaning for tensorrt-rtx, because --target names the GPUs"),
        (["--refit"], "--refit has no meaning for tensorrt-rtx"),
        (["--strip"], "--strip has no meaning for tensorrt-rtx"),
        (["--target", "sm90"], "target is 'sm90'; choose some of sm75"),
    ],
)
def test_options_without_a_meaning_are_rejected_by_name(
    start: Start, bundle: Bundle, arguments: list[str], message: str
) -> None:
    start()
    done = CliRunner().invoke(main, ["build", str(bundle.folder), "--backend", "tensorrt-rtx", *arguments])
    assert done.exit_code == 2 and message in done.stderr, done.output


def test_a_command_that_names_it_builds_the_engine_that_is_missing(
    start: Start, bundle: Bundle, tmp_path: Path
) -> None:
    machine = start()
    arguments = ["sample", str(bundle.folder), "-n", "2", "--backend", "tensorrt-rtx", "--out", str(tmp_path / "a.png")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0 and machine.trt.builds == 1, done.output
    assert "no engine for TensorRT for RTX 1.7.1.116 on NVIDIA Fake 4090 is in the cache" in done.stderr


def test_without_a_gpu_it_is_built_and_not_loaded(
    start: Start, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = start(count=0)
    monkeypatch.setattr(facts, "_NVIDIA_NODES", ())
    arguments = ["build", str(bundle.folder), "--backend", "tensorrt-rtx", "--target", "sm89", "--batch", "1"]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "x.plan")])
    assert done.exit_code == 0, done.output
    assert "fp32 for sm89, in fp32 100%; built, not proven: the first load on such a GPU proves it" in done.stdout
    assert (tmp_path / "x.plan").is_file() and (tmp_path / "x.plan.json").is_file()
    arguments = ["sample", str(bundle.folder), "--backend", "tensorrt-rtx", "--out", str(tmp_path / "a.png")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 3 and done.stderr.count("\n") == 1
    assert "the tensorrt-rtx backend needs an NVIDIA GPU, and this machine has none: use onnxruntime" in done.stderr
    assert machine.trt.loaded == []


def test_tuning_compiles_what_has_no_engine_yet(
    start: Start, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = start()
    compile_rtx_engines(bundle.folder, "auto", (), (1, 4), None)
    assert machine.trt.builds == len(bundle.variants)
    with open_rtx_session(machine, bundle) as session:
        assert session.batch_sizes == (1, 4)
    compile_rtx_engines(bundle.folder, "auto", ("onnxruntime",), (1, 8), None)
    compile_rtx_engines(bundle.folder, "cpu", (), (1, 8), None)
    assert machine.trt.builds == len(bundle.variants)
    machine.trt.build_errors = ["FP32 GEMM is not supported"]
    compile_rtx_engines(bundle.folder, "auto", (), (2,), None)
    assert "fp32 is not compiled for this GPU: " in capsys.readouterr().err


def test_tuning_compiles_for_the_size_of_the_pictures(start: Start, tmp_path: Path) -> None:
    start()
    bundle = make_darkening_bundle(tmp_path)
    bundle.write_manifest()
    for size in ((80, 60), None):
        compile_rtx_engines(bundle.folder, "auto", (), (1,), size)
    sizes = [engine.key.options["size"] for engine in engine_cache.iterate_engines(backend="tensorrt-rtx")]
    assert sorted(sizes) == sorted([[80, 60], list(proof_picture_size(bundle.spec))])


def test_tuning_without_a_gpu_compiles_nothing(start: Start, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = start(count=0)
    monkeypatch.setattr(facts, "_NVIDIA_NODES", ())
    compile_rtx_engines(bundle.folder, "auto", ("tensorrt-rtx",), (1,), None)
    assert machine.trt.builds == 0


def test_tuning_without_the_library_goes_on(
    start: Start, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start()

    def fail(name: str) -> None:
        raise MissingLibraryError("tensorrt_rtx", "tensorrt-rtx", f"the {name} backend")

    monkeypatch.setattr(engines, "import_backend", fail)
    compile_rtx_engines(bundle.folder, "auto", (), (), None)
    assert "tensorrt-rtx is left out: the tensorrt-rtx backend needs tensorrt_rtx" in capsys.readouterr().err
    with pytest.raises(MissingLibraryError):
        compile_rtx_engines(bundle.folder, "auto", ("tensorrt-rtx",), (), None)


def test_an_engine_that_is_built_again_is_the_one_that_is_loaded(start: Start, bundle: Bundle) -> None:
    """Of several engines that fit, the one that was asked for last."""
    machine = start()
    first = build_engine(machine, bundle, batches=(1,))
    build_engine(machine, bundle, batches=(2,))
    assert build_engine(machine, bundle, batches=(1,)) == first and machine.trt.builds == 2
    with open_rtx_session(machine, bundle) as session:
        assert session.details["engine"] == first.sha256 and session.batch_sizes == (1,)


def test_the_kernels_of_a_replaced_plan_are_deleted(start: Start, bundle: Bundle) -> None:
    machine = start()
    engine = build_engine(machine, bundle)
    with open_rtx_session(machine, bundle) as session:
        run_batches(session, bundle)
    (file,) = engine_cache.ensure_folder("tensorrt-rtx").glob("*.kernels")
    engine_cache.store(engine.key, b"another plan", {})
    assert not file.exists() and not engine.path.exists()


def test_a_kernel_that_does_not_compile_is_no_lack_of_memory(start: Start, bundle: Bundle) -> None:
    machine = start()
    build_engine(machine, bundle, batches=(2,))
    machine.trt.no_context_from, machine.trt.no_context_reason = 1, "NVRTC: kernel compilation failed"
    with (
        open_rtx_session(machine, bundle) as session,
        pytest.raises(BackendError, match=r"makes no context for a batch of 2 on .*: NVRTC: kernel compilation failed"),
    ):
        session.submit(draw_feeds(bundle.spec, 5, 0, 2))


def test_a_plan_from_elsewhere_needs_no_cache(
    start: Start, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = start()
    engine = build_engine(machine, bundle)
    plan = tmp_path / "x.plan"
    plan.write_bytes(engine_cache.read_plan(engine))
    engine_cache.ensure_folder("tensorrt-rtx").chmod(0o777)
    with open_rtx_session(machine, bundle, engine=plan, sha256=engine.sha256) as session:
        run_batches(session, bundle)
    assert "kernels are compiled again in each process" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--target", ""], 2, "target is ''; choose some of sm75"),
        (["--size", "64"], 2, "--size is for models that take pictures of any size"),
        (["--device", "cpu"], 3, "engines are built for NVIDIA GPUs; the CPU was asked for"),
        (["--device", "nonsense"], 2, "there is no device 'nonsense'"),
        (["--out", "."], 2, ""),
    ],
)
def test_arguments_that_do_not_fit(start: Start, bundle: Bundle, arguments: list[str], code: int, message: str) -> None:
    start()
    done = CliRunner().invoke(main, ["build", str(bundle.folder), "--backend", "tensorrt-rtx", *arguments])
    assert done.exit_code == code and message in done.stderr, done.output


def test_targets_may_have_spaces_between_them_and_a_copy_is_not_overwritten(
    start: Start, bundle: Bundle, tmp_path: Path
) -> None:
    start()
    command = ["build", str(bundle.folder), "--backend", "tensorrt-rtx", "--target", "sm86, sm120", "--batch", "1"]
    command += ["--out", str(tmp_path / "x.plan")]
    assert CliRunner().invoke(main, command).exit_code == 0
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    assert CliRunner().invoke(main, [*command, "--overwrite"]).exit_code == 0


def test_a_bare_graph_is_built_and_never_proven(start: Start, bundle: Bundle) -> None:
    start()
    command = ["build", str(bundle.folder / "model.onnx"), "--backend", "tensorrt-rtx", "--batch", "1"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0 and "never proven: a bare ONNX file has no golden samples" in done.stdout, done.output


def test_the_variant_that_was_measured_fastest_is_built(start: Start, bundle: Bundle) -> None:
    start()
    command = ["build", str(bundle.folder), "--backend", "tensorrt-rtx", "--batch", "1"]
    assert "fp32 for sm89" in CliRunner().invoke(main, command).stdout
    config = SessionConfig("tensorrt-rtx", "fp32-phases", "cuda:0")
    choice = TunedConfig(config, "fp32", 120.0, {1: Timing(0.001, None, None)})
    tuned.save_record(Tuned(tuned.tuned_key(bundle), 60.0, "2026-11-26", {}, (choice,), {1: 0}))
    assert "fp32-phases for sm89" in CliRunner().invoke(main, command).stdout
