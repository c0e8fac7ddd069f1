"""Each engine makes the original's images, by itself, and is called as its documentation says."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from fakes.sessions import SPEC, FakeSession, images, samples

from ganrt import feeds
from ganrt.bench.engines import adapters, worker
from ganrt.bench.engines.adapters import CALIBRATION_SAMPLES, CALIBRATION_SEED, ENGINES, PLAIN, Job, explain_missing
from ganrt.bench.engines.worker import RoundRequest, compare_with_golden, make_call, time_calls
from ganrt.bundle import Bundle
from ganrt.errors import BackendError, UnprovenError
from ganrt.feeds import Feeds
from ganrt.images import Floats
from ganrt.spec import Latent


def make_job(bundle: Bundle, name: str, folder: Path, batch: int = 3, size: tuple[int, int] | None = None) -> Job:
    return Job(name, bundle.path, folder, batch, size)


def compare_engine(bundle: Bundle, name: str, folder: Path, size: tuple[int, int] | None = None) -> float:
    """PSNR of the worst golden sample of an engine that is prepared and loaded in this process."""
    job, engine = make_job(bundle, name, folder, size=size), ENGINES[name]
    if engine.prepare is not None:
        engine.prepare(bundle, job)
    return compare_with_golden(bundle, job.batch, engine.load(bundle, job)).worst_psnr


LEAST = {PLAIN: 100.0, "eager": 120.0, "openvino": 100.0, "mnn": 60.0}
"""Worst PSNR in dB."""


def find_least(name: str) -> float:
    """OpenVINO by itself computes in bf16 where the processor can."""
    if name == "openvino":
        import openvino

        if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return 45.0
    return LEAST[name]


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("kind", ["bundle", "espcn", "conditional"])
def test_an_engine_by_itself_makes_the_originals_images(
    kind: str, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Of a model with latents, one with pictures of several sizes, and one with classes."""
    bundle: Bundle = request.getfixturevalue(kind)
    size = (16, 16) if bundle.spec.images else None
    assert compare_engine(bundle, name, tmp_path, size) > find_least(name)


def test_torch_compile_gets_the_module_with_freezing_on(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor, "freezing", False)
    seen: list[bool] = []

    def compile_module(module: Any) -> Callable[..., Any]:
        seen.append(inductor.freezing)

        def compiled(*given: Any) -> Any:
            seen.append(not torch.is_grad_enabled())
            return module(*given)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_module)
    assert compare_engine(bundle, "torch.compile", tmp_path) > 120
    assert len(seen) > 2 and all(seen)


def test_static_quantization_is_that_of_its_default(bundle: Bundle, tmp_path: Path) -> None:
    assert 10 < compare_engine(bundle, "ort-int8", tmp_path) < 60
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def test_calibration_uses_other_samples_than_the_golden_ones(bundle: Bundle, tmp_path: Path) -> None:
    drawn = list(adapters._draw_calibration(bundle, make_job(bundle, "nncf", tmp_path)))
    golden = bundle.read_golden()
    assert golden is not None and len(drawn) == CALIBRATION_SAMPLES == 32
    assert CALIBRATION_SEED not in {int(seed) for group in golden.groups for seed in group.seeds} | {0}
    assert len({given["z"].tobytes() for given in drawn}) == 32 and {len(given["z"]) for given in drawn} == {1}


def test_nncf_runs_with_its_defaults_and_without_telemetry(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    calls: list[Any] = []
    fake = ModuleType("nncf")

    def make_dataset(items: list[Any]) -> str:
        calls.append(len(items))
        return "dataset"

    def quantize(model: Any, dataset: str) -> Any:
        calls.append((dataset, sys.modules["openvino_telemetry"]))
        return model

    vars(fake).update(Dataset=make_dataset, quantize=quantize)
    monkeypatch.setitem(sys.modules, "nncf", fake)
    assert compare_engine(bundle, "nncf", tmp_path) > 100  # the fake leaves the graph as it is; float16 has 80 dB
    assert calls == [32, ("dataset", None)]
    assert openvino.Core().read_model(tmp_path / "model.xml") is not None


class FakePnnx(ModuleType):
    """Remembers what it was asked for, and writes a network that is ReLU."""

    writes = True

    def export(self, module: Any, path: str, inputs: Any, others: Any, **options: Any) -> None:
        self.asked = (module, inputs, others, options)
        if self.writes:
            Path(path).with_name("model.ncnn.param").write_text(
                "7767517\n2 2\nInput in0 0 1 in0\nReLU relu 1 1 in0 out0\n", encoding="ascii"
            )
            Path(path).with_name("model.ncnn.bin").write_bytes(b"")


@pytest.fixture
def pnnx(monkeypatch: pytest.MonkeyPatch) -> FakePnnx:
    fake = FakePnnx("pnnx")
    monkeypatch.setitem(sys.modules, "pnnx", fake)
    return fake


def test_ncnn_takes_a_batch_in_one_call(bundle: Bundle, pnnx: FakePnnx, tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    job = make_job(bundle, "ncnn", tmp_path)
    adapters._prepare_ncnn(bundle, job)
    module, inputs, others, options = pnnx.asked
    assert [tuple(tensor.shape) for tensor in inputs] == [(1, 8)] and others is None and options == {"fp16": False}
    assert not module.training
    given = feeds.draw_feeds(bundle.spec, 5, 0, 3)
    made = adapters._load_ncnn(bundle, job)(given)
    np.testing.assert_array_equal(made, np.maximum(given["z"], 0))
    assert made.dtype == np.float32


def test_pnnx_is_told_that_sizes_vary(espcn: Bundle, pnnx: FakePnnx, tmp_path: Path) -> None:
    adapters._prepare_ncnn(espcn, make_job(espcn, "ncnn", tmp_path, size=(16, 24)))
    assert [tuple(tensor.shape)[2:] for group in pnnx.asked[1:3] for tensor in group] == [(16, 24), (32, 48)]


def test_a_conversion_that_writes_nothing_is_a_failure(bundle: Bundle, pnnx: FakePnnx, tmp_path: Path) -> None:
    pnnx.writes = False
    with pytest.raises(BackendError, match="pnnx wrote no ncnn file"):
        adapters._prepare_ncnn(bundle, make_job(bundle, "ncnn", tmp_path))


def test_ncnn_that_cannot_load_the_files_is_a_failure(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    with pytest.raises(BackendError, match="ncnn cannot load what pnnx wrote"):
        adapters._load_ncnn(bundle, make_job(bundle, "ncnn", tmp_path))


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Callable[[Job], list[Any]]:
    """Runs a preparation in this process. Returns what it sends."""
    monkeypatch.setattr(worker.os, "dup2", lambda one, other: None)
    monkeypatch.setattr(worker.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS"):
        monkeypatch.setenv(name, "")

    def run(job: Job) -> list[Any]:
        sent: list[Any] = []
        connection: Any = SimpleNamespace(send=sent.append)
        worker.prepare_files(connection, job)
        return sent

    return run


def test_a_missing_library_is_named_with_the_way_to_install_it(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Job], list[Any]]
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    install = "the library 'nncf' is not installed; install it with: pip install nncf openvino"
    sent = prepare(make_job(bundle, "nncf", tmp_path))
    assert [(failure.kind, failure.reason) for failure in sent] == [("MachineError", install)]
    broken = explain_missing(ENGINES["nncf"], ImportError("no symbol"))
    assert "no symbol" in str(broken) and "pip install" not in str(broken)


def test_a_reason_is_one_line_without_the_folders_of_this_machine(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Job], list[Any]]
) -> None:
    def fail(given: Bundle, job: Job) -> None:
        raise ValueError(f"{given.path} and\n{job.folder}/model.mnn " + "x" * 400)

    monkeypatch.setitem(ENGINES, "mnn", ENGINES["mnn"]._replace(prepare=fail))
    (failure,) = prepare(make_job(bundle, "mnn", tmp_path))
    assert failure.reason.startswith(f"ValueError: {bundle.folder.name} and model.mnn xxx")
    assert len(failure.reason) == 300


def test_a_preparation_that_works_says_so(bundle: Bundle, tmp_path: Path, prepare: Callable[[Job], list[Any]]) -> None:
    assert prepare(make_job(bundle, "mnn", tmp_path)) == [worker.Prepared()]
    assert (tmp_path / "model.mnn").stat().st_size > 1000
    assert prepare(make_job(bundle, PLAIN, tmp_path)) == [worker.Prepared()]


def test_every_package_of_an_engine_is_one_that_can_be_installed() -> None:
    """Their names are those of `pip install`, not of the modules."""
    assert {name for engine in ENGINES.values() for name in engine.packages} == {
        *("onnxruntime", "onnx", "torch", "safetensors", "openvino", "ncnn", "pnnx", "mnn", "nncf")
    }


def test_the_module_that_sends_reports_is_never_imported() -> None:
    source = Path(adapters.__file__).read_text(encoding="utf-8")
    assert "import MNN" not in source and '"MNN.tools"' not in source


def test_golden_samples_are_run_in_batches_of_the_size_that_was_timed(bundle: Bundle) -> None:
    golden = bundle.read_golden()
    assert golden is not None
    originals = golden.groups[0].images
    sizes: list[int] = []

    def call(given: Feeds) -> Floats:
        sizes.append(len(given["z"]))
        first = 5 * (len(sizes) - 1)
        return originals[np.minimum(np.arange(first, first + 5), len(originals) - 1)]

    compared = compare_with_golden(bundle, 5, call)
    assert sizes == [5] * 13 and (compared.worst_psnr, compared.samples) == (200.0, 64)


def test_the_worst_sample_counts(bundle: Bundle, tmp_path: Path) -> None:
    call = ENGINES[PLAIN].load(bundle, make_job(bundle, PLAIN, tmp_path))
    numbers = iter(range(64))
    low, high = bundle.spec.output.range

    def make_one_wrong(given: Feeds) -> Floats:
        return call(given) + np.float32((high - low) * 0.1 * (next(numbers) == 40))

    assert compare_with_golden(bundle, 1, make_one_wrong).worst_psnr == pytest.approx(20, abs=0.1)


def test_images_that_are_not_finite_are_a_failure(bundle: Bundle) -> None:
    golden = bundle.read_golden()
    assert golden is not None
    shape = golden.groups[0].images.shape[1:]
    with pytest.raises(UnprovenError, match="not finite"):
        compare_with_golden(bundle, 8, lambda given: np.full((8, *shape), np.nan, np.float32))


def test_without_golden_samples_nothing_is_compared(bundle: Bundle) -> None:
    bare = Bundle.read(bundle.folder / "model.onnx")
    with pytest.raises(UnprovenError, match="has no golden samples to compare with: measure the bundle it came from"):
        compare_with_golden(bare, 8, lambda given: np.zeros(0, np.float32))


@pytest.mark.parametrize(
    ("sizes", "batches"), [((), [12]), ((4, 12), [12]), ((1, 2, 8), [8, 2, 2]), ((8,), [8, 8]), ((16,), [16])]
)
def test_a_session_of_ganrt_gets_batches_that_it_takes(sizes: tuple[int, ...], batches: list[int]) -> None:
    session = FakeSession(SPEC, sizes)
    given, wanted = samples()
    bundle: Any = SimpleNamespace(spec=SPEC)
    np.testing.assert_array_equal(make_call(bundle, session)(given), wanted)
    assert session.batches == batches


@pytest.mark.parametrize(("calls", "made"), [(1, 1), (4, 5)])
def test_every_call_has_new_inputs_and_the_first_of_several_is_not_counted(
    calls: int, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0, 50, *(value for k in range(1, 9) for value in (100 * k, 100 * k + 7))])
    monkeypatch.setattr(worker.clock, "now_ns", lambda: next(times))
    monkeypatch.setattr(worker, "wait_until_idle", lambda: True)
    seen: list[Feeds] = []
    bundle: Any = SimpleNamespace(spec=SPEC)

    def call(given: Feeds) -> Floats:
        seen.append(given)
        return images(SPEC, given)

    found = time_calls(bundle, Job("x", "x", Path("x"), 2), call, RoundRequest(10, calls))
    assert found.times == ((50,) if calls == 1 else (7, 7, 7, 7)) and found.idle
    drawn = feeds.draw_feeds(SPEC, 0, 10, 2 * made)["z"]
    np.testing.assert_array_equal(np.concatenate([given["z"] for given in seen]), drawn)


def test_inputs_that_were_bound_are_given_to_the_original(tmp_path: Path) -> None:
    from ganrt.export import export
    from ganrt.models import build_generator

    torch = importlib.import_module("torch")
    torch.manual_seed(1)
    module = build_generator("resnet", {"size": 32, "channels": 3, "latent": 8, "width": 4, "classes": 7})
    torch.save(module.state_dict(), tmp_path / "resnet.pth")
    bundle = export(str(tmp_path / "resnet.pth"), tmp_path / "resnet.ganrt", bind={"label": 3})
    assert [type(item) for item in bundle.spec.inputs] == [Latent]
    assert compare_engine(bundle, "eager", tmp_path) > 120
