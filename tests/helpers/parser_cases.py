"""Graphs of one node with what TensorRT for RTX 1.7, whose parser is that of TensorRT 11, makes of them."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from .one_node import Case, Given, Source, case, share_input

X = (1, 4, 8, 8)
FREE = Given(("n", 4, 8, 8))
VOLUME = (1, 4, 6, 6, 6)
ROW = (1, 4, 8)


def weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def factors(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def computed(*shape: int) -> Given:
    """Whole numbers that are no constant."""
    return Given(shape, np.int64)


def logical(*shape: int) -> Given:
    return Given(shape, np.bool_)


def half(*shape: int) -> Given:
    return Given(shape, np.float16)


TWICE = factors(1, 1, 2, 2)
NORM = (weight(4), weight(4), weight(4), abs(weight(4)))
BORDERS = ints(0, 0, 1, 1, 0, 0, 1, 1)
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
QUANTIZED: tuple[Source, ...] = (Given((4, 4), np.int8), number(1), np.array(0, np.int8))
"""Values, scale and zero point."""
HEADS = half(1, 2, 8, 64)
"""Query, key or value: heads before the sequence."""
ON_ONE_INPUT = """
    Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN
    LeakyRelu Log LogSoftmax Hardmax Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus
    Softsign Sqrt Tan Tanh ThresholdedRelu Dropout Flatten GlobalAveragePool GlobalMaxPool GlobalLpPool LpNormalization
    RandomNormalLike RandomUniformLike"""

ACCEPTED: list[Case] = [
    *(case(name, X) for name in ON_ONE_INPUT.split()),
    *(case(name, X, (1, 4, 1, 1)) for name in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean")),
    *(case(name, X, X) for name in ("Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual")),
    *(case(name, logical(2), logical(2)) for name in ("And", "Or", "Xor")),
    case("Not", logical(2)),
    case("Where", logical(*X), X, X),
    case("Gelu", X, approximate="tanh"),
    case("PRelu", X, weight(4, 1, 1)),
    case("Swish", X, alpha=0.5, opset=24),
    case("Softmax", X, axis=1),
    case("Softmax", X, axis=1, opset=11),
    case("Clip", X, number(0), number(1)),
    case("Clip", X, number(0)),
    case("Clip", X, None, number(1)),
    # Convolutions and products.
    case("Conv", FREE, weight(6, 4, 3, 3), weight(6), pads=[1, 1, 1, 1]),
    case("Conv", X, weight(6, 4, 3, 3), strides=[2, 2], dilations=[2, 2], pads=[0, 1, 1, 0]),
    case("Conv", X, weight(4, 1, 3, 3), group=4),
    case("Conv", X, weight(6, 4, 3, 3), auto_pad="SAME_UPPER"),
    case("Conv", X, (6, 4, 3, 3)),
    case("Conv", ROW, weight(6, 4, 3)),
    case("Conv", VOLUME, weight(6, 4, 3, 3, 3)),
    case("ConvTranspose", FREE, weight(4, 6, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("ConvTranspose", X, weight(4, 6, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    case("ConvTranspose", X, weight(4, 6, 3, 3), strides=[2, 2], output_padding=[1, 1]),
    case("ConvTranspose", X, weight(4, 1, 4, 4), strides=[2, 2], group=4),
    case("ConvTranspose", X, weight(4, 6, 3, 3), dilations=[2, 2]),
    case("ConvTranspose", X, (4, 6, 4, 4), strides=[2, 2]),
    case("ConvTranspose", ROW, weight(4, 6, 4), strides=[2]),
    case("ConvTranspose", VOLUME, weight(4, 2, 4, 4, 4), strides=[2, 2, 2]),
    case("MatMul", (2, 3, 4), (4, 5)),
    case("MatMul", (1, 2, 3, 4), (1, 2, 4, 3)),
    case("MatMul", (4,), (4, 5)),
    case("MatMul", (2, 3, 4), (4,)),
    case("Gemm", (2, 4), weight(4, 5), weight(5)),
    case("Gemm", (2, 4), weight(5, 4), weight(5), transB=1, alpha=0.5, beta=2.0),
    case("Einsum", (2, 3, 4), (2, 4, 5), equation="bij,bjk->bik"),
    case("Einsum", X, (1, 4), equation="bchw,bc->bhw"),
    case("Einsum", (2, 3, 4), (2, 4, 5), equation="...ij,...jk->...ik"),
    case("Einsum", (3, 3), equation="ii->i"),
    # Norms.
    *(case("BatchNormalization", FREE, *NORM, opset=opset) for opset in (9, 14, 20)),
    *(case("InstanceNormalization", shape, *NORM[:2]) for shape in (FREE, ROW, VOLUME)),
    *(case("LayerNormalization", X, weight(8), weight(8), opset=opset) for opset in (17, 20)),
    case("LayerNormalization", X, weight(4, 8, 8), axis=1),
    case("GroupNormalization", X, *NORM[:2], num_groups=4, opset=18),
    case("GroupNormalization", X, *NORM[:2], num_groups=2, opset=21),
    case("RMSNormalization", X, weight(8), opset=23),
    case("MeanVarianceNormalization", X),
    case("LRN", X, size=3),
    # Resizing, pads and pools.
    *(
        case("Resize", X, None, TWICE, mode=mode, coordinate_transformation_mode=coordinates)
        for mode in ("nearest", "linear", "cubic")
        for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn")
    ),
    *(case("Resize", X, None, TWICE, nearest_mode=mode) for mode in ("floor", "ceil", "round_prefer_ceil")),
    case("Resize", X, None, None, ints(1, 4, 12, 20), mode="linear"),
    case("Resize", X, None, None, computed(4), mode="linear"),
    case("Resize", X, None, TWICE, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    case("Resize", VOLUME, None, factors(1, 1, 2, 2, 2), mode="linear"),
    case("Upsample", X, TWICE, mode="nearest", opset=9),
    *(case("Pad", FREE, BORDERS, mode=mode) for mode in ("constant", "reflect", "edge", "wrap")),
    case("Pad", X, computed(8), mode="reflect"),
    case("Pad", X, -BORDERS),
    case("Pad", X, ints(1, 1, 1, 1), None, computed(2)),
    *(
        case(f"{kind}Pool", X, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=ceil)
        for kind in ("Average", "Max", "Lp")
        for ceil in (0, 1)
    ),
    case("AveragePool", X, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("MaxPool", X, kernel_shape=[2, 2], dilations=[1, 1]),
    case("MaxPool", ROW, kernel_shape=[2]),
    *(case("LpPool", X, kernel_shape=[2, 2], p=p) for p in (1, 2)),
    *(
        case("GridSample", X, (1, 5, 5, 2), mode=mode, padding_mode=padding)
        for mode in ("linear", "nearest", "cubic")
        for padding in ("zeros", "border", "reflection")
    ),
    case("GridSample", X, (1, 5, 5, 2), mode="bilinear", align_corners=1, opset=16),
    case("GridSample", VOLUME, (1, 3, 3, 3, 3)),
    case("DepthToSpace", FREE, blocksize=2, mode="DCR"),
    case("DepthToSpace", FREE, blocksize=2, mode="CRD"),
    case("SpaceToDepth", X, blocksize=2),
    # Reductions and selections.
    *(case(f"Reduce{kind}", X, ints(2, 3)) for kind in REDUCTIONS),
    *(case(f"Reduce{kind}", X, axes=[1], keepdims=0, opset=11) for kind in REDUCTIONS),
    case("ArgMax", X, axis=1),
    case("CumSum", X, np.array(2), exclusive=1),
    case("CumSum", X, computed()),
    case("TopK", X, ints(3), outputs=2),
    case("TopK", X, ints(3), outputs=2, largest=0, sorted=0, axis=1),
    case("Gather", (5, 4), computed(3)),
    case("GatherElements", (4, 4), computed(2, 4)),
    case("GatherND", (4, 4), computed(3, 1)),
    case("ScatterND", (4, 4), np.array([[0], [1]]), (2, 4)),
    case("ScatterElements", (4, 4), np.array([[0, 1, 2, 3]]), (1, 4)),
    case("OneHot", computed(3), np.array(5), factors(0, 1)),
    case("Trilu", (4, 4), np.array(1), upper=0),
    case("EyeLike", (3, 3)),
    # Shapes.
    case("Concat", X, X, axis=1),
    case("Split", X, ints(1, 3), axis=1, outputs=2),
    case("Split", X, axis=1, num_outputs=2, outputs=2),
    case("Reshape", X, ints(0, -1)),
    case("Transpose", X, perm=[0, 2, 3, 1]),
    case("Slice", X, ints(-1), ints(-100), ints(3), ints(-1)),
    case("Slice", X, ints(0, 0), ints(2, 2), computed(2)),
    case("Squeeze", (1, 4, 1), ints(0)),
    case("Squeeze", (1, 4, 1)),
    case("Unsqueeze", (4, 4), ints(0, 3)),
    case("Tile", X, ints(1, 1, 2, 2)),
    case("Expand", (1, 4, 1, 1), ints(1, 4, 8, 8)),
    case("Range", np.array(0), computed(), np.array(1)),
    case("Shape", FREE),
    case("Cast", X, to=10),
    case("CastLike", X, computed(1)),
    case("RandomNormal", shape=[2, 3]),
    case("RandomUniform", shape=[2, 3], seed=1.0),
    # 8 bits.
    *(
        made
        for kind in (np.int8, ml_dtypes.float8_e4m3fn)
        for made in (
            case("QuantizeLinear", X, number(0.1), np.zeros((), kind)),
            case("DequantizeLinear", np.ones((6, 4), kind), np.full(6, 0.1, np.float32), np.zeros(6, kind), axis=0),
        )
    ),
    # Others that have a version from which they are supported.
    *(case(f"{name}Window", np.array(8)) for name in ("Blackman", "Hamming", "Hann")),
    case("STFT", (1, 16, 1), np.array(4), None, np.array(8)),
    case("RotaryEmbedding", (1, 2, 4, 8), weight(4, 4), weight(4, 4), computed(1, 4), opset=23),
    case("TensorScatter", (1, 2, 4, 8), (1, 2, 1, 8), computed(1), opset=24),
    case("Attention", HEADS, HEADS, HEADS, is_causal=1, opset=23),
    case("Attention", HEADS, HEADS, HEADS, half(8, 8), opset=23),
    case("Attention", (1, 8, 128), (1, 8, 128), (1, 8, 128), q_num_heads=2, kv_num_heads=2, opset=23),
    share_input(case("Attention", HEADS, HEADS, HEADS, opset=23), 2, 1),
]

REJECTED: list[Case] = [
    *(
        case("Resize", X, None, TWICE, mode=mode, coordinate_transformation_mode="half_pixel_symmetric")
        for mode in ("nearest", "linear", "cubic")
    ),
    case("Resize", X, weight(8), TWICE, mode="linear", coordinate_transformation_mode="tf_crop_and_resize"),
    case("Resize", X, None, TWICE, coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor"),
    *(case("Resize", X, None, TWICE, mode=mode, antialias=1) for mode in ("linear", "cubic")),
    *(
        case("Resize", X, None, None, ints(16, 12), axes=[2, 3], keep_aspect_ratio_policy=f"not_{policy}")
        for policy in ("larger", "smaller")
    ),
    case("Resize", VOLUME, None, factors(1, 1, 2, 2, 2), mode="cubic"),
    case("Resize", (*VOLUME, 2), None, factors(1, 1, 2, 2, 2, 2), mode="linear"),
    *(case(f"{kind}Pool", X, kernel_shape=[2, 2], dilations=[2, 2]) for kind in ("Average", "Max", "Lp")),
    case("MaxPool", X, kernel_shape=[2, 2], outputs=2),
    case("LpPool", X, kernel_shape=[2, 2], p=3),
    *(case("ScatterND", (4, 4), np.array([[0], [1]]), (2, 4), reduction=kind) for kind in ("add", "mul", "max", "min")),
    case("Squeeze", (1, 4, 1), computed(1)),
    case("Unsqueeze", (4, 4), computed(1)),
    *(case(f"Reduce{kind}", X, computed(1)) for kind in REDUCTIONS),
    case("LayerNormalization", X, weight(8), outputs=3),
    case("BatchNormalization", X, *NORM, training_mode=1, outputs=3),
    case("Dropout", X, number(0.5), np.array(True)),
    case("Dropout", X, number(0.5), logical()),
    case("MatMul", (3,), (2, 3, 4)),
    case("EyeLike", Given(("n", 3))),
    case("Celu", half(*X)),
    case("Attention", HEADS, HEADS, half(1, 2, 8, 32), opset=23),
    case("Attention", HEADS, HEADS, HEADS, softcap=1.0, opset=23),
    case("Attention", HEADS, HEADS, HEADS, softmax_precision=1, opset=23),
    case("Attention", HEADS, HEADS, HEADS, half(8, 8), is_causal=1, opset=23),
    case("Attention", HEADS, HEADS, HEADS, outputs=4, opset=23),
    # Operators that the parser does not have.
    case("AffineGrid", (1, 2, 3), ints(1, 3, 4, 4)),
    case("Bernoulli", X),
    case("BitCast", X, to=6, opset=26),
    case("BitShift", Given((4,), np.uint8), Given((4,), np.uint8), direction="LEFT"),
    *(case(f"Bitwise{name}", Given((4,), np.int32), Given((4,), np.int32)) for name in ("And", "Or", "Xor")),
    case("BitwiseNot", Given((4,), np.int32)),
    case("CausalConvWithState", ROW, weight(4, 1, 3), outputs=2, opset=27),
    case("CenterCropPad", X, ints(6, 6), axes=[2, 3]),
    case("Col2Im", (1, 16, 16), ints(8, 8), ints(2, 2), strides=[2, 2]),
    case("Compress", X, logical(8)),
    case("ConvInteger", Given(X, np.uint8), Given((6, 4, 3, 3), np.uint8)),
    case("CumProd", X, np.array(1), opset=26),
    case("Det", (1, 3, 3)),
    case("DynamicQuantizeLinear", X, outputs=3),
    case("LinearAttention", *[(1, 8, 128)] * 3, outputs=2, q_num_heads=2, kv_num_heads=2, opset=27),
    case("MatMulInteger", Given((2, 4), np.uint8), Given((4, 2), np.uint8)),
    case("MaxRoiPool", X, (2, 5), pooled_shape=[2, 2]),
    case("MaxUnpool", X, computed(*X), kernel_shape=[2, 2], strides=[2, 2]),
    case("MelWeightMatrix", np.array(8), np.array(16), np.array(8000), number(0), number(4000)),
    case("Multinomial", (1, 4)),
    case("NegativeLogLikelihoodLoss", (1, 4), computed(1)),
    case("QLinearMatMul", *QUANTIZED, *QUANTIZED, *QUANTIZED[1:]),
    case("SequenceConstruct", X, X),
    case("SoftmaxCrossEntropyLoss", (1, 4), computed(1)),
    case("SplitToSequence", X, axis=1),
    case("SwiGLU", X, opset=28),
    case("Unique", (4,)),
    case("FusedMatMul", (2, 4), (4, 5), domain="com.microsoft"),
]
"""The parser rejects these."""

PLUGINS: list[Case] = [
    case("DeformConv", X, weight(6, 4, 3, 3), (1, 18, 6, 6)),
    case("DFT", (1, 16, 1)),
    case("NonZero", (3, 3)),
    case("RoiAlign", X, (2, 4), ints(0, 0)),
    *(
        case("ScatterElements", (4, 4), np.array([[0, 1, 2, 3]]), (1, 4), reduction=kind)
        for kind in ("add", "mul", "max", "min")
    ),
]
"""TensorRT accepts these by a plugin; TensorRT for RTX has none, and its parser rejects them."""

NOT_COMPILED: list[Case] = [
    case("NonMaxSuppression", (1, 6, 4), (1, 1, 6), ints(3)),
    case("TopK", (1, 5000), ints(4000), outputs=2),
    case("ConvTranspose", X, weight(4, 6, 3, 3), strides=[2, 2], dilations=[2, 2]),
    case("ConvTranspose", X, weight(4, 6, 3, 3), strides=[1, 2], dilations=[2, 1]),
    case("Attention", *[(1, 2, 8, 64)] * 3, opset=23),
    *(case("Attention", *[half(1, 2, 8, channels)] * 3, opset=23) for channels in (8, 257)),
]
"""The parser accepts these, and the compiler fails."""

CRASHES: list[Case] = [
    share_input(case("Attention", HEADS, HEADS, HEADS, opset=23), 1, 0),
    share_input(share_input(case("Attention", HEADS, HEADS, HEADS, opset=23), 1, 0), 2, 0),
]
"""The library ends the process."""
