"""What importing costs: numpy, and nothing else from outside."""

import subprocess
import sys
from pathlib import Path

import pytest

REPORT = """
import sys
before = set(sys.modules)
import {module}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(name for name in names if name not in sys.stdlib_module_names))
"""

COLLECT = """
import sys, pytest
code = pytest.main([*sys.argv[1:], "--collect-only", "-p", "no:cacheprovider"])
heavy = ["torch", "onnxruntime", "openvino", "scipy.stats", "skimage.metrics"]
print("imported", *(name for name in heavy if name in sys.modules))
sys.exit(code)
"""


def third_party(module: str) -> set[str]:
    code = REPORT.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["ganrt", "ganrt.bundle, ganrt.models, ganrt.testing, ganrt.trust, ganrt.images"])
def test_the_core_imports_numpy_alone(module: str) -> None:
    assert third_party(module) - {"ganrt"} == {"numpy"}


def test_the_command_line_starts_without_a_framework() -> None:
    assert not third_party("ganrt.cli.main") & {
        "torch",
        "onnx",
        "onnxruntime",
        "openvino",
        "sklearn",
        "matplotlib",
        "lightning",
    }


def test_tuning_needs_no_extra() -> None:
    """A device has the extra of its backend alone."""
    assert third_party("ganrt.bench.tuning, ganrt.bench.tune_table, ganrt.bench.worker") - {"ganrt"} <= {
        *("numpy", "rich", "pygments", "markdown_it", "mdurl", "__mp_main__"),
    }


def test_the_check_finds_what_it_looks_for() -> None:
    assert "onnx" in third_party("ganrt.backends.reference")


def test_an_engine_is_built_without_torch() -> None:
    """Of a machine with TensorRT, where torch is a burden; what needs a GPU is imported over fakes in other tests."""
    assert "torch" not in third_party("ganrt.export.engines.post_processing")


def test_core_tests_are_collected_without_a_framework() -> None:
    """The fixtures and tests that need one import it, so that a test file in plain NumPy starts in a moment."""
    heavy = {"test_first_version.py", "test_transform_networks.py"}
    files = [str(path) for path in (Path(__file__).parent / "core").glob("test_*.py") if path.name not in heavy]
    done = subprocess.run([sys.executable, "-c", COLLECT, *files], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported"
