"""Package names that are imported on first use."""

import sys
import types

import pytest

from ganrt.errors import MissingLibraryError
from ganrt.lazy import lazy_exports


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with one module that works."""
    module = types.ModuleType("lazy_package.good")
    module.answer = 42  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lazy_package", types.ModuleType("lazy_package"))
    monkeypatch.setitem(sys.modules, "lazy_package.good", module)
    return "lazy_package"


def test_a_name_comes_from_its_module(package: str) -> None:
    assert lazy_exports(package, {"answer": "good"})("answer") == 42


def test_a_module_may_be_exported(package: str) -> None:
    assert lazy_exports(package, {"good": ""})("good") is sys.modules["lazy_package.good"]


def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="module 'lazy_package' has no attribute 'question'"):
        lazy_exports(package, {"answer": "good"})("question")


def test_a_missing_library_names_the_extra() -> None:
    get = lazy_exports("xml", {"dom": "nothing_here"}, "train", "training")
    with pytest.raises(MissingLibraryError, match=r'training needs xml, which .*: pip install "ganrt\[train\]"'):
        get("dom")


def test_a_missing_module_of_ganrt_is_not_a_missing_library() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"ganrt\.nothing_here"):
        lazy_exports("ganrt", {"x": "nothing_here"}, "train", "training")("x")
