"""float16 in the graph itself: weights and tensors of chosen operators, and casts where they meet the others.

The types are consistent in the strict sense: every operator takes and makes one floating type, so a strongly typed
network can be built from the graph as it is. Inputs and outputs stay float32. Parts that stay float32 are called
islands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from onnx.defs import OpSchema
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    NameFixPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
)

from ganrt.errors import VerificationError

LARGEST = float(np.finfo(np.float16).max)
"""65504."""

_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum")
"""Where the work is: never float32 only because their neighbours are."""
MOVING = (
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
"""Round nothing, whatever their type."""
_OF_ANY_TYPE = ("Shape", "Size")
"""Look at no value."""
_TYPED_BY_ATTRIBUTE = ("Cast", "ConstantOfShape")

_HALF = "tensor(float16)"


class Fp16Positions(NamedTuple):
    """Which inputs and outputs of an operator are float16 when it computes in float16."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def prepare_graph(model: ir.Model) -> ir.Model:
    """A copy in which constants are initializers, every node has a name of its own, and every type is known, as the
    functions below expect it. Raises VerificationError for what they cannot work on."""
    model = model.clone()
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    NameFixPass()(model)
    ShapeInferencePass()(model)
    for node in model.graph:
        kinds = {attribute.type for attribute in node.attributes.values()}
        if kinds & {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}:
            raise VerificationError(
                f"fp16 was asked for, but this graph has control flow ({node.op_type} {node.name}), which ganrt does "
                "not convert; export it in fp32"
            )
        unknown = [value.name for value in node.outputs if value.dtype is None]
        if unknown:
            raise VerificationError(
                f"fp16 was asked for, but the type of {unknown[0]}, made by {node.op_type} {node.name}, is not known; "
                "export it in fp32"
            )
    return model


def find_convertible_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes of a prepared graph that could compute in float16, in their order; those that only move values are
    left out, because they take the type of their neighbours."""
    return [node for node in model.graph if node.op_type not in MOVING and find_fp16_positions(node)]


def find_fp16_positions(node: ir.Node) -> Fp16Positions | None:
    """Where a node of a prepared graph would be float16; None when it has no float16 form, or no floats."""
    if node.domain != "" or node.op_type in _OF_ANY_TYPE:
        return None
    assert node.graph is not None
    schema = onnx.defs.get_schema(node.op_type, node.graph.opset_imports[""], "")
    allowing = {t.type_param_str for t in schema.type_constraints if _HALF in t.allowed_type_strs}
    inputs = [
        (place, kind)
        for place, (value, kind) in enumerate(zip(node.inputs, _list_types(schema.inputs), strict=False))
        if is_float(value)
    ]
    fp16_kinds = {kind for _, kind in inputs if kind in allowing}
    outputs = [
        (place, kind)
        for place, (value, kind) in enumerate(zip(node.outputs, _list_types(schema.outputs), strict=False))
        if is_float(value)
    ]
    decided = fp16_kinds | (allowing if node.op_type in _TYPED_BY_ATTRIBUTE else set())
    if not (fp16_kinds or outputs) or any(kind not in decided for _, kind in outputs):
        return None
    return Fp16Positions(
        tuple(place for place, kind in inputs if kind in fp16_kinds), tuple(place for place, _ in outputs)
    )


def extend_islands(model: ir.Model, kept: Collection[str], moving_alone: bool = False) -> set[str]:
    """The names in `kept`, and those of nodes that would only cost casts in float16.

    These are cheap operators all of whose sources and users (the output among them) are float32 already, alone or in
    chains, and operators that only move values which come in float32 and are used in float32. Left in float16, the
    first would be cast down and up again around little work, the second around none.

    Args:
        kept: names of the nodes of a prepared graph that stay float32.
        moving_alone: whether only nodes that round nothing may join.
    """
    nodes = {node.name: node for node in model.graph}
    may = {
        name
        for name, node in nodes.items()
        if name not in kept
        and node.op_type not in _PRODUCTS
        and (node.op_type in MOVING or not moving_alone)
        and find_fp16_positions(node)
    }
    while True:  # until nothing has to leave: a chain stays only if both its ends are islands
        single = may.union(kept)
        leave = {name for name in may if not _stays_fp32(nodes[name], single)}
        if not leave:
            return {name for name in single if name is not None}
        may -= leave


def _stays_fp32(node: ir.Node, single: Collection[str | None]) -> bool:
    """Whether a node has float32 on the sides that decide."""
    found = find_fp16_positions(node)
    assert found is not None
    moving = node.op_type in MOVING
    sources = [value for value in (node.inputs[place] for place in found.inputs) if not _is_weight(value)]
    made = [node.outputs[place] for place in found.outputs]
    before = [
        moving if producer is None else producer.name in single
        for producer in (value.producer() for value in sources if value is not None)
    ]
    after = [use.node.name in single for value in made for use in value.uses()]
    after += [True for value in made if value.is_graph_output()]
    return all(before) and (any if moving else all)(after)


def convert_nodes(model: ir.Model, kept: Collection[str]) -> ir.Model:
    """A copy of a prepared graph in which every node computes in float16 that can, but for those of these names.

    Raises VerificationError when the types of the result are not consistent: a defect of ganrt.
    """
    model = model.clone()
    casts = _Casts(model.graph)
    for node in list(model.graph):
        found = None if node.name in kept else find_fp16_positions(node)
        if node.domain == "" and node.op_type in _OF_ANY_TYPE:
            continue
        for place, value in enumerate(node.inputs):
            if value is not None and (is_float(value) or value in casts.in_fp16):
                node.replace_input_with(place, casts.convert(value, found is not None and place in found.inputs))
        if found is not None:
            _retype(node)
            casts.in_fp16.update(node.outputs[place] for place in found.outputs)
    casts.restore_outputs()
    for value in casts.in_fp16:
        value.type = ir.TensorType(ir.DataType.FLOAT16)  # not `dtype`: copies of a graph share their types
    RemoveUnusedNodesPass()(model)  # and the float32 weights
    NameFixPass()(model)
    _check_types(model)
    return model


class _Casts:
    """Conversions of values, each made once and shared by all who need it."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._first = graph[0]
        self._made: dict[ir.Value, ir.Value] = {}
        self.in_fp16: set[ir.Value] = set()
        """What is float16 from its beginning; its type is set when all nodes have been converted."""

    def convert(self, value: ir.Value, half: bool) -> ir.Value:
        """A value in float16 or float32."""
        if half == (value in self.in_fp16):
            return value
        if value not in self._made:
            self._made[value] = self._convert_weight(value) if _is_weight(value) else self._add_cast(value, half)
        return self._made[value]

    def _add_cast(self, value: ir.Value, half: bool) -> ir.Value:
        kind = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
        cast = ir.node("Cast", [value], {"to": int(kind)})
        made = cast.outputs[0]
        made.name, made.shape, made.dtype = f"{value.name}.{'half' if half else 'single'}", value.shape, kind
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._first, cast)
        else:
            self._graph.insert_after(producer, cast)
        return made

    def _convert_weight(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None
        array = convert_to_fp16(value.const_value.numpy())
        made = ir.Value(name=f"{value.name}.half", const_value=ir.tensor(array, name=f"{value.name}.half"))
        made.dtype, made.shape = ir.DataType.FLOAT16, ir.Shape(array.shape)
        self._graph.register_initializer(made)
        return made

    def restore_outputs(self) -> None:
        """Make the outputs of the graph float32 again, under their names."""
        for place, value in enumerate(self._graph.outputs):
            if value in self.in_fp16:
                name, made = value.name, self.convert(value, half=False)
                value.name, made.name = f"{name}.half", name
                self._graph.outputs[place] = made


def convert_to_fp16(array: np.ndarray) -> np.ndarray:
    """Rounded to float16; infinite where it is out of range."""
    with np.errstate(over="ignore", under="ignore"):
        return array.astype(np.float16)


def _retype(node: ir.Node) -> None:
    """Change the attribute that sets the type of what a node makes."""
    if node.op_type == "Cast" and is_float(node.outputs[0]):
        node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT16))
    elif node.op_type == "ConstantOfShape":
        filling = node.attributes.get("value")
        array = np.zeros(1, np.float32) if filling is None else filling.as_tensor().numpy()
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(convert_to_fp16(array)))


def is_float(value: ir.Value | None) -> bool:
    """Whether a value is a float32 tensor."""
    return value is not None and value.dtype == ir.DataType.FLOAT


def _is_weight(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer()


def _list_types(parameters: Sequence[OpSchema.FormalParameter]) -> Iterator[str]:
    """The type, or the name of the type variable, of each input or output; the last may stand for many."""
    for parameter in parameters:
        yield parameter.type_str
    while parameters and parameters[-1].option == OpSchema.FormalParameterOption.Variadic:
        yield parameters[-1].type_str


def _check_types(model: ir.Model) -> None:
    """ONNX's own rules, with every type inferred anew and compared with what the graph says."""
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(
            f"the conversion to float16 made a graph that is not valid ONNX; please report this: {error}"
        ) from error
