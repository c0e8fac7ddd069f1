"""NVRTC, the compiler of GPU machines, compiles both CUDA sources for every architecture. It needs no GPU."""

import json
import re
import subprocess
import sys
from importlib.resources import files

import pytest

SCRIPT = """
import json
import sys
from types import SimpleNamespace

import cuda.core as core
from cuda.bindings import nvrtc

from ganrt.gpu import latents, pictures
from ganrt.gpu.device import Gpu

real_program = core.Program


class Program:
    # Loading machine code needs a driver, so only its names are looked at.
    def __init__(self, *arguments):
        self.program = real_program(*arguments)

    def compile(self, kind):
        code = self.program.compile(kind).code
        return SimpleNamespace(get_kernel=lambda name: kind if f".text.{name}\\0".encode() in code else None)


core.Program = Program
status, *known = nvrtc.nvrtcGetSupportedArchs()
found = {}
for architecture in json.loads(sys.argv[1]):
    if architecture in known[-1]:
        gpu = object.__new__(Gpu)
        gpu.capability = f"{architecture // 10}.{architecture % 10}"
        kernels = gpu.compile(latents.read_source(), latents._KERNELS)
        found[architecture] = kernels | gpu.compile(pictures.read_source(), (pictures._KERNEL,))
print(json.dumps(found))
"""
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 120, 121)
LEAST = {75, 80, 86, 89, 90, 120}
"""Architectures that every version of NVRTC 13 has."""


@pytest.fixture(scope="module")
def compiled() -> dict[int, dict[str, str]]:
    """Architecture -> name of each kernel -> the kind of code that has it. In a process of its own, because other tests
    replace cuda-core."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(ARCHITECTURES)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return {int(architecture): kernels for architecture, kernels in json.loads(run.stdout).items()}


def test_both_sources_compile_for_every_architecture(compiled: dict[int, dict[str, str]]) -> None:
    assert set(compiled) >= LEAST
    sources = (path.read_text() for path in files("ganrt.gpu").iterdir() if path.name.endswith(".cu"))
    names = re.findall(r"__global__ void (\w+)", "".join(sources))
    assert len(names) == 7
    assert all(found == dict.fromkeys(names, "cubin") for found in compiled.values()), compiled
