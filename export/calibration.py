"""What the tensors inside a graph reach on the model's own samples: latents, labels and pictures as its Spec draws
them, so no data set is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from ganrt import feeds
from ganrt.feeds import Array, Feeds
from ganrt.golden import picture_size
from ganrt.rounding import spell_out
from ganrt.spec import Spec

SEED = 2024
"""Of samples that are no golden ones: what is chosen on some pictures is proven on others."""
_ROWS = 4
_VALUES = 2**15
"""Of each tensor and run, so many values are looked at."""
_SHARES = tuple(np.linspace(1.0, 0.4, 25).tolist())
"""Of the largest magnitude, where values might be clipped."""


class Extent(NamedTuple):
    """The values of a tensor that are worth telling apart in 8 bits; what lies beyond is clipped."""

    low: float
    """Not below 0 where the tensor never is."""
    high: float

    @property
    def reach(self) -> float:
        """The largest magnitude."""
        return max(self.high, -self.low)


def samples(spec: Spec, count: int) -> Iterator[Feeds]:
    """Inputs of the samples 0, 1, ... of SEED, a few rows at a time."""
    for first in range(0, count, _ROWS):
        yield feeds.draw(spec, SEED, first, min(_ROWS, count - first), size=picture_size(spec))


class Evaluator:
    """Runs a graph on ONNX Runtime's CPU provider, which computes what the graph says, faithfully if not fast: float16
    is spelled out, because by itself the provider would compute float32 instead, and overflow would not show."""

    def __init__(self, model: ir.Model) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        content = spell_out(ir.to_proto(model)).SerializeToString()
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, given: Feeds, names: Sequence[str] | None = None) -> list[Array]:
        """The outputs of these names, by default all."""
        found: list[Array] = self._session.run(names, given)
        return found


def extents(model: ir.Model, spec: Spec, names: Sequence[str], count: int) -> dict[str, Extent]:
    """Name of a tensor -> its extent on so many samples."""
    watched = model.clone()
    values = {value.name: value for node in watched.graph for value in node.outputs}
    inputs, outputs = ({value.name for value in side} for side in (watched.graph.inputs, watched.graph.outputs))
    inner = [name for name in names if name not in inputs]
    watched.graph.outputs.extend(values[name] for name in inner if name not in outputs)
    run = Evaluator(watched)
    seen: dict[str, list[Array]] = {name: [] for name in names}
    for given in samples(spec, count):
        found = dict(zip(inner, run(given, inner), strict=True)) | given
        for name in names:
            flat = found[name].ravel()
            ends = np.array([flat.min(), flat.max()])
            seen[name].append(np.concatenate([ends, flat[:: max(1, flat.size // _VALUES)]]))
    return {name: extent(np.concatenate(parts)) for name, parts in seen.items()}


def extent(values: Array) -> Extent:
    """The extent with which 8 bits, symmetric about 0, give the smallest mean squared error: rare large values are
    clipped where that lets all others be told apart better."""
    low, high = float(values.min()), float(values.max())
    steps = 255 if low >= 0 else 127
    reach = max(high, -low)
    if reach == 0:
        return Extent(low, high)

    def error(share: float) -> float:
        scale = share * reach / steps
        rounded = np.clip(np.rint(values / scale), -steps if low < 0 else 0, steps) * scale
        return float(np.square(values - rounded, dtype=np.float64).mean())

    best = min(_SHARES, key=error) * reach
    return Extent(max(low, -best), min(high, best))
