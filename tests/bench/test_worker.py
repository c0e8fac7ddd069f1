"""Worker processes and `measure`: what is measured, and what is reported when something fails."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from helpers.optional import unwrap

import ganrt
from ganrt import machine
from ganrt.backend import BACKENDS, HostSession
from ganrt.bench import Report, harness, measure
from ganrt.bench.cases import Setup, list_setups
from ganrt.bench.process import Worker, WorkerFailed
from ganrt.bench.worker import Failure, RoundRequest, select_sheet, time_round
from ganrt.bundle import Bundle
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.golden import Golden
from ganrt.session_config import SessionConfig
from ganrt.stores import FolderStore
from ganrt.trust import make_refusal


@pytest.fixture(scope="module")
def report(bundles: dict[str, Bundle]) -> Report:
    lines: list[str] = []
    made = measure(
        bundles["dcgan"].folder,
        backends=["onnxruntime", "openvino", "reference"],
        batches=[4, 1],
        seconds=4.0,
        variants=["fp32"],
        progress=lines.append,
    )
    assert lines[0] == "loading onnxruntime and comparing it with the original"
    return made


def test_every_backend_is_measured_in_both_scopes_and_agrees_with_the_original(report: Report) -> None:
    assert [b.status for b in report.backends] == ["measured"] * 3
    assert {(m.backend, m.batch, m.scope) for m in report.measurements} == {
        (name, batch, scope)
        for name, batches in (("onnxruntime", (1, 4)), ("openvino", (1, 4)), ("reference", (1,)))
        for batch in batches
        for scope in ("session", "sample")
    }
    for backend in report.backends:
        facts = unwrap(backend.facts)
        assert facts.worst_psnr >= 60
        assert facts.samples == (4 if backend.name == "reference" else 64)
        assert facts.device == "cpu"
        assert backend.peak_mib is None or 10 < backend.peak_mib < 10_000


def test_paired_scopes_have_the_same_rounds(report: Report) -> None:
    for backend, batch in report.cases:
        session, sample = (unwrap(report.find(backend, batch, scope)) for scope in ("session", "sample"))
        assert [len(r) for r in session.rounds] == [len(r) for r in sample.rounds]
        assert session.sweeps == sample.sweeps
        assert session.warm_up_calls > 0
        assert unwrap(report.overhead(backend, batch)).value > 0


def test_the_report_names_versions_and_no_paths_or_hosts(report: Report, bundles: dict[str, Bundle]) -> None:
    assert report.environment.libraries["ganrt"] == ganrt.__version__
    assert report.bundle == bundles["dcgan"].folder.name
    assert str(bundles["dcgan"].folder.parent) not in report.to_json()
    assert os.uname().nodename not in str(report.environment)
    assert report.environment.cores >= 1


def test_a_backend_that_cannot_run_is_reported_and_the_others_go_on(bundle: Bundle) -> None:
    report = measure(
        bundle, backends=["openvino", "onnxruntime"], batches=[1], seconds=0.5, variants=["fp32"], device="cuda"
    )
    assert [b.status for b in report.backends] == ["failed", "failed"]
    assert "runs on the CPU only" in report.backends[0].reason
    assert report.measurements == ()
    assert any("openvino failed" in warning for warning in report.warnings)


def test_a_backend_with_wrong_pictures_is_not_measured(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "wrong.ganrt"
    shutil.copytree(bundle.folder, folder)
    golden = unwrap(bundle.read_golden())
    Golden(tuple(replace(group, images=-group.images) for group in golden.groups)).save(folder / Bundle.GOLDEN)
    replace(bundle, store=FolderStore(folder)).with_files(Bundle.GOLDEN).write_manifest()
    report = measure(folder, backends=["onnxruntime"], batches=[1], seconds=0.5, variants=["fp32"])
    assert report.backends[0].status == "failed"
    assert "does not make the original's images" in report.backends[0].reason
    assert str(tmp_path) not in report.to_json()
    assert report.measurements == ()


def test_a_broken_graph_is_one_backends_failure_and_its_reason_has_no_path(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "broken.ganrt"
    shutil.copytree(bundle.folder, folder)
    (folder / "model.onnx").write_bytes(b"no graph")
    replace(bundle, store=FolderStore(folder)).with_files("model.onnx").write_manifest()
    report = measure(folder, backends=["onnxruntime", "pytorch"], batches=[1], seconds=0.5, variants=["fp32"])
    assert [b.status for b in report.backends] == ["failed", "measured"]
    assert "onnxruntime cannot load fp32: " in report.backends[0].reason
    assert str(tmp_path) not in report.to_json()


def test_a_bundle_in_one_file_without_float32_is_measured(bundle: Bundle, tmp_path: Path) -> None:
    narrow = replace(bundle, variants={"fp32-phases": bundle.variants["fp32-phases"]})
    packed = ganrt.pack(narrow, tmp_path / "packed.zip")
    report = measure(packed.path, backends=["onnxruntime"], batches=[1], seconds=0.5)
    assert [b.status for b in report.backends] == ["measured"]
    assert report.bundle == "packed.zip" and report.digest == bundle.digest("fp32-phases")
    assert str(tmp_path) not in report.to_json()


def test_a_killed_worker_is_reported(bundle: Bundle) -> None:
    worker = Worker(Setup(bundle.folder, SessionConfig("onnxruntime")))
    try:
        worker.wait_until_loaded()
        assert len(worker.time_round(RoundRequest(2, 3, 0)).end_to_end) == 3
        os.kill(unwrap(worker.pid), signal.SIGKILL)
        with pytest.raises(WorkerFailed) as caught:
            worker.time_round(RoundRequest(2, 3, 0))
        assert caught.value.failure == Failure("Died", "its process was killed by SIGKILL")
    finally:
        worker.close()


class _Missing:
    """A worker whose library is not installed."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def wait_until_loaded(self) -> NoReturn:
        raise WorkerFailed(Failure("MissingLibraryError", f"{self.setup.config.backend} is not installed"))

    def close(self) -> None:
        pass


def test_a_missing_library_is_a_failure_only_when_the_backend_was_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "Worker", _Missing)
    assert {b.status for b in measure(bundle, batches=[1], seconds=1.0).backends} == {"not installed"}
    assert [b.status for b in measure(bundle, backends=["pytorch"], batches=[1], seconds=1.0).backends] == ["failed"]


def test_a_recorded_refusal_is_not_measured_unless_it_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "Worker", _Missing)
    refusal = make_refusal(bundle, SessionConfig("openvino", "fp32"), "cannot load fp32: no rule for Det")
    refused, lines = bundle.with_proofs("fp32", (refusal,)), list[str]()
    report = measure(refused, batches=[1], seconds=1.0, progress=lines.append)
    assert {"onnxruntime", "openvino fp32-phases"} <= {b.name for b in report.backends}
    assert "openvino" not in {b.name for b in report.backends}
    assert "openvino is left out: it cannot load fp32: no rule for Det" in lines
    named = measure(refused, backends=["openvino"], batches=[1], seconds=1.0)
    assert [b.name for b in named.backends] == ["openvino", "openvino fp32-phases"]


def test_invalid_arguments_start_no_worker(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "Worker", None)
    with pytest.raises(ganrt.RequestError, match="int8"):
        measure(bundle, variants=["int8-phases"])
    with pytest.raises(ganrt.RequestError, match="0 seconds were asked for"):
        measure(bundle, seconds=0)
    with pytest.raises(ganrt.RequestError, match="batch sizes"):
        measure(bundle, batches=[0])
    with pytest.raises(ganrt.BundleError):
        measure(tmp_path / "nothing")


class _Session(HostSession):
    """Makes images from its latents; with `wrong`, other ones at every second call."""

    def __init__(self, spec: ganrt.Spec, wrong: bool) -> None:
        super().__init__("fake", "fp32", spec, {})
        self.wrong, self.calls = wrong, 0
        self.shape = (spec.output.channels, *unwrap(spec.output.size))

    def run(self, feeds: Feeds) -> Array:
        self.calls += 1
        level = -1.0 if self.wrong and self.calls % 2 else 1.0
        return np.full((len(feeds["z"]), *self.shape), level, np.float32) * np.tanh(feeds["z"][:, :1, None, None])

    def release(self) -> None:
        pass


def test_both_scopes_must_make_the_same_pictures_while_timed(bundle: Bundle) -> None:
    right = _Session(bundle.spec, wrong=False)
    found = time_round(Generator(bundle.spec, right), RoundRequest(2, 3, 0))
    assert len(found.session) == len(found.end_to_end) == 3
    assert min(found.session + found.end_to_end) > 0
    assert right.calls == 2 * (3 + 1)  # the first pair is not counted
    with pytest.raises(ganrt.BackendError, match="different pictures"):
        time_round(Generator(bundle.spec, _Session(bundle.spec, wrong=True)), RoundRequest(2, 3, 0))


def test_sheets_of_few_and_of_many_samples_show_the_same_pictures_first(bundle: Bundle) -> None:
    golden = unwrap(bundle.read_golden())
    many, few = (select_sheet(chosen.groups[0].images, 4) for chosen in (golden, golden.subset(1)))
    assert len(few) == 4
    np.testing.assert_array_equal(many[:4], few)


def test_without_a_gpu_what_needs_one_is_left_out(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TensorRT for RTX is installed as a compiler, `ganrt bench` must not fail for want of a GPU."""
    only_gpu = {name for name, entry in BACKENDS.items() if not entry.cpu}
    for nodes in ((), ("/dev/null",)):
        monkeypatch.setattr(machine, "_NVIDIA_NODES", nodes)
        found = {setup.config.backend for setup in list_setups(bundle, None, None, "auto")}
        assert found & only_gpu == (only_gpu if nodes else set())
    assert [setup.config.backend for setup in list_setups(bundle, ["tensorrt"], ["fp32"], "auto")] == ["tensorrt"]
