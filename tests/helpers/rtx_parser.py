"""NVIDIA's ONNX parser and compiler, from TensorRT for RTX, which need no GPU.

They run in a process of their own: the library prints to standard output, and some graphs crash it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import onnx
import pytest

from ganrt.gpu import Library, load_tensorrt_rtx

INSTALL = "pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"
PLATFORMS = {("linux", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64")}
LAST_PYTHON = (3, 14)
"""What the wheels are made for: CPython from 3.10 on."""
HERE = (sys.platform, platform.machine())


class Verdict(NamedTuple):
    """What NVIDIA's library says of a graph."""

    stage: str
    """Where the graph is refused: `parser`, `builder`, or `crash` if the process dies; "" if it is accepted."""
    text: str
    """The errors of that stage."""


def require_library(modules: Sequence[str]) -> None:
    """Fail where none of the modules is installed; skip where there is no wheel of them."""
    if any(importlib.util.find_spec(name) is not None for name in modules):
        return
    if HERE not in PLATFORMS or sys.version_info[:2] > LAST_PYTHON or platform.python_implementation() != "CPython":
        python = f"{platform.python_implementation()} {platform.python_version()}"
        pytest.skip(f"there is no wheel of TensorRT for RTX for {python} on {HERE[0]} {HERE[1]}")
    pytest.fail(f"TensorRT for RTX is not installed: {INSTALL}", pytrace=False)


def parse_graphs(models: Sequence[onnx.ModelProto]) -> list[Verdict]:
    """Parse graphs and compile those that the parser accepts, for an RTX GPU of the Ada generation."""
    with TemporaryDirectory() as name:
        files = [Path(name) / f"{place}.onnx" for place in range(len(models))]
        for file, model in zip(files, models, strict=True):
            file.write_bytes(model.SerializeToString())
        verdicts: list[Verdict] = []
        while len(verdicts) < len(files):  # a crash ends the process: go on behind the graph that caused it
            verdicts += _run_worker(files[len(verdicts) :])
        return verdicts


def list_unsupported_operators(names: Sequence[str]) -> set[str]:
    """Those of ONNX's operators for which the parser has no function."""
    done = subprocess.run([sys.executable, __file__, "--operators", *names], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def _run_worker(files: Sequence[Path]) -> Iterator[Verdict]:
    """The verdicts up to the first crash, which is the last of them."""
    done = subprocess.run([sys.executable, __file__, *map(str, files)], capture_output=True, text=True)
    verdicts = [Verdict(*json.loads(line)) for line in done.stdout.splitlines()]
    yield from verdicts
    if len(verdicts) < len(files):
        if done.returncode >= 0:
            raise AssertionError(done.stderr)
        yield Verdict("crash", f"the process ended with signal {-done.returncode}")


def _work(arguments: Sequence[str]) -> None:
    """The process of its own: verdicts as lines of JSON on what was standard output."""
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    library = load_tensorrt_rtx()
    builder = library.trt.Builder(library.log)
    if arguments[0] == "--operators":
        parser = library.trt.OnnxParser(builder.create_network(0), library.log)
        results.write(" ".join(name for name in arguments[1:] if not parser.supports_operator(name)))
        return
    for file in arguments:
        stage = _find_refusal(library, builder, file)
        errors = library.log.take_errors()
        results.write(json.dumps([stage, errors if stage else ""]) + "\n")


def _find_refusal(library: Library, builder: Any, file: str) -> str:
    """The stage that refuses a graph."""
    trt = library.trt
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    if not trt.OnnxParser(network, library.log).parse_from_file(file):
        return "parser"
    inputs = [network.get_input(place) for place in range(network.num_inputs)]
    if any(tensor.is_shape_tensor for tensor in inputs):  # would need values that fit
        return ""
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        shape = [2 if side < 0 else side for side in tensor.shape]
        profile.set_shape(tensor.name, shape, shape, shape)
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    assert config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return "" if builder.build_serialized_network(network, config) is not None else "builder"


if __name__ == "__main__":
    _work(sys.argv[1:])
