"""SPADE's variants against the definition, and the two forms in which PyTorch writes spectral norms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.export.sources import recognize
from ganrt.models import build_generator, get_family
from ganrt.spec import Image, Latent

SMALL = {"ngf": 2, "semantic_nc": 3, "crop_size": 128}


def draw(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape, np.float32))


def build(values: dict[str, Any]) -> nn.Module:
    """A generator with random weights and statistics."""
    torch.manual_seed(3)
    module = build_generator("spade", {**SMALL, **values}).eval().requires_grad_(False)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return module


def generate(state: dict[str, Tensor], layers: str, start: tuple[int, int], segmap: Tensor, z: Tensor | None) -> Tensor:
    """The definition: figures 11 and 12 of the paper, for a state dict."""

    def convolve(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[3] // 2)

    def modulate(name: str, x: Tensor) -> Tensor:
        hidden = convolve(f"{name}.mlp_shared.0", functional.interpolate(segmap, x.shape[2:])).relu()
        mean, variance = (state.get(f"{name}.param_free_norm.running_{what}") for what in ("mean", "var"))
        normal = functional.batch_norm(x, mean, variance) if mean is not None else functional.instance_norm(x)
        return normal * (1 + convolve(f"{name}.mlp_gamma", hidden)) + convolve(f"{name}.mlp_beta", hidden)

    def residual(name: str, x: Tensor) -> Tensor:
        hidden = convolve(f"{name}.conv_0", functional.leaky_relu(modulate(f"{name}.norm_0", x), 0.2))
        hidden = convolve(f"{name}.conv_1", functional.leaky_relu(modulate(f"{name}.norm_1", hidden), 0.2))
        learned = f"{name}.conv_s.weight" in state
        return hidden + (convolve(f"{name}.conv_s", modulate(f"{name}.norm_s", x)) if learned else x)

    if z is None:
        x = convolve("fc", functional.interpolate(segmap, start))
    else:
        x = functional.linear(z, state["fc.weight"], state["fc.bias"]).reshape(len(z), -1, *start)
    doubled = ["G_middle_0", "up_0", "up_1", "up_2", "up_3"]
    doubled += {"normal": [], "more": ["G_middle_1"], "most": ["G_middle_1", "up_4"]}[layers]
    for name in ("head_0", "G_middle_0", "G_middle_1", *(f"up_{k}" for k in range(5 if layers == "most" else 4))):
        x = residual(name, x.repeat_interleave(2, 2).repeat_interleave(2, 3) if name in doubled else x)
    return convolve("conv_img", functional.leaky_relu(x, 0.2)).tanh()


@pytest.mark.parametrize("layers", ["normal", "more", "most"])
@pytest.mark.parametrize("values", [{}, {"instance": True, "aspect_ratio": 0.5}, {"kernel": 1, "z_dim": 5, "ngf": 3}])
def test_every_variant_is_the_definition(layers: str, values: dict[str, Any]) -> None:
    values = {**values, "num_upsampling_layers": layers}
    module, family = build(values), get_family("spade")
    config = family.configure({**SMALL, **values})
    spec = family.spec(config)
    segmap = functional.one_hot((7 * draw(2, *config.size)).long() % 3, 3).permute(0, 3, 1, 2).float()
    z = draw(2, 5) if "z_dim" in values else None
    given = [segmap] if z is None else [segmap, z]
    assert [item.name for item in spec.inputs] == ["segmap", "z"][: len(given)]
    found = module(*given)
    assert spec.output.size == tuple(found.shape[2:])
    wanted = generate(module.state_dict(), layers, config.start, segmap, z)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", ["normal", "most"])
@pytest.mark.parametrize(
    "values",
    [{}, {"instance": True, "ngf": 3}, {"kernel": 5, "z_dim": 5}, {"z_dim": 4, "aspect_ratio": 2.0, "ngf": 3}],
)
def test_the_config_is_inferred_from_a_checkpoint(layers: str, values: dict[str, Any]) -> None:
    """A start from the map does not tell its size: then it is that of the defaults."""
    family, values = get_family("spade"), {**SMALL, **values, "crop_size": 256, "num_upsampling_layers": layers}
    state = family.generator(family.configure(values)).state_dict()
    found = recognize(state, Path("latest_net_G.pth"))
    assert (found.family.name, found.config) == ("spade", family.configure(values))


def test_spectral_norms_are_divided_out() -> None:
    """As PyTorch writes them now, and as it did before 1.1: with the weight as it was used, and without v. Its own
    code reads the old form into a network with spectral norms."""
    plain, network = build({}), build({})
    names = [name for name, _ in network.named_modules() if name.rpartition(".")[2] in ("conv_0", "conv_1", "conv_s")]
    for name in names:
        nn.utils.spectral_norm(network.get_submodule(name))
    network.eval()
    segmap = draw(1, 3, 128, 128)
    wanted, state = network(segmap), dict(network.state_dict())
    old = {key: value for key, value in state.items() if not key.endswith("weight_v")}
    old |= {f"{name}.weight": network.get_submodule(name).weight for name in names}
    assert (plain(segmap) - wanted).abs().max() > 0.01
    for written in (state, old):
        plain.load_state_dict(recognize(written, Path("latest_net_G.pth")).state)
        torch.testing.assert_close(plain(segmap), wanted)
    network.load_state_dict(old)
    torch.testing.assert_close(network(segmap), wanted)


@pytest.mark.parametrize("shape", [(3,), (3, 1), ()])
def test_a_spectral_norm_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    family = get_family("spade")
    network = build({})
    nn.utils.spectral_norm(network.get_submodule("up_0.conv_0"))
    state = {**network.state_dict(), "up_0.conv_0.weight_v": torch.zeros(shape)}
    with pytest.raises(KeyError, match=r"up_0\.conv_0\.weight"):
        family.layouts[0].convert(state, family.config())


def test_a_map_has_the_size_of_the_image() -> None:
    family = get_family("spade")
    spec = family.spec(family.configure({"crop_size": "512", "aspect_ratio": "2.0", "semantic_nc": "36"}))
    assert spec.inputs == (Image("segmap", "labels", 36, (0.0, 1.0), (256, 512)),)
    assert spec.output.size == (256, 512)
    spec = family.spec(family.configure({**SMALL, "z_dim": 7}))
    assert spec.inputs[1:] == (Latent("z", (7,)),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ngf": 0}, "ngf is 0; it must be from 1 to 512"),
        ({"num_upsampling_layers": "some"}, "num_upsampling_layers is 'some'; it must be normal, more or most"),
        (
            {"ngf": 1, "num_upsampling_layers": "most"},
            "ngf is 1; with num_upsampling_layers=most it must be at least 2",
        ),
        ({"kernel": 4}, "kernel is 4; it must be 1, 3, 5 or 7"),
        ({"crop_size": 48}, "crop_size is 48; it must be a multiple of 32 where num_upsampling_layers is normal"),
        ({"crop_size": 192, "num_upsampling_layers": "most"}, "it must be a multiple of 128 where .* is most"),
        ({"aspect_ratio": 0.0}, "aspect_ratio is 0; it must be from 1/16 to 16, for 32 to 4096 pixels in height"),
        ({"aspect_ratio": float("nan")}, "aspect_ratio is nan"),
        ({"aspect_ratio": 16.0}, "aspect_ratio is 16; it must be from 1/16 to 16, for 32 to 4096 pixels in height"),
        ({"aspect_ratio": 0.0625, "crop_size": 512}, "aspect_ratio is 0.0625; .* for 32 to 4096 pixels in height"),
    ],
)
def test_configs_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_generator("spade", {**SMALL, **values})
