"""The precision that an engine computes in, read back from the engine.

A builder may choose float32 without a warning, and the plan then runs four times slower (roboflow/rf-detr issue 1453).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ganrt.errors import EngineError
from ganrt.gpu import LoadedEngine

from .layers import Launch

if TYPE_CHECKING:
    import tensorrt as trt

_TYPES = {
    "fp32": r"fp32|float32|float|kfloat",
    "fp16": r"fp16|float16|half|khalf",
    "bf16": r"bf16|bfloat16|kbf16",
    "int8": r"int8|kint8",
    "fp8": r"fp8|float8|kfp8",
}
_WORK = re.compile(r"conv|gemm|matmul|matrix.?mul|einsum|linear|addmm", re.IGNORECASE)
"""Found in the type, name or origin of layers that do most of the arithmetic."""
_WHOLE = re.compile(r"ForeignNode|Myelin", re.IGNORECASE)
"""Found in layers that stand for many."""


def read_precision_shares(loaded: LoadedEngine) -> dict[str, float]:
    """Return precision -> the share of convolutions and matrix products that take their inputs in it, the largest
    first; of all layers, if there are no such. Empty if the inspector names no types: from 11.0 on TensorRT may compile
    a whole network into one layer. The engine must have been built with detailed verbosity."""
    lib = loaded.nvinfer.trt
    inspector: trt.EngineInspector = loaded.engine.create_engine_inspector()
    return parse_precision_shares(inspector.get_engine_information(lib.LayerInformationFormat.JSON))


def parse_precision_shares(information: str) -> dict[str, float]:
    """`read_precision_shares` of the inspector's JSON. Its keys differ between versions, so types are searched in all
    texts of a tensor. A layer that stands for a part of the network (`{ForeignNode[...]}`) is left out: its inputs say
    nothing of what is computed inside."""
    layers = [layer for layer in json.loads(information)["Layers"] if isinstance(layer, dict)]
    precisions = [(layer, _find_precision(layer)) for layer in layers if not _WHOLE.search(_join_texts(layer))]
    working = [kind for layer, kind in precisions if kind and _WORK.search(_join_texts(layer))]
    return _count_shares(working or [kind for _, kind in precisions if kind])


def count_precision_shares(launches: Sequence[Launch]) -> dict[str, float]:
    """`read_precision_shares` of what a plan of TensorRT for RTX launches."""
    kinds = [(launch, _find_type({"type": launch.computed_in})) for launch in launches]
    working = [kind for launch, kind in kinds if kind and launch.is_product]
    return _count_shares(working or [kind for _, kind in kinds if kind])


def _count_shares(kinds: Sequence[str]) -> dict[str, float]:
    found = Counter(kinds)
    return {kind: round(count / found.total(), 4) for kind, count in found.most_common()}


def require_precision(precision: str, shares: dict[str, float], strongly_typed: bool) -> None:
    """Raise EngineError unless some of the work is done in the precision that was asked for.

    Args:
        strongly_typed: whether the types of the graph are those of the engine, as from 10.0 on. Then an inspector that
            names no types is good enough.
    """
    if not shares and not strongly_typed:
        raise EngineError("the engine inspector reports no precision of any layer, so that of the engine is unknown")
    if shares and precision not in shares:
        computed = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
        raise EngineError(
            f"the engine was to compute in {precision}, but its convolutions and matrix products run in {computed}; "
            "use another precision"
        )


def _find_precision(layer: dict[str, Any]) -> str | None:
    """Return the precision of a layer's inputs, int8 or fp8 if any of them is; without inputs, that of its outputs."""
    tensors = layer.get("Inputs") or layer.get("Outputs") or []
    kinds = [kind for tensor in tensors if isinstance(tensor, dict) and (kind := _find_type(tensor))]
    return next((kind for kind in ("int8", "fp8") if kind in kinds), next(iter(kinds), None))


def _find_type(tensor: dict[str, Any]) -> str | None:
    texts = [value for key, value in tensor.items() if key != "Name" and isinstance(value, str)]
    for kind, pattern in _TYPES.items():
        if any(re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE) for text in texts):
            return kind
    return None


def _join_texts(layer: dict[str, Any]) -> str:
    return " ".join(str(layer.get(key, "")) for key in ("LayerType", "ParameterType", "Name", "Metadata"))
