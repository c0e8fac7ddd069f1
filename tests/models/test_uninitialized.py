"""Modules whose weights a checkpoint replaces are built without random ones, and are the same afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ganrt.export.sources import open_source
from ganrt.models import SkipRandomWeights, build_generator

CONFIGS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "dcgan": {"size": 16, "width": 4, "latent": 6},
    "resnet": {"size": 32, "width": 4, "latent": 8, "classes": 3},
    "progan": {"widths": (8, 8)},
    "stylegan2": {"widths": (8, 8), "latent": 8, "style": 8},
    "vdsr": {"convs": 3, "width": 4},
    "espcn": {},
    "srvgg": {},
    "adain": {},
    "synthesis": {},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_family_is_whole_once_its_weights_are_loaded(name: str) -> None:
    """Buffers that no checkpoint holds, such as kernels, are computed all the same."""
    wanted = build_generator(name, CONFIGS[name])
    with SkipRandomWeights():
        found = build_generator(name, CONFIGS[name])
    found.load_state_dict(wanted.state_dict())
    for (key, one), (_, other) in zip(wanted.named_buffers(), found.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, msg=key)
    for (key, one), (_, other) in zip(wanted.named_parameters(), found.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, msg=key)


def test_a_checkpoint_is_opened_without_random_numbers(tmp_path: Path) -> None:
    module = build_generator("resnet", CONFIGS["resnet"])
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    before = torch.random.get_rng_state()
    opened = open_source(tmp_path / "model.safetensors").module
    assert torch.equal(torch.random.get_rng_state(), before)
    z, y = torch.randn(2, 8), torch.tensor([0, 2])
    with torch.no_grad():
        torch.testing.assert_close(opened(z, y), module.eval()(z, y), rtol=0, atol=0)


def test_outside_of_it_weights_are_drawn_and_inside_constants_are_set() -> None:
    with SkipRandomWeights():
        norm, fresh = torch.nn.BatchNorm2d(3), torch.full((2, 3), 7.0)
        assert torch.nn.init.normal_(fresh) is fresh and torch.nn.init.kaiming_normal_(tensor=fresh) is fresh
        assert torch.nn.init.xavier_uniform_(fresh) is fresh and fresh.uniform_() is fresh
    assert torch.equal(fresh, torch.full((2, 3), 7.0))
    assert torch.equal(norm.weight, torch.ones(3)) and norm.running_var is not None
    assert torch.equal(norm.running_var, torch.ones(3))
    assert not torch.equal(torch.nn.init.normal_(fresh), torch.full((2, 3), 7.0))
