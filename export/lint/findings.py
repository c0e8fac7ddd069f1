"""Findings of the linter: a rule, the place, a sentence, and a severity."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganrt.errors import RequestError

Severity = Literal["fixed", "warning", "rejected"]
_SHOWN = 3
_WRAPPERS = re.compile(r"^(wrapped_by_ganrt\b\.?)+")


@dataclass(frozen=True)
class Finding:
    """Something about a generator that ruins exports."""

    rule: str
    """Short name of what was looked for."""
    where: str
    """Paths of modules, nodes of the graph, or inputs of the Spec."""
    text: str
    """What was found there, and what was done or is to be done; a sentence without its full stop."""
    severity: Severity
    """`fixed`: the exported generator is without it. `warning`: it stays, and the user had better know. `rejected`:
    nothing is exported."""
    line: str = ""
    """Name of a file of the user's, number of a line, and its code where nothing is exported."""

    def __str__(self) -> str:
        return f"{self.where} ({self.line}): {self.text}" if self.line else f"{self.where}: {self.text}"


class Wrapper(nn.Module):
    """Wraps a user's module without showing in the paths of findings."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.wrapped_by_ganrt = module
        self.eval()


class RowByRow(Wrapper):
    """A module whose batch size is fixed at 1, for any number of rows."""

    def forward(self, *inputs: Tensor) -> Any:
        """What the module returns for each row, joined; for one row, what it returns."""
        if len(inputs[0]) == 1:
            return self.wrapped_by_ganrt(*inputs)
        rows = [self.wrapped_by_ganrt(*(value[k : k + 1] for value in inputs)) for k in range(len(inputs[0]))]
        named = [list_named(row) for row in rows]
        if named[0]:
            return {name: _join_rows([row[name] for row in named]) for name in named[0]}
        if not isinstance(rows[0], tuple | list):
            return _join_rows(rows)
        return tuple(map(_join_rows, zip(*rows, strict=True)))


def list_named(result: object) -> dict[str, Any]:
    """Name of each part of what a module returned -> the part; empty for what has no names, such as a tensor."""
    if isinstance(result, Mapping):
        return {name: part for name, part in result.items() if isinstance(name, str)}
    if isinstance(result, tuple):
        return dict(zip(getattr(result, "_fields", ()), result, strict=False))
    return {field.name: getattr(result, field.name) for field in fields(result)} if is_dataclass(result) else {}


def _join_rows(rows: Sequence[Any]) -> Any:
    """Tensors joined along the batch; of anything else, the first."""
    return torch.cat(list(rows)) if isinstance(rows[0], Tensor) else rows[0]


def strip_wrappers(path: str) -> str:
    """The path of a module as the user knows it."""
    return _WRAPPERS.sub("", path)


def join_paths(names: Sequence[str]) -> str:
    """The first few paths, and how many more there are. The empty path is that of the module as a whole."""
    shown = ", ".join(strip_wrappers(name) or "the module itself" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def report_findings(findings: Sequence[Finding], source: str, progress: Callable[[str], None]) -> None:
    """Report what was fixed and the warnings, a line each. Raises RequestError listing everything that is rejected."""
    for finding in findings:
        if finding.severity != "rejected":
            progress(f"{finding.severity}: {finding}")
    rejected = [f"\n  {finding}" for finding in findings if finding.severity == "rejected"]
    if rejected:
        raise RequestError(f"{source} was not exported; fix these first:{''.join(rejected)}")
