"""PyTorch on the GPU, at its best: inputs stay on the device and nothing is copied back; and what the card does at
best."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ganrt.bundle import Bundle
from ganrt.errors import BundleError
from ganrt.feeds import Feeds
from ganrt.models import build_generator

from . import clock

_CALLS = 16
_SIDE, _BYTES = 8192, 2**30


def original(bundle: Bundle) -> nn.Module:
    """The generator of a bundle on the GPU, float32. Raises BundleError when the bundle has no weights."""
    if bundle.model is None:
        raise BundleError(f"{bundle.folder} holds no weights of a ganrt family, so PyTorch cannot rebuild it")
    module = build_generator(bundle.model["family"], bundle.model["config"])
    module.load_state_dict(load_file(bundle.folder / Bundle.WEIGHTS), assign=True)
    return module.eval().cuda()


def eager(module: nn.Module, given: Feeds) -> Callable[[], int]:
    """Runs a module as it is."""
    return _running(module, [torch.from_numpy(array).cuda() for array in given.values()])


def compiled(module: nn.Module, given: Feeds) -> Callable[[], int]:
    """Runs a half-precision copy, compiled, with CUDA graphs."""
    half: Callable[..., Any] = torch.compile(copy.deepcopy(module).half(), mode="reduce-overhead")
    tensors = [torch.from_numpy(array).cuda() for array in given.values()]
    return _running(half, [t.half() if t.is_floating_point() else t for t in tensors])


def card() -> dict[str, float]:
    """Products of large fp16 matrices, and copies within device memory, a second; the best of several."""
    matrix = torch.randn(_SIDE, _SIDE, device="cuda", dtype=torch.float16)
    source = torch.empty(_BYTES, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return {
        "matrix operations per second": 2.0 * _SIDE**3 / _best(lambda: torch.mm(matrix, matrix)),
        "bytes moved per second": 2.0 * _BYTES / _best(lambda: target.copy_(source)),
    }


def _best(act: Callable[[], object]) -> float:
    """Seconds of the quickest of some runs of many calls."""
    taken = []
    for _ in range(5):
        act()
        torch.cuda.synchronize()
        started = clock.now_ns()
        for _ in range(_CALLS):
            act()
        torch.cuda.synchronize()
        taken.append((clock.now_ns() - started) / 1e9 / _CALLS)
    return min(taken)


def _running(module: Callable[..., Any], tensors: list[torch.Tensor]) -> Callable[[], int]:
    def act() -> int:
        with torch.inference_mode():
            for _ in range(_CALLS):
                module(*tensors)
        torch.cuda.synchronize()
        return len(tensors[0]) * _CALLS

    return act
