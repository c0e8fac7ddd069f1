"""Libraries are imported without their telemetry, and nothing else changes."""

import importlib
import os
import sys
from types import ModuleType

import pytest

from ganrt.telemetry import no_telemetry

VARIABLE, PACKAGE = "ORT_DISABLE_TELEMETRY", "openvino_telemetry"


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("", "1"), ("0", "0"), ("1", "1")])
def test_the_users_own_value_for_onnxruntime_stays(
    given: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, given or "")
    if given is None:
        monkeypatch.delenv(VARIABLE)
    with no_telemetry():
        assert os.environ[VARIABLE] == used
    assert os.environ[VARIABLE] == used


def test_the_package_of_openvino_cannot_be_imported_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    with no_telemetry(), pytest.raises(ModuleNotFoundError):
        importlib.import_module(PACKAGE)
    assert PACKAGE not in sys.modules


@pytest.mark.parametrize("found", [ModuleType(PACKAGE), None])
def test_what_was_imported_before_comes_back(found: ModuleType | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, found)
    with no_telemetry(), pytest.raises(ModuleNotFoundError):
        importlib.import_module(PACKAGE)
    assert sys.modules[PACKAGE] is found


def test_it_comes_back_when_the_import_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    with pytest.raises(ImportError), no_telemetry():
        importlib.import_module("a_library_that_is_not_installed")
    assert PACKAGE not in sys.modules
