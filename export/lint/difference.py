"""Find the module whose graph computes something else than the module does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor, nn

from ganrt.backend import open_session
from ganrt.bundle import FAITHFUL, Bundle, Variant
from ganrt.feeds import Array, Feeds
from ganrt.session_config import SessionConfig
from ganrt.spec import Spec
from ganrt.stores import FolderStore
from ganrt.telemetry import no_telemetry

from ..passes import find_module_path
from ..tracing import EXAMPLES
from .findings import join_paths
from .freezing import find_freezing_place
from .rewrites import SIZES, find_rewrite

with no_telemetry():
    import onnxruntime as ort

_TOLERANCE = 1e-3

RunGraph: TypeAlias = Callable[[ir.Model, Feeds], Array]
"""Computes the only output of a graph. May raise anything."""


class ModuleValues(NamedTuple):
    """The values of a graph that a module takes and returns."""

    path: str
    """Path of the module."""
    takes: str | None
    """Name of its first input that is not constant."""
    returns: str
    """Name of its result."""


def map_modules(model: ir.Model) -> list[ModuleValues]:
    """Find the values of each module in a graph whose nodes are named after their modules. Of a module that is called
    several times, the last result counts."""
    members: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        parts = find_module_path(node).split(".")
        for count in range(1, len(parts) + 1):
            members.setdefault(".".join(parts[:count]), []).append(node)
    found = []
    for path, nodes in members.items():
        inside = set(nodes)
        results = [node.outputs[0] for node in nodes if _is_used_outside(node, inside)]
        taken = [
            value.name
            for node in nodes
            for value in node.inputs
            if value is not None and value.producer() not in inside and _is_computed(value)
        ]
        if results:
            found.append(ModuleValues(path, next(iter(taken), None), str(results[-1].name)))
    return found


def _is_used_outside(node: ir.Node, inside: set[ir.Node]) -> bool:
    value = node.outputs[0]
    used = value.is_graph_output() or any(use.node not in inside for use in value.uses())
    return used and value.dtype == ir.DataType.FLOAT


def _is_computed(value: ir.Value) -> bool:
    """Whether a value is float and depends on the inputs of the graph, as far as the node that made it shows."""
    producer = value.producer()
    constant = value.is_initializer() or (producer is not None and producer.op_type == "Constant")
    return not constant and value.dtype == ir.DataType.FLOAT


class _Call(NamedTuple):
    """What a module took and returned."""

    path: str
    takes: Array | None
    returns: Array


def find_first_difference(
    module: nn.Module,
    model: ir.Model,
    given: Feeds,
    run_graph: RunGraph | None = None,
    tolerance: float = _TOLERANCE,
    spec: Spec | None = None,
) -> str:
    """Path of the first module, in the order in which they finish, whose value in the graph differs from what the
    module returns, or cannot be computed; or the code around it, if that is the cause.

    Args:
        module: the PyTorch original.
        model: its graph, whose nodes are named after their modules.
        given: inputs for which the images differ.
        run_graph: computes a graph; default: ONNX Runtime on the CPU.
        tolerance: largest difference that rounding explains, as a fraction of the largest magnitude of a value.
        spec: of the module, to look for the line that fixes a batch size.
    """
    run = run_graph or run_on_onnxruntime
    where = _bisect_calls(module, model, given, run, tolerance)
    count = len(next(iter(given.values())))
    groups = [
        {name: rows[first : first + EXAMPLES] for name, rows in given.items()} for first in range(0, count, EXAMPLES)
    ]
    alone = count > EXAMPLES and all(_is_right(module, model, few, run, tolerance) for few in groups)
    if alone and not _is_right(module, model, given, run, tolerance):
        line = find_freezing_place(module, spec, 0, 0).line if spec else None
        instead = find_rewrite(SIZES, line) or "take the batch size from the input there"
        where += f" ({line.quote()})" if line else ""
        where += f"; {EXAMPLES} samples are right, as many as were traced: {instead}"
    return where


def _is_right(module: nn.Module, model: ir.Model, given: Feeds, run: RunGraph, tolerance: float) -> bool:
    *_, whole = _record_calls(module, given)
    return not _differs(run, model, given, whole.returns, tolerance)


def _bisect_calls(module: nn.Module, model: ir.Model, given: Feeds, run: RunGraph, tolerance: float) -> str:
    values = {found.path: found for found in map_modules(model)}
    present = {value.name for node in model.graph for value in node.outputs}
    calls = [call for call in _record_calls(module, given) if call.path in values]
    if not calls:
        return "forward"

    def differs(name: str | None, expected: Array | None) -> bool:
        if name is None or expected is None or name not in present:
            return False
        return _differs(run, extract_value(model, name), given, expected, tolerance)

    low, high = 0, len(calls)
    while low < high:  # a wrong value stays wrong in what is computed from it
        middle = (low + high) // 2
        if differs(values[calls[middle].path].returns, calls[middle].returns):
            high = middle
        else:
            low = middle + 1
    if low == len(calls):
        return f"{_name_parent('')} behind {join_paths([calls[-1].path])}"
    first = calls[low]
    if differs(values[first.path].takes, first.takes):
        return f"{_name_parent(first.path.rpartition('.')[0])} before {join_paths([first.path])}"
    return join_paths([first.path])


def _differs(run: RunGraph, model: ir.Model, given: Feeds, expected: Array, tolerance: float) -> bool:
    try:
        found = run(model, given)
    except Exception:  # of any library: what cannot be computed differs
        return True
    if found.shape != expected.shape:
        return found.size != expected.size  # the exporter may move a reshape across the border of a module
    largest = max(float(np.abs(expected).max(initial=0.0)), 1e-30)
    return not np.abs(found.astype(np.float64) - expected).max(initial=0.0) <= tolerance * largest


def _name_parent(path: str) -> str:
    return f"forward of {join_paths([path])}"


def extract_value(model: ir.Model, name: str) -> ir.Model:
    """A copy of a graph that computes one of its values, as its only output."""
    copy = model.clone()
    output = copy.graph.outputs[0]
    value = next(value for node in copy.graph for value in node.outputs if value.name == name)
    if value is not output:
        wanted, output.name = output.name, f"{output.name}.whole"
        node = ir.Node("", "Identity", [value], num_outputs=1)
        node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = wanted, value.type, value.shape
        copy.graph.append(node)
        copy.graph.outputs[:] = [node.outputs[0]]
        RemoveUnusedNodesPass()(copy)
    return copy


def make_backend_runner(spec: Spec, config: SessionConfig) -> RunGraph:
    """Return a function that computes graphs with the inputs of a Spec on a backend."""

    def run(model: ir.Model, given: Feeds) -> Array:
        with tempfile.TemporaryDirectory() as folder:
            ir.save(model, Path(folder) / "model.onnx", external_data="model.onnx.data")
            variant = Variant("model.onnx", model.opset_imports[""], "fp32")
            files = [path.name for path in Path(folder).iterdir()]
            bundle = Bundle(FolderStore(Path(folder)), spec, {FAITHFUL: variant}, {}).with_files(*files)
            with open_session(bundle, replace(config, variant=FAITHFUL)) as session:
                feeds = {item.name: given[item.name] for item in spec.inputs}
                result: Array = session.submit(feeds).wait()[spec.output.name]
                return result

    return run


def run_on_onnxruntime(model: ir.Model, given: Feeds) -> Array:
    """Compute the first output of a graph without optimizations of the graph."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    run = ort.RunOptions()
    run.log_severity_level = 4
    names = {item.name for item in session.get_inputs()}
    result: Array = session.run(None, {name: array for name, array in given.items() if name in names}, run)[0]
    return result


def _record_calls(module: nn.Module, given: Feeds) -> list[_Call]:
    """The last call of each module that returns a float tensor, in the order in which they finish."""
    calls: dict[str, _Call] = {}
    handles = []
    for name, part in module.named_modules():

        def leave(part: nn.Module, args: Any, result: Any, name: str = name) -> None:
            if isinstance(result, Tensor) and result.is_floating_point():
                taken = next((a for a in args if isinstance(a, Tensor) and a.is_floating_point()), None)
                calls.pop(name, None)
                copies = [None if value is None else value.detach().numpy().copy() for value in (taken, result)]
                calls[name] = _Call(name, copies[0], np.asarray(copies[1]))

        handles.append(part.register_forward_hook(leave))
    try:
        with torch.no_grad():
            module(*(torch.from_numpy(array) for array in given.values()))
    finally:
        for handle in handles:
            handle.remove()
    return list(calls.values())
