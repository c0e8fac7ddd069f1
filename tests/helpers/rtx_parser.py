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

MODULE = "tensorrt_rtx_bindings"
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


def require_parser() -> None:
    """Fail where the library is missing and could be installed; skip where there is no wheel of it."""
    if importlib.util.find_spec(MODULE) is not None:
        return
    if HERE not in PLATFORMS or sys.version_info[:2] > LAST_PYTHON or platform.python_implementation() != "CPython":
        python = f"{platform.python_implementation()} {platform.python_version()}"
        pytest.skip(f"there is no wheel of TensorRT for RTX for {python} on {HERE[0]} {HERE[1]}")
    pytest.fail(f"TensorRT for RTX is not installed, against which the linter is checked: {INSTALL}", pytrace=False)


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
    if done.returncode < 0 and len(verdicts) < len(files):
        yield Verdict("crash", f"the process ended with signal {-done.returncode}")
    elif done.returncode:
        raise AssertionError(done.stderr)


def _work(arguments: Sequence[str]) -> None:
    """The process of its own: verdicts as lines of JSON on what was standard output."""
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    trt: Any = importlib.import_module(MODULE)

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(text)

    log = Log()
    builder = trt.Builder(log)
    if arguments[0] == "--operators":
        parser = trt.OnnxParser(builder.create_network(0), log)
        results.write(" ".join(name for name in arguments[1:] if not parser.supports_operator(name)))
        return
    for file in arguments:
        log.errors.clear()
        stage, text = _compile(trt, builder, log, file)
        results.write(json.dumps([stage, text or " ".join(log.errors) if stage else ""]) + "\n")


def _compile(trt: Any, builder: Any, log: Any, file: str) -> tuple[str, str]:
    """The stage that refuses a graph, and what the parser says."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(file):
        return "parser", " ".join(parser.get_error(place).desc() for place in range(parser.num_errors))
    inputs = [network.get_input(place) for place in range(network.num_inputs)]
    if any(tensor.is_shape_tensor for tensor in inputs):  # would need values that fit
        return "", ""
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        shape = [2 if side < 0 else side for side in tensor.shape]
        profile.set_shape(tensor.name, shape, shape, shape)
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    assert config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return ("", "") if builder.build_serialized_network(network, config) is not None else ("builder", "")


if __name__ == "__main__":
    _work(sys.argv[1:])
