"""Norms that forward calls in training mode: computed from their input, in the dry run and in the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_generators import in_graph, only, spec, tiny
from torch import Tensor, nn

from ganrt.export.lint.dry_run import check_dry_run


class Adaptive(nn.Module):
    """MUNIT's adaptive instance norm: batch norm of (1, N * C, ...), with running statistics that nobody reads."""

    mean: Tensor
    variance: Tensor

    def __init__(self, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.call = call
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("variance", torch.rand(4) + 0.5)
        self.weight, self.bias = nn.Parameter(torch.rand(4) + 0.5), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        given = (value.repeat(n) for value in (self.mean, self.variance, self.weight, self.bias))
        return self.call(x.reshape(1, n * 4, 4, 4), *given).reshape(n, 4, 4, 4)


def python(x: Tensor, m: Tensor, v: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.batch_norm(x, m, v, w, b, True, 0.1, 1e-3)


def named(x: Tensor, m: Tensor, v: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.batch_norm(x, running_var=v, running_mean=m, training=True, bias=b)


def flat(x: Tensor, m: Tensor, v: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.batch_norm(x.flatten(2), m, v, w, None, True)


def native(function: Any) -> Callable[..., Tensor]:
    return lambda x, m, v, w, b: function(x, w, b, m, v, True, 0.1, 1e-5)[0]


def with_cudnn(function: Any) -> Callable[..., Tensor]:
    return lambda x, m, v, w, b: function(x, w, b, m, v, True, 0.1, 1e-5, False)


def of_statistics(x: Tensor, m: Tensor, v: Tensor, w: Tensor, b: Tensor) -> Tensor:
    y, mean, scale = torch.native_batch_norm(x, None, None, m, v, True, 0.1, 1e-5)
    return y * 0.1 + mean[:, None, None] + scale[:, None, None]


CALLS = [
    *(python, named, flat, of_statistics),
    *map(with_cudnn, (torch.batch_norm, torch.ops.aten.batch_norm, torch.instance_norm)),
    *map(native, (torch.native_batch_norm, torch.ops.aten.native_batch_norm)),
    native(torch.ops.aten._native_batch_norm_legit.default),
    lambda x, m, v, w, b: F.instance_norm(x, m, v, w, b, True, 0.1, 1e-3),
    lambda x, m, v, w, b: F.instance_norm(x, m, v),
]


@pytest.mark.parametrize("call", CALLS)
def test_the_call_is_computed_from_its_input(call: Callable[..., Tensor]) -> None:
    module = tiny(Adaptive(call))
    z = torch.randn(3, 6)
    wanted = module(z)
    fixed, _, found = check_dry_run(module, spec())
    only(found, "batch statistics", "fixed", "middle", "calls this norm in training mode", "the same function", "stay")
    torch.testing.assert_close(fixed(z), wanted, rtol=1e-5, atol=1e-5)
    graph, found = in_graph(fixed)
    assert found == []
    made = ort.InferenceSession(ir.to_proto(graph).SerializeToString()).run(None, {"z": z.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(made), wanted, rtol=1e-5, atol=1e-5)


def test_running_statistics_are_not_written() -> None:
    class Held(Adaptive):
        def forward(self, x: Tensor) -> Tensor:
            return F.instance_norm(x, self.mean, self.variance, use_input_stats=True)

    module = tiny(Held(python))
    mean = module.middle.mean.clone()
    fixed, _, found = check_dry_run(module, spec())
    only(found, "batch statistics", "fixed", "middle")
    fixed(torch.randn(2, 6))
    assert torch.equal(module.middle.mean, mean)


def test_evaluation_mode_is_left_alone() -> None:
    def call(x: Tensor, m: Tensor, v: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.batch_norm(F.instance_norm(x, m, v, w, b, False), m, v, w, b)

    module = tiny(Adaptive(call))
    fixed, _, found = check_dry_run(module, spec())
    assert fixed is module and found == []


class Forced(nn.Module):
    """A norm that forward puts into training mode."""

    def __init__(self, norm: nn.Module, method: str) -> None:
        super().__init__()
        self.norm, self.method = norm, method

    def forward(self, x: Tensor) -> Tensor:
        if self.method == "train":
            self.norm.train()
        else:
            self.norm.training = True
        return self.norm(x)


@pytest.mark.parametrize(
    "make", [nn.BatchNorm2d, nn.SyncBatchNorm, lambda channels: nn.BatchNorm2d(channels, momentum=None)]
)
@pytest.mark.parametrize("method", ["train", "training"])
def test_statistics_over_the_batch_are_still_rejected(make: Callable[[int], nn.Module], method: str) -> None:
    fixed, rejected = check_dry_run(tiny(Forced(make(4), method)), spec()).findings
    assert (fixed.severity, fixed.where) == ("fixed", "middle.norm")
    only([rejected], "batch statistics", "rejected", "middle.norm", "other samples of its batch")


def test_functional_statistics_over_the_batch_are_still_rejected() -> None:
    class Plain(Adaptive):
        def forward(self, x: Tensor) -> Tensor:
            return F.batch_norm(x, self.mean, self.variance, training=True)

    found = check_dry_run(tiny(Plain(python)), spec()).findings
    assert [(f.rule, f.severity, f.where) for f in found] == [
        ("batch statistics", severity, "middle") for severity in ("fixed", "rejected")
    ]


def test_an_instance_norm_in_training_mode_is_exported() -> None:
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    module = tiny(Forced(norm, "train"))
    fixed, _, found = check_dry_run(module, spec())
    only(found, "batch statistics", "fixed", "middle.norm")
    assert [node.op_type for node in in_graph(fixed)[0].graph].count("InstanceNormalization") == 1
