"""Presets of `ganrt train --preset NAME`: the settings of the runs shown in docs/training."""

from __future__ import annotations

from typing import Any

from ganrt.errors import RequestError

_DIGITS = {"data": "digits", "config": ("size=32", "channels=1", "width=16"), "every": 500, "seed": 0}
"""The smallest DCGAN for the scanned digits."""

PRESETS: dict[str, dict[str, Any]] = {
    "digits-minimax": {**_DIGITS, "loss": "minimax", "lr": 1e-3, "discriminator_lr": 2e-4, "steps": 1500},
    "digits-non-saturating": {**_DIGITS, "loss": "non-saturating", "lr": 1e-3, "steps": 1500},
    "digits-lsgan": {**_DIGITS, "loss": "lsgan", "lr": 1e-3, "steps": 1500},
    "digits-lsgan-sym": {**_DIGITS, "loss": "lsgan-sym", "lr": 1e-3, "steps": 1500},
    "digits-hinge": {**_DIGITS, "loss": "hinge", "lr": 1e-3, "steps": 1500},
    "digits-hinge-spectral": {
        **_DIGITS,
        "loss": "hinge",
        "recipe": ("spectral=true",),
        "lr": 1e-3,
        "steps": 1200,
    },
    "digits-wgan": {**_DIGITS, "loss": "wgan", "lr": 1e-3, "steps": 500},
    "digits-wgan-gp": {**_DIGITS, "loss": "wgan-gp", "lr": 1e-3, "steps": 750},
    "digits-resnet": {
        "data": "digits",
        "config": ("size=32", "channels=1", "classes=10", "width=8", "discriminator_width=8", "latent=32"),
        "loss": "hinge",
        "critic_steps": 1,
        "lr": 4e-4,
        "discriminator_lr": 1e-3,
        "augment": "translation",
        "ema": 0.99,
        "batch": 32,
        "steps": 2200,
        "every": 200,
        "seed": 0,
    },
    "digits-progan": {
        "data": "digits",
        "config": ("channels=1", "latent=64", "widths=64,64,32,16"),
        "recipe": ("stage_images=12800",),
        "loss": "wgan-gp-drift",
        "lr": 3e-3,
        "batch": 16,
        "steps": 4400,
        "every": 200,
        "seed": 0,
    },
    "photos-style": {
        "config": ("width=12", "blocks=3"),
        "recipe": ("crop=96", "style=immunohistochemistry", "style_size=256", "content_weight=3"),
        "lr": 2e-3,
        "halve_every": 800,
        "batch": 2,
        "steps": 2500,
        "seed": 0,
    },
    "photos-adain": {
        "config": ("width=16",),
        "recipe": ("crop=96",),
        "lr": 1e-3,
        "halve_every": 400,
        "batch": 4,
        "steps": 800,
        "seed": 0,
    },
    "photos-srresnet": {
        "config": ("scale=2", "width=24", "blocks=4"),
        "recipe": ("crop=64",),
        "lr": 1e-3,
        "halve_every": 1500,
        "batch": 8,
        "steps": 7000,
        "seed": 0,
    },
    "photos-srgan": {
        "config": ("scale=2", "width=24", "blocks=4"),
        "recipe": ("crop=64", "adversarial_weight=0.05", "perceptual_weight=0.05", "discriminator_width=24"),
        "loss": "hinge",
        "lr": 2e-4,
        "halve_every": 1000,
        "batch": 8,
        "steps": 1600,
        "seed": 0,
    },
    "photos-synthesis": {
        "config": (
            "features=edges,colour,texture",
            "pool=4",
            "width=16",
            "blocks=2",
            "residual=true",
            "extract=true",
        ),
        "recipe": ("crop=64",),
        "lr": 1e-3,
        "halve_every": 800,
        "batch": 8,
        "steps": 2000,
        "seed": 0,
    },
    "photos-inpainting": {
        "config": ("features=colour,edges,mask", "width=16", "blocks=4", "residual=true", "extract=true"),
        "recipe": ("crop=64",),
        "lr": 1e-3,
        "halve_every": 500,
        "batch": 8,
        "steps": 1500,
        "seed": 0,
    },
}
"""Name -> option of `ganrt train` -> value."""


def get_preset(name: str) -> dict[str, Any]:
    """Option of `ganrt train` -> value, a new dict. Raises RequestError for an unknown name."""
    if name not in PRESETS:
        raise RequestError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return dict(PRESETS[name])
