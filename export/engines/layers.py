"""What a plan of TensorRT for RTX launches, read from the list that its compiler logs.

The list is for diagnosis: NVIDIA documents neither its form nor its names. A line is a kernel:
`Name: x, LayerType: gemm, Inputs: [ { Name: a, ..., Datatype: Half, ... }], Constants: [...], Outputs: [...], ...`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\S+), Inputs: (?P<inputs>.*)$", re.MULTILINE)
_PART = re.compile(r", (?=(?:Constants|Outputs|TacticName|StreamId|Metadata): )")
_TYPE = re.compile(r"Datatype: (\w+)")
_PROFILE = re.compile(r"_myl(\d+)_\d+$")
_PRODUCTS = ("correlation", "deconv", "gemm")
_FUSED_PRODUCT = re.compile(r"Fc|MulSum")
"""In the names of kernels that compute a matrix product and what follows it."""
_ORIGIN = re.compile(r"\[ONNX Layer: (.*?)\]")


@dataclass(frozen=True)
class Launch:
    """A kernel that a plan launches for a batch."""

    name: str
    kind: str
    """The compiler's: `correlation`, `deconv` and `gemm` for products, `kgen` and `runtime_fusion` for kernels that it
    generates."""
    inputs: tuple[str, ...]
    """Types of its inputs, such as `Half`; constants not among them."""
    outputs: tuple[str, ...]
    """Types of its outputs."""
    origin: tuple[str, ...]
    """Names of the ONNX nodes that it computes."""

    @property
    def is_product(self) -> bool:
        """Whether it is a convolution or matrix product."""
        return self.kind in _PRODUCTS or _FUSED_PRODUCT.search(self.name) is not None

    @property
    def types(self) -> str:
        """The type of its first input and that of its output, such as `Int8 -> Float`."""
        return f"{self.inputs[0] if self.inputs else '?'} -> {self.outputs[0] if self.outputs else '?'}"


def parse_layers(text: str) -> list[list[Launch]]:
    """Return the launches of each optimization profile, in order; an empty list where the text names none."""
    profiles: dict[int, list[Launch]] = {}
    for found in _LINE.finditer(text):
        number = _PROFILE.search(found["name"])
        profiles.setdefault(int(number[1]) if number else 0, []).append(_parse_line(found))
    return [profiles[number] for number in sorted(profiles)]


def _parse_line(found: re.Match[str]) -> Launch:
    inputs, *others = _PART.split(found["inputs"])
    parts = {part.partition(": ")[0]: part.partition(": ")[2] for part in others}
    return Launch(
        found["name"],
        found["kind"],
        tuple(_TYPE.findall(inputs)),
        tuple(_TYPE.findall(parts.get("Outputs", ""))),
        tuple(_ORIGIN.findall(parts.get("Metadata", ""))),
    )
