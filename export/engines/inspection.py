"""The precision that an engine computes in, read back from the engine.

A builder may choose float32 without a warning, and the plan then runs four times slower (roboflow/rf-detr issue 1453).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from ganrt.errors import EngineError
from ganrt.gpu import trt

_TYPES = {
    "fp32": r"fp32|float32|float|kfloat",
    "fp16": r"fp16|float16|half|khalf",
    "bf16": r"bf16|bfloat16|kbf16",
    "int8": r"int8|kint8",
}
_WORK = re.compile(r"conv|gemm|matmul|matrix.?mul|einsum|linear|addmm", re.IGNORECASE)
"""Found in the type, name or origin of layers that do most of the arithmetic."""


def read_precision_shares(engine: trt.ICudaEngine) -> dict[str, float]:
    """Return precision -> the share of convolutions and matrix products that take their inputs in it, the largest
    first; of all layers, if there are no such. The engine must have been built with detailed verbosity."""
    inspector: trt.EngineInspector = engine.create_engine_inspector()
    return parse_precision_shares(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def parse_precision_shares(information: str) -> dict[str, float]:
    """`read_precision_shares` of the inspector's JSON. Its keys differ between versions, so types are searched in all
    texts of a tensor. Raises EngineError if it names no type at all."""
    layers = [layer for layer in json.loads(information)["Layers"] if isinstance(layer, dict)]
    precisions = [(layer, _find_precision(layer)) for layer in layers]
    working = [kind for layer, kind in precisions if kind and _WORK.search(_join_texts(layer))]
    found = Counter(working or [kind for _, kind in precisions if kind])
    if not found:
        raise EngineError("the engine inspector reports no precision of any layer, so that of the engine is unknown")
    return {kind: round(count / found.total(), 4) for kind, count in found.most_common()}


def require_precision(precision: str, shares: dict[str, float]) -> None:
    """Raise EngineError unless some of the work is done in the precision that was asked for."""
    if precision not in shares:
        computed = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
        raise EngineError(
            f"the engine was to compute in {precision}, but its convolutions and matrix products run in {computed}; "
            "use another precision"
        )


def _find_precision(layer: dict[str, Any]) -> str | None:
    """Return the precision of a layer's inputs, int8 if any of them is; without inputs, that of its outputs."""
    tensors = layer.get("Inputs") or layer.get("Outputs") or []
    kinds = [kind for tensor in tensors if isinstance(tensor, dict) and (kind := _find_type(tensor))]
    return "int8" if "int8" in kinds else next(iter(kinds), None)


def _find_type(tensor: dict[str, Any]) -> str | None:
    texts = [value for key, value in tensor.items() if key != "Name" and isinstance(value, str)]
    for kind, pattern in _TYPES.items():
        if any(re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE) for text in texts):
            return kind
    return None


def _join_texts(layer: dict[str, Any]) -> str:
    return " ".join(str(layer.get(key, "")) for key in ("LayerType", "ParameterType", "Name", "Metadata"))
