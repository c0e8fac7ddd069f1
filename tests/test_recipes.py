"""The recipes of docs/architecture.md work as they are written."""

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_docs import ROOT, read_blocks

from ganrt.bundle import Bundle
from ganrt.export.lint import module as module_rules
from ganrt.testing import check_backend
from ganrt.training import losses

BLOCKS = [b.text.partition("\n") for b in read_blocks(ROOT / "docs/architecture.md") if b.language == "python recipe"]
CODE = {comment.removeprefix("# "): text for comment, _, text in BLOCKS}
"""File that a recipe writes or changes -> the text for it."""

Write = Callable[[str], Any]


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Write:
    """Import the text for a file as the module that it would be there."""

    def write_file(file: str) -> types.ModuleType:
        folder, _, stem = file.removesuffix(".py").replace("/", ".").rpartition(".")
        package = f"ganrt.{folder}" if folder.startswith("export.") else folder
        made = types.ModuleType(f"{package}.{stem}")
        made.__package__ = package
        monkeypatch.setitem(sys.modules, made.__name__, made)
        exec(compile(CODE[file], file, "exec"), vars(made))
        return made

    return write_file


def run_tests(module: types.ModuleType) -> int:
    """Run the tests of a module, and return how many it has."""
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
    for test in tests:
        test()
    return len(tests)


def test_every_recipe_with_code_is_run_here() -> None:
    assert sorted(CODE) == [
        "export/lint/NAME.py",
        "export/passes/NAME.py",
        "ganrt/backends/NAME.py",
        "ganrt/training/losses.py",
        "tests/export/lint/test_NAME.py",
        "tests/export/passes/test_NAME.py",
    ]


def test_a_backend(write: Write, bundle: Bundle) -> None:
    module = write("ganrt/backends/NAME.py")
    check_backend(module, bundle, life_cycle=False)  # another process cannot import it: its name is a placeholder


def test_a_pass(write: Write) -> None:
    write("export/passes/NAME.py")
    assert run_tests(write("tests/export/passes/test_NAME.py")) == 1


def test_a_lint_rule(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = write("export/lint/NAME.py").gradient_checkpointing
    monkeypatch.setattr(module_rules, "RULES", (*module_rules.RULES, rule))
    assert run_tests(write("tests/export/lint/test_NAME.py")) == 1


def test_a_loss() -> None:
    (loss,) = eval(CODE["ganrt/training/losses.py"].partition("\n")[2], {"Loss": losses.Loss})
    assert loss.discriminator(torch.ones(2), torch.zeros(2)).item() == -1
    assert loss.generator(torch.ones(2)).item() == -1
