"""Every operator that is converted computes what the ONNX project's own evaluator does; every other one is rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.one_node import Case, Given, case
from onnx.reference import ReferenceEvaluator

from ganrt.errors import BundleError
from ganrt.ncnn_format import convert_graph

ncnn = pytest.importorskip("ncnn")

PICTURE = (1, 8, 5, 7)
"""Odd sides: ncnn aligns the channels of a blob to 16 bytes."""
ROWS = (1, 6, 5)
RANDOM = np.random.default_rng(3)
STEADY: dict[str, Any] = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}


def draw(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 1, shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def scales(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


CONVERTED = [
    case("Conv", PICTURE, draw(12, 8, 3, 3), draw(12), pads=[1, 1, 1, 1]),
    case("Conv", PICTURE, draw(12, 8, 3, 2), pads=[0, 1, 2, 3], strides=[2, 1]),
    case("Conv", PICTURE, draw(4, 8, 2, 3), draw(4), dilations=[2, 1]),
    case("Conv", PICTURE, draw(16, 2, 3, 3), draw(16), group=4),
    case("Conv", PICTURE, draw(8, 1, 3, 3), group=8, auto_pad="VALID"),
    case("ConvTranspose", PICTURE, draw(8, 6, 4, 4), draw(6), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("ConvTranspose", PICTURE, draw(8, 6, 3, 2), strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0]),
    case("Gemm", (1, 9), draw(4, 9), draw(4), transB=1),
    case("Gemm", (1, 9), draw(9, 4), draw(1, 4), alpha=0.5, beta=2.0),
    case("Gemm", (1, 9), draw(9, 4), draw(1)),
    case("MatMul", ROWS, draw(5, 3)),
    case("MatMul", (1, 9), draw(9, 4)),
    case("MatMul", ROWS, (1, 5, 4)),
    case("Gather", draw(11, 6), Given((1,), np.int64), axis=0),
    *(case(kind, PICTURE) for kind in ("Abs", "Neg", "Floor", "Ceil", "Exp", "Sin", "Cos", "Reciprocal", "Round")),
    *(case(kind, PICTURE) for kind in ("Relu", "Sigmoid", "Tanh", "Sign", "Identity")),
    *(case(kind, PICTURE, PICTURE) for kind in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    *(case(kind, PICTURE, draw(1, 8, 1, 1)) for kind in ("Add", "Sub", "Mul", "Div", "Max")),
    *(case(kind, draw(1, 8, 1, 1), PICTURE) for kind in ("Sub", "Div")),
    *(case(kind, number(0.75), PICTURE) for kind in ("Add", "Sub", "Div")),
    case("Mul", PICTURE, (1, 8, 1, 1)),
    case("Add", PICTURE, (1, 1, 5, 7)),
    case("Add", PICTURE, draw(7)),
    case("Mul", PICTURE, draw(5, 7)),
    case("Add", ROWS, draw(5)),
    case("Mul", (1, 9), draw(9)),
    case("Pow", PICTURE, number(2.0)),
    case("Pow", number(2.0), PICTURE),
    case("BatchNormalization", PICTURE, draw(8), draw(8), draw(8), np.abs(draw(8)), epsilon=1e-3),
    case("InstanceNormalization", PICTURE, draw(8), draw(8), epsilon=1e-3),
    case("LeakyRelu", PICTURE, alpha=0.2),
    case("LeakyRelu", PICTURE),
    case("PRelu", PICTURE, draw(8, 1, 1)),
    case("PRelu", PICTURE, draw(1)),
    case("Clip", PICTURE, number(-0.5), number(0.25)),
    case("Clip", PICTURE, None, number(0.25)),
    case("Cast", PICTURE, to=1),
    case("Concat", PICTURE, (1, 3, 5, 7), axis=1),
    case("Concat", PICTURE, (1, 8, 2, 7), axis=-2),
    case("Concat", PICTURE, draw(1, 2, 5, 7), axis=1),
    case("Split", PICTURE, integers(3, 5), axis=1, outputs=2),
    case("Slice", PICTURE, integers(1, 0), integers(4, -1), integers(2, 3)),
    case("Slice", PICTURE, integers(2), integers(2**63 - 1), integers(1), integers(1)),
    case("Reshape", PICTURE, integers(1, 4, 2, 35)),
    case("Reshape", PICTURE, integers(0, 8, -1)),
    case("Reshape", (1, 24), integers(-1, 2, 3, 4)),
    case("Flatten", PICTURE),
    case("Squeeze", (1, 8, 1, 1), integers(2, 3)),
    case("Unsqueeze", (1, 8), integers(2, 3)),
    case("Transpose", ROWS, perm=[0, 2, 1]),
    *(case("Transpose", PICTURE, perm=[0, *order]) for order in ([1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1])),
    *(case("Transpose", PICTURE, perm=[0, *order]) for order in ([3, 1, 2], [3, 2, 1])),
    case("DepthToSpace", PICTURE, blocksize=2, mode="CRD"),
    case("DepthToSpace", PICTURE, blocksize=2, mode="DCR"),
    case("DepthToSpace", PICTURE, blocksize=2),
    *(case("Pad", PICTURE, integers(0, 0, 1, 2, 0, 0, 3, 4), mode=mode) for mode in ("reflect", "edge", "constant")),
    case("Pad", PICTURE, integers(1, 2), number(0.5), integers(3)),
    case("Resize", PICTURE, None, scales(1, 1, 2, 2), **STEADY),
    case("Resize", PICTURE, None, scales(1, 1, 3, 2), **STEADY),
    case("Resize", PICTURE, None, scales(1, 1, 2, 2), mode="linear"),
    case(
        "Resize", PICTURE, None, scales(1, 1, 2, 3), mode="linear", coordinate_transformation_mode="pytorch_half_pixel"
    ),
    case("MaxPool", PICTURE, kernel_shape=[2, 2], strides=[2, 2]),
    case("MaxPool", PICTURE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    case("MaxPool", PICTURE, kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 1]),
    *(case(kind, PICTURE, integers(2, 3)) for kind in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")),
    case("ReduceMean", PICTURE, integers(1)),
    *(case("Softmax", ROWS, axis=axis) for axis in (-1, 1)),
    case("Softmax", PICTURE, axis=1),
]
REJECTED = [
    (case("Erf", PICTURE), "Erf"),
    (case("Foo", PICTURE, domain="foreign"), "foreign::Foo"),
    (case("Conv", (1, 8, 7), draw(4, 8, 3)), "Conv .*convolves along 1 axes"),
    (case("Conv", PICTURE, draw(4, 8, 3, 3), auto_pad="SAME_UPPER"), "Conv .*padding is SAME_UPPER"),
    (case("Conv", PICTURE, (4, 8, 3, 3)), "Conv .*kernel is computed in the graph"),
    (case("Conv", PICTURE, draw(4, 8, 3, 3), (4,)), "Conv .*bias is computed in the graph"),
    (case("Conv", PICTURE, draw(4, 7, 3, 3)), "Conv .*takes 7 channels, and its input has 8"),
    (case("Conv", PICTURE, draw(4, 2, 3, 3), group=2), "Conv .*takes 4 channels, and its input has 8"),
    (case("Conv", Given((1, "c", 5, 7)), draw(4, 8, 3, 3)), "Conv .*its input has an unknown number"),
    (case("Conv", PICTURE, draw(4, 8, 3, 3), draw(3)), "Conv .*has 4 channels, and its bias another number"),
    (case("ConvTranspose", PICTURE, draw(7, 6, 4, 4)), "ConvTranspose .*takes 7 channels, and its input has 8"),
    (case("ConvTranspose", PICTURE, draw(8, 6, 4, 4), draw(5)), "ConvTranspose .*its bias another number"),
    (case("Gemm", (1, 9), draw(8, 4)), "Gemm .*takes 8 channels, and its input has 9"),
    (case("MatMul", ROWS, draw(4, 3)), "MatMul .*multiplies other shapes"),
    (case("BatchNormalization", PICTURE, draw(8), draw(8), draw(7), draw(8)), "BatchNormalization .*takes 7 channels"),
    (case("InstanceNormalization", PICTURE, draw(8), draw(9)), "InstanceNormalization .*takes 9 channels"),
    (case("Add", PICTURE, (1, 8, 5, 6)), "Add .*its inputs have sides of different lengths"),
    (case("Add", PICTURE, draw(6)), r"Add .*constant has the shape \(6,\)"),
    (case("ConvTranspose", PICTURE, draw(8, 3, 2, 2), group=2), "ConvTranspose .*groups"),
    (case("Gemm", (9, 1), draw(9, 4), transA=1), "Gemm .*first matrix is transposed"),
    (case("Gemm", (1, 9), draw(9, 4), (1, 4)), "Gemm .*bias is computed"),
    (case("MatMul", draw(3, 9), Given((9, 4))), "MatMul .*multiplies other shapes"),
    (case("Gather", PICTURE, integers(1, 0), axis=2), "Gather .*gathers something else"),
    (case("Gather", draw(11, 6), Given((1, 2), np.int64), axis=0), "Gather .*gathers something else"),
    (case("Max", PICTURE, PICTURE, PICTURE), "Max .*has 3 inputs"),
    (case("Add", PICTURE, (8, 5, 7)), "Add .*different number of sides"),
    (case("Add", PICTURE, draw(2, 8, 5, 7)), r"Add .*constant has the shape \(2, 8, 5, 7\)"),
    (case("PRelu", PICTURE, draw(5, 7)), "PRelu .*slopes have the shape"),
    (case("PRelu", (1, 8, 8, 8), draw(8)), r"PRelu .*slopes have the shape \(8,\)"),
    (case("Cast", PICTURE, to=7), "Cast .*makes integers"),
    (case("Concat", PICTURE, PICTURE, axis=0), "Concat .*works along the batch"),
    (case("Slice", PICTURE, integers(0), integers(4), integers(1), integers(2)), "Slice .*leaves out values"),
    (case("Slice", PICTURE, Given((1,), np.int64), integers(4), integers(1)), "Slice .*range depends on the size"),
    (case("Reshape", PICTURE, integers(0, 8, 5, 7, 0)), "Reshape .*of 4 sides"),
    (case("Reshape", PICTURE, integers(2, 4, 5, 7)), "Reshape .*makes the shape 2 x 4 x 5 x 7"),
    (case("Reshape", PICTURE, integers(1, 2, 2, 2, 5, 7)), "Reshape .*makes the shape 1 x 2 x 2 x 2 x 5 x 7"),
    (case("Transpose", PICTURE, perm=[1, 0, 2, 3]), "Transpose .*orders the axes"),
    (case("Pad", PICTURE, integers(0, 1, 0, 0, 0, 1, 0, 0)), "Pad .*pads by"),
    (case("Pad", PICTURE, integers(0, 0, -1, 0, 0, 0, 1, 0)), "Pad .*pads by"),
    (case("Pad", PICTURE, integers(0, 0, 1, 1, 0, 0, 1, 1), mode="wrap"), "Pad .*pads 4 axes with wrap"),
    (case("Resize", PICTURE, None, scales(1, 1, 2, 2), mode="cubic"), "Resize .*mode cubic"),
    (case("Resize", PICTURE, None, scales(1, 1, 2, 2), mode="nearest"), "Resize .*mode nearest and half_pixel"),
    (case("Resize", PICTURE, None, None, integers(1, 8, 9, 9), **STEADY), "Resize .*size that is computed"),
    (case("Resize", PICTURE, None, scales(1, 1, 2, 2), mode="linear", antialias=1), "Resize .*mode linear"),
    (case("MaxPool", PICTURE, kernel_shape=[2, 2], dilations=[2, 2]), "MaxPool .*leaves out values"),
    (case("ReduceMean", PICTURE), "ReduceMean .*reduces all axes"),
    (case("ReduceMean", PICTURE, integers(1), keepdims=0), "ReduceMean .*drops them"),
]


def run(file: Path, feeds: dict[str, np.ndarray], threads: int = 2) -> Any:
    """The outputs of ncnn for one row, without the batch side."""
    network = convert_graph(file)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    assert net.load_param_mem(network.write_param()) == 0
    net.load_model_mem(network.write_weights())
    with net.create_extractor() as extractor:
        for name, array in feeds.items():
            row = np.atleast_1d(array[0])
            blob = np.ascontiguousarray(row.astype(np.int32) if row.dtype.kind == "i" else row)
            extractor.input(name, ncnn.Mat(blob).clone())
        code, image = extractor.extract(network.output)
    assert code == 0
    return np.array(image)


def draw_feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    feeds = {}
    for value in model.graph.input:
        shape = [side.dim_value for side in value.type.tensor_type.shape.dim]
        whole = value.type.tensor_type.elem_type == onnx.TensorProto.INT64
        feeds[value.name] = RANDOM.integers(0, 11, shape) if whole else draw(*shape)
    return feeds


def evaluate(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Any:
    """The first output of the ONNX project's own evaluator for one row, without the batch side."""
    outputs: Any = ReferenceEvaluator(model).run(None, feeds)
    return outputs[0][0]


def keep_first_output(made: Case) -> onnx.ModelProto:
    """A bundle's graph has one output."""
    del made.model.graph.output[1:]
    return made.model


@pytest.mark.parametrize("made", CONVERTED, ids=lambda made: made.name)
def test_an_operator_computes_what_the_evaluator_does(made: Case, tmp_path: Path) -> None:
    model = keep_first_output(made)
    onnx.save(model, tmp_path / "g.onnx")
    feeds = draw_feeds(model)
    expected = evaluate(model, feeds)
    found = run(tmp_path / "g.onnx", feeds)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-4)  # Winograd's sums are of larger numbers


@pytest.mark.parametrize(("made", "message"), REJECTED, ids=lambda value: getattr(value, "name", ""))
def test_what_no_layer_computes_is_rejected_by_name(made: Case, message: str, tmp_path: Path) -> None:
    onnx.save(keep_first_output(made), tmp_path / "g.onnx")
    with pytest.raises(BundleError, match=f"ncnn has no layer for {message}"):
        convert_graph(tmp_path / "g.onnx")
