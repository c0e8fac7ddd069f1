"""PyTorch on the GPU as a baseline, with inputs that stay on the device and nothing copied back; and the roofline peaks
of the GPU."""

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

from .. import clock

_CALLS = 16
_SIDE, _BYTES = 8192, 2**30


def load_original(bundle: Bundle, device: str = "cuda") -> nn.Module:
    """Return the generator of a bundle on a device, float32. Raises BundleError if the bundle has no weights."""
    if bundle.model is None:
        raise BundleError(f"{bundle.path} holds no weights of a ganrt family, so PyTorch cannot rebuild it")
    module = build_generator(bundle.model["family"], bundle.model["config"])
    module.load_state_dict(load_file(bundle.locate(Bundle.WEIGHTS)), assign=True)
    return module.eval().to(device)


def make_eager(module: nn.Module, given: Feeds) -> Callable[[], int]:
    """Return a function that runs a module eagerly."""
    return _make_runner(module, [torch.from_numpy(array).cuda() for array in given.values()])


def make_compiled(module: nn.Module, given: Feeds) -> Callable[[], int]:
    """Return a function that runs an fp16 copy of a module, compiled, with CUDA graphs."""
    fp16: Callable[..., Any] = torch.compile(copy.deepcopy(module).half(), mode="reduce-overhead")
    tensors = [torch.from_numpy(array).cuda() for array in given.values()]
    return _make_runner(fp16, [t.half() if t.is_floating_point() else t for t in tensors])


def measure_peaks() -> dict[str, float]:
    """Return the roofline peaks: operations per second of large fp16 matrix products, and bytes per second of copies
    within device memory; the best of several runs."""
    matrix = torch.randn(_SIDE, _SIDE, device="cuda", dtype=torch.float16)
    source = torch.empty(_BYTES, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return {
        "matrix operations per second": 2.0 * _SIDE**3 / _time_best(lambda: torch.mm(matrix, matrix)),
        "bytes moved per second": 2.0 * _BYTES / _time_best(lambda: target.copy_(source)),
    }


def _time_best(act: Callable[[], object]) -> float:
    """Return the seconds of a call in the fastest of several runs."""
    seconds = []
    for _ in range(5):
        act()
        torch.cuda.synchronize()
        started = clock.now_ns()
        for _ in range(_CALLS):
            act()
        torch.cuda.synchronize()
        seconds.append((clock.now_ns() - started) / 1e9 / _CALLS)
    return min(seconds)


def _make_runner(module: Callable[..., Any], tensors: list[torch.Tensor]) -> Callable[[], int]:
    def act() -> int:
        with torch.inference_mode():
            for _ in range(_CALLS):
                module(*tensors)
        torch.cuda.synchronize()
        return len(tensors[0]) * _CALLS

    return act
