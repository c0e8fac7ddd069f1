"""TensorRT's real lean runtime on a machine without a driver, where using or freeing its Runtime crashes the process.

In a process of its own, because other tests replace cuda-core and TensorRT.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ganrt.machine import has_nvidia_gpu

SCRIPT = """
import gc

from ganrt.errors import MachineError
from ganrt.gpu import load_engine, load_tensorrt

library = load_tensorrt()
print(library.is_lean, library.version)
kept = []
for attempt in range(2):
    try:
        load_engine(library, b"a plan" * 100, True)
    except MachineError as error:
        print(error)
        kept.append(error)  # and with its frames all that they refer to
    gc.collect()
del kept[0]
gc.collect()
"""
METAPACKAGE = "from tensorrt_lean_bindings import *\nfrom tensorrt_lean_bindings import __version__"
"""What the package `tensorrt_lean` adds to its wheels. It is not installed, because ganrt would use it."""


@pytest.mark.skipif(has_nvidia_gpu(), reason="the runtime starts where there is a GPU")
def test_loading_an_engine_where_cuda_does_not_start_is_an_error_and_no_crash(tmp_path: Path) -> None:
    """At the first attempt, at a second one, and at the end of the process."""
    (tmp_path / "tensorrt_lean.py").write_text(METAPACKAGE)
    command, environment = [sys.executable, "-c", SCRIPT], {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, f"{run.returncode}: {run.stdout} {run.stderr}"
    which, *errors = run.stdout.splitlines()
    assert which == "True 11.4.0.106"
    assert len(errors) == 2
    for error in errors:
        assert error.startswith("TensorRT 11.4.0.106 does not start on this machine: ")
        assert "CUDA initialization failure" in error
