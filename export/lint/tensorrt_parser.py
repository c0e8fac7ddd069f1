"""Which operators TensorRT's ONNX parser rejects, and in which versions.

From onnx/onnx-tensorrt (docs/operators.md of 8.5, 9.2 and 10.15, docs/Changelog.md up to 10.15, the sources of 8.6 to
10.1) and the release notes of 11.0 to 11.5. What is said of all versions, and of TensorRT for RTX, was tried with
TensorRT for RTX 1.7, which has the parser of 11 and no plugins. ganrt's TensorRT backend runs 8.6 to 11; JetPack 5 has
8.5. What is said of OpenVINO was tried on 2026.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import onnx_ir as ir

from ..passes import read_attribute, read_constant, read_shape

_ALWAYS = "in all versions up to 11"

_NEVER = """
    AffineGrid Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CausalConvWithState CenterCropPad
    Col2Im Compress ConcatFromSequence ConvInteger CumProd Det DynamicQuantizeLinear ImageDecoder LinearAttention
    MatMulInteger MaxRoiPool MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement
    OptionalHasElement QLinearConv QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase
    SequenceInsert SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer
    StringSplit SwiGLU TfIdfVectorizer Unique"""
"""No version supports them."""

_SINCE = {
    "LayerNormalization": "8.6",
    "GroupNormalization": "8.6",
    "IsInf": "8.6",
    "Hardmax": "10.0",
    "CastLike": "10.0",
    "Gelu": "10.0",
    "Mish": "10.0",
    "DeformConv": "10.1",
    "BlackmanWindow": "10.4",
    "HammingWindow": "10.4",
    "HannWindow": "10.4",
    "STFT": "10.5",
    "Attention": "10.14",
    "RMSNormalization": "10.15",
    "RotaryEmbedding": "10.15",
    "TensorScatter": "10.15",
    "Swish": "11.0",
    "DFT": "11.2",
}
"""First version of the lines 8, 10 and 11 that supports an operator."""

_PLUGINS = ("DFT", "DeformConv", "NonZero", "RoiAlign")
"""Supported by a plugin, which TensorRT for RTX does not have."""

_REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"
_COMPUTED_AXES = {
    "Pad": (3, "before version 10.4"),
    "Slice": (3, "before version 10.3"),
    "CumSum": (1, "before version 10.8"),
    **dict.fromkeys(
        ("Squeeze", "Unsqueeze"), (1, "before version 10.7, and in later ones unless they fold to a constant")
    ),
    **dict.fromkeys([f"Reduce{kind}" for kind in _REDUCTIONS.split()], (1, _ALWAYS)),
}
"""Which input holds axes, and the versions that reject axes that are no constant."""

_GROUP_NORM_CHANGED = 21
"""Operator set since which GroupNormalization has a scale per channel."""

_NEWEST_OPSETS = (("8.6", 17), ("10.0", 20), ("10.15", 24), ("11.5", 25))
"""Newest operator set that a version documents."""
_USUAL_OPSET = 20

_MOST_OF_TOP_K = 3840


def list_rejections(node: ir.Node, opset: int) -> Iterator[str]:
    """The reasons why a node of an operator set is rejected, with the versions; none if all versions accept it."""
    operator = node.op_type
    if node.domain not in ("", "ai.onnx"):
        yield f"TensorRT's parser rejects {node.domain}.{operator} without a plugin of that name"
        return
    if operator in _NEVER.split():
        yield f"TensorRT's parser rejects {operator} {_ALWAYS}"
    elif operator == "GroupNormalization" and opset >= _GROUP_NORM_CHANGED:
        yield f"TensorRT's parser rejects GroupNormalization of operator set {opset} before version 10.9"
    elif operator in _SINCE:
        yield f"TensorRT's parser rejects {operator} before version {_SINCE[operator]}"
    if operator in _PLUGINS:
        yield f"TensorRT for RTX rejects {operator}, which is a plugin of TensorRT"
    if operator in _COMPUTED_AXES:
        yield from _check_computed_axes(node)
    if operator in _CONDITIONS:
        yield from _CONDITIONS[operator](node)


def describe_new_opset(version: int) -> str:
    """A warning for an operator set that is newer than the usual one; "" for others."""
    if version <= _USUAL_OPSET:
        return ""
    newest = ", ".join(f"{name} to {last}" for name, last in _NEWEST_OPSETS)
    return f"operator set {version}: TensorRT documents {newest}. --opset {_USUAL_OPSET} is the safest choice"


def _find_input(node: ir.Node, place: int) -> ir.Value | None:
    return node.inputs[place] if len(node.inputs) > place else None


def _check_computed_axes(node: ir.Node) -> Iterator[str]:
    place, versions = _COMPUTED_AXES[node.op_type]
    axes = _find_input(node, place)
    if axes is not None and read_constant(axes) is None:
        yield f"TensorRT's parser rejects {node.op_type} with computed axes {versions}"


def _check_resize(node: ir.Node) -> Iterator[str]:
    modes = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
    coordinates = read_attribute(node, "coordinate_transformation_mode", "half_pixel")
    if read_attribute(node, "antialias", 0):
        yield (
            f"TensorRT's parser rejects Resize with antialias {_ALWAYS}, and OpenVINO 2026.4 makes another picture of "
            "it; interpolate without it"
        )
    if coordinates not in modes:
        yield f"TensorRT's parser rejects Resize with the coordinates {coordinates} {_ALWAYS}"
    rounding = read_attribute(node, "nearest_mode", "round_prefer_floor")
    if coordinates == "tf_half_pixel_for_nn" and rounding != "round_prefer_floor":
        yield f"TensorRT's parser rejects Resize with the coordinates {coordinates} and {rounding} {_ALWAYS}"
    if read_attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        yield f"TensorRT's parser rejects Resize that keeps the aspect ratio {_ALWAYS}"
    mode = read_attribute(node, "mode", "nearest")
    scales = read_constant(_find_input(node, 2))
    most = {"linear": 3, "cubic": 2}.get(mode)
    if most is not None and scales is not None and any(scales[:-most] != 1):
        yield f"TensorRT's parser rejects Resize in {mode} mode of other axes than the last {most} {_ALWAYS}"


def _check_pad(node: ir.Node) -> Iterator[str]:
    if read_attribute(node, "mode", "constant") == "wrap":
        yield "TensorRT's parser rejects circular Pad before version 10.0"


def _check_pool(node: ir.Node) -> Iterator[str]:
    if any(step != 1 for step in read_attribute(node, "dilations", ())):
        yield f"TensorRT's parser rejects {node.op_type} with dilation {_ALWAYS}"
    if node.op_type == "LpPool" and read_attribute(node, "p", 2) not in (1, 2):
        yield f"TensorRT's parser rejects LpPool with p other than 1 and 2 {_ALWAYS}"
    if _has_more_outputs(node):
        yield f"TensorRT's parser rejects {node.op_type} with indices {_ALWAYS}"


def _has_more_outputs(node: ir.Node) -> bool:
    """Whether a node has several outputs, used or not: the parser looks at their names alone."""
    return any(value.name != "" for value in node.outputs[1:])


def _check_layer_norm(node: ir.Node) -> Iterator[str]:
    if _has_more_outputs(node):
        yield f"TensorRT's parser rejects LayerNormalization with the mean as an output {_ALWAYS}"


def _check_training(node: ir.Node) -> Iterator[str]:
    if node.op_type == "BatchNormalization":
        training = read_attribute(node, "training_mode", 0)
    else:
        flag = _find_input(node, 2)
        constant = read_constant(flag)
        training = flag is not None and (constant is None or constant.any())
    if training:
        yield f"TensorRT's parser rejects {node.op_type} in training mode {_ALWAYS}"


def _check_transposed_convolution(node: ir.Node) -> Iterator[str]:
    strides, dilations = (math.prod(read_attribute(node, name, ())) for name in ("strides", "dilations"))
    if strides != 1 and dilations != 1:
        yield "TensorRT for RTX cannot compile ConvTranspose with a stride and a dilation"


def _check_celu(node: ir.Node) -> Iterator[str]:
    yield "TensorRT for RTX rejects Celu in fp16 and bf16; where alpha is 1, nn.ELU is the same function"


def _check_product(node: ir.Node) -> Iterator[str]:
    if len(read_shape(node.inputs[0])) == 1 and len(read_shape(node.inputs[1])) > 2:
        yield (
            f"TensorRT's parser takes the wrong axis off MatMul of a vector with a stack of matrices {_ALWAYS}; make "
            "the vector a matrix of one row"
        )


def _check_identity_matrix(node: ir.Node) -> Iterator[str]:
    if None in read_shape(node.inputs[0]):
        yield f"TensorRT's parser rejects EyeLike of a size that is not constant {_ALWAYS}"


def _check_top_k(node: ir.Node) -> Iterator[str]:
    count = read_constant(_find_input(node, 1))
    if count is not None and count.item() > _MOST_OF_TOP_K:
        yield f"TensorRT rejects TopK of more than {_MOST_OF_TOP_K} values {_ALWAYS}"


def _check_grid_sample(node: ir.Node) -> Iterator[str]:
    if len(read_shape(node.inputs[0])) == 5:
        yield "TensorRT's parser rejects GridSample of volumes before version 11.2"


def _check_scatter(node: ir.Node) -> Iterator[str]:
    if read_attribute(node, "reduction", "none") != "none":
        if node.op_type == "ScatterND":
            yield f"TensorRT's parser rejects ScatterND with a reduction {_ALWAYS}"
        else:
            yield "TensorRT's parser rejects ScatterElements with a reduction before version 10.0"
            yield "TensorRT for RTX rejects ScatterElements with a reduction, which is a plugin of TensorRT"


def _check_random(node: ir.Node) -> Iterator[str]:
    yield f"TensorRT ignores the seed of {node.op_type}, so pictures cannot be made again"


def _check_suppression(node: ir.Node) -> Iterator[str]:
    yield "TensorRT for RTX cannot compile NonMaxSuppression"


def _check_attention(node: ir.Node) -> Iterator[str]:
    """scaled_dot_product_attention of PyTorch, which is one operator since operator set 23."""
    advice = f"--opset {_USUAL_OPSET} makes MatMul and Softmax of it"
    query, key, value = node.inputs[:3]
    shape = read_shape(query)
    channels = shape[-1] if len(shape) == 4 else None
    if query is key:
        yield f"TensorRT for RTX crashes on Attention whose query is its key; {advice}"
    if len(shape) == 4 and query is not None and query.dtype == ir.DataType.FLOAT:
        yield f"TensorRT for RTX cannot compile Attention in float32; {advice}"
    if channels is not None and not 8 < channels <= 256:
        yield f"TensorRT for RTX cannot compile Attention with {channels} channels of a head; {advice}"
    if read_shape(key)[-1:] != read_shape(value)[-1:]:
        yield f"TensorRT's parser rejects Attention whose values are not as long as its keys {_ALWAYS}; {advice}"
    for name in ("softcap", "softmax_precision"):
        if read_attribute(node, name, 0):
            yield f"TensorRT's parser rejects Attention with {name} {_ALWAYS}; {advice}"
    if _has_more_outputs(node):
        yield f"TensorRT's parser rejects Attention with several outputs {_ALWAYS}; {advice}"
    if _find_input(node, 3) is not None and read_attribute(node, "is_causal", 0):
        yield f"TensorRT's parser rejects Attention with a mask and is_causal {_ALWAYS}; {advice}"


_CONDITIONS: dict[str, Callable[[ir.Node], Iterator[str]]] = {
    "Attention": _check_attention,
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), _check_pool),
    **dict.fromkeys(("BatchNormalization", "Dropout"), _check_training),
    "Celu": _check_celu,
    "ConvTranspose": _check_transposed_convolution,
    "EyeLike": _check_identity_matrix,
    "GridSample": _check_grid_sample,
    "LayerNormalization": _check_layer_norm,
    "MatMul": _check_product,
    "NonMaxSuppression": _check_suppression,
    "Pad": _check_pad,
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), _check_random),
    "Resize": _check_resize,
    **dict.fromkeys(("ScatterElements", "ScatterND"), _check_scatter),
    "TopK": _check_top_k,
}
"""Operators that some settings make unacceptable."""
