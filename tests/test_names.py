"""Function names: a verb and its object, in the field's terms. What a bare participle did is not to be seen."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMES = [
    (node.name, f"{path.relative_to(ROOT)}:{node.lineno}")
    for folder in ("ganrt", "export", "bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]
"""Name of each function and method, and where it is."""

IRREGULAR = {
    "begun",
    "bound",
    "broken",
    "built",
    "chosen",
    "done",
    "drawn",
    "found",
    "given",
    "gone",
    "held",
    "hidden",
    "kept",
    "known",
    "left",
    "lost",
    "made",
    "met",
    "said",
    "seen",
    "sent",
    "shown",
    "sold",
    "split",
    "spread",
    "taken",
    "thought",
    "told",
    "won",
    "worn",
    "written",
}
ALLOWED = {
    "_speed": "a noun",
    "passed": "a property that reads as an adjective: proof.passed",
    "converged": "a property that reads as an adjective",
    "paused": "a context manager: with observer.paused()",
}
"""Name -> why it may stay. `read`, `set`, `put` and the like are verbs as well."""


def is_bare_participle(name: str) -> bool:
    word = name.strip("_")
    return "_" not in word and (word.endswith("ed") or word in IRREGULAR)


@pytest.mark.parametrize("name", ["_made", "told", "_joined", "given", "mended"])
def test_a_bare_participle_is_noticed(name: str) -> None:
    assert is_bare_participle(name)


@pytest.mark.parametrize("name", ["read", "_read", "make_grid", "with_files", "bound_inputs", "build_head"])
def test_other_names_are_not(name: str) -> None:
    assert not is_bare_participle(name)


def test_no_function_is_named_by_a_bare_participle() -> None:
    assert [where for name, where in NAMES if is_bare_participle(name) and name not in ALLOWED] == []


def test_every_exception_is_needed() -> None:
    assert set(ALLOWED) <= {name for name, _ in NAMES}
