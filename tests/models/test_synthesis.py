"""Synthesis from features: the features themselves, the generator, and the two as one graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.filters import gabor_kernel
from torch import nn

import ganrt
from ganrt.errors import RequestError
from ganrt.export import export
from ganrt.export.sources import recognize
from ganrt.models import build_generator, features, get_family, synthesis
from ganrt.models.parametrize import fold

BACKENDS = ["onnxruntime", "openvino", "pytorch"]
TINY = {"width": 4, "blocks": 1, "pool": 4}
SIZES = [(1, 16, 24), (3, 52, 40)]


def pictures(count: int, channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).random((count, channels, height, width), np.float32)


# Features


def test_edges_are_sobels() -> None:
    picture = pictures(1, 3, 20, 17)
    grey = np.tensordot((0.299, 0.587, 0.114), picture[0].astype(np.float64), 1)
    slopes = [ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1)]
    wanted = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + 1e-6) / 4
    found = features.Edges()(torch.from_numpy(picture)).numpy()
    np.testing.assert_allclose(found[0, 0], wanted, rtol=1e-4, atol=1e-5)


def test_a_step_is_one_and_a_flat_picture_nearly_nothing() -> None:
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1
    found = features.Edges()(step)
    assert float(found.max()) == pytest.approx(1, abs=1e-5)
    assert float(features.Edges()(torch.full((1, 3, 8, 8), 0.5)).max()) < 1e-3
    assert float(features.Texture(4)(torch.full((1, 3, 8, 8), 0.5)).max()) < 2e-3


@pytest.mark.parametrize("k", range(4))
def test_filters_are_gabors(k: int) -> None:
    found = features.gabor_kernels(4).numpy()[:, 0]
    whole = gabor_kernel(0.25, k * np.pi / 4, sigma_x=2, sigma_y=2, n_stds=6)
    middle = tuple(slice(side // 2 - 5, side // 2 + 6) for side in whole.shape)
    wanted = 4 * whole[middle]
    # The package's kernels are not cut at 11 pixels, nor freed of their answer to a flat picture.
    np.testing.assert_allclose(found[k], wanted.real, atol=0.02 * wanted.real.max())
    np.testing.assert_allclose(found[4 + k], wanted.imag, atol=0.03 * wanted.imag.max())
    assert abs(float(found[k].sum())) < 1e-6 and abs(float(found[4 + k].sum())) < 1e-6


def test_texture_is_the_local_energy_of_its_filters() -> None:
    picture = pictures(1, 3, 24, 30)
    grey = np.tensordot((0.299, 0.587, 0.114), picture[0].astype(np.float64), 1)
    kernels = features.gabor_kernels(3).numpy()[:, 0]
    found = features.Texture(3)(torch.from_numpy(picture)).numpy()
    for k in range(3):
        pair = (ndimage.correlate(grey, kernel, mode="nearest") for kernel in (kernels[k], kernels[3 + k]))
        energy = ndimage.uniform_filter(sum(answer**2 for answer in pair), 7, mode="nearest")
        np.testing.assert_allclose(found[0, k], np.sqrt(energy + 1e-6), rtol=1e-3, atol=1e-5)


def test_stripes_of_full_contrast_answer_in_their_direction() -> None:
    stripes = 0.5 + 0.5 * torch.sin(torch.pi / 2 * torch.arange(40.0)).expand(1, 3, 40, 40)
    across, slanting, along, _ = features.Texture(4)(stripes)[0, :, 20, 20].tolist()
    assert across == pytest.approx(1, abs=0.02)
    assert slanting < 0.1 and along < 0.01


def test_colour_is_averaged_and_interpolated() -> None:
    picture = pictures(2, 3, 16, 24)
    small = picture.reshape(2, 3, 4, 4, 6, 4).mean((3, 5))
    found = features.Colour(4)(torch.from_numpy(picture)).numpy()
    places = [(np.arange(side * 4) + 0.5) / 4 - 0.5 for side in (4, 6)]
    grid = np.meshgrid(*places, indexing="ij")
    wanted = ndimage.map_coordinates(small[1, 2], grid, order=1, mode="nearest")
    np.testing.assert_allclose(found[1, 2], wanted, atol=1e-5)


def test_grey_is_the_luma_of_bt601() -> None:
    picture = np.eye(3, dtype=np.float32)[None, :, :, None]
    assert features.Grey()(torch.from_numpy(picture)).ravel().tolist() == pytest.approx([0.299, 0.587, 0.114])
    # scikit-image has the weights of BT.709, which differ by a tenth at most.
    photo = pictures(1, 3, 5, 5)
    near = rgb2gray(photo[0].transpose(1, 2, 0))
    np.testing.assert_allclose(features.Grey()(torch.from_numpy(photo))[0, 0].numpy(), near, atol=0.15)


@pytest.mark.parametrize("part", [features.Edges(), features.Texture(2), features.Colour(4), features.Grey()])
@pytest.mark.parametrize("value", [0.5, None])
def test_every_feature_has_a_slope_everywhere(part: nn.Module, value: float | None) -> None:
    flat = torch.full((1, 3, 12, 12), 0.5)
    picture = (flat if value else torch.rand(1, 3, 12, 12)).requires_grad_(True)
    part(picture).sum().backward()
    assert picture.grad is not None and bool(picture.grad.isfinite().all())
    assert not list(part.parameters()) and not part.state_dict()


@given(st.sampled_from(["edges", "texture"]), st.integers(0, 21), st.integers(0, 21))
@settings(max_examples=20)
def test_nothing_beyond_its_reach_changes_a_feature(name: str, row: int, column: int) -> None:
    part = {"edges": features.Edges, "texture": lambda: features.Texture(2)}[name]()
    reach = {"edges": features.Edges.radius, "texture": features.Texture.radius}[name]
    picture, spot = torch.full((1, 3, 22, 22), 0.3), torch.zeros(1, 1, 22, 22)
    changed = picture.clone()
    changed[..., row, column], spot[..., row, column] = 0.9, 1
    moved = (part(changed) - part(picture)).abs() > 1e-5
    assert not bool((moved & (features.dilate(spot, reach) == 0)).any())


# The generator


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_those_of_edgeconnect() -> None:
    assert parameters(build_generator("synthesis", {"features": "colour,edges"})) == 10_774_595
    edge = {"features": "grey,edges,mask", "channels": 1, "spectral": True}
    assert parameters(build_generator("synthesis", edge)) == 10_761_089
    assert [parameters(synthesis.PatchDiscriminator(channels)) for channels in (2, 3)] == [2_762_752, 2_763_776]


def test_patches_are_scored_and_all_activations_returned() -> None:
    found = synthesis.PatchDiscriminator(3, width=4)(torch.rand(2, 3, 64, 48))
    assert [tuple(f.shape[1:]) for f in found] == [(4, 32, 24), (8, 16, 12), (16, 8, 6), (32, 7, 5), (1, 6, 4)]
    picture = torch.rand(1, 3, 96, 96, requires_grad=True)
    discriminator = synthesis.PatchDiscriminator(3, width=4).eval()
    discriminator(picture)[-1][0, 0, 5, 5].backward()
    assert picture.grad is not None
    rows = picture.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 70


@given(
    st.fixed_dictionaries(
        {
            "features": st.permutations(synthesis.FEATURES)
            .flatmap(lambda names: st.integers(1, 5).map(lambda n: names[:n]))
            .map(",".join),
            "channels": st.sampled_from([1, 3]),
            "width": st.integers(1, 3),
            "blocks": st.integers(1, 2),
            "spectral": st.booleans(),
        }
    ),
    st.integers(1, 5),
    st.sampled_from([4, 8, 16]),
)
@settings(max_examples=25)
def test_the_config_is_inferred_from_a_checkpoint(values: dict[str, Any], textures: int, pool: int) -> None:
    names = values["features"].split(",")
    told = {name: value for name, value in (("texture", textures), ("colour", pool)) if name in names}
    values |= {{"texture": "textures", "colour": "pool"}[name]: value for name, value in told.items()}
    family = get_family("synthesis")
    config = family.configure(values)
    shapes = {key: tuple(tensor.shape) for key, tensor in family.generator(config).state_dict().items()}
    assert family.layouts[0].guess(shapes) == config
    assert family.configure(family.settings(config)) == config


def edgeconnect(values: dict[str, Any]) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A generator as it is trained, and its checkpoint as EdgeConnect writes it."""
    torch.manual_seed(2)
    family = get_family("synthesis")
    module = family.trainable(family.configure(values | {"width": 4, "blocks": 1})).train()  # type: ignore[misc]
    names = {"parametrizations.weight.original": "weight_orig"}
    names |= {f"parametrizations.weight.0._{leaf}": f"weight_{leaf}" for leaf in "uv"}
    state = {}
    for key, value in module.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        if not key.startswith("order."):
            state[key] = value
    return module, state


@pytest.mark.parametrize(
    "values", [{"features": "colour,edges"}, {"features": "grey,edges,mask", "channels": 1, "spectral": True}]
)
def test_checkpoints_of_edgeconnect(values: dict[str, Any]) -> None:
    module, state = edgeconnect(values)
    found = recognize(state, Path("gen.pth"))
    assert (found.family.name, found.layout) == ("synthesis", "EdgeConnect")
    assert found.family.settings(found.config).items() >= ({"width": 4, "blocks": 1} | values).items()
    plain = fold(module).state_dict()
    assert found.state.keys() == plain.keys()
    for key, value in plain.items():
        torch.testing.assert_close(found.state[key], value)
    assert any("weight_orig" in key for key in state) == bool(values.get("spectral"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"features": "edges,depth"}, "features is 'edges,depth'; it must be a list such as edges,colour"),
        ({"features": "edges,edges"}, "each of edges, colour, texture, grey, mask at most once"),
        ({"features": ""}, "features is ''"),
        ({"features": "mask", "extract": True}, "has only the mask, which cannot be extracted"),
        ({"channels": 2}, "channels is 2; it must be 1"),
        ({"pool": 5}, "pool is 5; it must be 4, 8, 16 or 32"),
        ({"textures": 0}, "textures is 0; it must be from 1 to 32"),
    ],
)
def test_configs_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_generator("synthesis", values)


def test_sizes_are_multiples_of_what_the_pipeline_divides_by() -> None:
    family = get_family("synthesis")
    wanted = {"edges,colour": 16, "edges,texture": 4, "mask,colour,edges": 4}
    for names, multiple in wanted.items():
        config = family.configure({"features": names, "pool": 16, "extract": "true"})
        assert {item.multiple_of for item in family.spec(config).images} == {multiple}
    spec = family.spec(family.configure({"features": "mask,colour,edges"}))
    assert [(item.name, item.channels, item.like) for item in spec.images] == [
        ("mask", 1, None),
        ("colour", 3, "mask"),
        ("edges", 1, "mask"),
    ]


# One graph


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Features -> a checkpoint of a generator whose pictures have contrast."""
    folder = tmp_path_factory.mktemp("synthesis")
    made: dict[str, Path] = {}
    for names in ("edges,colour,texture", "mask,colour,edges,texture"):
        torch.manual_seed(4)
        module = build_generator("synthesis", TINY | {"features": names})
        made[names] = folder / f"{len(made)}.pth"
        torch.save(module.state_dict(), made[names])
    return made


@pytest.mark.parametrize(
    ("names", "extract"),
    [("edges,colour,texture", False), ("edges,colour,texture", True), ("mask,colour,edges,texture", True)],
)
def test_every_backend_makes_the_same_pictures_of_any_size(
    checkpoint: dict[str, Path], tmp_path: Path, names: str, extract: bool
) -> None:
    out = tmp_path / "synthesis.ganrt"
    bundle = export(str(checkpoint[names]), out, config={"extract": "true"} if extract else None)
    assert bundle.model is not None and bundle.model["config"]["features"] == names
    taken = [item.name for item in bundle.spec.images]
    assert taken == (["picture", "mask"] if "mask" in names else ["picture"] if extract else names.split(","))
    generators = [ganrt.load(out, backend) for backend in BACKENDS]
    for count, height, width in SIZES:
        inputs = {item.name: pictures(count, item.channels, height, width) for item in bundle.spec.images}
        made = [generator(**inputs) for generator in generators]
        assert made[0].shape == (count, 3, height, width)
        assert all(np.abs(other - made[-1]).max() < 1e-4 * np.ptp(made[-1]) for other in made)
        if len(inputs) > 1:
            wrong = inputs | {taken[-1]: pictures(count, bundle.spec.images[-1].channels, 20, 20)}
            with pytest.raises(RequestError, match=rf"H and W must be those of {taken[0]}"):
                generators[0](**wrong)
    for generator in generators:
        generator.close()


def test_the_pipeline_is_extraction_and_generator() -> None:
    config = synthesis.Config(width=4, blocks=1, extract=True)
    pipeline = synthesis.Pipeline(config)
    alone = synthesis.Generator(config)
    alone.load_state_dict(pipeline.state_dict())
    picture = torch.rand(1, 3, 32, 24)
    extracted = synthesis.Extraction(config)(picture)
    assert [tuple(feature.shape) for feature in extracted] == [(1, c, 32, 24) for c in (1, 3, 4)]
    assert torch.equal(pipeline(picture), alone(*extracted))


def test_inpainting_neither_sees_the_hole_nor_touches_the_rest() -> None:
    config = synthesis.Config("mask,colour,edges,texture,grey", width=4, blocks=1, extract=True)
    pipeline = synthesis.Pipeline(config).requires_grad_(False)
    picture, mask = torch.rand(1, 3, 40, 32), torch.zeros(1, 1, 40, 32)
    mask[..., 10:30, 12:20] = 1
    other = torch.where(mask > 0, torch.rand(1, 3, 40, 32), picture)
    made = pipeline(picture, mask)
    assert torch.equal(made, pipeline(other, mask))
    assert torch.equal(made * (1 - mask), picture * (1 - mask))
    hole, colour, edges, texture, grey = synthesis.Extraction(config)(picture, mask)
    assert torch.equal(hole, mask)
    assert torch.equal(colour, picture * (1 - mask) + mask)
    assert bool((edges * features.dilate(mask, 1) == 0).all()) and bool((texture * features.dilate(mask, 8) == 0).all())
    torch.testing.assert_close(grey * mask, mask)


def test_a_residual_model_begins_with_the_colours_and_is_recognised_by_its_keys() -> None:
    config = synthesis.Config("edges,colour", width=2, blocks=1, pool=4, residual=True, extract=True)
    module = synthesis.build_trainable(config).requires_grad_(False)
    picture = torch.from_numpy(pictures(1, 3, 16, 24))
    assert float((module(picture) - features.Colour(4)(picture)).abs().mean()) < 0.03
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert synthesis.guess_config(shapes) == synthesis.Config("edges,colour", width=2, blocks=1, pool=4, residual=True)


def test_holes_are_filled_from_around_them() -> None:
    picture = torch.from_numpy(pictures(1, 3, 20, 24))
    mask = torch.zeros(1, 1, 20, 24)
    mask[..., 6:14, 8:20] = 1
    filled = features.fill_holes(picture, mask)
    assert torch.equal(filled * (1 - mask), picture * (1 - mask))
    near = picture[..., 4:6, 6:11].sum((2, 3)) + picture[..., 6:9, 6:8].sum((2, 3))
    torch.testing.assert_close(filled[..., 6, 8], near / 16)  # the known 16 of the 5 x 5 pixels about the corner
    assert torch.equal(features.fill_holes(picture * (1 - mask) + 0.7 * mask, mask), filled)
    assert torch.equal(features.fill_holes(picture, torch.ones_like(mask)), torch.zeros_like(picture))
