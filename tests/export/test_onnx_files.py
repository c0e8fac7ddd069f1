"""ONNX files of other exporters: what is read, what is guessed, and the bundles that they become."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import ganrt
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.errors import CheckpointError, RequestError, VerificationError
from ganrt.export import export
from ganrt.export.sources import guess_spec, open_source, read_graph_file
from ganrt.export.sources.onnx_file import GraphFile, choose_output
from ganrt.export.sources.onnx_graph import adopt_graph
from ganrt.spec import Image, Label, Latent, Output, Scalar, Spec

FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(0)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    fan = max(1, int(np.prod(shape[1:])))
    return numpy_helper.from_array((RNG.standard_normal(shape) * (2 / fan) ** 0.5).astype(np.float32), name)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any] | None],
    opset: int = 17,
    dtypes: dict[str, int] | None = None,
) -> Path:
    made = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()]
    given = [helper.make_tensor_value_info(n, (dtypes or {}).get(n, FLOAT), shape) for n, shape in inputs.items()]
    graph = helper.make_graph(nodes, "g", given, made, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def gan(path: Path, batch: Any = 1, opset: int = 11) -> Path:
    """A generator whose reshape says the batch that it was exported with."""
    nodes = [
        helper.make_node("Gemm", ["z", "w", "b"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["grid"], name="/up/Reshape"),
        helper.make_node(
            "ConvTranspose", ["grid", "k"], ["wide"], strides=[2, 2], kernel_shape=[2, 2], name="/up/conv/C"
        ),
        helper.make_node("Relu", ["wide"], ["r"]),
        helper.make_node("Conv", ["r", "last"], ["c"], pads=[1, 1, 1, 1], name="/rgb/Conv"),
        helper.make_node("Tanh", ["c"], ["made"]),
    ]
    weights = [weight("w", 10, 8 * 16), weight("b", 8 * 16), weight("k", 8, 6, 2, 2), weight("last", 3, 6, 3, 3)]
    shape = ints("shape", batch if isinstance(batch, int) else -1, 8, 4, 4)
    return save(path, nodes, [*weights, shape], {"z": [batch, 10]}, {"made": [batch, 3, 8, 8]}, opset)


def upscaler(path: Path, opset: int = 9) -> Path:
    """Enlarges pictures of any size twice, with an operator that version 10 dropped."""
    nodes = [
        helper.make_node("Conv", ["input.1", "k"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["h"], ["a"], alpha=0.2),
        helper.make_node("Upsample", ["a", "scales"], ["u"], mode="nearest"),
        helper.make_node("Conv", ["u", "l"], ["out"], pads=[1, 1, 1, 1]),
    ]
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    weights = [weight("k", 8, 3, 3, 3), weight("l", 3, 8, 3, 3), scales]
    return save(path, nodes, weights, {"input.1": ["n", 3, "h", "w"]}, {"out": ["n", 3, "oh", "ow"]}, opset)


def padded(path: Path) -> Path:
    """A reflection pad as PyTorch's exporter for TorchScript wrote it: its amounts are computed in the graph."""
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["four"], ["rest"], value=helper.make_tensor("v", TensorProto.INT64, [1], [0])
        ),
        helper.make_node("Concat", ["amounts", "rest"], ["all"], axis=0),
        helper.make_node("Reshape", ["all", "pairs"], ["table"]),
        helper.make_node("Slice", ["table", "last", "first", "zero", "last"], ["reversed"]),
        helper.make_node("Transpose", ["reversed"], ["columns"], perm=[1, 0]),
        helper.make_node("Reshape", ["columns", "last"], ["pads"]),
        helper.make_node("Pad", ["photo", "pads"], ["wide"], mode="reflect"),
        helper.make_node("Conv", ["wide", "k"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["styled"]),
    ]
    numbers = [ints("four", 4), ints("amounts", 1, 2, 1, 2), ints("pairs", -1, 2), ints("last", -1), ints("zero", 0)]
    weights = [*numbers, ints("first", -(2**63) + 1), weight("k", 3, 3, 4, 4)]
    size = ["n", 3, "h", "w"]
    return save(path, nodes, weights, {"photo": size}, {"styled": size}, 17)


def run_file(path: Path, **given: np.ndarray) -> np.ndarray:
    """What the file makes of each row by itself."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = range(len(next(iter(given.values()))))
    return np.concatenate([session.run(None, {n: a[k : k + 1] for n, a in given.items()})[0] for k in rows])


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_generator_of_one_batch_size_becomes_one_of_any(tmp_path: Path, batch: Any) -> None:
    path = gan(tmp_path / "gan.onnx", batch)
    lines: list[str] = []
    bundle = export(path, tmp_path / "gan.ganrt", precisions=("fp32", "int8"), quality=25.0, progress=lines.append)
    assert set(bundle.variants) >= {"fp32", "fp32-phases", "int8-phases"}
    assert bundle.spec == Spec("gan", (Latent("z", (10,)),), Output(3, (-1.0, 1.0), (8, 8), name="made"))
    assert "guessed: z is taken for normal random numbers; --spec FILE.json says it otherwise" in lines
    assert "the ONNX file itself on ONNX Runtime" in (bundle.folder / Bundle.CARD).read_text()
    z = RNG.standard_normal((5, 10)).astype(np.float32)
    for backend in ("onnxruntime", "openvino"):
        with ganrt.load(bundle.folder, backend) as generator:
            np.testing.assert_allclose(generator(z=z), run_file(path, z=z), atol=1e-5)


def test_amounts_of_padding_become_constants(tmp_path: Path) -> None:
    """ncnn and TensorRT reject those that are computed."""
    path = padded(tmp_path / "style.onnx")
    bundle = export(path, tmp_path / "style.ganrt", backends=["reference"])
    made = bundle.onnx("fp32")
    assert [node.op_type for node in onnx.load(made).graph.node] == ["Pad", "Conv", "Sigmoid"]
    photo = RNG.random((2, 3, 9, 6), dtype=np.float32)
    np.testing.assert_allclose(run_file(made, photo=photo), run_file(path, photo=photo), atol=1e-6)


def test_an_upscaler_of_an_old_operator_set_is_cut_into_tiles(tmp_path: Path) -> None:
    path = upscaler(tmp_path / "up.onnx")
    bundle = export(path, tmp_path / "up.ganrt", backends="onnxruntime")
    picture = Image("input_1", "content", 3, (0.0, 1.0))
    assert bundle.spec == Spec("up", (picture,), Output(3, (0.0, 1.0), None, 2, "out", reach=2))
    assert bundle.variants["fp32"].opset == 20
    photo = RNG.integers(0, 256, (70, 90, 3), np.uint8)
    with ganrt.load(bundle.folder, "onnxruntime") as generator:
        whole, tiled = (generator.transform(photo, tile=tile) for tile in (0, 16))
    np.testing.assert_array_equal(whole, tiled)
    wanted = run_file(path, **{"input.1": (photo / np.float32(255)).transpose(2, 0, 1)[None]})[0]
    assert np.abs(whole.astype(int) - 255 * wanted.clip(0, 1).transpose(1, 2, 0)).max() < 0.51


@pytest.mark.parametrize("opset", [9, 10])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_an_old_resize_takes_the_same_pixels(tmp_path: Path, mode: str, opset: int) -> None:
    operator = "Upsample" if opset < 10 else "Resize"
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["a", "scales"], ["u"], mode=mode),
    ]
    scales = numpy_helper.from_array(np.array([1, 1, 3, 2], np.float32), "scales")
    sides: list[Any] = ["n", 3, 8, 6]
    path = save(
        tmp_path / "r.onnx", nodes, [weight("k", 3, 3, 3, 3), scales], {"x": sides}, {"u": [*sides[:2], 24, 12]}, opset
    )
    spec = Spec("r", (Image("x", "content", 3, (0.0, 1.0), (8, 6)),), Output(3, (0.0, 1.0), (24, 12), name="u"))
    model = ir.to_proto(adopt_graph(read_graph_file(path), "u", spec, 20))
    x = RNG.random((2, 3, 8, 6), np.float32)
    found = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, run_file(path, x=x), atol=1e-5)


def test_weights_that_are_inputs_as_in_files_of_2019(tmp_path: Path) -> None:
    path = upscaler(tmp_path / "up.onnx")
    model = onnx.load(path)
    model.ir_version = 3
    for made in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(made.name, FLOAT, list(made.dims)))
    onnx.save(model, path)
    file = read_graph_file(path)
    spec, _ = guess_spec(file, "out")
    assert adopt_graph(file, "out", spec, 20).opset_imports[""] == 20


@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
def test_a_spec_says_opacity_and_normalized_colours(tmp_path: Path, last: bool) -> None:
    """A file that turns opacity round, in BGR and normalized."""
    sides = ["n", "h", "w", 4] if last else ["n", 4, "h", "w"]
    shape = [4] if last else [4, 1, 1]
    signs, offset = (np.array(part, np.float32).reshape(shape) for part in ([1, 1, 1, -1], [0, 0, 0, 0.5]))
    nodes = [helper.make_node("Mul", ["x", "signs"], ["m"]), helper.make_node("Add", ["m", "offset"], ["y"])]
    weights = [numpy_helper.from_array(signs, "signs"), numpy_helper.from_array(offset, "offset")]
    path = save(tmp_path / "turn.onnx", nodes, weights, {"x": sides}, {"y": sides})
    fields: dict[str, Any] = {"mean": (0.4, 0.5, 0.6, 0.25), "std": (0.2, 0.3, 0.4, 1.0), "order": "bgr"}
    spec = Spec("turn", (Image("x", "content", 4, (0.0, 1.0), **fields),), Output(4, (0.0, 1.0), None, **fields))
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_dict()))
    command = ["export", str(path), "--spec", str(tmp_path / "spec.json"), "--out", str(tmp_path / "turn.ganrt")]
    done = CliRunner().invoke(main, [*command, "--backend", "onnxruntime"])
    assert done.exit_code == 0, done.output
    photo = RNG.integers(0, 256, (12, 20, 4), np.uint8)
    with ganrt.load(tmp_path / "turn.ganrt") as generator:
        made = generator.transform(photo)
    np.testing.assert_array_equal(made, np.dstack([photo[..., :3], 255 - photo[..., 3]]))


def test_channels_last_no_batch_and_labels_in_32_bits(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["photo"], ["p"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["p", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Gather", ["table", "style"], ["s"]),
        helper.make_node("Reshape", ["s", "shape"], ["s4"]),
        helper.make_node("Reshape", ["mix", "shape"], ["m4"]),
        helper.make_node("Add", ["c", "s4"], ["a"]),
        helper.make_node("Add", ["a", "m4"], ["b"]),
        helper.make_node("Sigmoid", ["b"], ["d"]),
        helper.make_node("Transpose", ["d"], ["made"], perm=[0, 2, 3, 1]),
    ]
    path = save(
        tmp_path / "tf.onnx",
        nodes,
        [weight("k", 3, 3, 3, 3), weight("table", 5, 3), ints("shape", 1, 3, 1, 1)],
        {"photo": [1, "h", "w", 3], "style": [1], "mix": [3]},
        {"made": [1, "h", "w", 3]},
        dtypes={"style": TensorProto.INT32},
    )
    guessed = guess_spec(read_graph_file(path)).spec
    assert guessed.single and guessed.inputs[1:] == (Label("style", 5), Latent("mix", (3,)))
    bundle = export(path, tmp_path / "tf.ganrt", backends="onnxruntime")
    photo = RNG.random((2, 3, 12, 10), np.float32)
    styles, mix = np.array([1, 4]), RNG.standard_normal((2, 3)).astype(np.float32)
    with ganrt.load(bundle.folder, "onnxruntime") as generator:
        found = generator(photo=photo, style=styles, mix=mix)
        assert generator.session.batch_sizes == (1,)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for k in range(2):
        given = {
            "photo": photo[k : k + 1].transpose(0, 2, 3, 1),
            "style": styles[k : k + 1].astype(np.int32),
            "mix": mix[k],
        }
        np.testing.assert_allclose(found[k], session.run(None, given)[0][0].transpose(2, 0, 1), atol=1e-6)
    with pytest.raises(
        RequestError, match="the input mix has no batch dimension; export one image at a time: --batch 1"
    ):
        open_source(path, spec=replace(guessed, single=False))


def conv_chain(path: Path, *between: onnx.NodeProto, made: str = "out", shape: list[Any] | None = None) -> Path:
    nodes = [helper.make_node("Conv", ["x", "k"], ["h"], pads=[1, 1, 1, 1], name="/conv/Conv"), *between]
    sides = ["n", 3, "h", "w"] if shape is None else shape
    return save(path, nodes, [weight("k", 3, 3, 3, 3)], {"x": sides}, {made: ["n", 3, "oh", "ow"]})


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            helper.make_node("QuantizeLinear", ["h", "scale"], ["out"], name="/q"),
            "QuantizeLinear /q: the graph is quantized; take the one in float32",
        ),
        (helper.make_node("RandomNormalLike", ["h"], ["out"]), "RandomNormalLike: it draws random numbers"),
        (
            helper.make_node("Gelu", ["h"], ["out"], domain="com.microsoft"),
            "Gelu is an operator of com.microsoft, not of ONNX; take the file as it was before it was optimized",
        ),
    ],
)
def test_graphs_that_are_no_originals(tmp_path: Path, node: onnx.NodeProto, message: str) -> None:
    path = conv_chain(tmp_path / "x.onnx", node)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "scale"))
    if node.op_type == "QuantizeLinear":
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(model, path)
    with pytest.raises(RequestError, match=rf"x\.onnx cannot be exported: {message}"):
        read_graph_file(path)


def test_control_flow_and_half_precision_are_rejected(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["h"], ["b"])], "b", [], [helper.make_tensor_value_info("b", FLOAT, None)]
    )
    always = numpy_helper.from_array(np.array(True), "always")
    node = helper.make_node("If", ["always"], ["out"], name="/choose", then_branch=branch, else_branch=branch)
    path = conv_chain(tmp_path / "if.onnx", node)
    model = onnx.load(path)
    model.graph.initializer.append(always)
    onnx.save(model, path)
    with pytest.raises(RequestError, match="If /choose: this is control flow"):
        read_graph_file(path)
    half = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float16), "k")
    nodes = [helper.make_node("Conv", ["x", "k"], ["out"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT16, ["n", 3, 8, 8])],
        [half],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "h.onnx")
    with pytest.raises(RequestError, match="it is in float16; take the one in float32"):
        read_graph_file(tmp_path / "h.onnx")


@pytest.mark.parametrize("content", [b"", b"\x08\x08\x12\x04abcd", b"not a graph", b"\x08\x07:\xff"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.onnx cannot be read as an ONNX model"):
        open_source(tmp_path / "bad.onnx")


def test_a_file_is_recognized_by_its_content(tmp_path: Path) -> None:
    path = gan(tmp_path / "gan.onnx").rename(tmp_path / "weights.bin")
    assert open_source(path).spec.output.size == (8, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"),
        (b"\x1f\x8b\x08 and so on", "is a compressed file"),
    ],
)
def test_another_file_under_the_name_of_an_onnx_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_source(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("shapes", "chosen"),
    [
        ({"features": ["n", 3, 1, 1], "y": ["n", 3, "h", "w"]}, "y"),
        ({"features": ["n", 64, "h", "w"], "y": ["n", "h", "w", 4]}, "y"),
        ({"classes": ["n", 3], "y": [3, 8, 8]}, "y"),
        ({"y": None}, "y"),
        ({"y": ["n", 3, 1, 8]}, "y"),
    ],
)
def test_the_only_picture_among_the_outputs_is_taken(shapes: dict[str, Any], chosen: str) -> None:
    made = [ir.Value(name=name, shape=None if sides is None else ir.Shape(sides)) for name, sides in shapes.items()]
    graph = ir.Graph([], made, nodes=[])
    assert choose_output(GraphFile(Path("m.onnx"), ir.Model(graph, ir_version=8), "")).name == chosen


@pytest.mark.parametrize("sides", [["n", 3], ["n", 1, 3, 8, 8], ["n", 7, 8, 8], ["n", 3, 1, 1]])
def test_outputs_of_which_none_is_a_picture(sides: list[Any]) -> None:
    graph = ir.Graph([], [ir.Value(name="y", shape=ir.Shape(sides))], nodes=[])
    with pytest.raises(RequestError, match=r"m\.onnx makes y .*, and none is a picture"):
        choose_output(GraphFile(Path("m.onnx"), ir.Model(graph, ir_version=8), ""))


@pytest.mark.parametrize("end", ["input x", "output y"])
def test_pictures_in_bytes_are_rejected(tmp_path: Path, end: str) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=FLOAT if end == "input x" else TensorProto.UINT8)
    kinds = (TensorProto.UINT8, FLOAT) if end == "input x" else (FLOAT, TensorProto.UINT8)
    given, made = (helper.make_tensor_value_info(n, k, [1, 3, 8, 8]) for n, k in zip("xy", kinds, strict=True))
    graph = helper.make_graph([node], "g", [given], [made])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "b.onnx")
    with pytest.raises(RequestError, match=f"its {end} holds bytes; take the file in which pictures are float32"):
        read_graph_file(tmp_path / "b.onnx")


def test_external_data_belongs_to_the_file(tmp_path: Path) -> None:
    plain = gan(tmp_path / "plain.onnx")
    model = onnx.load(plain)
    onnx.save(model, tmp_path / "large.onnx", save_as_external_data=True, location="large.data", size_threshold=16)
    first = read_graph_file(tmp_path / "large.onnx").sha256
    z = RNG.standard_normal((3, 10)).astype(np.float32)
    module = open_source(tmp_path / "large.onnx").module
    import torch

    np.testing.assert_allclose(module(torch.from_numpy(z)).numpy(), run_file(plain, z=z), atol=1e-6)
    data = bytearray((tmp_path / "large.data").read_bytes())
    data[5] ^= 1
    (tmp_path / "large.data").write_bytes(data)
    assert read_graph_file(tmp_path / "large.onnx").sha256 != first
    (tmp_path / "large.data").unlink()
    with pytest.raises(CheckpointError, match=r"has weights in large\.data, which is not beside it: put both"):
        read_graph_file(tmp_path / "large.onnx")


def test_external_data_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    path = gan(tmp_path / "inside" / "gan.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="gan.data", size_threshold=16)
    (tmp_path / "inside" / "gan.data").rename(tmp_path / "gan.data")
    content = path.read_bytes().replace(b"gan.data", b"../gan.d")
    (tmp_path / "gan.data").rename(tmp_path / "gan.d")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as an ONNX model"):
        read_graph_file(path)


def test_a_graph_that_is_right_for_one_sample_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "strength"], ["m"]),  # of shape (1,), which is the batch for ganrt
        helper.make_node("Conv", ["m", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["y"]),
    ]
    sides: list[Any] = ["n", 3, 8, 8]
    path = save(tmp_path / "s.onnx", nodes, [weight("k", 3, 3, 3, 3)], {"x": sides, "strength": [1]}, {"y": sides})
    with pytest.raises(VerificationError, match=r"s\.onnx was not exported: .*for a batch of 1: .*with --batch 1"):
        export(path, tmp_path / "s.ganrt", backends="openvino")
    bundle = export(path, tmp_path / "s.ganrt", backends="openvino", batch=1)
    assert bundle.spec.single


def test_the_output_is_named_where_there_are_several(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["side"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["side"], ["fused"]),
    ]
    sides: list[Any] = ["n", 3, "h", "w"]
    path = save(tmp_path / "u2.onnx", nodes, [weight("k", 3, 3, 3, 3)], {"x": sides}, {"side": sides, "fused": sides})
    with pytest.raises(
        RequestError, match=r"u2\.onnx makes side .*, fused .*; name the one that is the image: --config"
    ):
        open_source(path)
    with pytest.raises(RequestError, match=r"u2\.onnx has no output 'mask'; it makes side, fused"):
        open_source(path, {"output": "mask"})
    with pytest.raises(RequestError, match="an ONNX file has no setting 'size'; it has output"):
        open_source(path, {"size": "3"})
    bundle = export(path, tmp_path / "u2.ganrt", config={"output": "fused"}, backends="onnxruntime")
    assert bundle.spec.output.name == "fused" and bundle.spec.output.range == (0.0, 1.0)


def test_what_cannot_be_guessed_is_asked_for(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["angle", "axes"], ["a"]),
        helper.make_node("Add", ["x", "a"], ["out"]),
    ]
    sides: list[Any] = ["n", 3, 8, 8]
    path = save(tmp_path / "r.onnx", nodes, [ints("axes", 1)], {"x": sides, "angle": ["n", 8, 8]}, {"out": sides})
    with pytest.raises(RequestError, match="what its input angle is cannot be guessed"):
        open_source(path)
    nodes = [
        helper.make_node("OneHot", ["y", "depth", "values"], ["hot"]),
        helper.make_node("MatMul", ["hot", "w"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["out"]),
    ]
    weights = [ints("depth", 4), numpy_helper.from_array(np.array([0, 1], np.float32), "values"), weight("w", 4, 48)]
    shape = ints("shape", -1, 3, 4, 4)
    path = save(
        tmp_path / "y.onnx",
        nodes,
        [*weights, shape],
        {"y": ["n"]},
        {"out": ["n", 3, 4, 4]},
        dtypes={"y": TensorProto.INT64},
    )
    with pytest.raises(RequestError, match="how many classes its input y has cannot be guessed"):
        open_source(path)
    spec = Spec("hot", (Label("y", 4),), Output(3, (-4.0, 4.0), (4, 4), name="out"))
    assert open_source(path, spec=spec).spec is not None
    with pytest.raises(RequestError, match="takes y; the Spec describes 2 inputs: one each, in this order"):
        open_source(path, spec=replace(spec, inputs=(Label("y", 4), Scalar("s", (0.0, 1.0), 0.5))))


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (helper.make_node("Tanh", ["h"], ["out"]), (-1.0, 1.0)),
        (helper.make_node("Sigmoid", ["h"], ["out"]), (0.0, 1.0)),
        (helper.make_node("Identity", ["h"], ["out"]), (0.0, 1.0)),
    ],
)
def test_ranges_follow_from_the_last_activation(
    tmp_path: Path, node: onnx.NodeProto, wanted: tuple[float, float]
) -> None:
    spec = guess_spec(read_graph_file(conv_chain(tmp_path / "x.onnx", node))).spec
    assert spec.output.range == wanted and spec.images[0].range == wanted


def test_grey_levels_are_recognized_by_the_division(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Div", ["x", "levels"], ["y"]),
        helper.make_node("Conv", ["y", "k"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["h"], ["out"]),
    ]
    levels = numpy_helper.from_array(np.array(255, np.float32), "levels")
    sides: list[Any] = ["n", 3, "h", "w"]
    path = save(tmp_path / "x.onnx", nodes, [weight("k", 3, 3, 3, 3), levels], {"x": sides}, {"out": sides})
    spec = guess_spec(read_graph_file(path)).spec
    assert spec.images[0].range == (0.0, 255.0) and spec.output.range == (0.0, 1.0)


def test_ganrts_own_files_hold_their_spec(tmp_path: Path) -> None:
    bundle = export(gan(tmp_path / "gan.onnx"), tmp_path / "gan.ganrt", backends="onnxruntime")
    guess = guess_spec(read_graph_file(bundle.onnx("fp32")))
    assert guess.spec == bundle.spec and guess.remarks == []


Invoke = Callable[..., Any]


@pytest.fixture
def invoke() -> Invoke:
    return lambda *arguments: CliRunner().invoke(main, list(map(str, arguments)))


def test_the_command_prints_a_spec_that_can_be_corrected(tmp_path: Path, invoke: Invoke) -> None:
    path = gan(tmp_path / "gan.onnx")
    done = invoke("spec", path)
    assert done.exit_code == 0 and "guessed: z is taken for normal random numbers" in done.stderr
    described = json.loads(done.stdout)
    described["inputs"][0] |= {"truncation": "resampled"}
    (tmp_path / "spec.json").write_text(json.dumps(described))
    options = ("--spec", tmp_path / "spec.json", "--backend", "onnxruntime")
    done = invoke("export", path, "--out", tmp_path / "gan.ganrt", *options)
    assert done.exit_code == 0, done.output
    assert Bundle.read(tmp_path / "gan.ganrt").spec.inputs == (Latent("z", (10,), truncation="resampled"),)
    described["inputs"][0]["shape"] = "wide"
    (tmp_path / "spec.json").write_text(json.dumps(described))
    done = invoke("export", path, "--out", tmp_path / "other.ganrt", *options)
    assert done.exit_code == 3 and "spec.json: spec.inputs[0].shape is 'wide'" in done.stderr
    done = invoke("export", path, "--out", tmp_path / "other.ganrt", "--spec", tmp_path / "none.json")
    assert done.exit_code == 3 and "none.json cannot be read" in done.stderr
    done = invoke("spec", tmp_path / "none.onnx")
    assert done.exit_code == 3 and "none.onnx cannot be read as an ONNX model" in done.stderr
