"""Modules that come in training mode: named where their pictures are others there, and silent where they are not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_generators import Apply, Tiny, only, spec
from torch import Tensor, nn

import ganrt
from ganrt.export import export
from ganrt.export.lint.dry_run import check_dry_run
from ganrt.export.lint.findings import Finding
from ganrt.export.lint.module import check_module
from ganrt.export.lint.training_mode import list_training_parts
from ganrt.feeds import draw_feeds


def check(module: nn.Module, of: ganrt.Spec | None = None) -> list[Finding]:
    in_training = list_training_parts(module)
    module.eval().requires_grad_(False)
    return [*check_module(module), *check_dry_run(module, of or spec(), in_training).findings]


def measured() -> nn.BatchNorm2d:
    """A batch norm after some training."""
    norm = nn.BatchNorm2d(4)
    norm.running_mean, norm.running_var = torch.tensor([0.5, -0.5, 0.2, 0.1]), torch.tensor([0.3, 0.2, 0.5, 0.4])
    return norm


class Branch(nn.Module):
    """What is done in training mode alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 if self.training else x


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training)


ADVICE = "if evaluation mode is meant, call eval() on the module first"


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (
            measured(),
            ("norms take their statistics from the picture itself", "InstanceNorm2d(affine=True) with", ADVICE),
        ),
        (nn.Dropout(0.5), ("dropout changes the picture", "a ganrt.Latent in the Spec", "seed of a sample", ADVICE)),
        (nn.Dropout2d(0.5), ("dropout changes the picture",)),
        (Branch(), ("its forward makes another picture", "what self.training changes there", ADVICE)),
        (Functional(), ("its forward makes another picture",)),
    ],
)
def test_what_differs_is_named(middle: nn.Module, words: tuple[str, ...]) -> None:
    module = Tiny(nn.Sequential(nn.Identity(), middle))
    only(check(module), "training mode", "warning", "middle.1", "came in training mode", " dB away", *words)
    assert check(module.eval()) == []


def test_the_difference_is_that_of_single_pictures() -> None:
    """As an instance norm with the parameters of the batch norm makes it, which the advice asks for."""
    norm = measured()
    norm.weight.data, norm.bias.data = torch.rand(4) + 0.5, torch.randn(4)
    module = Tiny(norm)
    found = check(module)
    z = torch.from_numpy(draw_feeds(spec(), 0, 0, 2)["z"])
    wanted = module(z)
    module.middle = nn.InstanceNorm2d(4, affine=True).requires_grad_(False)
    module.middle.load_state_dict(norm.state_dict(), strict=False)
    worst = 10 * torch.log10(4 / (module(z) - wanted).square().mean((1, 2, 3)).max())
    assert f" {float(worst):.1f} dB away" in found[0].text


def test_each_kind_has_its_advice() -> None:
    module = Tiny(nn.Sequential(measured(), nn.Dropout(0.5), measured(), Branch()))
    found = check(module)
    assert [(f.rule, f.severity, f.where) for f in found] == [
        ("training mode", "warning", where) for where in ("middle.0, middle.2", "middle.1", "middle.3")
    ]


def test_one_part_in_training_mode_is_enough() -> None:
    module = Tiny(nn.Sequential(measured(), measured())).eval()
    module.middle[1].train()  # type: ignore[index]
    only(check(module), "training mode", "warning", "middle.1")


def test_a_class_that_eval_does_not_reach() -> None:
    class Stubborn(nn.Sequential):
        def train(self, mode: bool = True) -> Any:
            return self

    found = check(Tiny(Stubborn(measured())).eval())
    assert [(f.rule, f.severity, f.where) for f in found] == [
        ("training mode", severity, "middle.0") for severity in ("fixed", "warning")
    ]


def test_statistics_of_single_values_are_those_of_a_batch() -> None:
    class Flat(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            return torch.tanh(self.last(self.middle(self.first(z)).reshape(-1, 4, 4, 4)))

    found = check(Flat(nn.BatchNorm1d(64)))
    only(
        found,
        "training mode",
        "warning",
        "middle",
        "from a batch of more than one picture",
        "Call eval() on the module",
    )


@pytest.mark.parametrize(
    "middle",
    [
        nn.InstanceNorm2d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.Dropout(0.0),
        nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
        Apply(lambda x: x),
    ],
)
def test_pictures_that_are_the_same_in_both_modes(middle: nn.Module) -> None:
    assert [f for f in check(Tiny(middle)) if f.rule == "training mode"] == []


def test_a_module_that_cannot_run_in_training_mode_or_be_copied() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise RuntimeError("for evaluation only")
            return x

    assert check(Tiny(Failing())) == []
    module = Tiny(Branch())
    module.lock = threading.Lock()  # type: ignore[assignment]
    assert check(module) == []


def test_training_mode_that_returns_more() -> None:
    class Auxiliary(Tiny):
        def forward(self, z: Tensor) -> Any:
            image = super().forward(z)
            return (z, image) if self.training else image

    assert check(Auxiliary(nn.Identity())) == []
    only(check(Auxiliary(measured())), "training mode", "warning", "middle")


def test_the_module_stays_as_it_is() -> None:
    """Its running statistics and its mode, and the random state."""
    module, state = Tiny(nn.Sequential(measured(), nn.Dropout(0.5))), torch.get_rng_state()
    norm = module.middle[0]  # type: ignore[index]
    mean = norm.running_mean.clone()
    assert len(check(module)) == 2
    assert torch.equal(norm.running_mean, mean) and norm.num_batches_tracked == 0
    assert list_training_parts(module) == () and torch.equal(torch.get_rng_state(), state)


def test_a_module_in_memory_is_exported_with_the_warning(tmp_path: Path) -> None:
    module = Tiny(measured())
    lines: list[str] = []
    bundle = export(module, tmp_path / "x.ganrt", spec=spec(), progress=lines.append)
    assert [finding["rule"] for finding in bundle.provenance["lint"]] == ["training mode"]
    assert any(line.startswith("warning: middle: the module came in training mode") for line in lines)
    assert module.training
    bundle = export(module.eval(), tmp_path / "x.ganrt", spec=spec(), overwrite=True)
    assert bundle.provenance["lint"] == []
