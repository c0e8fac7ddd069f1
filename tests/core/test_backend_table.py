"""The table of backends, and the rows that other packages add to it."""

import importlib.metadata
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.sessions import SPEC, FakeSession

from ganrt import backend as module
from ganrt import errors
from ganrt.backend import BACKENDS, Entry, backend_names, backend_table, import_backend, open_session, supports_variant
from ganrt.bundle import Bundle, Variant
from ganrt.choosing import LoadRequest, backends_to_try, candidates_by_rule
from ganrt.errors import MachineError, MissingLibraryError, RequestError
from ganrt.session_config import SessionConfig
from ganrt.stores import FolderStore
from ganrt.tuned import Timing, TunedConfig, installed_versions

ROW = Entry("abacus.backend", "", "numpy", ("int8",), gpu=False, threads=True, slow=True)
BUNDLE = Bundle(FolderStore(Path("x.ganrt")), SPEC, {n: Variant(f"{n}.onnx", 20, n) for n in ("fp32", "int8")}, {})


@pytest.fixture
def abacus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with three backends: one with a row, one without, one broken."""
    backend, entry, broken = (types.ModuleType(f"abacus.{name}") for name in ("backend", "entry", "broken"))
    backend.open = lambda bundle, variant, device, **options: FakeSession()  # type: ignore[attr-defined]
    entry.ROW = ROW  # type: ignore[attr-defined]
    for made in (types.ModuleType("abacus"), backend, entry, broken):
        monkeypatch.setitem(sys.modules, made.__name__, made)
    points = {"abacus": "abacus.entry:ROW", "plain": "abacus.backend", "broken": "abacus.nothing:ROW"}
    made_points = [importlib.metadata.EntryPoint(name, value, "ganrt.backends") for name, value in points.items()]
    monkeypatch.setattr(module, "_entry_points", lambda: importlib.metadata.EntryPoints(made_points))


@pytest.mark.usefixtures("abacus")
def test_a_row_of_another_package_lists_its_precisions() -> None:
    assert backend_table()["abacus"] is ROW
    assert list(backend_table()) == [*BACKENDS, "abacus", "broken", "plain"]
    assert "abacus" in backend_names("cpu") and "abacus" not in backend_names("cuda")
    assert supports_variant("abacus", BUNDLE, "int8") and not supports_variant("abacus", BUNDLE, "fp32")
    chosen = candidates_by_rule(BUNDLE, LoadRequest(precision="int8", device="cpu"))
    assert "abacus int8" in map(str, chosen)
    with pytest.raises(RequestError, match="the abacus backend does not run fp32; it runs int8"):
        open_session(BUNDLE, SessionConfig("abacus", "fp32"))
    with open_session(BUNDLE, SessionConfig("abacus", "int8")) as session:
        assert session.backend == "fake"


@pytest.mark.usefixtures("abacus")
def test_a_baseline_is_measured_but_used_only_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ganrt.bench.cases import list_setups
    from ganrt.export.verification import installed_backends

    monkeypatch.setattr(sys.modules["abacus.entry"], "ROW", ROW._replace(baseline=True, precisions=("fp32",)))
    assert "abacus" not in backends_to_try("auto") and "plain" in backends_to_try("auto")
    assert "abacus" not in {one.config.backend for one in candidates_by_rule(BUNDLE, LoadRequest())}
    assert [str(one) for one in candidates_by_rule(BUNDLE, LoadRequest("abacus"))] == ["abacus"]
    assert "abacus" not in installed_backends("cpu") and "plain" in installed_backends("cpu")
    assert "abacus" in {setup.config.backend for setup in list_setups(BUNDLE, None, None, "auto")}
    tuned = TunedConfig(SessionConfig("abacus", "fp32", "cpu"), "fp32", 99.0, {1: Timing(1.0, None, None)})
    assert not LoadRequest().allows(tuned) and LoadRequest("abacus").allows(tuned)
    assert not LoadRequest("plain").allows(tuned)
    with open_session(BUNDLE, SessionConfig("abacus", "fp32")) as session:
        assert session.backend == "fake"


@pytest.mark.usefixtures("abacus")
def test_the_library_of_another_packages_backend_is_part_of_the_tuned_key() -> None:
    assert "numpy" in installed_versions()


@pytest.mark.usefixtures("abacus")
def test_a_module_without_a_row_may_run_everything() -> None:
    assert all(supports_variant("plain", BUNDLE, name) for name in BUNDLE.variants)
    assert {"plain"} <= set(backend_names("cuda")) & set(backend_names("cpu"))
    assert import_backend("plain") is sys.modules["abacus.backend"]


@pytest.mark.usefixtures("abacus")
def test_a_broken_backend_of_another_package_is_named_when_it_is_opened() -> None:
    with pytest.raises(
        MachineError, match=r"the backend 'broken' \(abacus.nothing:ROW\) cannot be imported: No module"
    ):
        import_backend("broken")


def test_the_rows_of_ganrt_cannot_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("onnxruntime", "abacus.entry:ROW", "ganrt.backends")
    monkeypatch.setattr(module, "_entry_points", lambda: importlib.metadata.EntryPoints([point]))
    assert backend_table()["onnxruntime"] is BACKENDS["onnxruntime"]


def test_an_unknown_backend_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(
        RequestError, match="there is no backend 'abacus'; choose one of tensorrt, tensorrt-rtx, onnxruntime, "
    ):
        import_backend("abacus")


@pytest.mark.usefixtures("abacus")
def test_doctor_names_the_library_of_another_packages_backend() -> None:
    from ganrt.cli.doctor import run_checks

    found = {check.subject: check for check in run_checks()}
    assert found["abacus"].passed and found["abacus"].text == f"numpy {np.__version__}"
    assert not found["broken"].passed and "cannot be imported" in found["broken"].text


def test_a_jetson_is_told_where_its_tensorrt_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for processor, advice in {"x86_64": 'pip install "ganrt[tensorrt]"', "aarch64": "comes with JetPack"}.items():
        monkeypatch.setattr(errors.platform, "machine", lambda processor=processor: processor)
        assert advice in str(MissingLibraryError("tensorrt", "tensorrt", "the tensorrt backend"))
        assert 'pip install "ganrt[tensorrt]"' in str(MissingLibraryError("cuda", "tensorrt", "the tensorrt backend"))


def test_backends_without_a_gpu_run_what_is_made_for_gpus_only_if_they_are_slow_by_design(bundle: Bundle) -> None:
    half = replace(bundle.variants["fp32"], precision="int8", for_gpu=True)
    made = replace(bundle, variants={"int8-half-traced": half, "int8-traced": replace(half, for_gpu=False)})
    wanted = {"onnxruntime": True, "tensorrt": True, "reference": True, "openvino": False, "pytorch": False}
    assert {name: supports_variant(name, made, "int8-half-traced") for name in wanted} == wanted
    assert supports_variant("openvino", made, "int8-traced")
    assert supports_variant("nobody", made, "int8-half-traced")
