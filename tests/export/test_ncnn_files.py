"""ncnn's files are parsed as the format says, or refused with the place; layers compute what ncnn computes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.ncnn_networks import build_module, run_with_ncnn, save_network, write_srvgg
from hypothesis import given, settings
from hypothesis import strategies as st

from ganrt.errors import CheckpointError
from ganrt.export.sources import open_source
from ganrt.export.sources.ncnn_file import Pair, WeightReader, is_ncnn_file, parse_layers, read_pair
from ganrt.export.sources.ncnn_layers import load_weights, run_layers
from ganrt.ncnn_format import Layer, Network, Parameter, Weights
from ganrt.ncnn_format.network import FLOAT16_TAG, MAGIC

HERE = Path("model.param"), Path("model.bin")


def make_network() -> Network:
    return write_srvgg(build_module("srvgg", {"width": 4, "convs": 0, "scale": 1, "channels": 1}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """model.param of a network of 7 layers, with model.bin beside it."""
    return save_network(make_network(), tmp_path)


def parse(text: str) -> list[Layer]:
    return parse_layers(Pair(*HERE, text.encode(), b""))


def test_either_file_names_the_network(path: Path) -> None:
    assert read_pair(path) == read_pair(path.with_suffix(".bin"))
    assert open_source(str(path)).spec == open_source(path.with_suffix(".bin")).spec


@pytest.mark.parametrize(("gone", "kept", "holds"), [(".bin", ".param", "weights"), (".param", ".bin", "layers")])
def test_the_other_file_is_missing(path: Path, gone: str, kept: str, holds: str) -> None:
    path.with_suffix(gone).unlink()
    message = (
        f"{path.with_suffix(kept)} is one of the two files of a network for ncnn, and model{gone}, which holds its "
        f"{holds}, is not beside it: put both into one folder, under one name"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        open_source(path.with_suffix(kept))


def test_what_is_taken_for_a_file_of_ncnn(tmp_path: Path) -> None:
    def is_one(name: str, content: bytes) -> bool:
        (tmp_path / name).write_bytes(content)
        return is_ncnn_file(tmp_path / name)

    assert is_one("a.param", b"") and is_one("a.bin", b"") and is_one("b.param.bin", b"")
    assert is_one("c.txt", f"{MAGIC}\n".encode()) and is_one("d.dat", MAGIC.to_bytes(4, "little"))
    assert is_one("e.bin", FLOAT16_TAG.to_bytes(4, "little") + bytes(4)) and is_one("f.bin", bytes(8))
    assert not is_one("g.bin", b"PK\3\4" + bytes(8)) and not is_one("h.bin", bytes(4))
    assert not is_one("i.pth", bytes(8)) and not is_one("j.bin", b"\x80\x02}q\0" + bytes(8))


@pytest.mark.parametrize("name", ["model.param.bin", "model.param"])
def test_layers_in_binary(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(MAGIC.to_bytes(4, "little") + bytes(8))
    (tmp_path / "model.bin").write_bytes(bytes(8))
    message = "holds the layers in ncnn's binary form, which has no names; export the text file (.param) that ncnn2mem"
    with pytest.raises(CheckpointError, match=re.escape(message)):
        open_source(tmp_path / name)


def test_settings_of_the_family_are_checked(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.param does not fit srvgg with .*'width': '8'"):
        open_source(path, {"width": "8"})


HEAD = f"{MAGIC}\n2 2\n"
INPUT = "Input in 0 1 data\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"does not start with {MAGIC}"),
        ("7767516\n1 1\nInput in 0 1 data\n", f"does not start with {MAGIC}"),
        (f"{MAGIC}\n", "line 2: the numbers of layers and of blobs were expected"),
        (f"{MAGIC}\n2\n", "line 2: the numbers"),
        (f"{MAGIC}\n-1 2\n", "line 2: the numbers"),
        (f"{MAGIC}\n1 1\npnnx.Input in 0 1 0 #0=(1,3,8,8)f32\n", "holds the layers of pnnx, not of ncnn; export NAME"),
        (f"{MAGIC}\n3 2\n{INPUT}", "announces 3 layers and holds 1; at most 100,000 are read"),
        (f"{MAGIC}\n1 2\n{INPUT}", "announces 2 blobs and makes 1"),
        (HEAD + INPUT + "ReLU a 1\n", "line 4: a kind, a name, and the numbers of inputs and outputs were expected"),
        (HEAD + INPUT + "ReLU a 1 x\n", "line 4: a kind, a name"),
        (HEAD + INPUT + "ReLU a 1 1 data\n", "line 4: 1 words follow, and its inputs and outputs are 2"),
        (HEAD + INPUT + "ReLU a 1 1 other b\n", "line 4: no layer before it makes its input other"),
        (HEAD + INPUT + "ReLU a 1 1 b b\n", "line 4: no layer before it makes its input b"),
        (HEAD + INPUT + "ReLU a 1 1 data data\n", "line 4: its output data is made twice"),
        (HEAD + INPUT + "ReLU a 1 1 data b 0=1 0=2\n", "line 4: parameter 0 is given twice"),
        (HEAD + INPUT + "ReLU a 1 1 data b 0=1 -23300=1,2\n", "line 4: parameter 0 is given twice"),
        (HEAD + INPUT + "ReLU a 1 1 data b -1=1\n", "line 4: '-1=1' is no parameter"),
        (HEAD + INPUT + "ReLU a 1 1 data b 1.0=1\n", "line 4: '1.0=1' is no parameter"),
        (HEAD + INPUT + "ReLU a 1 1 data b 0=\n", "line 4: '' is no number"),
        (HEAD + INPUT + "ReLU a 1 1 data b 0=1e999\n", "line 4: '1e999' is no number"),
        (HEAD + INPUT + "ReLU a 1 1 data b 0=1e39\n", "line 4: '1e39' is no number"),
        (HEAD + INPUT + "ReLU a 1 1 data b 0=nan\n", "line 4: 'nan' is no number"),
        (HEAD + INPUT + "ReLU a 1 1 data b 0=.\n", "line 4: '.' is no number"),
        (HEAD + INPUT + "ReLU a 1 1 data b extra\n", "line 4: 'extra' is no number"),
        (HEAD + INPUT + "ReLU a 1 1 data b -23310=2,1\n", "line 4: parameter 10 holds 1 values and announces 2"),
        (HEAD + INPUT + "ReLU a 1 1 data b -23310=1,2,\n", "line 4: '' is no number"),
    ],
)
def test_text_that_is_not_as_the_format_says(text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^model\.param.*{re.escape(message)}"):
        parse(text)


def test_text_that_is_no_text() -> None:
    with pytest.raises(CheckpointError, match=r"model\.param is no text: byte 1 is not UTF-8"):
        parse_layers(Pair(*HERE, b"7\xff", b""))


def test_what_a_line_says() -> None:
    (_, layer) = parse(HEAD + "Input in 0 1 data\n\nConvolution a 1 1 data b 0=-3 1=.5 2=1e-1 -23310=2,1,-2.5\n")
    assert layer == Layer("Convolution", "a", ("data",), ("b",), {0: -3, 1: 0.5, 2: 0.10000000149011612, 10: (1, -2.5)})
    assert list(map(type, layer.parameters.values())) == [int, float, float, tuple]


FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)
NUMBERS = st.integers(-(2**31), 2**31 - 1) | FLOATS
NAMES = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=8)


@given(
    st.lists(st.tuples(NAMES, st.dictionaries(st.integers(0, 40), NUMBERS | st.lists(NUMBERS), max_size=4)), max_size=6)
)
def test_what_ganrt_writes_is_read(rows: list[tuple[str, dict[int, Any]]]) -> None:
    layers = [Layer("Input", "first", (), ("blob",), {})]
    layers += [Layer(name, name, ("blob",), (f"blob{k}",), parameters) for k, (name, parameters) in enumerate(rows)]
    found = [layer for layer in parse(Network(layers=layers).write_param()) if layer.kind != "Split"]
    assert [(layer.kind, layer.outputs) for layer in found] == [(layer.kind, layer.outputs) for layer in layers]
    for layer, (_, parameters) in zip(found[1:], rows, strict=True):
        assert layer.parameters.keys() == parameters.keys()
        for number, value in parameters.items():
            np.testing.assert_allclose(layer.parameters[number], value, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_and_nothing_else_happens(data: st.DataObject) -> None:
    network = make_network()
    held = [network.write_param().encode(), network.write_weights()]
    which = data.draw(st.sampled_from([0, 0, 0, 1]))
    content = held[which]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 8)))
    added = data.draw(st.binary(max_size=4) | st.sampled_from([b"9", b"-", b" ", b"\n", b"=", b"99999999"]))
    held[which] = content[:start] + added + content[end:]
    pair = Pair(*HERE, held[0], held[1])
    try:
        layers, _ = load_weights(pair, parse_layers(pair))
        run_layers(layers, torch.zeros(1, 1, 6, 5))
    except (CheckpointError, ValueError) as error:
        assert str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda held: held[:-1],
            "model.bin ends at byte 331, and Convolution convolution_3 takes 4 bytes from 328: it is",
        ),
        (lambda held: held[:3], "model.bin ends at byte 3, and Convolution convolution_1 takes 4 bytes from 0"),
        (
            lambda held: held + bytes(4),
            "model.bin has 4 bytes more than its layers take, 332: it belongs to other layers",
        ),
        (lambda held: held[:4] + b"\0\0\xc0\x7f" + held[8:], "the weights of Convolution convolution_1 are not finite"),
        (
            lambda held: b"\x38\x4b\x0d\0" + held[4:],
            "the weights of Convolution convolution_1 in 8 bits: export the pair in",
        ),
        (
            lambda held: b"\1\2\3\4" + held[4:],
            "in a form with the mark 0x04030201: export the pair in float32 or float16",
        ),
    ],
)
def test_weights_that_are_not_as_the_layers_say(path: Path, content: Any, message: str) -> None:
    weights = path.with_suffix(".bin")
    weights.write_bytes(content(weights.read_bytes()))
    with pytest.raises(CheckpointError, match=re.escape(message)):
        open_source(path)


def test_files_that_are_too_large_or_cannot_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.with_suffix(".bin").open("r+b") as file:
        file.truncate(2**31)
    with monkeypatch.context() as patch:
        patch.setattr("ganrt.export.sources.ncnn_file._LARGEST", 1000)
        with pytest.raises(CheckpointError, match=r"model\.bin is larger than 1000 bytes, the limit for such a file"):
            open_source(path)

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(CheckpointError, match=r"model\.param cannot be read: Permission denied"):
        read_pair(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "LSTM a 1 1 data b",
            "LSTM a: no network of a family that is read from ncnn's files has such a layer. Export the",
        ),
        (
            "nn.ReLU a 1 1 data b",
            "nn.ReLU a: this file is pnnx's own; pnnx writes the one for ncnn beside it, as NAME.ncnn",
        ),
        ("pnnx.Output a 1 1 data b", "this file is pnnx's own"),
        (
            "Sigmoid a 1 1 data b 0=1",
            "Sigmoid a: no network of a family has its parameter 0=1. Export the checkpoint or",
        ),
        ("Interp a 1 1 data b 0=1 6=1", "no network of a family has its parameter 6=1"),
        (
            "Convolution a 1 1 data b 0=1 1=1 6=1 8=2",
            "its weights are quantized: export the pair in float32 or float16",
        ),
        ("InnerProduct a 1 1 data b 0=1 2=1 8=2", "InnerProduct a: its weights are quantized"),
        ("Convolution a 1 1 data b 0=2 1=3 6=19", "19 weights are no kernel of 2 rows and 3 x 3 pixels"),
        ("Convolution a 1 1 data b 0=0 1=3 6=18", "18 weights are no kernel of 0 rows"),
        ("Convolution a 1 1 data b 0=2 1=3 11=2", "0 weights are no kernel of 2 rows and 2 x 3 pixels"),
        ("Convolution a 1 1 data b 0=2 1=99 6=18", "its parameter 1 is 99; a whole number from 0 to 64 was expected"),
        ("Convolution a 1 1 data b 0=1 1=1 6=999999999", "its parameter 6 is 999999999; a whole number from 0 to"),
        (
            "Convolution a 1 1 data b 0=1 1=1 6=1000000",
            "model.bin ends at byte 0, and Convolution a takes 4 bytes from 0",
        ),
        ("MemoryData a 0 1 b 0=3", "it holds channels, height and width [0, 0, 3]; three sides were expected"),
        ("MemoryData a 0 1 b 0=9999 1=9999 2=9999", "it makes 9999 x 9999 x 9999 values of a small picture"),
    ],
)
def test_layers_that_cannot_be_loaded(line: str, message: str) -> None:
    pair = Pair(*HERE, f"{HEAD}{INPUT}{line}\n".encode(), b"")
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_weights(pair, parse_layers(pair))


def load(lines: str, values: bytes = b"") -> list[Layer]:
    rows = [line for line in lines.splitlines() if line]
    blobs = sum(int(line.split()[3]) for line in rows)
    pair = Pair(*HERE, "\n".join([str(MAGIC), f"{len(rows)} {blobs}", *rows]).encode(), values)
    return load_weights(pair, parse_layers(pair))[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("Input a 0 1 x\nInput b 0 1 y\nBinaryOp c 2 1 x y z", "it has several inputs, or none"),
        ("Input a 0 1 x\nSplit b 1 2 x y z", "it has 2 outputs: y, z"),
        ("Input a 0 1 x\nSplit b 1 1 x y\nConcat c 2 1 y x z\nPixelShuffle d 1 1 z w 0=2", "PixelShuffle d: "),
        ("Input a 0 1 x\nSigmoid b 2 1 x x y", "Sigmoid b: "),
        ("Input a 0 1 x\nConcat c 2 1 x x c\nCrop b 2 1 x c y", "(6, 6, 5) from 0, 0 is not inside of (3, 6, 5)"),
        ("Input a 0 1 x\nInterp b 1 1 x y 0=1 1=0 2=1", "no network of a family resizes by (0, 1) in the way 1"),
        ("Input a 0 1 x\nCrop b 2 1 x x y 0=1", "Crop b: (3, 6, 5) from 0, 1 is not inside of (3, 6, 5)"),
        (
            "Input a 0 1 x\nScale b 2 1 x x y 0=-233",
            "Scale b: a factor a channel, computed in the network, was expected",
        ),
        ("Input a 0 1 x\nInterp b 1 1 x y 0=3 1=1e4 2=1e4", "no network of a family resizes by (10000.0, 10000.0)"),
        ("Input a 0 1 x\nReduction b 1 1 x y 0=3 1=0 -23303=1,0 4=1", "the mean of each channel was expected"),
        (
            "Input a 0 1 x\n"
            + "".join(f"Interp b{k} 1 1 {'x' if not k else f'y{k - 1}'} y{k} 0=1 1=64.0 2=64.0\n" for k in range(3)),
            "it makes 3 x 24576 x 20480 values of a small picture",
        ),
        (
            "Input a 0 1 y0\n" + "".join(f"Concat b{k} 2 1 y{k - 1} y{k - 1} y{k}\n" for k in range(1, 28)),
            "x 6 x 5 values of a small picture",
        ),
    ],
)
def test_layers_that_cannot_be_computed(lines: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        run_layers(load(lines), torch.ones(1, 3, 6, 5))


def test_an_inner_product_of_a_picture() -> None:
    layers = load("Input a 0 1 x\nInnerProduct b 1 1 x y 0=1 2=3", bytes(16))
    with pytest.raises(ValueError, match=r"its input has height and width \(6, 5\); one value a channel was expected"):
        run_layers(layers, torch.ones(1, 3, 6, 5))


RANDOM = np.random.default_rng(3)


def weigh(*shape: int) -> Weights:
    return Weights(RANDOM.normal(0, 1, shape).astype(np.float32), tagged=len(shape) > 1)


LAYERS: list[tuple[str, dict[int, Parameter], tuple[Weights, ...]]] = [
    (
        "Convolution",
        {0: 6, 1: 3, 11: 2, 2: 2, 3: 2, 13: 1, 4: 1, 15: 2, 14: 3, 5: 1, 6: 144},
        (weigh(6, 4, 2, 3), weigh(6)),
    ),
    ("Convolution", {0: 6, 1: 3, 4: 1, 6: 216, 9: 1}, (weigh(6, 4, 3, 3),)),
    ("Convolution", {0: 6, 1: 3, 12: 2, 4: 2, 14: 1, 16: 0, 6: 216, 9: 2, 10: (0.3,)}, (weigh(6, 4, 3, 3),)),
    ("Convolution", {0: 4, 1: 1, 6: 16, 9: 4}, (weigh(4, 4, 1, 1),)),
    ("Deconvolution", {0: 6, 1: 4, 3: 2, 4: 3, 5: 1, 6: 384}, (weigh(6, 4, 4, 4), weigh(6))),
    ("Deconvolution", {0: 6, 1: 3, 11: 4, 3: 2, 13: 3, 4: 1, 15: 0, 14: 2, 16: 1, 6: 288, 18: 0}, (weigh(6, 4, 4, 3),)),
    ("PReLU", {0: 4}, (weigh(4),)),
    ("ReLU", {}, ()),
    ("ReLU", {0: 0.2}, ()),
    ("Sigmoid", {}, ()),
    ("Swish", {}, ()),
    ("PixelShuffle", {0: 2}, ()),
    ("Reorg", {0: 2, 1: 0}, ()),
    ("Interp", {0: 1, 1: 3.0, 2: 2.0}, ()),
    ("Interp", {0: 3, 1: 0.5, 2: 0.5}, ()),
    ("Interp", {0: 3, 1: 2.0, 2: 2.0, 6: 0}, ()),
    ("Crop", {9: (1, 2), 10: (-1, 5), 11: (1, 2)}, ()),
    ("Crop", {9: (1, -6), 10: (7, -2), 11: (-1, -2)}, ()),
    ("Crop", {9: (0, 2), 10: (8, 10), 11: (1, 2)}, ()),
    ("Pooling", {0: 1, 4: 1}, ()),
    ("Reduction", {0: 3, 1: 0, 3: (1, 2), 4: 1, 5: 1}, ()),
    ("BinaryOp", {0: 0, 1: 1, 2: 1.5}, ()),
    ("BinaryOp", {0: 1, 1: 1, 2: 1.5}, ()),
    ("BinaryOp", {0: 2, 1: 1, 2: 1.5}, ()),
    ("BinaryOp", {0: 3, 1: 1, 2: 1.5}, ()),
]


@pytest.mark.parametrize(("kind", "parameters", "weights"), LAYERS)
def test_a_layer_computes_what_ncnn_computes(
    kind: str, parameters: dict[int, Parameter], weights: tuple[Weights, ...], tmp_path: Path
) -> None:
    compare_with_ncnn([Layer(kind, "a", ("x",), ("y",), parameters, weights)], tmp_path)


PAIRS: list[tuple[str, dict[int, Parameter]]] = [
    ("BinaryOp", {0: 0}),
    ("BinaryOp", {0: 1}),
    ("BinaryOp", {0: 2}),
    ("BinaryOp", {0: 3}),
    ("Concat", {}),
    ("Crop", {0: 2, 1: 1}),
    ("Eltwise", {0: 1}),
    ("Eltwise", {0: 1, 1: (0.2, -1.5)}),
    ("Scale", {0: -233}),
]


@pytest.mark.parametrize(("kind", "parameters"), PAIRS)
def test_a_layer_of_two_blobs_computes_what_ncnn_computes(
    kind: str, parameters: dict[int, Parameter], tmp_path: Path
) -> None:
    """The second is smaller for a crop, and of one value a channel for a scale."""
    second = {
        "Crop": Layer("Crop", "b", ("x",), ("b",), {9: (2, 3), 10: (6, 6), 11: (1, 2)}),
        "Scale": Layer("Pooling", "b", ("x",), ("b",), {0: 1, 4: 1}),
    }.get(kind, Layer("Swish", "b", ("x",), ("b",), {}))
    compare_with_ncnn([second, Layer(kind, "a", ("x", "b"), ("y",), parameters)], tmp_path)


def test_a_constant_and_two_matrix_products_compute_what_ncnn_computes(tmp_path: Path) -> None:
    layers = [
        Layer("MemoryData", "c", (), ("c",), {0: 1, 1: 1, 2: 4}, (Weights(weigh(4, 1, 1).array),)),
        Layer("BinaryOp", "s", ("x", "c"), ("s",), {0: 1}),
        Layer("Pooling", "p", ("s",), ("p",), {0: 1, 4: 1}),
        Layer("InnerProduct", "i", ("p",), ("i",), {0: 6, 1: 1, 2: 24, 9: 1}, (weigh(6, 4), weigh(6))),
        Layer("InnerProduct", "j", ("i",), ("j",), {0: 4, 2: 24, 9: 4}, (weigh(4, 6),)),
        Layer("BinaryOp", "y", ("s", "j"), ("y",), {0: 2}),
    ]
    compare_with_ncnn(layers, tmp_path)


def compare_with_ncnn(layers: list[Layer], folder: Path) -> None:
    """From x (4, 8, 10) to y."""
    pytest.importorskip("ncnn")
    path = save_network(Network(layers=[Layer("Input", "x", (), ("x",), {}), *layers]), folder)
    pair = read_pair(path)
    image = np.random.default_rng(1).normal(0, 1, (4, 8, 10)).astype(np.float32)
    made = run_layers(load_weights(pair, parse_layers(pair))[0], torch.from_numpy(image)[None]).numpy()[0]
    np.testing.assert_allclose(made, run_with_ncnn(path, image, "x", "y").reshape(made.shape), atol=2e-5)


def test_weights_are_taken_in_order() -> None:
    layer = Layer("PReLU", "a", (), (), {})
    half = FLOAT16_TAG.to_bytes(4, "little") + np.array([1.5, 2.5, 3.5], "<f2").tobytes() + b"\0\0"
    values = np.array([0.25], "<f4").tobytes() + half + bytes(4) + np.array([4.5], "<f4").tobytes()
    reader = WeightReader(Pair(*HERE, b"", values))
    assert reader.take_plain(layer, 1).tolist() == [0.25]
    before = reader.has_float16
    assert reader.take_tagged(layer, 3).tolist() == [1.5, 2.5, 3.5]
    assert (before, reader.has_float16) == (False, True)
    assert reader.take_tagged(layer, 1).tolist() == [4.5]
    reader.check_end()


def test_a_network_of_no_family(tmp_path: Path) -> None:
    network = Network(layers=[Layer("Input", "x", (), ("x",), {}), Layer("ReLU", "y", ("x",), ("y",), {})])
    message = (
        "model.param is no network of a family that is read from ncnn's files (srvgg, rrdb, upcunet, upconv7, span); "
        "its layers are 1 Input, 1 ReLU. Export the checkpoint or the ONNX file that it was converted from"
    )
    with pytest.raises(CheckpointError, match=re.escape(message)):
        open_source(save_network(network, tmp_path))
