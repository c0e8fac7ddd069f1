"""Shared fixtures: one tiny bundle per family, made once by the real exporter, and caches of its own for every test."""

from pathlib import Path

import hypothesis
import pytest
import torch
from torch import nn

from ganrt.bundle import Bundle
from ganrt.export import export
from ganrt.models import build_generator

# A machine under load is slow, and that is no failure; a run repeats the last one exactly.
hypothesis.settings.register_profile("ganrt", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("ganrt")

TINY = {
    "dcgan": {"size": 16, "channels": 3, "latent": 8, "width": 4},
    "mlp": {"size": 16, "channels": 1, "latent": 8},
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Family -> a bundle of a tiny generator whose images have contrast. Read-only: tests copy the folder first."""
    folder = tmp_path_factory.mktemp("bundles")
    return {family: _exported(family, folder) for family in TINY}


@pytest.fixture(scope="session")
def bundle(bundles: dict[str, Bundle]) -> Bundle:
    return bundles["dcgan"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's proofs and tuned records are remembered."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def _exported(family: str, folder: Path) -> Bundle:
    torch.manual_seed(1)
    module = build_generator(family, TINY[family])
    for part in module.modules():
        if isinstance(part, nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, 0.3)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, 1.4 * part.in_features**-0.5)
    checkpoint = folder / f"{family}.pth"
    torch.save(module.state_dict(), checkpoint)
    return export(str(checkpoint), folder / f"{family}.ganrt")
