"""Graphs of one node, written as short as a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper


class Given(NamedTuple):
    """An input of the graph that is not float32, or whose sides are not all known."""

    shape: Sequence[int | str]
    dtype: npt.DTypeLike = np.float32


Source = tuple[int, ...] | Given | np.ndarray | None
"""An input of a node: the shape of a float32 input of the graph, another input, a constant, or nothing."""


class Case(NamedTuple):
    """A graph of one node and what it has, for messages."""

    name: str
    model: onnx.ModelProto


def case(
    operator: str, *sources: Source, opset: int = 20, outputs: int = 1, domain: str = "", **attributes: Any
) -> Case:
    """A graph of one node, whose outputs are those of the graph."""
    names, inputs, constants = [], [], []
    for place, source in enumerate(sources):
        name = "" if source is None else f"x{place}"
        names.append(name)
        if isinstance(source, np.ndarray):
            constants.append(numpy_helper.from_array(source, name))
        elif source is not None:
            shape, dtype = source if isinstance(source, Given) else Given(source)
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            inputs.append(helper.make_tensor_value_info(name, kind, shape))
    made = [f"y{place}" for place in range(outputs)]
    node = helper.make_node(operator, names, made, domain=domain, **attributes)
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=name) for name in made], constants)
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    for value in model.graph.output:
        if not value.type.WhichOneof("value"):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    settings = [f"{name}={value}" for name, value in attributes.items()]
    return Case(" ".join([operator, *map(_describe, sources), *settings, f"opset={opset}"]), model)


def share_input(made: Case, place: int, other: int) -> Case:
    """The case with one input of its node in place of another."""
    model = onnx.ModelProto.FromString(made.model.SerializeToString())
    model.graph.node[0].input[place] = f"x{other}"
    kept = [value for value in model.graph.input if value.name != f"x{place}"]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return Case(f"{made.name} input {place} = input {other}", model)


def convert_to_half(made: Case) -> Case:
    """The case in float16; the scales of a resize stay in float32, as they must."""
    model = onnx.ModelProto.FromString(made.model.SerializeToString())
    graph = model.graph
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for constant in graph.initializer:
        if constant.data_type == TensorProto.FLOAT and graph.node[0].op_type not in ("Resize", "Upsample"):
            half = numpy_helper.to_array(constant).astype(np.float16)
            constant.CopyFrom(numpy_helper.from_array(half, constant.name))
    return Case(f"{made.name} in float16", model)


def _describe(source: Source) -> str:
    if source is None:
        return "-"
    if isinstance(source, np.ndarray):
        return f"constant{list(source.shape)}" if source.size > 10 else f"constant{source.tolist()}"
    shape, dtype = source if isinstance(source, Given) else Given(source)
    return f"{np.dtype(dtype).name}{list(shape)}"
