"""Generators of a few parameters for the linter: a layer or a function under test in the middle."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

import ganrt
from ganrt.export.lint.findings import Finding
from ganrt.export.lint.freezing import find_freezing_place
from ganrt.export.lint.graph import check_graph
from ganrt.export.tracing import trace

LATENT = ganrt.Latent("z", (6,))


class Tiny(nn.Module):
    """z (N, 6) -> pictures (N, 1, 8, 8), with a layer under test in the middle, on (N, 4, 4, 4)."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = nn.Linear(6, 64), middle, nn.ConvTranspose2d(4, 1, 2, 2)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.last(self.middle(self.first(z).reshape(-1, 4, 4, 4))))


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def spec(*inputs: Any) -> ganrt.Spec:
    return ganrt.Spec("tiny", (LATENT, *inputs), ganrt.Output(1, (-1.0, 1.0), (8, 8)))


def ready(module: nn.Module) -> Any:
    return module.eval().requires_grad_(False)


def tiny(middle: nn.Module | Callable[[Tensor], Any]) -> Any:
    return ready(Tiny(middle if isinstance(middle, nn.Module) else Apply(middle)))


def only(findings: list[Finding], rule: str, severity: str, where: str, *words: str) -> None:
    assert [(f.rule, f.severity, f.where) for f in findings] == [(rule, severity, where)], findings
    for word in words:
        assert word in findings[0].text


def in_graph(module: nn.Module, of: ganrt.Spec | None = None) -> tuple[ir.Model, list[Finding]]:
    found: list[Finding] = []
    of = of or spec()
    freezing = functools.partial(find_freezing_place, module, of)
    return trace(module, of, inspect_raw=lambda raw: found.extend(check_graph(raw, of, freezing))), found
