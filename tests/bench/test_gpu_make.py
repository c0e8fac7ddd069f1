"""`make gpu-1` to `make gpu-4` need nothing but a Python and a checkout."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", ["gpu-1", "gpu-4"])
def test_make_finds_ganrt_in_a_folder_of_links(command: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    arguments = [f"GPU_TREE={tree}", f"PYTHON={sys.executable}", f"SITE={tmp_path}", "GPU_ARGS=--help"]
    done = subprocess.run(["make", command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Run the checks of a step" in done.stdout, done.stderr
    assert (tree / "ganrt" / "bench" / "gpu" / "steps.py").samefile(ROOT / "bench" / "gpu" / "steps.py")
