"""StyleGAN3's layers against their definition: sampling grids, filters, modulation, truncation, classes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import build_generator, get_family
from ganrt.models.stylegan3 import convert_nvlabs, guess_nvlabs
from ganrt.models.stylegan3_network import Config, FourierFeatures, Generator, Layer, Mapping, find_border
from ganrt.spec import Label, Latent, Scalar

SMALL: dict[str, Any] = {
    "sizes": (36, 36, 52, 32),
    "up": (2, 2, 4, 2),
    "widths": (4, 3, 2, 3, 2),
    "latent": 5,
    "style": 6,
}
NVLABS = Config(**SMALL, classes=3)


def draw(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape, np.float32))


def nvlabs_state(config: Config, first: float = 1.0) -> dict[str, Tensor]:
    """A checkpoint in NVlabs's layout. `first` is the magnitude of the first layer's input."""
    state = {
        "synthesis.input.weight": draw(config.widths[0], config.widths[0]),
        "synthesis.input.transform": torch.eye(3),
        "synthesis.input.freqs": draw(config.widths[0], 2),
        "synthesis.input.phases": draw(config.widths[0]),
        "synthesis.input.affine.weight": draw(4, config.style),
        "synthesis.input.affine.bias": torch.tensor([1.0, 0.0, 0.0, 0.0]),
    }
    before = config.widths[0]
    for k, (size, width) in enumerate(
        zip((*config.sizes, config.size), (*config.widths[1:], config.channels), strict=True)
    ):
        name, last = f"synthesis.L{k}_{size}_{width}", k == len(config.sizes)
        side = 1 if last else config.kernel
        state |= {
            f"{name}.weight": draw(width, before, side, side),
            f"{name}.bias": draw(width),
            f"{name}.magnitude_ema": torch.tensor(first if k == 0 else 1.0),
            f"{name}.affine.weight": draw(before, config.style),
            f"{name}.affine.bias": draw(before),
        }
        if not last:
            state[f"{name}.up_filter"] = draw(6 * config.up[k])
            state[f"{name}.down_filter"] = draw(12, 12) if k < config.radial else draw(12)
        before = width
    state["mapping.w_avg"] = draw(config.style)
    if config.classes:
        state["mapping.embed.weight"], state["mapping.embed.bias"] = (
            draw(config.style, config.classes),
            draw(config.style),
        )
    for k in range(config.mapping):
        inputs = config.style if k else config.latent + (config.style if config.classes else 0)
        state[f"mapping.fc{k}.weight"], state[f"mapping.fc{k}.bias"] = (
            100 * draw(config.style, inputs),
            draw(config.style),
        )
    return state


def load(config: Config, state: dict[str, Tensor]) -> Generator:
    module = Generator(config).eval().requires_grad_(False)
    module.load_state_dict(convert_nvlabs(state, config))
    return module


@pytest.mark.parametrize("radial", [0, 2])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_nvlabs_shapes_tell_the_config(kernel: int, radial: int, classes: int) -> None:
    config = Config(**SMALL, kernel=kernel, radial=radial, classes=classes, mapping=3, channels=1)
    shapes = {key: tuple(value.shape) for key, value in nvlabs_state(config).items()}
    assert guess_nvlabs(shapes) == config


def test_a_magnitude_that_is_no_number_is_refused() -> None:
    shapes = {key: tuple(value.shape) for key, value in nvlabs_state(NVLABS).items()}
    assert guess_nvlabs({**shapes, "synthesis.L4_32_3.magnitude_ema": (2,)}) is None
    assert guess_nvlabs({**shapes, "synthesis.L0_36_3.up_filter": ()}) is None


@pytest.mark.parametrize(
    "transform", [((1, 0, 0), (0, 1, 0), (0, 0, 1)), ((1.2, 0.3, 0.1), (-0.5, 4, -0.2), (0, 0, 1))]
)
def test_fourier_features_are_those_of_the_definition(transform: tuple[tuple[float, ...], ...]) -> None:
    """The sampling grid goes through the user's transform, the style's translation and its rotation, in this order."""
    config = Config(**SMALL)
    module = FourierFeatures(config).double()
    module.frequencies, module.phases = draw(4, 2).double(), draw(4).double()
    module.transform = torch.tensor(transform).double()
    style = draw(2, 6).double()
    with torch.no_grad():
        found = module(style)
        for number, (cosine, sine, right, down) in enumerate(module.affine(style)):
            length = torch.hypot(cosine, sine)
            cosine, sine, right, down = (value / length for value in (cosine, sine, right, down))
            turn = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]).double()
            move = torch.tensor([[1, 0, -right], [0, 1, -down], [0, 0, 1]]).double()
            whole = turn @ move @ module.transform
            place = (torch.arange(36).double() + 0.5 - 18) / 16
            x, y = torch.meshgrid(place, place, indexing="xy")
            waves = module.frequencies @ whole[:2, :2]
            phases = module.phases + module.frequencies @ whole[:2, 2]
            angle = waves[:, :1, None] * x + waves[:, 1:, None] * y + phases[:, None, None]
            strength = (1 - (waves.norm(dim=1) - 2) / (8 - 2)).clamp(0, 1)
            wanted = torch.einsum(
                "oc,chw->ohw",
                module.mix.weight[:, :, 0, 0],
                strength[:, None, None] * torch.sin(2 * math.pi * angle),
            )
            torch.testing.assert_close(found[number], wanted)
    assert (strength < 1).any()


def resample(x: Tensor, taps: Tensor, up: int = 1, down: int = 1, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """Insert zeros, pad (negative numbers crop), convolve both axes with `taps`, keep every `down`-th pixel."""
    wide = x.new_zeros(*x.shape[:2], x.shape[2] * up, x.shape[3] * up)
    wide[:, :, ::up, ::up] = x
    wide = functional.pad(wide, [*padding, *padding])
    kernel = (taps if taps.ndim == 2 else taps[:, None] * taps).flip(0, 1)
    merged = functional.conv2d(wide.flatten(0, 1)[:, None], kernel[None, None])
    return merged[:, 0].unflatten(0, x.shape[:2])[:, :, ::down, ::down]


@pytest.mark.parametrize(
    ("before", "after", "up", "kernel", "radial"),
    [(36, 36, 2, 3, False), (36, 52, 4, 3, True), (36, 52, 4, 1, False), (52, 32, 2, 1, True), (52, 32, 2, 3, False)],
)
def test_a_layer_is_the_definition(before: int, after: int, up: int, kernel: int, radial: bool) -> None:
    """Modulated weights, the padding of appendix C.3, and filters that are not symmetric."""
    config = Config(
        **{**SMALL, "sizes": (before, after), "up": (2, up), "widths": (2, 3, 5)},
        kernel=kernel,
        radial=2 * radial,
        bandwidth=1.0,
    )
    state = nvlabs_state(config, first=1.0)
    state[f"synthesis.L1_{after}_5.magnitude_ema"] = torch.tensor(0.25)
    module = load(config, state).layers[f"1_{after}"]
    raw = {key.rpartition("_5.")[2]: value.double() for key, value in state.items() if f".L1_{after}_5." in key}
    x, style = 40 * draw(2, 3, before, before).double(), draw(2, 6).double()
    scale = style @ raw["affine.weight"].T / math.sqrt(6) + raw["affine.bias"]
    weight = raw["weight"][None] * scale[:, None, :, None, None]
    weight = weight / weight.square().sum((2, 3, 4), keepdim=True).sqrt() / math.sqrt(0.25)
    made = [functional.conv2d(x[k : k + 1], weight[k], padding=kernel - 1) for k in range(2)]
    total = (after - 1) * 2 + 1 - (before + kernel - 1) * up + 6 * up + 12 - 2
    low = (total + up) // 2
    wide = resample(torch.cat(made) + raw["bias"][:, None, None], up * raw["up_filter"], up, 1, (low, total - low))
    bent = (functional.leaky_relu(wide, 0.2) * math.sqrt(2)).clamp(-256, 256)
    wanted = resample(bent, raw["down_filter"], 1, 2)
    with torch.no_grad():
        found = module.double()(x, style)
    assert isinstance(module, Layer) and (bent.abs() == 256).any() and (bent.abs() < 256).any()
    assert found.shape == (2, 5, after, after)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_the_mapping_is_the_definition() -> None:
    """Latent and embedded class are normalised, each by itself; weights are stored 100 times larger."""
    state = nvlabs_state(NVLABS)
    module = load(NVLABS, state).mapping
    assert isinstance(module, Mapping)
    z, c = draw(3, 5), torch.eye(3)
    embedded = c @ state["mapping.embed.weight"].T / math.sqrt(3) + state["mapping.embed.bias"]
    x = torch.cat([part / part.square().mean(1, keepdim=True).sqrt() for part in (z, embedded)], 1)
    for k in range(2):
        made = 0.01 * (x @ state[f"mapping.fc{k}.weight"].T / math.sqrt(x.shape[1]) + state[f"mapping.fc{k}.bias"])
        x = math.sqrt(2) * functional.leaky_relu(made, 0.2)
    torch.testing.assert_close(module(z, c), x)
    torch.testing.assert_close(module.mean, state["mapping.w_avg"])


@pytest.mark.parametrize("cutoff", [0, 1, 3, 6])
def test_truncation_acts_on_the_first_styles(cutoff: int) -> None:
    """At a truncation of 0 they are the mean style, at 1 that of the latent."""
    config = Config(**SMALL, cutoff=cutoff)
    module = load(config, nvlabs_state(config)).double()
    z = draw(2, 5).double()
    style, mean = module.mapping(z, None), module.mapping.mean.expand(2, -1)
    for psi in (0.0, 0.5, 1.0):
        mixed = torch.lerp(mean, style, psi)
        styles = [mixed if k < (cutoff or 6) else style for k in range(6)]
        x = module.features(styles[0])
        for layer, used in zip(module.layers.values(), styles[1:], strict=False):
            x = layer(x, used)
        wanted = 0.25 * module.to_rgb(x, styles[-1])
        torch.testing.assert_close(module(z, torch.full((2,), psi).double()), wanted)


def test_the_image_is_not_demodulated() -> None:
    config = Config(**SMALL, output_scale=0.5)
    state = nvlabs_state(config)
    state["synthesis.L4_32_3.magnitude_ema"] = torch.tensor(4.0)
    module = load(config, state)
    x, style = draw(2, 2, 32, 32), draw(2, 6)
    scale = style @ state["synthesis.L4_32_3.affine.weight"].T / math.sqrt(6) + state["synthesis.L4_32_3.affine.bias"]
    weight = state["synthesis.L4_32_3.weight"][:, :, 0, 0] / math.sqrt(2) / 2
    wanted = torch.einsum("oc,nc,nchw->nohw", weight, scale, x) + state["synthesis.L4_32_3.bias"][:, None, None]
    torch.testing.assert_close(module.to_rgb(x, style), wanted)
    z, psi = draw(2, 5), torch.ones(2)
    torch.testing.assert_close(module(z, psi), 2 * load(Config(**SMALL), state)(z, psi))


def test_inputs_are_latent_class_and_truncation() -> None:
    family = get_family("stylegan3")
    assert family.spec(NVLABS).inputs == (
        Latent("z", (5,)),
        Label("c", 3, "one_hot"),
        Scalar("truncation", (0.0, 1.0), 1.0),
    )
    assert [item.name for item in family.spec(Config()).inputs] == ["z", "truncation"]
    assert family.spec(Config()).output.size == (1024, 1024)


def test_a_border_that_needs_zeros_is_none() -> None:
    assert find_border(36, 90, 3, 2) is None
    assert find_border(52, 8, 1, 2) is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sizes": ()}, r"sizes is \(\); it takes 1 to 64 numbers from 8 to 2100"),
        ({"sizes": (36, 36, 52, 4000)}, "it takes 1 to 64 numbers from 8 to 2100"),
        ({"up": (2, 2, 4)}, r"up is \(2, 2, 4\); it takes 2, 4 or 8 for each of the 4 sizes"),
        ({"up": (2, 2, 3, 2)}, "it takes 2, 4 or 8"),
        ({"widths": (4, 3, 2, 3)}, r"widths is \(4, 3, 2, 3\); it takes 5 numbers from 1 to 8192"),
        ({"widths": (4, 3, 0, 3, 2)}, "it takes 5 numbers from 1 to 8192"),
        ({"kernel": 2}, "kernel is 2; it must be 1 or 3"),
        ({"sizes": (36, 90, 52, 32)}, "layer 1 cannot make 90 pixels"),
        ({"bandwidth": 8.0}, "have 16 pixels per picture; it must be a whole number above 16 and at most 36"),
        ({"up": (8, 8, 8, 8)}, "have 0.125 pixels per picture"),
        ({"up": (2, 2, 2, 2), "sizes": (28, 36, 52, 32)}, "have 32 pixels per picture; .* at most 28"),
        ({"bandwidth": float("nan")}, "bandwidth is nan, output_scale 0.25; they must be numbers"),
        ({"output_scale": float("inf")}, "bandwidth is 2.0, output_scale inf; they must be numbers"),
        ({"radial": 5}, "radial is 5; it must be from 0 to 4"),
        ({"cutoff": 7}, "cutoff is 7; it must be from 0 to 6"),
        ({"channels": 2}, "channels is 2; it must be 1"),
    ],
)
def test_configs_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_generator("stylegan3", {**SMALL, **values})
