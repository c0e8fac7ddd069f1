"""ONNX files that other tools wrote, taken as originals: read, checked, and run as they are.

The file's own graph, computed by ONNX Runtime in float32 without optimizations, is what every variant is compared with.
A file for a fixed batch is run in batches of that size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import InlinePass, RemoveInitializersFromInputsPass
from torch import Tensor, nn

from ganrt.backend import first_line
from ganrt.errors import CheckpointError, RequestError
from ganrt.feeds import Array
from ganrt.spec import Spec
from ganrt.telemetry import no_telemetry

from .onnx_interface import fit_interface

with no_telemetry():
    import onnxruntime as ort

_LARGEST = 2**31 - 1
"""Bytes of a graph with its weights: ONNX Runtime gets them as one protobuf message."""
_QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
_BRANCHING = ("If", "Loop", "Scan")
_REASONS = {
    _QUANTIZED: "the graph is quantized; take the one in float32, which `--precision int8` quantizes and proves",
    _RANDOM: "it draws random numbers, which no seed of a sample decides; make them an input of the graph",
    _BRANCHING: "this is control flow, which graph passes cannot follow; export the model by tracing",
}
_PRECISIONS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
"""Instead of float32."""
_FREE_INITIALIZERS = 4
"""The first version of the format in which weights need not be inputs."""
_BYTES = (ir.DataType.UINT8, ir.DataType.INT8)
_CHANNELS = (1, 3, 4)
_OTHER_FILES = (b"PK\x03\x04", b"\x80", b"<", b"version ", b"\x1f\x8b", b"\x89HDF")
"""How files begin that are no ONNX models, whatever their name says: of PyTorch, web pages, pointers of Git LFS,
compressed ones, of Keras."""
_FIRST_FIELD = 0x08
"""An ONNX file starts with the version of the format, a number."""
_SECOND_FIELDS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


@dataclass(frozen=True)
class GraphFile:
    """A checked ONNX file."""

    path: Path
    model: ir.Model
    """As the file has it, with its weights in memory; functions are inlined, and initializers are no inputs."""
    sha256: str
    """Of the file, and of its external data."""


def is_graph_file(path: Path) -> bool:
    """Whether a file looks like an ONNX model: by its name, unless it begins as files of another kind do, or by its
    first two fields."""
    with path.open("rb") as file:
        start = file.read(8)
    if path.suffix.lower() == ".onnx":
        return not start.startswith(_OTHER_FILES)
    return len(start) > 2 and start[0] == _FIRST_FIELD and start[1] < 32 and start[2] in _SECOND_FIELDS


def read_graph_file(path: Path) -> GraphFile:
    """Read and check an ONNX file.

    Raises CheckpointError for a file that is damaged, too large or no ONNX model; RequestError for a graph that cannot
    be an original: quantized, in another precision than float32, with random numbers, control flow or operators that
    are not ONNX's own.
    """
    try:
        model = ir.load(path)
        parts = _list_external_files(model)
        missing = next((part for part in parts if not part.is_file()), None)
        if missing is not None:
            raise CheckpointError(
                f"{path} has weights in {missing.name}, which is not beside it: put both in one folder"
            )
        size = sum(part.stat().st_size for part in (path, *parts))
        if size > _LARGEST:
            raise CheckpointError(f"{path} has {size / 2**30:.1f} GiB of weights; at most 2 GiB can be taken")
        digest = _digest_files([path, *parts])
        ir.external_data.load_to_model(model)
        onnx.checker.check_model(ir.to_proto(model))
    except CheckpointError:
        raise
    except Exception as error:  # what parsers raise for a damaged file has no common class
        raise CheckpointError(f"{path} cannot be read as an ONNX model: {first_line(error)}") from error
    InlinePass()(model)
    RemoveInitializersFromInputsPass()(model)  # files of 2019 and before list their weights as inputs
    model.ir_version = max(model.ir_version, _FREE_INITIALIZERS)
    problem = next(_find_problems(model), None)
    if problem:
        raise RequestError(f"{path} cannot be exported: {problem}")
    return GraphFile(path, model, digest)


def _list_external_files(model: ir.Model) -> list[Path]:
    """Files of weights beside the graph. Their places were checked when the graph was read: none is outside its
    folder."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return sorted({Path(tensor.path) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)})


def _digest_files(paths: list[Path]) -> str:
    """sha256 of one file, or of the digests of several."""
    digests = [hashlib.sha256(path.read_bytes()) for path in paths]
    joined = hashlib.sha256(b"".join(digest.digest() for digest in digests))
    return (digests[0] if len(digests) == 1 else joined).hexdigest()


def _find_problems(model: ir.Model) -> Iterator[str]:
    nodes = list(model.graph.all_nodes())
    foreign = next((node for node in nodes if node.domain not in ("", "ai.onnx")), None)
    if foreign is not None:
        yield (
            f"{_describe_node(foreign)} is an operator of {foreign.domain}, not of ONNX; take the file as it was "
            "before it was optimized for a runtime"
        )
    for kinds, reason in _REASONS.items():
        yield from (f"{_describe_node(node)}: {reason}" for node in nodes if node.op_type in kinds)
    weights = [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]
    for dtype in [*(value.dtype for value in model.graph.inputs), *(tensor.dtype for tensor in weights)]:
        if dtype in _PRECISIONS:
            yield f"it is in {dtype.name.lower()}; take the one in float32, which `--precision` makes others from"

    for kind, values in (("input", model.graph.inputs), ("output", model.graph.outputs)):
        for value in values:
            if value.dtype in _BYTES:
                yield (
                    f"its {kind} {value.name} holds bytes; take the file in which pictures are float32, before a "
                    "conversion to bytes was added at its ends: ganrt makes that of the range in the Spec"
                )


def _describe_node(node: ir.Node) -> str:
    return f"{node.op_type} {node.name}" if node.name else node.op_type


def choose_output(file: GraphFile, name: str | None = None) -> ir.Value:
    """The output that is the image.

    Args:
        name: of the output; None for the only one that can be a picture.

    Raises RequestError, naming the outputs, if there is none of that name, or not exactly one image.
    """
    outputs = {str(value.name): value for value in file.model.graph.outputs}
    if name is not None:
        if name not in outputs:
            raise RequestError(f"{file.path} has no output {name!r}; it makes {', '.join(outputs)}")
        return outputs[name]
    pictures = [key for key, value in outputs.items() if _may_be_picture(value)]
    made = ", ".join(f"{key} {value.shape or ''}".strip() for key, value in outputs.items())
    if not pictures:
        raise RequestError(f"{file.path} makes {made}, and none is a picture: (N, C, H, W) of 1, 3 or 4 channels")
    if len(pictures) > 1:
        raise RequestError(f"{file.path} makes {made}; name the one that is the image: --config output={pictures[0]}")
    return outputs[pictures[0]]


def _may_be_picture(value: ir.Value) -> bool:
    """Whether an output can be a picture, as far as its shape is known: channels first or last, with a batch or not."""
    if value.shape is None:
        return True
    sides = list(value.shape)[-3:]
    if len(sides) < 3 or len(value.shape) > 4 or sides.count(1) > 1:
        return False
    return not isinstance(sides[0], int) or sides[0] in _CHANNELS or sides[2] in _CHANNELS


def read_batch(file: GraphFile) -> int | None:
    """The batch that a file is for; None if it takes any. An input without a batch counts as one of 1.

    Raises RequestError for inputs of several batches.
    """
    fixed: set[int] = set()
    for value in file.model.graph.inputs:
        sides = list(value.shape) if value.shape is not None else []
        if len(sides) in (2, 4) and isinstance(sides[0], int):
            fixed.add(sides[0])
        elif len(sides) in (1, 3) and value.dtype == ir.DataType.FLOAT and isinstance(sides[0], int):
            fixed.add(1)
    if len(fixed) > 1:
        raise RequestError(f"{file.path} takes inputs whose first sides are {sorted(fixed)}; each must be the batch")
    return fixed.pop() if fixed else None


class GraphModule(nn.Module):
    """An ONNX file as a module: the inputs of the Spec -> images, float32 NCHW. Raises RequestError for inputs that are
    not those of the Spec, and if ONNX Runtime cannot load the graph."""

    def __init__(self, file: GraphFile, output: str, spec: Spec) -> None:
        super().__init__()
        self._path, self._names = file.path, [item.name for item in spec.inputs]
        self._batch = read_batch(file)
        model = fit_interface(file.model, output, spec, self._batch)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4  # it raises its errors too
        content = ir.to_proto(model).SerializeToString()
        try:
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise RequestError(f"{file.path} cannot be loaded by ONNX Runtime: {first_line(error)}") from error

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the graph, in batches of the size that it is for. Raises RequestError with ONNX Runtime's reason where it
        fails."""
        given = {name: value.numpy() for name, value in zip(self._names, inputs, strict=True)}
        rows = len(inputs[0])
        step = self._batch or rows
        made = [self._run(_take_rows(given, first, step)) for first in range(0, rows, step)]
        return torch.from_numpy(np.concatenate(made)[:rows])

    def _run(self, given: dict[str, Array]) -> Array:
        try:
            return cast(Array, self._session.run(None, given)[0])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            raise RequestError(f"{self._path} fails with {shapes}: {first_line(error)}") from error


def _take_rows(given: Mapping[str, Array], first: int, rows: int) -> dict[str, Array]:
    """Rows of all inputs; beyond the last one, it is repeated."""
    last = len(next(iter(given.values()))) - 1
    places = np.minimum(np.arange(first, first + rows), last)
    return {name: np.ascontiguousarray(array[places]) for name, array in given.items()}
