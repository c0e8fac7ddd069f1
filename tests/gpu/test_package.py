"""What the packages `ganrt.gpu` and `ganrt.export.engines` hand out exists, and needs its libraries only when used."""

import subprocess
import sys
from typing import Any

import pytest
from fakes.gpu import Start, start

import ganrt.export.engines
import ganrt.gpu
from ganrt.bundle import Bundle

__all__ = ["start"]


@pytest.mark.parametrize("package", [ganrt.gpu, ganrt.export.engines])
def test_every_exported_name_exists(start: Start, package: Any) -> None:
    start()
    assert all(hasattr(package, name) for name in package.__all__)
    assert set(package.__all__) == set(package._MODULES)


SCRIPT = """
import sys

sys.modules |= {"tensorrt": None, "cuda": None}
from ganrt import machine
from ganrt.errors import MissingLibraryError

machine.has_nvidia_gpu = lambda: True
from ganrt.export.engines import EngineOptions, build

assert EngineOptions().batches == (1, 8, 32)
try:
    build(sys.argv[1])
except MissingLibraryError as error:
    print(error)
"""


def test_without_tensorrt_building_names_the_extra_and_the_options_still_load(bundle: Bundle) -> None:
    """In a process of its own, because the modules that are imported here would stay."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, bundle.folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("building engines needs ") and 'pip install "ganrt[tensorrt]"' in done.stdout
