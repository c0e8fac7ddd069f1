"""Layers of ncnn, and the two files that hold them.

The format is described in ncnn's wiki, "param and model file structure": a text file with a line for each layer, and a
binary file with the weights of all layers, one after another in the same order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from ganrt.feeds import Array

MAGIC = 7767517
"""First line of a text file."""
ARRAY = -23300
"""A parameter that is an array has this number less its own."""
FLOAT16_TAG = 0x01306B47
"""Precedes weights in float16; 0 precedes those in float32."""

Number: TypeAlias = int | float
Parameter: TypeAlias = Number | Sequence[Number]


@dataclass(frozen=True)
class Layer:
    """A layer. `inputs` and `outputs` are names of blobs, without white space."""

    kind: str
    """ncnn's name of the layer, such as `Convolution`."""
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[int, Parameter]
    """Number of the parameter -> value. A layer has ints and floats apart, and so does the file."""
    weights: tuple[Weights, ...] = ()
    """In the order in which the layer reads them."""


@dataclass(frozen=True)
class Weights:
    """Values that a layer reads from the binary file."""

    array: Array
    tagged: bool = False
    """True for weights whose type precedes them, such as those of a convolution, so that they may be float16. False for
    plain float32, such as biases."""

    def encode(self, dtype: Literal["float32", "float16"]) -> bytes:
        """Return the bytes in the file. Tagged values are written as `dtype`, padded to four bytes."""
        if not self.tagged:
            return np.ascontiguousarray(self.array, "<f4").tobytes()
        half = dtype == "float16"
        data = np.ascontiguousarray(self.array, "<f2" if half else "<f4").tobytes()
        tag = FLOAT16_TAG if half else 0
        return tag.to_bytes(4, "little") + data + bytes(-len(data) % 4)


@dataclass
class Network:
    """A network of ncnn for one row of a batch."""

    output: str = ""
    """Name of the output blob."""
    layers: list[Layer] = field(default_factory=list)

    def write_param(self) -> str:
        """Return the text file.

        A blob feeds one layer only. Where a value is used several times, a layer `Split` makes a blob for each use,
        which share its memory.
        """
        layers = self._split_blobs()
        blobs = sum(len(layer.outputs) for layer in layers)
        lines = [str(MAGIC), f"{len(layers)} {blobs}", *map(_format_layer, layers)]
        return "\n".join(lines) + "\n"

    def write_weights(self, dtype: Literal["float32", "float16"] = "float32") -> bytes:
        """Return the binary file.

        Args:
            dtype: type of the stored kernels of convolutions and matrix products. Biases and the like are float32.
        """
        return b"".join(weights.encode(dtype) for layer in self.layers for weights in layer.weights)

    def _split_blobs(self) -> list[Layer]:
        uses = Counter(name for layer in self.layers for name in layer.inputs)
        taken: dict[str, int] = defaultdict(int)

        def take(name: str) -> str:
            if uses[name] < 2:
                return name
            taken[name] += 1
            return f"{name}#{taken[name]}"

        found = []
        for layer in self.layers:
            inputs = tuple(map(take, layer.inputs))
            found.append(Layer(layer.kind, layer.name, inputs, layer.outputs, layer.parameters, layer.weights))
            for name in layer.outputs:
                if uses[name] > 1:
                    copies = tuple(f"{name}#{number}" for number in range(1, uses[name] + 1))
                    found.append(Layer("Split", f"{name}#split", (name,), copies, {}))
        return found


def _format_layer(layer: Layer) -> str:
    counts = f"{len(layer.inputs)} {len(layer.outputs)}"
    parameters = (_format_parameter(number, value) for number, value in sorted(layer.parameters.items()))
    return " ".join([layer.kind, layer.name, counts, *layer.inputs, *layer.outputs, *parameters])


def _format_parameter(number: int, value: Parameter) -> str:
    if isinstance(value, Sequence):
        return f"{ARRAY - number}={','.join([str(len(value)), *map(_format_number, value)])}"
    return f"{number}={_format_number(value)}"


def _format_number(value: Number) -> str:
    """ncnn reads 15 characters of a number, and takes it for a float if it has a point or an exponent."""
    return f"{value:.8e}" if isinstance(value, float) else str(int(value))
