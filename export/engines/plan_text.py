"""What a TensorRT-RTX plan launches and in which types, read from the text inside the plan.

The text is an implementation detail of the library: it is undocumented, and any version may change or drop it. It is
good for tables and messages; nothing may depend on it. This module reads plans of TensorRT-RTX 1.7. It imports nothing
of NVIDIA's, and needs no GPU.

A plan holds one program for each optimization profile. A program serves all targets of the plan, so launches are
counted once, whatever the number of targets. A fused kernel that is generated when the engine is loaded is a program of
its own, behind the program that launches it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_BEGIN = b"header {\n"
_PRODUCTS = ("corrltn", "deconvolution", "fully_connected")
"""Statements that multiply two tensors: convolution, transposed convolution, matrix product."""
_ROW_PRODUCT = "ReshMulSum"
"""Part of the name of a kernel that computes a matrix product of a single row, by multiplying and adding up."""
_FUSABLE = ("bias", "relu", "leaky_relu", "tanh", "sigmoid", "gelu", "gelu_erf", "swish", "accu", "quantize")
"""What the library's own convolutions and products may compute beside the product; `accu` adds another tensor."""
_LAYER = "[ONNX Layer: "


@dataclass(frozen=True)
class Launch:
    """A kernel that a program launches."""

    kind: str
    """`corrltn` (convolution), `deconvolution`, `fully_connected`, `runtime_fusion` (one of these with what follows),
    `function`, `maxpool`, or whatever else the text has."""
    name: str
    """Name of the layer, or of the generated kernel: its operations, each shortened to four letters."""
    product: str
    """Types of the product, such as `half x half -> half`; empty for a kernel that multiplies no two tensors."""
    fused: tuple[str, ...]
    """What it computes beside the product, such as `bias` and `relu`."""
    layers: tuple[str, ...]
    """Names of the graph's nodes that it computes, or parts of them."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class PlanProgram:
    """What one optimization profile launches, in order."""

    targets: tuple[str, ...]
    """GPU architectures, such as `sm89`."""
    launches: tuple[Launch, ...]

    @property
    def products(self) -> Mapping[str, int]:
        """Types of convolutions and matrix products -> their number."""
        return Counter(launch.product for launch in self.launches if launch.product)

    @property
    def others(self) -> Mapping[str, int]:
        """Names of all other kernels -> their number."""
        return Counter(launch.name for launch in self.launches if not launch.product)


@dataclass(frozen=True)
class _Statement:
    kind: str
    text: str

    def read_word(self, key: str) -> str:
        """Return the value of ` key=value `; empty if there is none."""
        found = self.text.partition(f" {key}=")[2] or self.text.partition(f" {key} = ")[2]
        return found[1:].partition('"')[0] if found.startswith('"') else found.partition(" ")[0]

    def read_names(self, *keys: str) -> tuple[str, ...]:
        """Return the quoted names in the braces behind the first of the keys that there is."""
        for key in keys:
            found = self.text.partition(f" {key}={{")[2].lstrip()
            if found.startswith('"'):
                return tuple(found.partition('" }')[0].split('"')[1::2])
        return ()


class _Program:
    """The text of a program, taken apart."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for a text that is cut off."""
        header, _, rest = text.partition("\ndescriptors {\n")
        descriptors, found, rest = rest.partition("\nmain {\n")
        body, ended, _ = rest.partition("\n}\n")
        if not (found and ended):
            raise ValueError("the text of a program has no end")
        self.targets = tuple(header.partition("\n  accelerators={")[2].partition("}")[0].split())
        self.types = dict(map(_read_tensor, _list_statements(descriptors)))
        self.statements = list(_list_statements(body))


def _list_statements(text: str) -> Iterator[_Statement]:
    for line in text.split("\n"):
        kind, found, rest = line.partition("={")
        if found:
            yield _Statement(kind.strip(), rest)


def _read_tensor(statement: _Statement) -> tuple[str, str]:
    return statement.read_word("name"), statement.read_word("type")


def read_plan_text(plan: bytes) -> tuple[PlanProgram, ...]:
    """Return the programs of a plan, one for each optimization profile.

    Empty if the text says nothing, or not all: then nothing is known about the plan.
    """
    programs = []
    try:
        found = [_Program(text) for text in _list_texts(plan)]
        while found:
            program = found.pop(0)
            fusions = []
            while found and found[0].targets == ("*",):
                fusions.append(found.pop(0))
            launches = tuple(_read_launch(program, statement, fusions) for statement in program.statements)
            programs.append(PlanProgram(program.targets, launches))
    except (ValueError, LookupError):
        return ()
    return tuple(programs)


def _list_texts(plan: bytes) -> Iterator[str]:
    """Yield the texts of all programs. Each ends with a null byte, or with the plan."""
    start = plan.find(_BEGIN)
    while start >= 0:
        end = plan.find(b"\0", start)
        end = len(plan) if end < 0 else end
        yield plan[start:end].decode(errors="replace")
        start = plan.find(_BEGIN, end)


def _read_launch(program: _Program, statement: _Statement, fusions: list[_Program]) -> Launch:
    """Raises ValueError or LookupError if the text does not say in which types a product is computed."""
    name = statement.read_word("name").removeprefix("__myl_")
    inputs = statement.read_names("input", "input_args")
    outputs = statement.read_names("output", "output_args")
    product, fused = "", tuple(part for part in _FUSABLE if statement.read_word(part) == "true")
    if statement.kind in _PRODUCTS or (statement.kind == "function" and _ROW_PRODUCT in name):
        product = _format_types(program, inputs[:2], outputs)
    elif statement.kind == "runtime_fusion":
        fusion = fusions[int(statement.read_word("binary"))]
        inner = next((each for each in fusion.statements if each.kind in _PRODUCTS), None)
        if inner is not None:
            product = _format_types(fusion, inner.read_names("input")[:2], ()) + program.types[outputs[0]]
        fused = tuple(each.kind for each in fusion.statements if each is not inner)
    layers = tuple(part.partition("]")[0] for part in statement.read_word("layers").split(_LAYER)[1:])
    return Launch(statement.kind, name, product, fused, layers, inputs, outputs)


def _format_types(program: _Program, factors: tuple[str, ...], outputs: tuple[str, ...]) -> str:
    first, second = (program.types[name] for name in factors)
    return f"{first} x {second} -> {''.join(program.types[name] for name in outputs[:1])}"
