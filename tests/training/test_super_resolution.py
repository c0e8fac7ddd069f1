"""Training of super-resolution, and the report on its runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from ganrt import images
from ganrt.errors import CheckpointError, RequestError
from ganrt.models import get_family
from ganrt.training import TrainingOptions, train
from ganrt.training.evidence import super_resolution_report
from ganrt.training.super_resolution import (
    Discriminator,
    SuperResolutionObjective,
    SuperResolutionRecipe,
    downsample,
    luma,
)

TINY = TrainingOptions(
    "srresnet", {"scale": 2, "width": 4, "blocks": 1}, recipe={"crop": 32}, steps=2, batch=2, data="photos"
)
QUIET = Console(quiet=True)


def objective(
    family: str = "srresnet", config: dict[str, Any] | None = None, **recipe: Any
) -> SuperResolutionObjective:
    chosen = get_family(family).configure({"scale": 2} | (config or {}))
    return SuperResolutionObjective(SuperResolutionRecipe(**recipe), chosen)


def test_pictures_are_made_small_as_pillow_does() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (48, 36, 3), np.uint8)
    found = downsample(torch.from_numpy(images.from_uint8(photo[None], (0.0, 1.0))), 3)
    wanted = np.asarray(PIL.Image.fromarray(photo).resize((12, 16), PIL.Image.Resampling.BICUBIC))
    apart = images.to_uint8(found.numpy(), (0.0, 1.0))[0].astype(int) - wanted
    assert np.abs(apart).max() <= 1  # Pillow rounds between its two directions


def test_brightness_is_pillow_s_but_for_its_range() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    found = luma(torch.from_numpy(images.from_uint8(photo[None], (0.0, 1.0))))[0, 0].numpy()
    full = np.asarray(PIL.Image.fromarray(photo).convert("YCbCr"))[..., 0]
    np.testing.assert_allclose((255 * found - 16) * 255 / 219, full, atol=1.01)  # Pillow rounds down


def test_the_discriminator_has_the_published_size() -> None:
    assert sum(p.numel() for p in Discriminator().parameters()) == 23_563_649
    assert Discriminator(2)(torch.rand(3, 3, 40, 56)).shape == (3,)


def test_examples_are_small_pictures_and_the_photographs() -> None:
    crops = torch.rand(2, 3, 32, 32)
    example = objective().make_examples(crops, torch.empty(2, 1))
    assert example.target is crops and example.inputs[0].shape == (2, 3, 16, 16)
    grey = objective("espcn").make_examples(crops, torch.empty(2, 1))
    torch.testing.assert_close(grey.target, luma(crops))
    assert grey.inputs[0].shape == (2, 1, 16, 16)


def test_losses_are_the_weighted_differences() -> None:
    example = objective().make_examples(torch.rand(1, 3, 32, 32), torch.empty(1, 1))
    made = torch.rand(1, 3, 32, 32)
    apart = made - example.target
    found = objective(pixel_weight=3.0).compute_losses(example, made)["pixel"]
    torch.testing.assert_close(found, 3 * apart.abs().mean())
    torch.testing.assert_close(objective(pixel="l2").compute_losses(example, made)["pixel"], apart.square().mean())
    assert set(objective(perceptual_weight=1.0).compute_losses(example, made)) == {"pixel", "perceptual"}


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("srresnet", {"pixel": "l3"}, "pixel is 'l3'; it must be l1 or l2"),
        ("srresnet", {"crop": 33}, "crop is 33; it must be a multiple of the scale, 2"),
        ("srresnet", {"adversarial_weight": -1.0}, "adversarial_weight is -1.0; it must be at least 0"),
        ("espcn", {"adversarial_weight": 1.0}, "generates luma only; perceptual and adversarial losses need RGB"),
    ],
)
def test_a_recipe_that_makes_no_sense(family: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        objective(family, **change)


def test_a_network_that_does_not_upsample_has_nothing_to_learn() -> None:
    with pytest.raises(RequestError, match="scale is 1, so there is nothing to learn"):
        objective("vdsr", {"scale": 1})


@pytest.mark.parametrize("family", ["espcn", "vdsr", "srresnet", "msrresnet", "rrdb", "srvgg"])
def test_every_family_trains(family: str, tmp_path: Path) -> None:
    small = {
        "espcn": {"width": 4},
        "vdsr": {"width": 4, "convs": 3},
        "srresnet": {"width": 4, "blocks": 1},
        "msrresnet": {"width": 4, "blocks": 1},
        "rrdb": {"width": 4, "blocks": 1, "growth": 4},
        "srvgg": {"width": 4, "convs": 1},
    }[family]
    options = replace(TINY, family=family, config={"scale": 2} | small, steps=1)
    assert train(options, tmp_path / "run", console=QUIET).step == 1


def test_srgan_starts_from_a_run_and_resumes_exactly(tmp_path: Path) -> None:
    first = train(TINY, tmp_path / "first", console=QUIET)
    recipe = {"crop": 32, "adversarial_weight": 0.01, "discriminator_width": 2, "start": str(first.weights)}
    options = replace(TINY, recipe=recipe, steps=3, checkpoint_every=1)
    whole = train(options, tmp_path / "whole", console=QUIET)
    train(replace(options, steps=1), tmp_path / "parts", console=QUIET)
    parts = train(options, tmp_path / "parts", resume=True, console=QUIET)
    assert whole.weights.read_bytes() == parts.weights.read_bytes()
    log = (tmp_path / "whole" / "log.csv").read_text().splitlines()
    assert log[0] == "step,pixel_loss,adversarial_loss,discriminator_loss"
    with pytest.raises(CheckpointError, match="has the weights of another network: give both runs one --config"):
        train(replace(options, config={"scale": 2, "width": 5, "blocks": 1}), tmp_path / "other", console=QUIET)


def test_figures_of_a_known_difference() -> None:
    photo = np.random.default_rng(0).integers(30, 220, (40, 50, 3), np.uint8)
    same = super_resolution_report.measure(photo + 10, photo, 2)
    # Ten steps of grey are 10 * 219 / 255 steps of Y.
    assert same["psnr"] == pytest.approx(20 * np.log10(255 / (10 * 219 / 255)), abs=1e-3)
    assert same["sharpness"] == pytest.approx(1) and 0.9 < same["ssim"] < 1
    flat = np.full_like(photo, 128)
    assert super_resolution_report.measure(flat, photo, 2)["sharpness"] == 0


def test_the_judging_command(tmp_path: Path) -> None:
    train(replace(TINY, steps=1), tmp_path / "run", console=QUIET)
    done = CliRunner().invoke(super_resolution_report.main, [str(tmp_path / "run"), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    table = json.loads((tmp_path / "super_resolution.json").read_text())
    assert table["scale"] == 2 and table["mean"]["bicubic"]["psnr"] > table["mean"]["run"]["psnr"] > 5
    assert images.read_picture(tmp_path / "super_resolution.png", 3).std() > 1


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    train(replace(TINY, steps=1), tmp_path / "two", console=QUIET)
    train(replace(TINY, steps=1, config={"scale": 4, "width": 4, "blocks": 1}), tmp_path / "four", console=QUIET)
    runs = [str(tmp_path / name) for name in ("two", "four")]
    with pytest.raises(RequestError, match="do not all upsample colour pictures by the same scale"):
        CliRunner().invoke(super_resolution_report.main, [*runs, "--out", str(tmp_path)], catch_exceptions=False)
