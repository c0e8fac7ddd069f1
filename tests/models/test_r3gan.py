"""R3GAN with classes, and what its checkpoints tell. Without classes, a golden case compares it with the original."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.golden_cases import load_golden_case
from torch import Tensor, nn

from ganrt.errors import RequestError
from ganrt.export.sources import recognize
from ganrt.models import build_generator, get_family
from ganrt.spec import Label, Latent


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(load_golden_case("r3gan_32", tmp_path_factory.mktemp("r3gan")).checkpoint)
    return loaded


def load(state: dict[str, Tensor]) -> tuple[nn.Module, Any]:
    found = recognize(state, Path("G.pth"))
    assert (found.family.name, found.layout) == ("r3gan", "R3GAN")
    module = found.family.generator(found.config).eval().requires_grad_(False)
    module.load_state_dict(found.state)
    return module, found.config


def test_a_class_is_embedded_and_follows_the_latent(state: dict[str, Tensor]) -> None:
    table = torch.linspace(-1, 1, 20).reshape(4, 5)
    plain, _ = load(state)
    module, config = load({**state, "Model.EmbeddingLayer.weight": table})
    assert (config.latent, config.embedding, config.classes) == (20, 4, 5)
    assert get_family("r3gan").spec(config).inputs == (Latent("z", (20,)), Label("c", 5, "one_hot"))
    z, labels = torch.linspace(-2, 2, 60).reshape(3, 20), torch.tensor([4, 0, 2])
    found = module(z, torch.eye(5)[labels])
    torch.testing.assert_close(found, plain(torch.cat([z, table[:, labels].T], 1)))


def test_keys_may_come_without_the_wrapper(state: dict[str, Tensor]) -> None:
    z = torch.linspace(-2, 2, 48).reshape(2, 24)
    bare = {key.removeprefix("Model."): value for key, value in state.items()}
    assert torch.equal(load(bare)[0](z), load(state)[0](z))


def test_fresh_upsampling_is_bilinear() -> None:
    """Inside the picture; around it are zeros."""
    module: Any = build_generator("r3gan", {"widths": (4, 4), "groups": (2, 2), "blocks": (1, 1)})
    x = torch.rand(1, 4, 6, 6)
    wanted = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
    with torch.no_grad():
        found = module.stages[1][0](x)
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], wanted[:, :, 1:-1, 1:-1])
    torch.testing.assert_close(found[:, :, 0, 1:-1], 0.75 * wanted[:, :, 0, 1:-1])


def test_parameter_counts_are_those_of_the_literature() -> None:
    """Config E for FFHQ at 256 pixels: 23.058 million, without the filters, which are not trained."""
    widths, groups = (768, 768, 768, 768, 384, 192, 96), (96, 96, 96, 96, 48, 24, 12)
    with torch.device("meta"):
        module = build_generator("r3gan", {"widths": widths, "groups": groups, "blocks": (2,) * 7})
    counts = {name: parameter.numel() for name, parameter in module.named_parameters() if ".up." not in name}
    assert sum(counts.values()) == 23_057_952


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widths": ()}, r"widths is \(\); it takes 1 to 9 numbers from 1 to 8192"),
        ({"widths": (4,) * 10}, "it takes 1 to 9 numbers from 1 to 8192"),
        ({"widths": (0, 4)}, "it takes 1 to 9 numbers from 1 to 8192"),
        ({"blocks": (1,)}, r"blocks is \(1,\); it takes a number from 1 to 64 for each of 2 stages"),
        ({"blocks": (1, 65)}, "it takes a number from 1 to 64 for each of 2 stages"),
        ({"groups": (2,)}, r"groups is \(2,\); it takes a divisor of 2 times the width"),
        ({"groups": (2, 3)}, r"a divisor of 2 times the width for each of the widths \(4, 4\)"),
        ({"groups": (0, 2)}, "it takes a divisor of 2 times the width"),
        ({"embedding": 3}, "embedding is 3; it must be from 0 to 0"),
        ({"classes": 3}, "embedding is 0; it must be from 1 to 4096"),
        ({"expansion": 17}, "expansion is 17; it must be from 1 to 16"),
        ({"channels": 2}, "channels is 2; it must be 1"),
    ],
)
def test_configs_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_generator("r3gan", {"widths": (4, 4), "groups": (2, 2), "blocks": (1, 1), **values})
