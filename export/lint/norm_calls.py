"""Norms that forward calls in training mode, such as MUNIT's adaptive instance norm, are found and computed from their
input alone.

torch.onnx.export writes such a batch norm with the running statistics, which are not what it used. And each call writes
new running statistics, so that no two pictures would be made alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from .findings import Finding, Wrapper, join_paths

_PYTHON = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_NATIVE = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")


class _Norm(NamedTuple):
    """A function that normalizes by statistics of its input or by running ones."""

    arguments: tuple[str, ...]
    """Names of its arguments, in order."""
    flag: str = "training"
    """Name of the argument that asks for statistics of the input."""
    asks: bool = False
    """Default of that argument."""
    of_sample: bool = False
    """Whether the statistics are those of each sample (instance norm); else of the batch."""
    triple: bool = False
    """Whether it also returns the statistics."""


def _make_instance_norm(arguments: tuple[str, ...]) -> _Norm:
    flag = "use_input_stats"
    return _Norm(tuple(flag if name == "training" else name for name in arguments), flag, asks=True, of_sample=True)


_NORMS: dict[Any, _Norm] = {
    F.batch_norm: _Norm(_PYTHON),
    torch.batch_norm: _Norm(_NATIVE),
    torch.ops.aten.batch_norm: _Norm(_NATIVE),
    torch.native_batch_norm: _Norm(_NATIVE, triple=True),
    torch.ops.aten.native_batch_norm: _Norm(_NATIVE, triple=True),
    torch.ops.aten._native_batch_norm_legit: _Norm(_NATIVE, triple=True),
    F.instance_norm: _make_instance_norm(_PYTHON),
    torch.instance_norm: _make_instance_norm(_NATIVE),
    torch.ops.aten.instance_norm: _make_instance_norm(_NATIVE),
}


class InputStatistics(TorchFunctionMode):
    """Computes the norms that are called in training mode from their input, and writes no running statistics.

    Args:
        found: called for each of them.
    """

    def __init__(self, found: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        norm = _NORMS.get(getattr(func, "overloadpacket", func))
        given = dict(zip(norm.arguments, args, strict=False)) | (kwargs or {}) if norm else {}
        if norm is None or not given.get(norm.flag, norm.asks) or given.get("running_mean") is None:
            return func(*args, **(kwargs or {}))
        self._found()
        x, weight, bias, eps = given["input"], given.get("weight"), given.get("bias"), given.get("eps", 1e-5)
        if norm.of_sample:
            return F.instance_norm(x, weight=weight, bias=bias, eps=eps)
        result = _normalize_batch(x, weight, bias, eps)
        return result if norm.triple else result[0]


def _normalize_batch(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
    """Batch norm of (N, C, ...) in training mode; with the mean, and the inverse of the standard deviation."""
    axes = [0, *range(2, x.ndim)]
    mean = x.mean(axes, keepdim=True)
    centered = x - mean
    deviation = (centered.square().mean(axes, keepdim=True) + eps).sqrt()
    result = centered / deviation
    each = (1, -1, *[1] * (x.ndim - 2))
    if weight is not None:
        result = result * weight.view(each)
    if bias is not None:
        result = result + bias.view(each)
    return result, mean.flatten(), 1 / deviation.flatten()


class NormsOfInput(Wrapper):
    """Calls a module whose norms run in training mode inside forward."""

    def forward(self, *inputs: Tensor) -> Tensor:
        with InputStatistics():
            return cast(Tensor, self.wrapped_by_ganrt(*inputs))


def compute_norms_of_input(module: nn.Module, paths: list[str]) -> tuple[nn.Module, Finding]:
    """Wrap a module so that the norms which forward calls in training mode are computed from their input.

    Args:
        paths: the modules that called them; norms among these no longer count their batches, in place.
    """
    parts = dict(module.named_modules())
    for path in paths:
        part = parts[path]
        if isinstance(part, _NormBase):
            part.track_running_stats = False
    text = (
        "forward calls this norm in training mode; it is computed from the mean and variance of its input, the same "
        "function, and the running statistics stay as they are"
    )
    return NormsOfInput(module), Finding("batch statistics", join_paths(paths), text, "fixed")
