"""Find where tracing a module fails."""

from __future__ import annotations

from typing import Any

import torch

from ganrt.spec import Spec

from ..source_lines import find_error_line
from ..tracing import export_program, silence_exporter
from .findings import strip_wrappers
from .rewrites import CALLS, find_rewrite


def describe_failing_place(module: torch.nn.Module, spec: Spec) -> tuple[str, str]:
    """Where torch.export fails, and what to write instead, as parts of a sentence; empty if it does not fail, because a
    later step does."""
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
    return "", ""
