"""Count the multiply-accumulates (MACs) and the memory traffic of an ONNX graph from the shapes of its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import onnx

from ganrt.onnx_macs import Shape, find_products
from ganrt.spec import Image, Label, Latent, Spec

from .cases import Size


def count_macs(path: Path, spec: Spec, size: Size | None) -> int:
    """Return the multiply-accumulates of an ONNX file's convolutions and matrix products, for one image.

    Multiplications with zeros count: those of padding, and those whose result a transposed convolution crops. Norms,
    activations and resizing do not count. A convolution in int8 counts like one in float32.

    Args:
        size: height and width of the input pictures in pixels; None for a model that takes none.

    Raises ArtifactError when a needed shape cannot be inferred from the shapes of the inputs.
    """
    return sum(product.macs for product in find_products(*_read_graph(path, spec, size)))


class Traffic(NamedTuple):
    """Values that the convolutions and matrix products read and write if each moves once."""

    tensors: int
    """Values of inputs and outputs, per image."""
    weights: int
    """Values of weights, per batch of any size."""


def count_traffic(path: Path, spec: Spec, size: Size | None) -> Traffic:
    """Return the memory traffic of an ONNX file. Arguments and errors are those of `count_macs`."""
    products = list(find_products(*_read_graph(path, spec, size)))
    return Traffic(sum(product.tensors for product in products), sum(product.weights for product in products))


def _read_graph(path: Path, spec: Spec, size: Size | None) -> tuple[onnx.ModelProto, dict[str, Shape], str]:
    """The graph without its weights, the shapes of its inputs at batch 1, and its name for errors."""
    model = onnx.load(path, load_external_data=False)
    return model, {item.name: (1, *_row_shape(item, size)) for item in spec.inputs}, path.name


def _row_shape(item: object, size: Size | None) -> Shape:
    """The shape of an input without its batch dimension."""
    if isinstance(item, Latent):
        return item.shape
    if isinstance(item, Label):
        return (item.classes,) if item.encoding == "one_hot" else ()
    if isinstance(item, Image):
        height, width = item.size or size or (0, 0)
        return (item.channels, height, width)
    return ()
