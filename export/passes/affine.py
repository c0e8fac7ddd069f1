"""Chains of per-channel multiplications and additions, merged into one of each: batch norms, gains and biases.

A conditional norm multiplies what batch norm gives by a gain and adds a bias, both linear functions of a class or a
latent: four passes over the picture, of which two are needed, because

    (k x + b) (G e + g) + (B e + h) = (k G e + k g) x + ((b G + B) e + b g + h),

where the brackets are linear in e again. They are computed as 1 x 1 convolutions of e, taken for a picture of one
pixel: backends then keep the memory layout of convolutions for what is multiplied with their result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .base import Pass
from .graph import Array, Patch, find_producer, find_sole_user, read_attribute, read_constant, read_gemm, read_shape

Vector: TypeAlias = NDArray[np.float64]
"""One number per channel, or one for all: of shape (C,) or (1,)."""


@dataclass(frozen=True)
class Projection:
    """One number per image and channel: weight @ source + bias."""

    source: ir.Value
    """(N, E)."""
    weight: NDArray[np.float64]
    """(C, E)."""
    bias: Vector


Term: TypeAlias = Vector | Projection | ir.Value
"""What is multiplied or added: a constant, a linear function of a small vector, or any value of shape (N, C, 1, 1)."""


class Affine(NamedTuple):
    """A node that computes scale * source + shift per channel; None for one that multiplies or adds nothing."""

    source: ir.Value
    scale: Term | None
    shift: Term | None


def read_affine(node: ir.Node) -> Affine | None:
    """What a node multiplies its input by and adds to it, channel by channel (axis 1), if that is all that it does."""
    if node.domain != "" or len(node.outputs) != 1:
        return None
    if node.op_type == "BatchNormalization":
        return _read_batch_norm(node)
    if node.op_type not in ("Mul", "Add", "Sub", "Div"):
        return None
    for place, value in enumerate(node.inputs):
        other = node.inputs[1 - place]
        term = (
            _read_term(other, len(read_shape(value))) if value is not None and read_shape(value)[2:] != (1, 1) else None
        )
        if value is None or term is None:
            continue
        if node.op_type == "Mul":
            return Affine(value, term, None)
        if node.op_type == "Add":
            return Affine(value, None, term)
        if place == 0 and isinstance(term, np.ndarray):
            return Affine(value, 1 / term, None) if node.op_type == "Div" else Affine(value, None, -term)
    return None


def read_constant_terms(found: Affine) -> tuple[Vector, Vector] | None:
    """Scale and shift, if both are constant."""
    scale = np.ones(1) if found.scale is None else found.scale
    shift = np.zeros(1) if found.shift is None else found.shift
    return (scale, shift) if isinstance(scale, np.ndarray) and isinstance(shift, np.ndarray) else None


def _read_batch_norm(node: ir.Node) -> Affine | None:
    given = [read_constant(value) for value in node.inputs[1:]]
    if node.inputs[0] is None or any(value is None for value in given) or read_attribute(node, "training_mode", 0):
        return None
    gain, bias, mean, variance = (np.asarray(value, np.float64) for value in given)
    scale = gain / np.sqrt(variance + read_attribute(node, "epsilon", 1e-5))
    return Affine(node.inputs[0], scale, bias - mean * scale)


def _read_term(value: ir.Value | None, rank: int) -> Term | None:
    """What a picture, or a matrix, of this rank is multiplied by per channel; None for anything else."""
    found = read_constant(value)
    if value is None or rank < 2:
        return None
    if found is not None:
        aligned = (1,) * (rank - found.ndim) + found.shape
        per_channel = len(aligned) == rank and {1, *aligned[2:], aligned[0]} == {1} and found.dtype.kind == "f"
        return found.reshape(-1).astype(np.float64) if per_channel else None
    if rank != 4 or len(read_shape(value)) != 4 or read_shape(value)[2:] != (1, 1):
        return None
    return _read_projection(value) or value


def _read_projection(value: ir.Value) -> Projection | None:
    """Gemm -> Unsqueeze, which makes (N, C, 1, 1), as a linear function of what goes in."""
    unsqueeze = find_producer(value, "Unsqueeze")
    axes = None if unsqueeze is None else read_constant(unsqueeze.inputs[1])
    if unsqueeze is None or axes is None or sorted(axes) != [2, 3]:
        return None
    gemm = find_producer(unsqueeze.inputs[0], "Gemm")
    found = read_gemm(gemm)
    if found is None or gemm is None or gemm.inputs[0] is None:
        return None
    return Projection(gemm.inputs[0], *(part.astype(np.float64) for part in found))


def merge_affine_chains(model: ir.Model) -> int:
    """A chain of affine nodes becomes Mul -> Add, or one of them, with projections as convolutions."""
    count = 0
    for chain in list(_find_chains(model)):
        steps = [found for found in map(read_affine, chain) if found is not None]
        terms = [term for step in steps for term in step[1:]]
        wanted = any(step.scale is not None for step in steps) + any(step.shift is not None for step in steps)
        if len(chain) <= wanted and not any(isinstance(term, Projection) for term in terms):
            continue
        if all(term is None or isinstance(term, np.ndarray) for term in terms) and len(chain) <= wanted:
            continue
        last = chain[-1]
        result = _Writer(last).write(steps)
        Patch(last).replace(last.outputs[0], result)
        for node in reversed(chain):
            model.graph.remove(node, safe=True)
        count += 1
    return count


def _find_chains(model: ir.Model) -> Iterator[list[ir.Node]]:
    """Longest runs of affine nodes on pictures, each the only user of the one before."""
    taken: set[ir.Node] = set()
    for node in model.graph:
        chain: list[ir.Node] = []
        following: ir.Node | None = node
        while following is not None and following not in taken and _continues(chain, following):
            chain.append(following)
            taken.add(following)
            following = find_sole_user(following.outputs[0])
        if chain:
            yield chain


def _continues(chain: list[ir.Node], node: ir.Node) -> bool:
    found = read_affine(node)
    if found is None or len(read_shape(found.source)) != 4:
        return False
    return not chain or found.source is chain[-1].outputs[0]


class _Writer:
    """Writes scale and shift of a chain in front of its last node."""

    def __init__(self, last: ir.Node) -> None:
        self._patch = Patch(last)
        self._name = str(last.outputs[0].name)
        self._dtype = last.outputs[0].dtype or ir.DataType.FLOAT
        self._pixels: dict[ir.Value, ir.Value] = {}

    def write(self, steps: list[Affine]) -> ir.Value:
        scale: Term | None = None
        shift: Term | None = None
        for step in steps:
            if step.scale is not None:
                scale = step.scale if scale is None else self._combine("Mul", scale, step.scale)
                shift = None if shift is None else self._combine("Mul", shift, step.scale)
            if step.shift is not None:
                shift = step.shift if shift is None else self._combine("Add", shift, step.shift)
        result = steps[0].source
        for op_type, term in (("Mul", scale), ("Add", shift)):
            if term is not None:
                result = self._patch.add_op(op_type, [result, self._write_term(term)])
        return result

    def _combine(self, op_type: str, one: Term, other: Term) -> Term:
        """The product or the sum: of constants, and of what stays a projection, computed here and now."""
        arithmetic: Callable[[Vector, Vector], Vector] = np.multiply if op_type == "Mul" else np.add
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            return arithmetic(one, other)
        if isinstance(one, np.ndarray):
            one, other = other, one
        if isinstance(one, Projection) and isinstance(other, np.ndarray):
            scaled = one.weight * other[:, None] if op_type == "Mul" else one.weight
            return Projection(one.source, scaled, arithmetic(one.bias, other))
        both = isinstance(one, Projection) and isinstance(other, Projection) and one.source is other.source
        if both and op_type == "Add":
            assert isinstance(one, Projection) and isinstance(other, Projection)
            return Projection(one.source, one.weight + other.weight, one.bias + other.bias)
        return self._patch.add_op(op_type, [self._write_term(one), self._write_term(other)])

    def _write_term(self, term: Term) -> ir.Value:
        if isinstance(term, ir.Value):
            return term
        if isinstance(term, Projection):
            return self._patch.add_op(
                "Conv",
                [
                    self._write_pixel(term.source),
                    self._write_constant(term.weight[:, :, None, None]),
                    self._write_constant(term.bias),
                ],
            )
        return self._write_constant(term[:, None, None])

    def _write_pixel(self, source: ir.Value) -> ir.Value:
        if source not in self._pixels:
            axes = self._patch.add_constant(np.array([2, 3]), f"{self._name}.axes")
            self._pixels[source] = self._patch.add_op("Unsqueeze", [source, axes])
        return self._pixels[source]

    def _write_constant(self, value: Array) -> ir.Value:
        return self._patch.add_constant(np.asarray(value, self._dtype.numpy()), f"{self._name}.affine")


AFFINE = Pass(
    "affine", "batch norms, gains and biases in a row become one multiplication and one addition", merge_affine_chains
)
