"""The number of classes: what the Spec says beside what the network takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_generators import Tiny, only, ready, spec
from torch import Tensor, nn

import ganrt
from ganrt.export.lint.dry_run import check_dry_run
from ganrt.export.lint.findings import Finding


class Conditional(Tiny):
    """A latent and labels; `shift` makes of a label what is added to the latent."""

    def __init__(self, *shifts: Any) -> None:
        super().__init__(nn.Identity())
        self.shifts = nn.ModuleList(shift for shift in shifts if isinstance(shift, nn.Module))
        self.calls = shifts

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        for call, label in zip(self.calls, labels, strict=True):
            z = z + call(label)
        return super().forward(z)


class Joined(Tiny):
    """A one-hot label beside the latent."""

    def __init__(self, classes: int) -> None:
        super().__init__(nn.Identity())
        self.first = nn.Linear(6 + classes, 64)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([z, y], 1))


class Planes(nn.Module):
    """A one-hot label as constant planes of a convolution."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1 + classes, 1, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        flat = z.reshape(-1, 1, 2, 3).repeat(1, 1, 4, 3)[..., :8]
        return torch.tanh(self.layer(torch.cat([flat, y[:, :, None, None].expand(-1, -1, 8, 8)], 1)))


def check(module: nn.Module, *labels: ganrt.Label) -> list[Finding]:
    found = check_dry_run(ready(module), spec(*labels)).findings
    return [finding for finding in found if finding.rule != "values read in Python"]  # F.one_hot looks at its input


TABLE = nn.Parameter(torch.randn(5, 6), requires_grad=False)


@pytest.mark.parametrize(
    "takes_5",
    [
        nn.Embedding(5, 6),
        lambda y: TABLE[y],
        lambda y: TABLE.index_select(0, y),
        lambda y: F.one_hot(y, 5).float() @ TABLE,
        lambda y: TABLE.gather(0, y[:, None].expand(-1, 6)),
    ],
)
def test_an_index_beyond_the_network(takes_5: Any) -> None:
    torch.manual_seed(0)
    words = 'the Spec has 10 classes, the network takes 5: Label("y", classes=5)'
    only(check(Conditional(takes_5), ganrt.Label("y", 10)), "class count", "rejected", "y", words)
    words = 'the Spec has 3 classes, the network takes 5: Label("y", classes=5), unless those'
    only(check(Conditional(takes_5), ganrt.Label("y", 3)), "class count", "warning", "y", words)
    assert check(Conditional(takes_5), ganrt.Label("y", 5)) == []


@pytest.mark.parametrize(("declared", "taken"), [(1000, 2), (2, 1000), (6, 5), (5, 6)])
def test_the_number_is_exact(declared: int, taken: int) -> None:
    severity = "rejected" if declared > taken else "warning"
    found = check(Conditional(nn.Embedding(taken, 6)), ganrt.Label("y", declared))
    only(found, "class count", severity, "y", f"the network takes {taken}: ")


@pytest.mark.parametrize(
    "takes_all",
    [
        lambda y: torch.sin(y[:, None] * torch.arange(1, 7)),
        lambda y: TABLE[y % 5],
        lambda y: (y[:, None] == torch.arange(6)).float(),
        lambda y: TABLE[y.clamp(max=4)],
    ],
)
def test_a_network_that_takes_every_number_has_no_finding(takes_all: Any) -> None:
    assert check(Conditional(takes_all), ganrt.Label("y", 5)) == []


def test_classes_that_make_one_picture_are_named() -> None:
    found = check(Conditional(lambda y: (y[:, None] == torch.arange(6)).float()), ganrt.Label("y", 10))
    only(found, "class count", "warning", "y", "classes 6 to 9 make the same picture", "has the network fewer?")


@pytest.mark.parametrize("declared", [2, 4, 6, 10, 1000])
@pytest.mark.parametrize("kind", [Joined, Planes])
def test_one_hot_rows_of_another_width(kind: Any, declared: int) -> None:
    found = check(kind(5), ganrt.Label("y", declared, "one_hot"))
    only(found, "class count", "rejected", "y", f"the Spec has {declared} classes, the network takes one-hot rows of 5")
    assert 'Label("y", classes=5, encoding="one_hot")' in found[0].text


def test_one_hot_rows_that_fit() -> None:
    assert check(Joined(5), ganrt.Label("y", 5, "one_hot")) == []
    found = check(Conditional(lambda y: y @ TABLE), ganrt.Label("y", 9, "one_hot"))
    only(found, "class count", "rejected", "y", "one-hot rows of 5")


def test_each_label_is_checked() -> None:
    module = Conditional(nn.Embedding(4, 6), nn.Linear(5, 6), nn.Embedding(9, 6))
    labels = ganrt.Label("a", 7), ganrt.Label("b", 3, "one_hot"), ganrt.Label("c", 12)
    found = check(module, *labels)
    assert [(f.where, f.severity) for f in found] == [(name, "rejected") for name in "bac"]
    assert ["takes one-hot rows of 5:" in found[0].text, "takes 4:" in found[1].text, "takes 9:" in found[2].text]


def test_another_fault_names_the_label_and_its_width() -> None:
    class Broken(Joined):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
            raise ValueError("nothing works")

    found = check(Broken(5), ganrt.Label("y", 10, "one_hot"))
    only(found, "forward", "rejected", "the module itself", "y float32 (3, 10): ValueError: nothing works")
