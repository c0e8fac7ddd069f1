"""What importing costs: numpy, and nothing else from outside."""

import subprocess
import sys

import pytest

REPORT = """
import sys
before = set(sys.modules)
import {module}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(name for name in names if name not in sys.stdlib_module_names))
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


def test_the_check_finds_what_it_looks_for() -> None:
    assert "onnx" in third_party("ganrt.backends.reference")


def test_an_engine_is_built_without_torch() -> None:
    """Of a machine with TensorRT, where torch is a burden; what needs a GPU is imported over fakes in other tests."""
    assert "torch" not in third_party("ganrt.export.engines.head")
