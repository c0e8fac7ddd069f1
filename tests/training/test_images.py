"""Image-to-image training: photographs and crops, what each task learns from, the loop, and the way to a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from ganrt import images
from ganrt.errors import ArtifactError, CheckpointError, RequestError
from ganrt.export import export
from ganrt.models import adain, build_generator, synthesis, transformer_net
from ganrt.training import TrainingOptions, train
from ganrt.training.image_synthesis import SynthesisObjective, SynthesisRecipe
from ganrt.training.photos import draw_crops, load_photos
from ganrt.training.style import AdainObjective, AdainRecipe, StyleObjective, StyleRecipe

QUIET = Console(quiet=True)
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "transformer_net": ({"width": 2, "blocks": 1}, {"crop": 32, "style_size": 32}),
    "adain": ({"width": 2}, {"crop": 32, "style_size": 48, "styles": "retina,brick"}),
    "synthesis": (
        {"features": "colour,edges,mask", "width": 2, "blocks": 1, "residual": True, "extract": True},
        {"crop": 32, "adversarial_weight": 0.1, "discriminator_width": 2, "perceptual_weight": 0.1},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three smooth pictures; the first is held out."""
    path = tmp_path_factory.mktemp("photographs")
    numbers = np.random.default_rng(0)
    for name, size in {"a": (40, 50), "b": (60, 44), "c": (48, 48)}.items():
        small = numbers.integers(0, 256, (6, 6, 3), np.uint8)
        (path / f"{name}.png").write_bytes(images.encode_png(images.resize(small, size)))
    return path


def options(family: str, folder: Path, **changes: Any) -> TrainingOptions:
    config, recipe = RUNS[family]
    made = TrainingOptions(
        family,
        config,
        f"folder:{folder}",
        "hinge",
        recipe,
        steps=4,
        batch=2,
        ema=0.5,
        halve_every=2,
        sample_every=2,
        checkpoint_every=2,
        log_every=1,
    )
    return replace(made, **changes)


def test_photographs_are_split_by_picture(folder: Path) -> None:
    found = load_photos(f"folder:{folder}", 32)
    assert [p.shape for p in found.training] == [(60, 44, 3), (48, 48, 3)]
    assert [p.shape for p in found.held_out] == [(40, 50, 3)]
    bundled = load_photos("photos", 64)
    assert (len(bundled.training), len(bundled.held_out)) == (5, 2)
    assert all(p.dtype == np.uint8 and p.shape[2] == 3 for p in bundled.training + bundled.held_out)
    assert not any(np.array_equal(p, q) for p in bundled.training for q in bundled.held_out)


def test_a_crop_depends_on_seed_and_number_alone(folder: Path) -> None:
    photos = load_photos(f"folder:{folder}", 32).training
    taken = draw_crops(photos, 32, 7, 10, 6)
    assert taken.shape == (6, 32, 32, 3)
    np.testing.assert_array_equal(draw_crops(photos, 32, 7, 13, 2), taken[3:5])
    assert not np.array_equal(draw_crops(photos, 32, 8, 10, 6), taken)


def test_a_crop_of_a_picture_of_its_own_size_is_the_picture_mirrored_or_not() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for crop in draw_crops([picture], 32, 0, 0, 8):
        assert np.array_equal(crop, picture) or np.array_equal(crop, picture[:, ::-1])


def test_photographs_that_cannot_be_used(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(RequestError, match="there is no data 'digits' of photographs; choose photos or folder:PATH"):
        load_photos("digits", 32)
    with pytest.raises(ArtifactError, match="holds 0 pictures; at least 2 are needed, as one is held out"):
        load_photos(f"folder:{tmp_path}", 32)
    with pytest.raises(ArtifactError, match=r"a\.png has 50 x 40 pixels; crops of 41 are taken: leave it out"):
        load_photos(f"folder:{folder}", 41)


def test_a_net_that_gives_back_the_crop_loses_no_content() -> None:
    objective = StyleObjective(StyleRecipe(style_size=64), transformer_net.Config())
    crop = torch.rand(1, 3, 32, 32)
    example = objective.make_examples(crop, torch.empty(1, 1))
    assert torch.equal(example.inputs[0], 255 * crop)
    kept = objective.compute_losses(example, 255 * crop)
    assert set(kept) == set(objective.terms) and kept["content"] < 1e-9 and kept["style"] > 0 and kept["variation"] > 0


def test_examples_of_any_style_are_crops_of_the_styles() -> None:
    objective = AdainObjective(AdainRecipe(styles="retina,brick", style_size=40), adain.Config(2))
    drawn = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    content = torch.rand(6, 3, 32, 32)
    example = objective.make_examples(content, drawn)
    again = objective.make_examples(content[2:4], drawn[2:4])
    assert all(torch.equal(a[2:4], b) for a, b in zip(example.inputs, again.inputs, strict=True))
    grey = [torch.equal(style[0], style[1]) for style in example.inputs[1]]
    assert grey == (drawn[:, 0] >= 0.5).tolist()  # the brick is grey, the retina is not


def test_the_encoder_of_adain_is_loaded_and_left_alone(tmp_path: Path, folder: Path) -> None:
    encoder = adain.build_random_encoder(adain.Config(2), seed=3)
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    recipe = {**RUNS["adain"][1], "encoder": str(tmp_path / "encoder.pth")}
    record = train(options("adain", folder, recipe=recipe), tmp_path / "run", console=QUIET)
    made = load_file(record.weights)
    assert all(torch.equal(made[f"vgg.{key}"], value) for key, value in encoder.state_dict().items())
    with pytest.raises(CheckpointError, match=r"encoder\.pth is not the encoder of AdaIN in width 4: pytorch-AdaIN's"):
        train(options("adain", folder, recipe=recipe, config={"width": 4}), tmp_path / "other", console=QUIET)


@pytest.mark.parametrize("extract", [True, False])
def test_examples_of_synthesis(extract: bool) -> None:
    config = synthesis.Config("edges,colour,mask", width=2, blocks=0, extract=extract)
    objective = SynthesisObjective(SynthesisRecipe(hole_weight=3.0), config)
    crop = torch.rand(2, 3, 32, 32)
    drawn = torch.rand(2, objective.numbers)
    example = objective.make_examples(crop, drawn)
    mask = example.inputs[-1]
    assert len(example.inputs) == (2 if extract else 3)
    assert torch.equal(example.weight, 1 + 2 * mask) and torch.equal(example.target, crop)
    off = torch.full_like(crop, 0.25)
    assert float(objective.compute_losses(example, crop + off * mask)["l1"]) == pytest.approx(
        0.25 * 3 * float(mask.sum()) / float(example.weight.sum()), rel=1e-4
    )


@pytest.mark.parametrize("family", RUNS)
def test_a_run_is_repeatable_resumable_and_exportable(family: str, folder: Path, tmp_path: Path) -> None:
    whole = train(options(family, folder), tmp_path / "whole", console=QUIET)
    train(options(family, folder, steps=2), tmp_path / "parts", console=QUIET)
    parts = train(options(family, folder), tmp_path / "parts", resume=True, console=QUIET)
    torch.testing.assert_close(load_file(whole.weights), load_file(parts.weights), rtol=0, atol=0)
    logs = [(path / "log.csv").read_text() for path in (whole.path, parts.path)]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 5
    assert json.loads((whole.path / "run.json").read_text())["data"]["count"] == 2
    sheet = images.read_picture(whole.path / "samples" / "000004.png", 3)
    assert sheet.shape[0] > 8 * 32
    fresh = build_generator(family, whole.config).state_dict()
    assert {key: value.shape for key, value in load_file(whole.weights).items()} == {
        key: value.shape for key, value in fresh.items()
    }
    bundle = export(str(whole.path), tmp_path / "out.ganrt")
    failed = {proof.backend for proof in bundle.variants["fp32"].proofs if not proof.passed}
    assert failed <= {"ncnn"}, bundle.variants["fp32"].proofs  # it lacks operators of some networks


def test_accumulated_parts_are_the_whole_batch(folder: Path, tmp_path: Path) -> None:
    """A style loss is of each crop, so two halves of a batch give its gradient."""
    whole, parts = (
        train(options("transformer_net", folder, accumulate=n, steps=1), tmp_path / str(n), console=QUIET)
        for n in (1, 2)
    )
    torch.testing.assert_close(load_file(whole.weights), load_file(parts.weights), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        (
            "transformer_net",
            {"recipe": {"strength": 1}},
            "the recipe of transformer_net has no setting 'strength'; it has content_weight, crop,",
        ),
        ("transformer_net", {"recipe": {"crop": 8}}, "crop is 8; it must be from 32 to 1024"),
        ("transformer_net", {"recipe": {"style_weight": -1.0}}, "style_weight is -1.0; it must be at least 0"),
        ("synthesis", {"recipe": {"l1_weight": float("nan")}}, "l1_weight is nan; it must be at least 0"),
        ("synthesis", {"recipe": 3}, "recipe is 3; it must map the task's settings to values"),
        (
            "synthesis",
            {"loss": "wgan-gp"},
            "the loss wgan-gp is not for synthesis: it bounds the critic; choose another",
        ),
        ("adain", {"packing": 2}, "adain learns from photographs, and packing is for noise: leave it out"),
        ("adain", {"augment": ("color",)}, "adain learns from photographs, and augment is for noise: leave it out"),
        ("adain", {"halve_every": -1}, "halve_every is -1; it must be a whole number from 0"),
        ("dcgan", {"recipe": {"crop": 64}}, "the recipe of dcgan has no setting .crop."),
        ("synthesis", {"config": {"features": "edges", "residual": True}}, "residual is true, but features is 'edges'"),
    ],
)
def test_options_that_make_no_sense(family: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TrainingOptions(family, **change)


def test_a_recipe_survives_json_and_counts_when_a_run_is_resumed() -> None:
    made = TrainingOptions("transformer_net", recipe={"crop": "64"})
    assert made.recipe["crop"] == 64 and made.data == "photos" and made.betas == (0.9, 0.999)
    assert TrainingOptions.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert made.find_differences(replace(made, recipe={"crop": 96}))[0].startswith("recipe was {'crop': 64")
    assert TrainingOptions("synthesis", recipe={"adversarial_weight": 0.1}).betas == (0.5, 0.999)
    assert TrainingOptions("dcgan").data == "digits"
