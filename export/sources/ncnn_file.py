"""Read a network of ncnn: a text file of layers (`.param`), and a binary file with the weights of all layers, one after
another in the same order (`.bin`).

The format is described in ncnn's wiki, "param and model file structure". Nothing in the files is believed: counts are
compared with what is there, and sizes with what is left, before anything is allocated.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ganrt.errors import CheckpointError
from ganrt.feeds import Array
from ganrt.json_reader import read_bytes
from ganrt.ncnn_format import ARRAY, FLOAT16_TAG, MAGIC, Layer, Number, Parameter

_LARGEST_TEXT = 2**22
"""Bytes of layers; Real-ESRGAN's largest network has 2**17."""
_LARGEST = 2**31 - 1
"""Bytes of weights."""
_MOST_LAYERS = 100_000
_MAGIC_BYTES = MAGIC.to_bytes(4, "little")
"""How a binary file of layers starts."""
_INT8_TAG = 0x000D4B38
_TAGS = (0, FLOAT16_TAG, _INT8_TAG)
"""How a file of weights starts, if its first layer has tagged ones."""
_INTEGER = re.compile(r"[-+]?[0-9]{1,10}")
_FLOAT = re.compile(r"[-+]?(?=\.?[0-9])[0-9]{0,20}(?:\.[0-9]{0,20})?(?:[eE][-+]?[0-9]{1,3})?")
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
OUT_OF_INT8 = "export the pair in float32 or float16 that it was made from; `--precision int8` quantizes that"
"""What to do with weights that are quantized."""


class Pair(NamedTuple):
    """The two files of a network: their paths and what they hold."""

    layers: Path
    weights: Path
    text: bytes
    values: bytes

    @property
    def origin(self) -> dict[str, object]:
        """Names and sha256 of both files, of the bytes that were read."""
        digests = {path.name: hashlib.sha256(held).hexdigest() for path, held in zip(self[:2], self[2:], strict=True)}
        return {
            "name": self.layers.name,
            "sha256": digests[self.layers.name],
            "weights": {"name": self.weights.name, "sha256": digests[self.weights.name]},
        }


def is_ncnn_file(path: Path) -> bool:
    """Whether a file is one of ncnn's: by its name or its first bytes, or because the other file is beside it."""
    if path.suffix == ".param" or path.name.endswith(".param.bin"):
        return True
    with path.open("rb") as file:
        start = file.read(8)
    if start[:4] == _MAGIC_BYTES or start[:7] == str(MAGIC).encode():
        return True
    tagged = len(start) == 8 and int.from_bytes(start[:4], "little") in _TAGS
    return path.suffix == ".bin" and (tagged or path.with_suffix(".param").is_file())


def read_pair(path: Path) -> Pair:
    """Read both files of a network, of which `path` is one: NAME.param and NAME.bin.

    Raises CheckpointError where the other one is not beside it, and for files that are too large, cannot be read, or
    hold the layers in binary.
    """
    layers, weights = path.with_suffix(".param"), path.with_suffix(".bin")
    if path.name.endswith(".param.bin"):
        raise _reject_binary(path)
    for own, missing, what in ((weights, layers, "layers"), (layers, weights, "weights")):
        if not missing.is_file():
            raise CheckpointError(
                f"{own} is one of the two files of a network for ncnn, and {missing.name}, which holds its {what}, is "
                "not beside it: put both into one folder, under one name"
            )
    text = read_bytes(layers, _LARGEST_TEXT, CheckpointError)
    if text[:4] == _MAGIC_BYTES:
        raise _reject_binary(layers)
    return Pair(layers, weights, text, read_bytes(weights, _LARGEST, CheckpointError))


def _reject_binary(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} holds the layers in ncnn's binary form, which has no names; export the text file (.param) that "
        "ncnn2mem made it from"
    )


def parse_layers(pair: Pair) -> list[Layer]:
    """Parse the text file: layers in order of execution, without their weights.

    Raises CheckpointError, with the line, for anything that is not as the format says: other counts than those in its
    second line, a blob that no earlier layer makes or that two make, a parameter that is no number.
    """
    try:
        lines = pair.text.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{pair.layers} is no text: byte {error.start} is not UTF-8") from error
    if not lines or lines[0].strip() != str(MAGIC):
        raise CheckpointError(f"{pair.layers} does not start with {MAGIC}, as ncnn's files of layers do")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(re.fullmatch("[0-9]{1,6}", count) for count in counts):
        raise CheckpointError(f"{pair.layers}, line 2: the numbers of layers and of blobs were expected")
    layer_count, blob_count = map(int, counts)
    rows = [(number, line.split()) for number, line in enumerate(lines[2:], 3) if line.strip()]
    if len(rows) != layer_count or layer_count > _MOST_LAYERS:
        raise CheckpointError(
            f"{pair.layers} announces {layer_count} layers and holds {len(rows)}; at most {_MOST_LAYERS:,} are read"
        )
    if any(words[0] == "pnnx.Input" for _, words in rows):
        raise CheckpointError(
            f"{pair.layers} holds the layers of pnnx, not of ncnn; export NAME.ncnn.param, made with it"
        )
    layers: list[Layer] = []
    made: set[str] = set()
    for number, words in rows:
        try:
            layers.append(_parse_layer(words, made))
        except ValueError as error:
            raise CheckpointError(f"{pair.layers}, line {number}: {error}") from error
    if len(made) != blob_count:
        raise CheckpointError(f"{pair.layers} announces {blob_count} blobs and makes {len(made)}")
    return layers


def _parse_layer(words: list[str], made: set[str]) -> Layer:
    """Parse a line; `made`, the blobs of the layers before, gets those of this one. Raises ValueError with a reason."""
    if len(words) < 4 or not all(re.fullmatch("[0-9]{1,6}", word) for word in words[2:4]):
        raise ValueError("a kind, a name, and the numbers of inputs and outputs were expected")
    inputs_end = 4 + int(words[2])
    outputs_end = inputs_end + int(words[3])
    if len(words) < outputs_end:
        raise ValueError(f"{len(words) - 4} words follow, and its inputs and outputs are {outputs_end - 4}")
    inputs, outputs = tuple(words[4:inputs_end]), tuple(words[inputs_end:outputs_end])
    missing = [name for name in inputs if name not in made]
    if missing:
        raise ValueError(f"no layer before it makes its input {missing[0]}")
    for name in outputs:
        if name in made:
            raise ValueError(f"its output {name} is made twice")
        made.add(name)
    parameters: dict[int, Parameter] = {}
    for word in words[outputs_end:]:
        key, value = _parse_parameter(word)
        if key in parameters:
            raise ValueError(f"parameter {key} is given twice")
        parameters[key] = value
    return Layer(words[0], words[1], inputs, outputs, parameters)


def _parse_parameter(word: str) -> tuple[int, Parameter]:
    """`3=2` or `-23310=2,1.0,0.5`: a number of the parameter and a value, or a count and as many values."""
    left, _, right = word.partition("=")
    key = _parse_number(left)
    if not isinstance(key, int) or ARRAY < key < 0:
        raise ValueError(f"{word[:40]!r} is no parameter")
    if key > ARRAY:
        return key, _parse_number(right)
    count, *values = map(_parse_number, right.split(","))
    if count != len(values):
        raise ValueError(f"parameter {ARRAY - key} holds {len(values)} values and announces {count}")
    return ARRAY - key, tuple(values)


def _parse_number(word: str) -> Number:
    if _INTEGER.fullmatch(word):
        return int(word)
    value = float(word) if _FLOAT.fullmatch(word) else np.inf
    if abs(value) > _LARGEST_FLOAT:
        raise ValueError(f"{word[:40]!r} is no number")
    return float(np.float32(value))


class WeightReader:
    """Takes weights from the binary file, one array after the other."""

    def __init__(self, pair: Pair) -> None:
        self._path, self._values, self._at = pair.weights, memoryview(pair.values), 0
        self.has_float16 = False
        """Whether any weights so far are stored in float16."""

    def take_plain(self, layer: Layer, count: int) -> Array:
        """Take `count` float32 values. Raises CheckpointError where so many are not left, or one is not finite."""
        return self._take(layer, count, np.dtype("<f4"))

    def take_tagged(self, layer: Layer, count: int) -> Array:
        """Take `count` values whose type precedes them, float32 or float16, as float32, which holds both exactly.

        Raises CheckpointError as `take_plain`, and for weights in 8 bits.
        """
        tag = int.from_bytes(self._take_bytes(layer, 4), "little")
        if tag == 0:
            return self._take(layer, count, np.dtype("<f4"))
        if tag == FLOAT16_TAG:
            self.has_float16 = True
            found = self._take(layer, count, np.dtype("<f2"))
            self._take_bytes(layer, -2 * count % 4)
            return found
        form = "8 bits" if tag == _INT8_TAG else f"a form with the mark {tag:#010x}"
        raise CheckpointError(f"{self._path} holds the weights of {layer.kind} {layer.name} in {form}: {OUT_OF_INT8}")

    def check_end(self) -> None:
        """Raise CheckpointError unless all was taken."""
        left = len(self._values) - self._at
        if left:
            raise CheckpointError(
                f"{self._path} has {left:,} bytes more than its layers take, {self._at:,}: it belongs to other layers, "
                "or is damaged"
            )

    def _take(self, layer: Layer, count: int, dtype: np.dtype[np.floating]) -> Array:
        found = np.frombuffer(self._take_bytes(layer, count * dtype.itemsize), dtype).astype(np.float32)
        if not np.isfinite(found).all():
            raise CheckpointError(f"{self._path}: the weights of {layer.kind} {layer.name} are not finite")
        return found

    def _take_bytes(self, layer: Layer, count: int) -> memoryview:
        left = len(self._values) - self._at
        if count > left:
            raise CheckpointError(
                f"{self._path} ends at byte {len(self._values):,}, and {layer.kind} {layer.name} takes {count:,} bytes "
                f"from {self._at:,}: it is cut off, or belongs to other layers"
            )
        self._at += count
        return self._values[self._at - count : self._at]
