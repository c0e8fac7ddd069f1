"""docs/api.md lists the names that are exported, and no others."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
SECTIONS = {
    heading: re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE)
    for heading, text in re.findall(r"^## `([\w.]+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
"""Module -> (name, what it is) of each row."""
PARTLY = {"ganrt.backend", "ganrt.backend_options", "ganrt.images"}
"""Modules of which only the listed names are public."""


def public_names(module: str) -> set[str]:
    """What a module exports: its `__all__`, or else what it defines."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__all__"):
        return set(loaded.__all__)
    own = {name for name, value in vars(loaded).items() if getattr(value, "__module__", None) == module}
    return {name for name in own if not name.startswith("_")}


def test_the_page_has_the_packages_that_people_import() -> None:
    packages = {"ganrt", "ganrt.serve", "ganrt.export", "ganrt.bench", "ganrt.training", "ganrt.video", "ganrt.weights"}
    assert set(SECTIONS) == packages | PARTLY | {"ganrt.testing"}


@pytest.mark.parametrize("module", SECTIONS)
def test_what_is_exported_is_listed_and_what_is_listed_is_exported(module: str) -> None:
    listed = [name for name, _ in SECTIONS[module]]
    assert len(set(listed)) == len(listed)
    if module in PARTLY:
        assert set(listed) <= public_names(module)
    else:
        assert set(listed) == public_names(module)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in SECTIONS for name, _ in SECTIONS[module]])
def test_every_listed_name_has_a_docstring(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert vars(value).get("__doc__") if inspect.isclass(value) else inspect.getdoc(value)
