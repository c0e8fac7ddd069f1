"""Every code block of the README works: Python blocks run, `sh` blocks run line by line, with training cut short."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
SHORT = {
    "train": ["--steps", "2", "--batch", "8"],
    "bench": ["--seconds", "1", "--backend", "onnxruntime"],
    "tune": ["--seconds", "2", "--backend", "onnxruntime", "--batch", "1"],
}
"""Added to commands that take minutes as written."""


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it there, with a cache of its own."""
    own = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands have been run in order, so that the Python blocks find their bundle."""
    folder = tmp_path_factory.mktemp("readme")
    for line in (line for language, block in BLOCKS if language == "sh" for line in block.splitlines()):
        words = shlex.split(line)
        command = [sys.executable, "-P", "-m", "ganrt.cli", *words[1:], *SHORT.get(words[1], [])]
        done = run(command, folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    return folder


def test_the_readme_shows_both() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "sh"}


def test_the_commands_leave_their_results(workplace: Path) -> None:
    for name in ("digits.ganrt/ganrt.json", "grid.png", "arrays.npz", "report.json", "report.html"):
        assert (workplace / name).is_file()


@pytest.mark.parametrize("block", [block for language, block in BLOCKS if language == "python"])
def test_python_blocks(block: str, workplace: Path) -> None:
    done = run([sys.executable, "-P", "-c", block], workplace)
    assert done.returncode == 0, done.stderr
