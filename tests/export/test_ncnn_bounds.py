"""What one line of ncnn's files may ask for: numbers, sizes and operations out of bounds are refused, and named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ganrt.errors import CheckpointError
from ganrt.export.sources.ncnn_file import Pair, WeightReader, parse_layers, read_pair
from ganrt.export.sources.ncnn_layers import load_weights, run_layers
from ganrt.ncnn_format import Layer
from ganrt.ncnn_format.network import FLOAT16_TAG, MAGIC

INPUT = "Input a 0 1 x\n"


def make_pair(lines: str, values: bytes = b"") -> Pair:
    rows = (INPUT + lines).splitlines()
    blobs = sum(int(line.split()[3]) for line in rows)
    text = "\n".join([str(MAGIC), f"{len(rows)} {blobs}", *rows]).encode()
    return Pair(Path("model.param"), Path("model.bin"), text, values)


def run(lines: str, count: int = 0) -> torch.Tensor:
    """Of a picture (1, 3, 6, 5), with weights of `count` zeros."""
    pair = make_pair(lines, bytes(4 * count))
    return run_layers(load_weights(pair, parse_layers(pair))[0], torch.ones(1, 3, 6, 5))


CONV = "Convolution b 1 1 x y 0=1 1=1 6=3 "
LARGE = "Interp l 1 1 x l 0=1 1=64.0 2=64.0\n"


@pytest.mark.parametrize(
    ("lines", "count", "message"),
    [
        (f"{CONV}4=-1", 4, "its parameter 4 is -1; a whole number from 0 to 64 was expected"),
        (f"{CONV}3=65", 4, "its parameter 3 is 65; a whole number from 0 to 64 was expected"),
        (f"{CONV}3=1.5", 4, "its parameter 3 is 1.5; a whole number from 0 to 64 was expected"),
        (f"{CONV}9=2 10=3", 4, "its parameter 10 is 3; a list was expected"),
        (f"{CONV}9=2 -23310=2,0.1,0.2", 4, "no network of a family has its activation 2"),
        (f"{CONV}9=1 -23310=1,0.5", 4, "no network of a family has its activation 1"),
        (f"{CONV}9=5", 4, "no network of a family has its activation 5"),
        (LARGE + "Convolution b 1 1 l y 0=1000 1=1 6=3000", 3001, "it makes 1000 x 384 x 320 values"),
        (LARGE + "Deconvolution b 1 1 l y 0=1000 1=1 6=3000", 3001, "it makes 1000 x 384 x 320 values"),
        (f"{LARGE}Concat b 200 1 {'l ' * 200}y", 0, "it makes 600 x 384 x 320 values"),
        ("Interp b 1 1 x y 0=1 1=1.5 2=2.0", 0, "no network of a family resizes by (1.5, 2.0) in the way 1"),
        ("Interp b 1 1 x y 0=3 1=-1.0 2=2.0", 0, "no network of a family resizes by (-1.0, 2.0) in the way 3"),
        ("Interp b 1 1 x y 0=1 -23301=1,2 2=2", 0, "its parameter 1 is a list; a number was expected"),
        ("Eltwise b 2 1 x x y", 0, "a sum of 2 equal shapes was expected"),
        ("Eltwise b 2 1 x x y 0=1 -23301=1,1.0", 0, "a sum of 2 equal shapes was expected"),
        ("BinaryOp b 2 1 x x y 1=1 2=1.0", 0, "no network of a family computes its operation 0 of 2 inputs"),
        ("BinaryOp b 1 1 x y 1=2 2=1.0", 0, "its parameter 1 is 2; a whole number from 0 to 1 was expected"),
        ("Pooling p 1 1 x p 0=1 4=1\nScale b 2 1 x p y 0=3", 0, "a factor a channel, computed in the network"),
        ("Crop b 1 1 x y", 0, "cut neither height nor width"),
        ("Crop b 1 1 x y -23309=1,0 -23310=1,2 -23311=1,0", 0, "cut neither height nor width"),
        ("Crop b 1 1 x y -23309=1,0 -23310=2,2,3 -23311=1,1", 0, "cut neither height nor width"),
        ("Crop b 1 1 x y -23309=1,0 -23310=1,7 -23311=1,1", 0, "0 to 7 of a side of 6 is empty, or not inside"),
        ("Crop b 1 1 x y -23309=1,2 -23310=1,2 -23311=1,1", 0, "2 to 2 of a side of 6 is empty, or not inside"),
        ("Crop b 1 1 x y -23309=1,-7 -23310=1,2 -23311=1,1", 0, "-7 to 2 of a side of 6 is empty, or not inside"),
    ],
)
def test_layers_out_of_bounds(lines: str, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        run(lines, count)


def test_a_row_and_a_column_make_no_large_blob() -> None:
    lines = (
        "Crop r 1 1 x r -23309=1,0 -23310=1,1 -23311=1,1\nCrop c 1 1 x c -23309=1,0 -23310=1,1 -23311=1,2\n"
        "Interp r1 1 1 r r1 0=1 1=1.0 2=64.0\nInterp r2 1 1 r1 r2 0=1 1=1.0 2=4.0\n"
        "Interp c1 1 1 c c1 0=1 1=64.0 2=1.0\nInterp c2 1 1 c1 c2 0=1 1=64.0 2=1.0\nBinaryOp b 2 1 r2 c2 y\n"
    )
    with pytest.raises(ValueError, match="it makes 1 x 3 x 24576 x 1280 values of a small picture"):
        run(lines)


@pytest.mark.parametrize(
    "line", ["Reduction b 1 1 x y 0=3 1=0 2=2.0 -23303=2,1,2 4=1 5=1", "PixelShuffle b 1 1 x y 0=1 1=1"]
)
def test_values_that_no_family_has(line: str) -> None:
    with pytest.raises(CheckpointError, match=r"no network of a family has its parameter [12]="):
        run(line)


@pytest.mark.parametrize("number", ["-1e39", "1e39", "9" * 21, "--1", "1_0", "0x1", "inf", "-nan"])
def test_what_is_no_number(number: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"line 4: {number!r} is no number")):
        run(f"ReLU b 1 1 x y 0={number}")


def test_whole_numbers_have_ten_digits_at_most() -> None:
    (_, layer) = parse_layers(make_pair("ReLU b 1 1 x y 0=9999999999 1=99999999999"))
    assert list(map(type, layer.parameters.values())) == [int, float]


def test_the_number_of_layers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair("ReLU b 1 1 x y")
    monkeypatch.setattr("ganrt.export.sources.ncnn_file._MOST_LAYERS", 2)
    assert len(parse_layers(pair)) == 2
    monkeypatch.setattr("ganrt.export.sources.ncnn_file._MOST_LAYERS", 1)
    with pytest.raises(CheckpointError, match="announces 2 layers and holds 2; at most 1 are read"):
        parse_layers(pair)


def test_the_text_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.param").write_bytes(bytes(100))
    (tmp_path / "x.bin").write_bytes(bytes(1000))
    monkeypatch.setattr("ganrt.export.sources.ncnn_file._LARGEST_TEXT", 99)
    with pytest.raises(CheckpointError, match=r"x\.param is larger than 99 bytes"):
        read_pair(tmp_path / "x.param")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_weights_are_finite(value: float) -> None:
    layer = Layer("PReLU", "a", (), (), {})
    half = FLOAT16_TAG.to_bytes(4, "little") + np.array([1, value], "<f2").tobytes()
    for data, take in ((np.array([value], "<f4").tobytes(), "take_plain"), (half, "take_tagged")):
        reader = WeightReader(Pair(Path("x.param"), Path("x.bin"), b"", data))
        with pytest.raises(CheckpointError, match="the weights of PReLU a are not finite"):
            getattr(reader, take)(layer, 1 if take == "take_plain" else 2)
