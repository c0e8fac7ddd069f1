"""Modules whose graph depends on the picture size that they were traced with are rejected, with the module, the reason
and what to put into the Spec; the others are right at sizes that were not traced."""

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ganrt
from ganrt.agreement import compare
from ganrt.errors import RequestError
from ganrt.export.lint import (
    Finding,
    check_graph,
    check_picture_sizes,
    describe_failing_place,
    find_freezing_place,
)
from ganrt.export.lint.difference import run_on_onnxruntime
from ganrt.export.tracing import trace
from ganrt.feeds import draw_feeds


class Net(nn.Module):
    """A convolution, a function of its result, and another convolution."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 3, 3, padding=1)
        self.middle = Function(function)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.middle(self.first(x))))


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def resize(x: Tensor, like: Tensor, mode: str = "nearest") -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode=mode)


def add_grid(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return x + rows.reshape(-1, 1) * columns


def attend(tokens: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(tokens, tokens, tokens).mean((1, 2)).reshape(tokens.shape[0], -1, 1, 1)


def pad_to(x: Tensor, step: int) -> Tensor:
    height, width = x.shape[2:]
    padded = F.pad(x, (0, -width % step, 0, -height % step), "reflect")
    return (F.avg_pool2d(padded, step).repeat_interleave(step, 2).repeat_interleave(step, 3) + padded)[
        :, :, :height, :width
    ]


def shrink_and_grow(x: Tensor, factor: float) -> Tensor:
    small = F.interpolate(x, size=[int(side * factor) for side in x.shape[2:]], mode="bilinear")
    return x + resize(small, x)


RIGHT: dict[str, Callable[[Tensor], Tensor]] = {
    "global pooling": lambda x: x * F.adaptive_avg_pool2d(x, 1),
    "global maximum": lambda x: x * F.adaptive_max_pool2d(x, 1),
    "pooling in ceil mode": lambda x: x + resize(F.max_pool2d(x, 2, ceil_mode=True), x),
    "interpolation to half": lambda x: x + resize(F.interpolate(x, scale_factor=0.5, mode="bilinear"), x),
    "interpolation to a fixed size": lambda x: x + resize(F.interpolate(x, size=(16, 24)), x),
    "interpolation to a computed size": lambda x: (
        x + resize(F.interpolate(x, size=(x.shape[2] // 3, x.shape[3] // 3)), x)
    ),
    "positions by arange": lambda x: add_grid(
        x, torch.arange(x.shape[2]) / x.shape[2], torch.arange(x.shape[3]) / x.shape[3]
    ),
    "positions by linspace": lambda x: add_grid(
        x, torch.linspace(-1, 1, x.shape[2]), torch.linspace(start=0.0, end=3.0, steps=x.shape[3], device=x.device)
    ),
    "positions resized": lambda x: x + resize(torch.linspace(0, 1, 64).reshape(1, 1, 8, 8), x, "bicubic"),
    "padding to a multiple and a crop": lambda x: pad_to(x, 8),
    "crop at the centre": lambda x: (
        x + resize(x[:, :, x.shape[2] // 4 : -(x.shape[2] // 4), x.shape[3] // 4 : -(x.shape[3] // 4)], x)
    ),
    "attention": lambda x: x + attend(F.avg_pool2d(x, 4).flatten(2).transpose(1, 2)[:, None]),
    "scale by the number of pixels": lambda x: x + x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3]),
    "the larger side": lambda x: x * (1 + 8 / max(x.shape[2], x.shape[3])),
}

WRONG: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "pooling to several pixels": (lambda x: x + resize(F.adaptive_avg_pool2d(x, 5), x), "middle: .*Give x a size"),
    "a small part of the image by pooling": (
        lambda x: x + 1e-2 * resize(F.adaptive_avg_pool2d(x, 5), x),
        r"middle: .*other pictures than the module \([67]\d\.\d dB\)",
    ),
    "condition on height and width": (
        lambda x: x * 2 if x.shape[2] > x.shape[3] else x,
        r"forward of the module itself before last \(test_sizes.py:\d+, lambda .*\): with pictures of 71 x 113 pixels, "
        "the traced graph makes other "
        r"pictures than the module \(.* dB\); tracing assumed that x height <= x width. Give x a size",
    ),
    "condition on an even height": (lambda x: x * 2 if x.shape[2] % 2 else x, "multiple_of=2"),
    "condition on a multiple of 8": (lambda x: x * 2 if x.shape[3] % 8 else x, r"Give x multiple_of=8 in the Spec"),
    "condition on the area": (
        lambda x: x * 2 if x.shape[2] * x.shape[3] > 300_000 else x,
        r"before last \(test_sizes.*\): .*tracing assumed that x width\*x height <= 300000\. Give x a size",
    ),
    "condition on a small side": (
        lambda x: x * 2 if min(x.shape[2:]) < 40 else x,
        r"assumed that x height >= 40\. Give",
    ),
    "condition on both sides": (lambda x: x * 2 if x.shape[2] == x.shape[3] else x, "assumed that x height != x width"),
    "a whole number of a side": (lambda x: x * (1 + 1 / int(x.shape[2])), "middle: .*height 48 only"),
    "a float of a side": (lambda x: x / float(x.shape[3]), "middle: .*width 64 only"),
    "a root of the area": (lambda x: x * 48 / math.sqrt(x.shape[2] * x.shape[3]), "middle: "),
    "a loop over rows": (lambda x: torch.cat([x[:, :, k : k + 1] for k in range(x.shape[2])], 2), "height 48 only"),
    "halves exchanged": (lambda x: torch.cat(x.chunk(2, dim=3)[::-1], 3), "width 64 only"),
    "a computed size by a float": (
        lambda x: shrink_and_grow(x, 0.4),
        r"middle \(test_sizes.py:\d+, small = F.interpolate.*\): ",
    ),
    "strided convolution and back": (
        lambda x: F.interpolate(F.avg_pool2d(x, 4), scale_factor=4),
        "forward: with pictures of 71 x 113 pixels, the module makes 68 x 112 pixels, and the Spec says 71 x 113. "
        "Give x multiple_of=4 in the Spec; `transform` then pads pictures to it",
    ),
    "skip connection": (
        lambda x: x + F.interpolate(F.avg_pool2d(x, 8), scale_factor=8),
        "middle: with .*the module fails: RuntimeError: The size of tensor a .* Give x multiple_of=8 in the Spec",
    ),
    "windows": (
        lambda x: x.unflatten(3, (-1, 16)).unflatten(2, (-1, 16)).flip(2).flatten(4, 5).flatten(2, 3),
        "multiple_of=16",
    ),
    "an output of another size": (lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3), "scale=2 in the Spec"),
}


UNTRACEABLE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "maximum to several pixels": (lambda x: x + resize(F.adaptive_max_pool2d(x, 7), x), "adaptive_max_pool2d"),
    "condition on the ratio": (
        lambda x: x * 2 if x.shape[3] / x.shape[2] > 4 else x,
        "cannot trace this net model: symbolically traced variables cannot be used as inputs to control flow",
    ),
    "a condition on values": (
        lambda x: x * 2 if x.mean() > 0 else x,
        r"cannot trace this net model at middle \(test_sizes.py:\d+, .*\): Could not .*write torch.where",
    ),
}


def make_spec(**image: Any) -> ganrt.Spec:
    picture = ganrt.Image("x", "content", 3, (0.0, 1.0), **image)
    return ganrt.Spec("net", (picture,), ganrt.Output(3, (0.0, 1.0), None))


def trace_and_check(module: nn.Module, spec: ganrt.Spec) -> tuple[ir.Model, list[Finding]]:
    """The traced graph, and what export finds in it."""
    found: list[Finding] = []

    def inspect(raw: Any) -> None:
        found.extend(check_graph(raw, spec, lambda *place: find_freezing_place(module, spec, *place)))
        if all(finding.severity != "rejected" for finding in found):
            found.extend(check_picture_sizes(module, spec, raw))

    ready = module.eval().requires_grad_(False)
    describe_failure = functools.partial(describe_failing_place, ready, spec)
    return trace(ready, spec, inspect_raw=inspect, describe_failure=describe_failure), found


@pytest.mark.parametrize("name", RIGHT)
def test_graphs_that_are_right_at_every_size_are_accepted(name: str) -> None:
    module, spec = Net(RIGHT[name]), make_spec()
    model, found = trace_and_check(module, spec)
    assert [finding for finding in found if finding.severity != "fixed"] == []
    for size in ((52, 95), (91, 45), (78, 81)):
        given = draw_feeds(spec, 9, 0, 2, size=size)
        with torch.no_grad():
            wanted = module(torch.from_numpy(given["x"])).numpy()
        assert compare(run_on_onnxruntime(model, given), wanted, (0.0, 1.0)).psnr.min() >= 60


@pytest.mark.parametrize("name", WRONG)
def test_graphs_of_one_size_are_rejected_with_the_reason(name: str) -> None:
    function, message = WRONG[name]
    _, found = trace_and_check(Net(function), make_spec())
    found = [finding for finding in found if finding.severity != "fixed"]
    assert [finding.severity for finding in found] == ["rejected"]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(found[0]))


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_modules_that_cannot_be_traced_are_rejected_with_the_place(name: str) -> None:
    function, message = UNTRACEABLE[name]
    with pytest.raises(RequestError, match=message):
        trace_and_check(Net(function), make_spec())


class Attention(Function):
    """Work and memory for each pair of pixels, and a condition that only a very large picture breaks."""

    def __init__(self) -> None:
        super().__init__(lambda x: x)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] * x.shape[3] > 3_000_000:
            return x
        small = F.avg_pool2d(x, 4).flatten(2)
        return x + (small.transpose(1, 2) @ small).softmax(-1).mean((1, 2)).reshape(-1, 1, 1, 1)


def test_a_size_that_is_too_much_work_gives_a_warning() -> None:
    net = Net(lambda x: x)
    net.middle = Attention()
    _, (finding,) = trace_and_check(net, make_spec())
    assert finding.severity == "warning"
    assert re.search(r"rely on: x width\*x height <= 3000000. Pictures of 2048 x 2048 pixels break", str(finding))
