"""The range of the output: what the Spec declares beside the values that the network makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_generators import only, ready
from torch import Tensor, nn

import ganrt
from ganrt.errors import RequestError
from ganrt.export import export
from ganrt.export.lint.findings import Finding
from ganrt.export.lint.intervals import find_output_interval
from ganrt.export.lint.output_range import check_output_range
from ganrt.export.tracing import trace

Last = Callable[[Tensor], Tensor]


class Ending(nn.Module):
    """z (N, 6) -> (N, 3, 8, 8), values about normally distributed before a last step."""

    def __init__(self, last: Last) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.last = nn.Linear(6, 192), last
        self.layer.weight.data *= 1.7

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.layer(z).reshape(-1, 3, 8, 8))


def declare(low: float, high: float) -> ganrt.Spec:
    return ganrt.Spec("ending", (ganrt.Latent("z", (6,)),), ganrt.Output(3, (low, high), (8, 8)))


def check(last: Last, low: float, high: float) -> list[Finding]:
    module, spec = ready(Ending(last)), declare(low, high)
    found: list[Finding] = []
    trace(module, spec, inspect_raw=lambda raw: found.extend(check_output_range(raw, module, spec)))
    return found


def sigmoid_by_hand(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def normalized(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return (torch.sigmoid(x) - mean) / std


IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.mark.parametrize(
    ("last", "fields", "severity"),
    [
        ("normalized", IMAGENET, None),
        ("normalized", {}, "rejected"),
        ("normalized", {"mean": IMAGENET["mean"]}, "rejected"),
        ("turned", {"mean": IMAGENET["mean"][::-1], "std": IMAGENET["std"][::-1], "order": "bgr"}, None),
        ("tanh", {"mean": (0.5,) * 3, "std": (0.5,) * 3}, None),
        ("sigmoid", {"mean": (0.5,) * 3, "std": (0.5,) * 3}, "rejected"),
    ],
)
def test_a_normalized_image_is_judged_by_its_plain_range(last: str, fields: Any, severity: str | None) -> None:
    steps: dict[str, Last] = {
        "normalized": normalized,
        "turned": lambda x: normalized(x).flip(1),
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
    }
    module = ready(Ending(steps[last]))
    spec = ganrt.Spec("ending", (ganrt.Latent("z", (6,)),), ganrt.Output(3, (0.0, 1.0), (8, 8), **fields))
    found: list[Finding] = []
    trace(module, spec, inspect_raw=lambda raw: found.extend(check_output_range(raw, module, spec)))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def bright(x: Tensor) -> Tensor:
    return torch.tanh(x.abs() + 0.1)


@pytest.mark.parametrize(
    ("last", "declared", "words"),
    [
        (torch.tanh, (0, 1), ("its values are -1 to 1", "declares 0 to 1; 5", "would be clipped", "range=(-1.0, 1.0)")),
        (lambda x: 255 * torch.sigmoid(x), (-1, 1), ("0 to 255", "clipped: Output(range=(0.0, 255.0))")),
        (lambda x: 255 * torch.sigmoid(x), (0, 1), ("0 to 255", "clipped: Output(range=(0.0, 255.0))")),
        (torch.tanh, (0, 255), ("its values are -1 to 1", "never used: Output(range=(-1.0, 1.0))")),
        (lambda x: (torch.tanh(x) + 1) / 2, (-1, 1), ("0 to 1", "50 % of which is never used", "range=(0.0, 1.0)")),
        (
            lambda x: torch.tanh(x) * 0.5 + 0.5,
            (0, 255),
            ("0 to 1", "99.6 % of which is never used: Output(range=(0.0, 1.0))"),
        ),
        (torch.sigmoid, (-1, 1), ("(Sigmoid)", "50 % of which is never used: Output(range=(0.0, 1.0))")),
        (lambda x: torch.sigmoid(x) * 1.002 - 0.001, (-1, 1), ("never used: Output(range=(0.0, 1.0))",)),
        (lambda x: F.hardtanh(x), (0, 1), ("(Clip)", "-1 to 1", "would be clipped: Output(range=(-1.0, 1.0))")),
        (lambda x: (x * 60 + 127).clamp(0, 255), (0, 1), ("0 to 255", "clipped: Output(range=(0.0, 255.0))")),
        (lambda x: (x * 60 + 127).clamp(0, 255).round(), (-1, 1), ("clipped: Output(range=(0.0, 255.0))",)),
        (F.hardsigmoid, (-1, 1), ("0 to 1", "never used")),
        (lambda x: x.softmax(1), (-1, 1), ("0 to 1", "never used")),
        (torch.sin, (0, 1), ("-1 to 1", "would be clipped")),
        (lambda x: F.relu(x), (-1, 1), ("0 and more", "50 % of which is never used")),
        (lambda x: x.clamp(max=0), (-1, 1), ("0 and less", "50 % of which is never used")),
        (lambda x: F.relu6(x), (-6, 6), ("0 to 6", "never used: Output(range=(0.0, 6.0))")),
        (sigmoid_by_hand, (-1, 1), ("0 to 1", "never used")),
        (normalized, (0, 1), ("-2.17 to 2.65", "would be clipped: Output(range=(-2.17, 2.65))")),
        (lambda x: F.pad(torch.tanh(x)[:, :, 1:-1, 1:-1].flip(3), (1, 1, 1, 1), "reflect"), (0, 1), ("-1 to 1",)),
        (lambda x: F.interpolate(torch.tanh(x[:, :, ::2, ::2]), scale_factor=2.0), (0, 1), ("-1 to 1",)),
        (lambda x: F.pixel_shuffle(torch.tanh(x).repeat(1, 4, 1, 1), 2)[:, :, :8, :8], (0, 1), ("-1 to 1",)),
        (lambda x: torch.cat([torch.tanh(x[:, :1]), torch.sin(x[:, 1:])], 1), (0, 1), ("-1 to 1",)),
        (lambda x: 127 + 60 * x, (0, 1), ("the values of samples", "are clipped. Is it Output(range=(0.0, 255.0))?")),
        (lambda x: 127 + 60 * x, (-1, 1), ("the values of samples", "Is it Output(range=(0.0, 255.0))?")),
        (lambda x: 5 + x, (0, 1), ("100 % of them are clipped. Declare the range that the network was trained on",)),
        (bright, (-1, 1), ("0.0997 to 1", "55 % of which is never used: Output(range=(0.0, 1.0))")),
    ],
)
def test_a_contradiction_is_rejected(last: Last, declared: tuple[float, float], words: tuple[str, ...]) -> None:
    (finding,) = check(last, *declared)
    assert (finding.rule, finding.severity) == ("output range", "rejected")
    assert all(word in str(finding) for word in words), finding


@pytest.mark.parametrize(
    ("last", "declared", "words"),
    [
        (lambda x: 0.4 * x, (0, 1), ("% of them are clipped. Is it Output(range=(-1.0, 1.0))?",)),
        (lambda x: 0.5 + 0.15 * x, (-1, 1), ("half of which is not used. Is it Output(range=(0.0, 1.0))?",)),
        (
            lambda x: (0.5 + 0.15 * x).clamp(-1, 1),
            (-1, 1),
            ("half of which is not used. Is it Output(range=(0.0, 1.0))?",),
        ),
        (lambda x: 0.5 + 0.15 * x, (0, 255), ("half of which is not used. Is it Output(range=(0.0, 1.0))?",)),
        (lambda x: 0.4 * x, (0, 255), ("half of which is not used. Is it Output(range=(-1.0, 1.0))?",)),
        (lambda x: 3 * x, (-1, 1), ("% of them are clipped. Declare the range that the network was trained on",)),
        (
            lambda x: torch.tanh(x * 0.001 + 0.5),
            (0, 1),
            ("-1 to 1 whatever goes in", "is it Output(range=(-1.0, 1.0))?"),
        ),
    ],
)
def test_a_suspicion_is_a_warning(last: Last, declared: tuple[float, float], words: tuple[str, ...]) -> None:
    found = check(last, *declared)
    assert [f.severity for f in found] == ["warning"] and all(word in str(found[0]) for word in words), found


@pytest.mark.parametrize(
    ("last", "declared"),
    [
        (torch.tanh, (-1, 1)),
        (torch.sigmoid, (0, 1)),
        (lambda x: torch.sigmoid(x) * 1.002 - 0.001, (0, 1)),
        (lambda x: torch.sigmoid(x) * 6 - 3, (-3, 3)),
        (lambda x: 150 * torch.tanh(x) + 127.5, (0, 255)),
        (lambda x: torch.tanh(x) * 0.7, (-1, 1)),
        (normalized, (-2.2, 2.7)),
        (lambda x: (0.5 + 0.15 * x).clamp(0, 1), (0, 1)),
        (lambda x: (0.45 * x).clamp(-1, 1), (-1, 1)),
        (lambda x: (0.45 * x).clamp(-256, 256), (-1, 1)),
        (lambda x: 0.45 * x, (-1, 1)),
        (lambda x: 0.5 + 0.25 * x, (0, 1)),
        (lambda x: 0.1 * x, (-1, 1)),
        (lambda x: -1.1 + 0.05 * x, (-1, 1)),
        (lambda x: F.relu(0.4 + 0.2 * x), (0, 1)),
        (lambda x: torch.sign(x) + 0.03 * x, (-1, 1)),
        (lambda x: torch.tanh(x * 0.01 + 2), (-1, 1)),
        (lambda x: torch.tanh(x * 0.3) + 0.4 * torch.tanh(x), (-1, 1)),
        (lambda x: torch.sigmoid(x) * torch.tanh(x) + (1 - torch.sigmoid(x)) * torch.sin(x), (-1, 1)),
    ],
)
def test_what_fits_is_silent(last: Last, declared: tuple[float, float]) -> None:
    assert check(last, *declared) == []


@pytest.mark.parametrize(
    ("last", "bounds"),
    [
        (lambda x: torch.tanh(F.relu(x)), (0, 1)),
        (lambda x: -torch.sigmoid(x), (-1, 0)),
        (lambda x: 2 - torch.sigmoid(x), (1, 2)),
        (lambda x: 3 / (1 + torch.sigmoid(x)), (1.5, 3)),
        (lambda x: torch.sigmoid(x) ** (1 / 2.2), (0, 1)),
        (lambda x: torch.tanh(x) ** 2, (0, 1)),
        (lambda x: torch.tanh(x) ** 3, None),
        (lambda x: torch.tanh(x).abs() * 2, (0, 2)),
        (lambda x: F.leaky_relu(torch.tanh(x), 0.25), (-0.25, 1)),
        (lambda x: torch.minimum(torch.tanh(x), torch.zeros(1)), (-1, 0)),
        (lambda x: torch.maximum(torch.tanh(x), torch.zeros(1)), (0, 1)),
        (lambda x: torch.where(x > 0, torch.tanh(x), torch.sigmoid(x) * 3), (-1, 3)),
        (lambda x: F.pad(torch.sigmoid(x)[:, :, 1:-1, 1:-1], (1, 1, 1, 1), value=4.0), (0, 4)),
        (lambda x: F.avg_pool2d(1 + torch.sigmoid(x), 3, 1, 1), (0, 2)),
        (lambda x: F.avg_pool2d(1 + torch.sigmoid(x), 3, 1, 1, count_include_pad=False), (1, 2)),
        (lambda x: F.interpolate(torch.tanh(x), (8, 8), mode="bicubic"), None),
        (lambda x: F.interpolate(torch.tanh(x[..., :4]), (8, 8), mode="bilinear"), (-1, 1)),
        (lambda x: torch.tanh(x) * x, None),
        (lambda x: x / torch.sigmoid(x), None),
        (lambda x: F.hardsigmoid(torch.tanh(x) * 6), (0, 1)),
    ],
)
def test_bounds_of_the_graph(last: Last, bounds: tuple[float, float] | None) -> None:
    found = find_output_interval(trace(ready(Ending(last)), declare(0, 1)), declare(0, 1))
    wanted = bounds or (-float("inf"), float("inf"))
    assert found[:2] == pytest.approx(wanted, abs=1e-6)


def test_no_value_lies_outside_its_bounds() -> None:
    """An operator at a time, on inputs in which every value of a grid occurs."""
    x = torch.linspace(-4, 4, 6 * 32).reshape(32, 6)
    for last in (torch.tanh, torch.erf, torch.atan, F.softsign, torch.cos, F.softplus, torch.floor, torch.ceil, F.elu):
        module = ready(Ending(lambda y, last=last: last(torch.sigmoid(y) * 3 - 1)))  # type: ignore[misc]
        low, high = find_output_interval(trace(module, declare(0, 1)), declare(0, 1))[:2]
        made = module(x)
        assert low - 1e-6 <= float(made.min()) and float(made.max()) <= high + 1e-6, last
        if last is not F.elu:
            assert high - low < 4


def test_inputs_of_the_spec_have_bounds() -> None:
    class Mixed(nn.Module):
        def forward(self, photo: Tensor, mask: Tensor, strength: Tensor) -> Tensor:
            return photo * mask * strength[:, None, None, None]

    images = (ganrt.Image("photo", "content", 3, (-1.0, 1.0)), ganrt.Image("mask", "mask", 1, (0.0, 1.0), like="photo"))
    spec = ganrt.Spec("mixed", (*images, ganrt.Scalar("strength", (0.0, 3.0), 1.0)), ganrt.Output(3, (-1.0, 1.0), None))
    model: ir.Model = trace(ready(Mixed()), spec)
    assert find_output_interval(model, spec)[:2] == (-3, 3)
    assert list(check_output_range(model, ready(Mixed()), spec)) == []


def test_the_sentence_names_the_module(tmp_path: Path) -> None:
    class Named(Ending):
        def __init__(self) -> None:
            super().__init__(nn.Sequential(nn.Identity(), nn.Tanh()))

    with pytest.raises(RequestError, match=r"(?s)was not exported.*last\.1 \(Tanh\): its values are -1 to 1 whatever"):
        export(Named().eval(), tmp_path / "x.ganrt", spec=declare(0, 1))
    lines: list[str] = []
    bundle = export(Ending(lambda x: 0.4 * x).eval(), tmp_path / "x.ganrt", spec=declare(0, 1), progress=lines.append)
    only([Finding(**finding) for finding in bundle.provenance["lint"]], "output range", "warning", "forward")
    assert any(line.startswith("warning: forward: the values of samples are -") for line in lines)
