"""Shared fixtures: one tiny bundle per family, exported on first use, and an empty cache folder for every test.

What needs PyTorch is imported by the fixtures that use it, so that a test file without it starts in a moment.
"""

import sys
from pathlib import Path

import hypothesis
import pytest

from ganrt.bundle import Bundle

# No deadline: a busy machine is slow, which is not a failure. Derandomized: every run tries the same examples.
hypothesis.settings.register_profile("ganrt", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("ganrt")

# Every export would be compiled for RTX GPUs: minutes over all tests. Tests of the compiler take the fixture `rtx`.
COMPILER = ("tensorrt_rtx", "tensorrt_rtx_bindings")
sys.modules |= dict.fromkeys(COMPILER)  # type: ignore[arg-type]

TINY: dict[str, dict[str, int]] = {
    "dcgan": {"size": 16, "channels": 3, "latent": 8, "width": 4},
    "mlp": {"size": 16, "channels": 1, "latent": 8},
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Family -> the bundle of a tiny generator whose images have contrast. Read-only: copy the folder to change it."""
    folder = tmp_path_factory.mktemp("bundles")
    return {family: _export(family, config, folder) for family, config in TINY.items()}


@pytest.fixture(scope="session")
def bundle(bundles: dict[str, Bundle]) -> Bundle:
    return bundles["dcgan"]


@pytest.fixture(scope="session")
def espcn(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A super-resolution model of scale 2 that works on luma. Read-only."""
    return _export("espcn", {"scale": 2, "width": 8}, tmp_path_factory.mktemp("espcn"))


@pytest.fixture(scope="session")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A class-conditional GAN whose latent can be truncated. Read-only."""
    import torch

    from ganrt.export import export
    from ganrt.models import build_generator

    folder = tmp_path_factory.mktemp("conditional")
    torch.manual_seed(1)
    module = build_generator("resnet", {"size": 32, "channels": 3, "latent": 8, "width": 4, "classes": 7})
    torch.save(module.state_dict(), folder / "resnet.pth")
    return export(str(folder / "resnet.pth"), folder / "resnet.ganrt")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which this test keeps its proofs and tuned records."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.delenv("GANRT_CACHE", raising=False)
    monkeypatch.setattr("ganrt.cache._has_warned", False)  # each test is told
    return folder


@pytest.fixture
def rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's compiler for RTX GPUs, which the other tests do not see."""
    from helpers.rtx_parser import require_library

    for name in COMPILER:
        monkeypatch.delitem(sys.modules, name)
    require_library(COMPILER)


def _export(family: str, config: dict[str, int], folder: Path) -> Bundle:
    import torch
    from torch import nn

    from ganrt.export import export
    from ganrt.models import build_generator

    torch.manual_seed(1)
    module = build_generator(family, config)
    for part in module.modules():
        if isinstance(part, nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, 0.3)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, 1.4 * part.in_features**-0.5)
    checkpoint = folder / f"{family}.pth"
    torch.save(module.state_dict(), checkpoint)
    return export(str(checkpoint), folder / f"{family}.ganrt")
