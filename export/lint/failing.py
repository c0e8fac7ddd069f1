"""Find where tracing a module fails."""

from __future__ import annotations

from typing import Any

import torch

from ganrt.spec import Spec

from ..source_lines import find_error_line, find_recorded_line
from ..tracing import export_program, silence_exporter
from .findings import strip_wrappers
from .rewrites import CALLS, find_rewrite


def describe_failing_place(module: torch.nn.Module, spec: Spec, failure: Exception) -> tuple[str, str]:
    """Where tracing fails, and what to write instead, as parts of a sentence: the line at which torch.export does, or
    the one whose operator has no form in ONNX.

    Args:
        failure: what torch.onnx.export raised.
    """
    path: list[str] = []
    hooks = []
    for name, part in module.named_modules():

        def leave(part: torch.nn.Module, inputs: Any, result: Any) -> None:
            path.pop()

        hooks += [
            part.register_forward_pre_hook(lambda part, inputs, name=name: path.append(name)),
            part.register_forward_hook(leave),
        ]
    try:
        with silence_exporter():
            export_program(module, spec)
    except Exception as error:  # it is known; its place was not
        line = find_error_line(error)
        at = f" at {strip_wrappers(path[-1])}" if path and strip_wrappers(path[-1]) else ""
        instead = find_rewrite(CALLS, line)
        return f"{at} ({line.quote()})" if line else at, f"; {instead}" if instead else ""
    finally:
        for hook in hooks:
            hook.remove()
    node = _find_unwritten_node(failure)
    if node is None:
        return "", ""
    line = find_recorded_line(node.stack_trace or "")
    advice = f"; torch.onnx.export cannot write {node.target} as it is used there: use other operators of PyTorch"
    return f" ({line.quote()})" if line else "", advice


def _find_unwritten_node(failure: BaseException | None) -> torch.fx.Node | None:
    """The operator that torch.onnx.export was writing when it failed: its errors do not hold it, its functions do."""
    while failure is not None:
        place = failure.__traceback__
        while place is not None:
            if isinstance(node := place.tb_frame.f_locals.get("node"), torch.fx.Node):
                return node
            place = place.tb_next
        failure = failure.__cause__
    return None
