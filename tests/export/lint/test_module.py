"""What the linter reads off a module, and what becomes of its findings: mending changes no picture."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from helpers.optional import unwrap
from helpers.tiny_generators import Tiny, only, ready, spec, tiny
from torch import nn
from torch.nn.utils import parametrizations

import ganrt
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.errors import RequestError
from ganrt.export import export
from ganrt.export.lint.dry_run import check_dry_run
from ganrt.export.lint.findings import Finding, join_paths, report_findings
from ganrt.export.lint.module import check_module
from ganrt.models import build_generator, get_family
from ganrt.models.parametrize import equalize


def old(norm: Callable[..., nn.Module], layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the old kind is the old kind
        made = norm(layer)
    made.train()(torch.randn(2, 4, 4, 4))  # leaves the weight as the last training step computed it
    return made


def custom(layer: nn.Conv2d) -> nn.Conv2d:
    equalize(layer)
    return layer


COMPUTED = {
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, 1, 1)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 3, 1, 1)),
    "equalized scale": lambda: custom(nn.Conv2d(4, 4, 3, 1, 1)),
    "old spectral norm": lambda: old(torch.nn.utils.spectral_norm, nn.Conv2d(4, 4, 3, 1, 1)),
    "old weight norm": lambda: old(torch.nn.utils.weight_norm, nn.Conv2d(4, 4, 3, 1, 1)),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights_become_plain_ones(kind: str) -> None:
    module, z = tiny(COMPUTED[kind]()), torch.randn(3, 6)
    before = module(z)
    only(check_module(module), "computed weights", "fixed", "middle", kind.removeprefix("old "), "folded")
    assert torch.equal(module(z), before)
    assert sorted(dict(module.middle.named_parameters())) == ["bias", "weight"]
    assert not any(p.requires_grad for p in module.parameters())
    assert check_module(module) == []


def test_a_parametrized_copy_stays_as_it_is() -> None:
    """Copies share the class that a parametrization made."""
    module = tiny(COMPUTED["spectral norm"]())
    other, z = copy.deepcopy(module), torch.randn(3, 6)
    before = other(z)
    check_module(module)
    assert torch.equal(other(z), before)


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_with_running_statistics_becomes_batch_norm(affine: bool) -> None:
    module, z = tiny(nn.Sequential(nn.InstanceNorm2d(4, affine=affine, track_running_stats=True))), torch.randn(3, 6)
    for value in module.middle.state_dict().values():
        value.copy_(torch.rand(value.shape) + 1)
    before = module(z)
    only(check_module(module), "instance norm with running statistics", "fixed", "middle.0", "batch norm")
    assert torch.equal(module(z), before)
    assert type(module.middle[0]) is nn.BatchNorm2d


class Keeping(Tiny):
    """What people write who want batch norm to go on as in training."""

    def train(self, mode: bool = True) -> Keeping:
        super().train(mode)
        self.middle.train()
        return self


def test_training_mode_is_left() -> None:
    module = ready(Keeping(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5))))
    only(check_module(module), "training mode", "fixed", "middle.0, middle.1", "after eval()")
    assert not any(part.training for part in module.modules())
    assert check_dry_run(module, spec()).findings == []


def test_batch_norm_without_statistics_is_rejected() -> None:
    found = check_module(tiny(nn.BatchNorm2d(4, track_running_stats=False)))
    only(found, "batch statistics", "rejected", "middle", "InstanceNorm2d(affine=True)", "track_running_stats=True")


def norms(biases: tuple[float, float], means: tuple[float, float]) -> nn.Module:
    made = [nn.BatchNorm2d(4), nn.BatchNorm2d(4)]
    for norm, bias, mean in zip(made, biases, means, strict=True):
        nn.init.constant_(norm.bias, bias)
        unwrap(norm.running_mean).fill_(mean)
    return tiny(nn.Sequential(*made))


def test_statistics_that_an_average_left_behind() -> None:
    for faulty, where in ((norms((0.1, 0.2), (0, 0)), "middle.0, middle.1"), (norms((0, 0), (0.3, 0)), "middle.1")):
        only(check_module(faulty), "statistics never measured", "warning", where, "EMA")
    assert check_module(norms((0, 0), (0, 0))) == []  # never trained
    assert check_module(norms((0.1, 0.2), (0.3, 0.4))) == []


@pytest.mark.parametrize(
    ("padding", "words"), [(1, "TensorRT's parser compute it"), (0, "two more layers in TensorRT")]
)
def test_output_padding_is_named(padding: int, words: str) -> None:
    layer = nn.ConvTranspose2d(4, 4, 3, 2, padding, output_padding=1)
    only(check_module(tiny(layer)), "output_padding", "warning", "middle", words)


def test_advice_on_output_padding_is_right() -> None:
    """A larger kernel with zeros at its end is the same layer."""
    layer, x = nn.ConvTranspose2d(4, 4, 3, 2, 0, output_padding=1), torch.randn(2, 4, 4, 4)
    larger = nn.ConvTranspose2d(4, 4, 4, 2, 0)
    larger.weight.data, larger.bias = F.pad(layer.weight.data, (0, 1, 0, 1)), layer.bias
    torch.testing.assert_close(larger(x), layer(x))


CLEAN: dict[str, dict[str, Any]] = {
    "dcgan": {"size": 16, "width": 4, "latent": 6, "channels": 1},
    "resnet": {"size": 32, "width": 2},
    "progan": {"widths": (8, 4, 4), "latent": 6},
    "transformer_net": {"width": 4},
}


@pytest.mark.parametrize("name", CLEAN)
def test_families_are_clean(name: str) -> None:
    family = get_family(name)
    config = family.configure(CLEAN[name])
    module, made = ready(family.generator(config)), family.spec(config)
    assert check_module(module) == []
    same, unchanged, found = check_dry_run(module, made)
    assert (found, unchanged) == ([], made)
    assert same is module


def test_places_stay_short() -> None:
    assert join_paths(["", "a"]) == "the module itself, a"
    assert join_paths([f"b.{k}" for k in range(9)]) == "b.0, b.1, b.2 and 6 more"


def test_all_rejections_are_reported_at_once() -> None:
    levels: tuple[Any, ...] = ("rejected", "warning", "rejected")
    findings = [Finding("r", f"m{k}", "is wrong", level) for k, level in enumerate(levels)]
    told: list[str] = []
    with pytest.raises(RequestError, match=r"^faces:make was not exported; .*\n  m0: is wrong\n  m2: is wrong$"):
        report_findings(findings, "faces:make", told.append)
    assert told == ["warning: m1: is wrong"]


FACTORIES = """
import torch, ganrt
from torch import nn
SPEC = ganrt.Spec("tiny", (ganrt.Latent("z", (6,)),), ganrt.Output(1, (-1.0, 1.0), (8, 8)))
class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 64))
        self.norm = nn.InstanceNorm2d(4, track_running_stats=True)
        self.last = nn.ConvTranspose2d(4, 1, 2, 2)
    def forward(self, z):
        x = self.norm(self.first(z).reshape(-1, 4, 4, 4))
        return torch.tanh(self.last(x + torch.randn(x.shape[0], 1, 4, 4)))
def noisy():
    return Noisy(), SPEC
def refused():
    module = Noisy()
    module.norm = nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False), nn.AlphaDropout())
    module.norm[1].forward = nn.functional.dropout
    return module, SPEC
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"lint_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_fixed_generator_is_exported_and_proven(factories: str, tmp_path: Path) -> None:
    out = tmp_path / "noisy.ganrt"
    told: list[str] = []
    bundle: Bundle = export(f"{factories}:noisy", out, progress=told.append)
    assert [item.name for item in bundle.spec.inputs] == ["z", "noise_0"]
    kinds = ["computed weights", "instance norm with running statistics", "random numbers", "training mode"]
    assert [finding["rule"] for finding in bundle.provenance["lint"]] == kinds
    lines = [f"{finding['severity']}: {finding['where']}: {finding['text']}" for finding in bundle.provenance["lint"]]
    assert [line for line in told if line.startswith(("fixed", "warning"))] == lines
    shown = CliRunner().invoke(main, ["info", str(out)]).stdout
    assert all(f"  {line}\n" in shown for line in lines)
    with ganrt.load(out, "onnxruntime") as generator:
        images = generator.sample(4, seed=3)
        assert np.array_equal(images[1:], generator.sample(3, seed=3, start=1))
        z = np.zeros((2, 6), np.float32)
        noise = np.random.default_rng(0).normal(size=(2, 1, 4, 4)).astype(np.float32)
        assert np.ptp(generator(z=z, noise_0=noise), axis=0).max() > 0.01


def test_checkpoints_of_families_are_looked_at(tmp_path: Path) -> None:
    module = build_generator("dcgan", CLEAN["dcgan"])
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.bias)
    torch.save(module.state_dict(), tmp_path / "ema.pth")
    bundle = export(str(tmp_path / "ema.pth"), tmp_path / "ema.ganrt")
    assert [finding["rule"] for finding in bundle.provenance["lint"]] == ["statistics never measured"]


def test_rejections_end_the_command(factories: str, tmp_path: Path) -> None:
    out = tmp_path / "no.ganrt"
    done = CliRunner().invoke(main, ["export", f"{factories}:refused", "--out", str(out)])
    assert done.exit_code == 2
    assert "fixed: first: spectral norm was folded into plain weights" in done.stderr
    assert "\n  norm.0: batch norm without running statistics" in done.stderr
    assert re.search(r"\n  norm\.1 \(\w+\.py:\d+, .*\): drops values at random", done.stderr)
    assert "draws random" not in done.stderr  # the noise would have become an input
    assert not out.exists()


def test_info_of_a_manifest_that_says_something_else(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.provenance["lint"] == []
    for lint, shown in ((7, ""), ([3, {"level": "warning"}], "  warning: ?: ?\n")):
        made = Bundle(bundle.store, bundle.spec, bundle.variants, bundle.files, bundle.model, {"lint": lint})
        from ganrt.cli.info import print_info

        runner = CliRunner()
        with runner.isolation() as (out, *_):
            print_info(made, str(tmp_path))
            assert shown in out.getvalue().decode()
