"""What an engine really computes in, read back from the engine.

A builder may take float32 without a word, and then the plan runs, four times slower (roboflow/rf-detr issue 1453).
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
"""Of a layer's type, name and origin in the graph: what does most of the arithmetic."""


def shares(engine: trt.ICudaEngine) -> dict[str, float]:
    """Precision -> the share of convolutions and matrix products that take their inputs in it, the largest first; of
    all layers where there are none of these. The engine must have been built with detailed verbosity."""
    inspector: trt.EngineInspector = engine.create_engine_inspector()
    return shares_of(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def shares_of(information: str) -> dict[str, float]:
    """The same of the inspector's JSON. Its keys differ between versions, so types are looked for in all texts of a
    tensor. Raises EngineError when it names no types at all."""
    layers = [layer for layer in json.loads(information)["Layers"] if isinstance(layer, dict)]
    types = [(layer, _precision(layer)) for layer in layers]
    working = [kind for layer, kind in types if kind and _WORK.search(_description(layer))]
    found = Counter(working or [kind for _, kind in types if kind])
    if not found:
        raise EngineError("the engine inspector tells no precision of any layer, so nothing is known of this engine")
    return {kind: round(count / found.total(), 4) for kind, count in found.most_common()}


def require(precision: str, found: dict[str, float]) -> None:
    """Raise EngineError unless some of the work is done in the precision that was asked for."""
    if precision not in found:
        computed = ", ".join(f"{kind} {share:.0%}" for kind, share in found.items())
        raise EngineError(
            f"the engine was to compute in {precision}, but its convolutions and matrix products run in {computed}; "
            "use another precision"
        )


def _precision(layer: dict[str, Any]) -> str | None:
    """Of the inputs, int8 if any of them is; of the outputs for a layer without inputs."""
    tensors = layer.get("Inputs") or layer.get("Outputs") or []
    kinds = [kind for tensor in tensors if isinstance(tensor, dict) and (kind := _type(tensor))]
    return "int8" if "int8" in kinds else next(iter(kinds), None)


def _type(tensor: dict[str, Any]) -> str | None:
    texts = [value for key, value in tensor.items() if key != "Name" and isinstance(value, str)]
    for kind, pattern in _TYPES.items():
        if any(re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE) for text in texts):
            return kind
    return None


def _description(layer: dict[str, Any]) -> str:
    return " ".join(str(layer.get(key, "")) for key in ("LayerType", "ParameterType", "Name", "Metadata"))
