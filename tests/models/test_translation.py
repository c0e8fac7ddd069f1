"""pix2pix, CycleGAN, CUT and AnimeGAN: what a checkpoint tells, and what projects leave in it."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from ganrt.errors import RequestError
from ganrt.models import State, animegan, build_generator, cyclegan, get_family, pix2pix

CONFIGS = {
    "pix2pix": st.fixed_dictionaries(
        {
            "channels": st.integers(1, 4),
            "made": st.sampled_from([1, 3]),
            "width": st.integers(1, 3),
            "levels": st.integers(5, 7),
        }
    ),
    "cyclegan": st.fixed_dictionaries(
        {
            "channels": st.integers(1, 4),
            "made": st.sampled_from([1, 3]),
            "width": st.integers(1, 3),
            "blocks": st.integers(0, 3),
            "blur_down": st.booleans(),
            "blur_up": st.booleans(),
        }
    ),
}
NORMS = [("batch", False), ("batch", True), ("affine", True), ("affine", False), ("instance", True), ("none", False)]
any_config = st.sampled_from(sorted(CONFIGS)).flatmap(lambda name: st.tuples(st.just(name), CONFIGS[name]))


def list_shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@given(any_config, st.sampled_from(NORMS))
def test_the_config_is_inferred_from_a_checkpoint(named: tuple[str, dict[str, Any]], norm: tuple[str, bool]) -> None:
    name, values = named
    family = get_family(name)
    config = family.configure({**values, "norm": norm[0], "bias": norm[1]})
    assert family.layouts[0].guess(list_shapes(family.generator(config).state_dict())) == config


@pytest.mark.parametrize("name", CONFIGS)
def test_the_image_keeps_its_size(name: str) -> None:
    values = {"width": 2, **({"levels": 5} if name == "pix2pix" else {"blocks": 1})}
    family = get_family(name)
    multiple = family.spec(family.configure(values)).images[0].multiple_of
    image = torch.rand(2, 3, 2 * multiple, 3 * multiple) * 2 - 1
    with torch.inference_mode():
        made = build_generator(name, values).eval()(image)
    assert made.shape == image.shape and made.abs().max() <= 1


def number_layers(state: State, dropout: bool, zeros: bool, block: str) -> State:
    """The state of a small CycleGAN under the keys that the project gives it; reimplementations have another name for
    the parts of a block."""
    blocks = [k for k in range(9) if f"blocks.{k}.first.conv.weight" in state]
    numbers = {"stem": 1, "downs.0": 4, "downs.1": 7, "ups.0": 10 + len(blocks), "ups.1": 13 + len(blocks)}
    first = 0 if zeros else 1
    second = first + (3 if zeros else 4) + dropout
    renamed = {}
    for key, value in state.items():
        layer, _, rest = key.rpartition(".conv.") if ".conv." in key else key.rpartition(".norm.")
        norm = ".norm." in key
        if key.startswith("blocks."):
            _, number, part = layer.split(".")
            place = {"first": first, "second": second}[part] + norm
            renamed[f"model.{10 + int(number)}.{block}.{place}.{rest}"] = value
        elif key.startswith("head."):
            renamed[f"model.{17 + len(blocks)}.{key.removeprefix('head.')}"] = value
        else:
            renamed[f"model.{numbers[layer] + norm}.{rest}"] = value
    return renamed


@pytest.mark.parametrize("block", ["conv_block", "block"])
@pytest.mark.parametrize("norm", ["batch", "instance", "affine"])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
def test_layers_are_found_whatever_their_numbers(block: str, norm: str, dropout: bool, zeros: bool) -> None:
    config = cyclegan.Config(width=2, blocks=2, norm=norm, padding="zeros" if zeros else "reflect")
    state = cyclegan.Generator(config).state_dict()
    numbered = number_layers(state, dropout, zeros, block)
    layout = cyclegan.FAMILY.layouts[1]
    assert layout.guess(list_shapes(numbered)) == config
    found = layout.convert(numbered, config)
    assert found.keys() == state.keys() and all(torch.equal(found[key], state[key]) for key in state)


def test_statistics_of_instance_norms_are_dropped_and_those_of_batch_norms_kept() -> None:
    for norm in ("instance", "batch"):
        config = pix2pix.Config(width=2, levels=5, norm=norm, bias=norm == "instance")
        state = pix2pix.Generator(config).state_dict()
        old = {f"model.model.1.model.2.running_{name}": torch.ones(4) for name in ("mean", "var")}
        shapes = list_shapes({**old, **state})
        assert pix2pix.guess_config(shapes) == config
        assert pix2pix.convert_state({**old, **state}, config).keys() == state.keys()


def test_blurs_are_binomial_filters_of_unit_gain() -> None:
    flat = torch.ones(1, 2, 6, 8)
    assert torch.allclose(cyclegan.BlurDown(2)(flat), torch.ones(1, 2, 3, 4))
    assert torch.allclose(cyclegan.BlurUp(2)(flat), torch.ones(1, 2, 12, 16))
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert torch.allclose(cyclegan.BlurUp(1)(ramp)[..., 4, 2:-2], torch.arange(1, 13) / 2 + 0.25)


def test_corners_decide_how_animegan_upsamples() -> None:
    torch.manual_seed(0)
    aligned, other = (animegan.Generator(animegan.Config(corners)).eval() for corners in (True, False))
    other.load_state_dict(aligned.state_dict())
    image = functional.interpolate(torch.rand(1, 3, 4, 4), size=(24, 20), mode="bilinear") * 2 - 1
    with torch.inference_mode():
        first, second = aligned(image), other(image)
        odd = aligned(image[..., :-1, :-3])
    assert first.shape == second.shape == image.shape and odd.shape == (1, 3, 23, 17)
    assert np.abs((first - second).numpy()).max() > 1e-3


@pytest.mark.parametrize(
    ("family", "values", "message"),
    [
        ("pix2pix", {"norm": "layer"}, "norm is 'layer'; it must be one of batch, instance, affine, none"),
        ("pix2pix", {"levels": 3}, "levels is 3; it must be from 5 to 10"),
        ("cyclegan", {"padding": "same"}, "padding is 'same'; it must be one of reflect, replicate, zeros"),
        ("cyclegan", {"made": 2}, r"channels is 2; it must be 1 \(grey\) or 3 \(RGB\)"),
        ("animegan", {"align_corners": "maybe"}, "'maybe' is not true or false"),
    ],
)
def test_settings_out_of_bounds(family: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        get_family(family).configure(values)
