"""What a plan of TensorRT for RTX launches, read from the list that its compiler logs.

The list is for diagnosis: NVIDIA documents neither its form nor its names. A line is a kernel:
`Name: x, LayerType: gemm, Inputs: [ { Name: a, ..., Datatype: Half, ... }], Constants: [...], Outputs: [...], ...`.
One list serves all targets of a plan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\S+), Inputs: (?P<inputs>.*)$", re.MULTILINE)
_PART = re.compile(r", (?=(?:Constants|Outputs|TacticName|StreamId|Metadata): )")
_TYPE = re.compile(r"Datatype: (\w+)")
_GRAPH = re.compile(r"_myl(\d+)_\d+$")
"""At the end of a kernel's name: the number of the compiled graph that it belongs to. A profile may have several."""
_PROFILE = re.compile(r" \[profile (\d+)\]")
"""Behind the names of tensors and layers, from the second profile on."""
_ON_HOST = ("ShapeHostToDevice", "shape_call")
"""Layer types that compute shapes and launch nothing."""
_PRODUCTS = ("correlation", "deconv", "gemm")
_FUSED_PRODUCT = re.compile(r"^__myl_(Corr|Deco|Fc|\w*ReshMulSum)")
"""Names of kernels that compute a product and what follows it. One row of a matrix product is multiplied and summed."""
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
    constants: tuple[str, ...]
    """Types of its constants: of a product, the weight's first."""
    outputs: tuple[str, ...]
    """Types of its outputs."""
    origin: tuple[str, ...]
    """Names of the ONNX nodes that it computes."""

    @property
    def is_product(self) -> bool:
        """Whether it is a convolution or matrix product."""
        return self.kind in _PRODUCTS or _FUSED_PRODUCT.search(self.name) is not None

    @property
    def computed_in(self) -> str:
        """The type that it computes in: of its first input; of its weight, if it casts the input itself. Empty without
        either."""
        cast = self.constants[:1] if "Cast" in self.name and self.is_product else ()
        return next(iter((*cast, *self.inputs, *self.outputs)), "")

    @property
    def types(self) -> str:
        """The type that it computes in and that of its output, such as `Int8 -> Float`."""
        return f"{self.computed_in or '?'} -> {self.outputs[0] if self.outputs else '?'}"


def parse_layers(text: str) -> list[list[Launch]]:
    """Return the launches of each optimization profile, in order; an empty list where the text names none."""
    graphs: dict[int, list[re.Match[str]]] = {}
    for found in _LINE.finditer(text):
        number = _GRAPH.search(found["name"])
        if found["kind"] not in _ON_HOST:
            graphs.setdefault(int(number[1]) if number else 0, []).append(found)
    profiles: dict[int, list[Launch]] = {}
    for lines in graphs.values():
        tag = next(filter(None, (_PROFILE.search(line[0]) for line in lines)), None)
        profiles.setdefault(int(tag[1]) if tag else 0, []).extend(map(_parse_line, lines))
    return [profiles[number] for number in sorted(profiles)]


def _parse_line(found: re.Match[str]) -> Launch:
    inputs, *others = _PART.split(found["inputs"])
    parts = {part.partition(": ")[0]: part.partition(": ")[2] for part in others}
    return Launch(
        found["name"],
        found["kind"],
        tuple(_TYPE.findall(inputs)),
        tuple(_TYPE.findall(parts.get("Constants", ""))),
        tuple(_TYPE.findall(parts.get("Outputs", ""))),
        tuple(_ORIGIN.findall(parts.get("Metadata", ""))),
    )
