"""The commands that make docs/training, on runs of a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from ganrt import images
from ganrt.cli import main
from ganrt.cli.parsing import parse_settings
from ganrt.errors import RequestError
from ganrt.training import TrainingOptions, get_preset, train
from ganrt.training.evidence import digits, toy
from ganrt.training.presets import PRESETS


@pytest.mark.parametrize("pattern", toy.PATTERNS, ids=lambda pattern: pattern.name)
def test_the_score_of_the_patterns_themselves(pattern: toy.Pattern) -> None:
    random = np.random.default_rng(0)
    count = len(pattern.centres)
    points = np.repeat(pattern.centres, 500, axis=0) + pattern.sigma * random.normal(size=(500 * count, 2))
    found = toy.score(pattern, points)
    assert found.modes == count == {"ring": 8, "grid": 25}[pattern.name]
    assert found.share == pytest.approx(1 - np.exp(-4.5), abs=0.004)  # of a normal distribution in the plane
    assert toy.score(pattern, points[:500]).modes == 1
    assert toy.score(pattern, points + 4 * pattern.sigma).share < 0.2


def test_the_toy_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(toy.main, ["--out", str(tmp_path), "--steps", "2"])
    assert done.exit_code == 0, done.output
    table = json.loads((tmp_path / "toy.json").read_text())
    assert len(table) == len(toy.PATTERNS) * len(toy.REMEDIES) == len(done.output.splitlines())
    assert table["ring: wgan-gp"]["steps"] == 2 and 0 <= table["ring: wgan-gp"]["share"] <= 1
    assert images.read_picture(tmp_path / "toy.png", 3).std() > 1


def test_a_toy_run_is_repeatable() -> None:
    first, second = (toy.train(toy.PATTERNS[0], toy.REMEDIES[-1], steps=3, seed=1) for _ in range(2))
    assert (first == second).all() and first.shape == (5000, 2)
    assert (toy.train(toy.PATTERNS[0], toy.REMEDIES[-1], steps=3, seed=2) != first).any()


def test_the_digits_command(tmp_path: Path) -> None:
    options = TrainingOptions("dcgan", {"size": 16, "channels": 1, "width": 2, "latent": 3}, steps=1, batch=8)
    for loss in ("hinge", "lsgan"):
        train(
            TrainingOptions(**{**vars(options), "loss": loss, "betas": ()}),
            tmp_path / loss,
            console=Console(quiet=True),
        )
    runs = [str(tmp_path / loss) for loss in ("hinge", "lsgan")]
    done = CliRunner().invoke(digits.main, [*runs, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    table = json.loads((tmp_path / "digits.json").read_text())
    assert table["hinge"]["loss"] == "hinge" and table["lsgan"]["distance"] > table["lsgan"]["real_distance"]
    assert images.read_picture(tmp_path / "digits-hinge.png", 1).std() > 1


FAMILY_OF = {
    "digits-resnet": "resnet",
    "digits-progan": "progan",
    "photos-style": "transformer_net",
    "photos-adain": "adain",
    "photos-srresnet": "srresnet",
    "photos-srgan": "srresnet",
    "photos-synthesis": "synthesis",
    "photos-inpainting": "synthesis",
}
"""Families of the presets that are not for dcgan."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_the_defaults_of_the_command(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stop(options: TrainingOptions, out: Path, resume: bool) -> None:
        asked.append(options)
        raise RequestError("enough")

    monkeypatch.setattr("ganrt.training.loop.train", stop)
    values = PRESETS[name]
    family = FAMILY_OF.get(name, "dcgan")
    CliRunner().invoke(main.main, ["train", family, "--preset", name, "--out", str(tmp_path / "x"), "--batch", "4"])
    expected = TrainingOptions(family, parse_settings(values["config"]), loss=values.get("loss", "non-saturating"))
    assert (asked[0].config, asked[0].loss) == (expected.config, expected.loss)
    assert (asked[0].steps, asked[0].batch, asked[0].generator_lr) == (values["steps"], 4, values["lr"])
    assert asked[0].discriminator_lr == values.get("discriminator_lr", values["lr"])


def test_an_unknown_preset() -> None:
    with pytest.raises(RequestError, match="there is no preset 'best'; choose one of digits-minimax, "):
        get_preset("best")
