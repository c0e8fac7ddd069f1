"""The list of mutants is up to date, and the command notices one that survives."""

from pathlib import Path

import pytest
from mutants import MUTANTS, ROOT, Mutant, copy_tree, find_survivors


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file}: {mutant.old}")
def test_the_text_of_a_mutant_is_found_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert (ROOT / mutant.tests).is_file()


def test_survivors_are_found(tmp_path: Path) -> None:
    root, copy = tmp_path / "root", tmp_path / "copy"
    (root / "ganrt").mkdir(parents=True)
    (root / "ganrt" / "__init__.py").touch()
    source = root / "ganrt" / "sign.py"
    source.write_text("def is_positive(x):\n    return x > 0\n")
    (root / "tests").mkdir()
    (root / "tests" / "test_sign.py").write_text(
        "from ganrt.sign import is_positive\n\n\ndef test_it():\n    assert is_positive(3) and not is_positive(-3)\n"
    )
    copy_tree(root, copy)
    mutants = [Mutant("ganrt/sign.py", "x > 0", new, "tests/test_sign.py") for new in ("x < 0", "x >= 0", "x >>> 0")]
    mutants += [Mutant("ganrt/sign.py", "y > 0", "y < 0", "tests/test_sign.py")]
    assert [reason for _, reason in find_survivors(copy, mutants)] == [
        "",
        "survived: no test fails",
        "the tests could not run (pytest's exit code is 2)",
        "its text is in the file 0 times",
    ]
    assert (copy / "ganrt" / "sign.py").read_text() == source.read_text()
