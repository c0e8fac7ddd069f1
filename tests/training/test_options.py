"""What a training run may be asked for, and what it says otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from ganrt.errors import RequestError
from ganrt.training import TrainingOptions


def test_settings_left_out_take_the_family_s_defaults_and_text_counts_as_numbers() -> None:
    options = TrainingOptions("dcgan", {"size": "32", "channels": 1})
    assert options.config == {"size": 32, "channels": 1, "latent": 100, "width": 64}
    assert options == TrainingOptions("dcgan", {"channels": 1, "size": 32, "width": 64, "latent": 100})
    assert options.spec.output.size == (32, 32)


def test_the_loss_says_what_was_not_said() -> None:
    assert (TrainingOptions("dcgan").critic_steps, TrainingOptions("dcgan").betas) == (1, (0.5, 0.999))
    wgan = TrainingOptions("dcgan", loss="wgan-gp")
    assert (wgan.critic_steps, wgan.betas) == (5, (0.0, 0.9))
    assert replace(wgan, critic_steps=2, betas=(0.5, 0.9)).critic_steps == 2
    assert wgan == TrainingOptions("dcgan", loss="wgan-gp", critic_steps=5, betas=(0.0, 0.9))


def test_options_survive_json() -> None:
    options = TrainingOptions(
        "mlp", {"size": 28}, "folder:pictures", "minimax", betas=(0.0, 0.9), augment=("color",), seed=2**64 - 1
    )
    assert TrainingOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "cgan"}, "there is no family 'cgan'; choose one of mlp, dcgan"),
        ({"family": ["dcgan"]}, r"family is \['dcgan'\]; choose one by its name"),
        ({"config": 3}, "config is 3; it must map the family's settings to values"),
        ({"config": {"size": 31}}, "size is 31; dcgan makes images of 16, 32, 64 or 128 pixels"),
        ({"config": {"depth": 3}}, "dcgan has no setting 'depth'"),
        ({"data": None}, "data is None; choose one by its name"),
        ({"loss": "lsquares"}, "loss is 'lsquares'; choose non-saturating, minimax"),
        ({"device": "tpu"}, "device is 'tpu'; choose auto, cpu, cuda"),
        ({"steps": 0}, "steps is 0; it must be a whole number from 1"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"batch": 2.5}, "batch is 2.5; it must be a whole number"),
        ({"sample_every": -1}, "sample_every is -1"),
        ({"checkpoint_every": "9"}, "checkpoint_every is '9'"),
        ({"log_every": 0}, "log_every is 0"),
        ({"devices": 0}, "devices is 0"),
        ({"generator_lr": 0.0}, "generator_lr is 0.0; it must be above 0 and at most 1"),
        ({"discriminator_lr": float("nan")}, "discriminator_lr is nan"),
        ({"generator_lr": "fast"}, "generator_lr is 'fast'"),
        ({"ema": 1.0}, "ema is 1.0; it must be at least 0 and below 1"),
        ({"betas": (0.5,)}, r"betas is \(0.5,\); Adam takes two numbers"),
        ({"betas": (0.5, 1)}, "betas is 1; it must be at least 0 and below 1"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0"),
        ({"betas": [0.5, 0.9]}, r"betas is \[0.5, 0.9\]; Adam takes two numbers"),
        ({"critic_steps": -1}, "critic_steps is -1; it must be a whole number from 1"),
        ({"augment": "color"}, "augment is 'color'; it must list some of color, translation, cutout"),
        ({"augment": ("flip",)}, "augment is 'flip'; choose color, translation, cutout"),
        ({"packing": 0}, "packing is 0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"orthogonal": -1.0}, "orthogonal is -1.0; it must be at least 0 and at most 1"),
        ({"precision": "fp8"}, "precision is 'fp8'; choose fp32, bf16-mixed"),
        ({"batch": 64, "devices": 3}, "a batch of 64 cannot be shared out evenly to 3 processes"),
        ({"batch": 6, "accumulate": 2, "packing": 2}, "6 cannot be .* 1 processes, each in 2 parts of packs of 2"),
    ],
)
def test_a_value_that_makes_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        replace(TrainingOptions("dcgan"), **change)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "the options are not an object with a family"),
        ({"steps": 5}, "the options are not an object with a family"),
        ({"family": "mlp", "shout": 1}, r"the unknown keys \['shout'\]; a newer ganrt may have written them"),
        ({"family": "mlp", "steps": [5]}, r"steps is \(5,\)"),
    ],
)
def test_json_from_anybody(raw: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TrainingOptions.from_dict(raw)


def test_only_what_decides_the_weights_is_a_difference() -> None:
    options = TrainingOptions("dcgan")
    free = replace(options, steps=9, sample_every=1, checkpoint_every=2, log_every=3, device="cpu", devices=2)
    assert options.find_differences(free) == []
    assert options.find_differences(replace(options, batch=32, ema=0.5)) == [
        "batch was 64, is now 32",
        "ema was 0.995, is now 0.5",
    ]


@pytest.mark.parametrize(("library", "name"), [("torch", "read_run"), ("lightning_fabric", "train")])
def test_a_missing_library_names_the_extra(library: str, name: str) -> None:
    code = f"import sys; sys.modules['{library}'] = None; from ganrt.training import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f'training needs {library}, which is not installed: pip install "ganrt[train]"' in done.stderr
    assert "MissingLibraryError" in done.stderr


def test_a_run_is_read_without_the_training_libraries() -> None:
    missing = ("lightning_fabric", "sklearn", "skimage")
    imported = "from ganrt.training import read_run, TrainingOptions"
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); {imported}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Trainer'"):
        from ganrt.training import Trainer  # noqa: F401
