"""Super-resolution families: sizes, receptive fields, checkpoints of projects, and their own outputs through export."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from helpers.golden_cases import load_golden_case
from torch import nn

import ganrt
from ganrt.errors import CheckpointError, RequestError
from ganrt.export import export
from ganrt.export.sources import open_source, recognize
from ganrt.export.tracing import run_original, trace
from ganrt.models import build_generator, get_family
from ganrt.models.rrdb import pixel_unshuffle
from ganrt.models.vdsr import Bicubic

TINY: list[tuple[str, dict[str, Any]]] = [
    ("srresnet", {"scale": 4, "width": 4, "blocks": 2}),
    ("srresnet", {"scale": 2, "width": 3, "blocks": 1, "channels": 1}),
    ("msrresnet", {"scale": 4, "width": 4, "blocks": 2}),
    ("msrresnet", {"scale": 3, "width": 3, "blocks": 1, "channels": 1}),
    ("msrresnet", {"scale": 2, "width": 5, "blocks": 3}),
    ("espcn", {"scale": 2, "width": 6}),
    ("espcn", {"scale": 3, "width": 4}),
    ("vdsr", {"width": 4, "convs": 3}),
    ("vdsr", {"width": 4, "convs": 2, "bias": True}),
    ("rrdb", {"scale": 4, "width": 4, "blocks": 1, "growth": 2}),
    ("rrdb", {"scale": 2, "width": 5, "blocks": 2, "growth": 3}),
    ("rrdb", {"scale": 1, "width": 4, "blocks": 1, "growth": 2, "channels": 1}),
    ("srvgg", {"scale": 4, "width": 4, "convs": 2}),
    ("srvgg", {"scale": 2, "width": 3, "convs": 0, "channels": 1}),
    ("srvgg", {"scale": 1, "width": 3, "convs": 1}),
    ("srvgg", {"scale": 2, "width": 3, "convs": 1, "outscale": 1}),
    ("srvgg", {"scale": 4, "width": 3, "convs": 0, "outscale": 3}),
    ("srvgg", {"scale": 4, "width": 3, "convs": 1, "outscale": 2}),
]
VARIANTS = [*TINY, ("vdsr", {"scale": 2, "width": 4, "convs": 3}), ("vdsr", {"scale": 3, "width": 2, "convs": 2})]


def state_of(name: str, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    return build_generator(name, config).state_dict()


@pytest.mark.parametrize(
    ("family", "config", "count"),
    [
        ("srresnet", {}, 1_547_350),
        ("msrresnet", {}, 1_517_571),
        ("espcn", {"scale": 2}, 58_212),
        ("espcn", {}, 59_657),
        ("espcn", {"scale": 4}, 61_680),
        ("vdsr", {}, 664_704),
        ("vdsr", {"scale": 2, "bias": True}, 665_921),
        ("rrdb", {}, 16_697_987),
        ("rrdb", {"scale": 2}, 16_703_171),
        ("rrdb", {"blocks": 6}, 4_467_779),
        ("srvgg", {}, 621_424),
        ("srvgg", {"convs": 32}, 1_213_296),
    ],
)
def test_parameter_counts_are_those_of_the_literature(family: str, config: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        module = build_generator(family, config)
    assert sum(parameter.numel() for parameter in module.parameters()) == count


@pytest.mark.parametrize(("name", "values"), VARIANTS)
def test_pictures_grow_by_the_scale(name: str, values: dict[str, Any]) -> None:
    family = get_family(name)
    config = family.configure(values)
    spec = family.spec(config)
    (item,) = spec.images
    assert (spec.family, spec.output.range, item.range, item.size) == (name, (0.0, 1.0), (0.0, 1.0), None)
    scale = values.get("outscale") or config.scale
    assert spec.output.channels == item.channels and spec.output.scale == scale
    height, width = 3 * item.multiple_of, 5 * item.multiple_of
    with torch.no_grad():
        made = family.generator(config).eval()(torch.rand(2, item.channels, height, width))
    assert made.shape == (2, item.channels, height * scale, width * scale)


@pytest.mark.parametrize(("name", "values"), VARIANTS)
def test_the_receptive_field_radius_is_exact(name: str, values: dict[str, Any]) -> None:
    """With positive weights nothing cancels, so the derivative is zero out of reach and nowhere else."""
    family = get_family(name)
    config = family.configure(values)
    spec = family.spec(config)
    reach, scale, rule = spec.output.reach, spec.output.scale, spec.images[0].multiple_of
    assert reach is not None
    torch.manual_seed(0)
    module: Any = family.generator(config).double().eval()
    for tensor in module.parameters():
        tensor.data.abs_().add_(0.1)
    if isinstance(getattr(module, "upsample", None), Bicubic):
        module.upsample.kernels.abs_().add_(0.1)
    found = 0
    side = 2 * math.ceil((reach + 2) / rule) * rule
    for at in range(side // 2, side // 2 + rule):
        picture = torch.ones(1, spec.images[0].channels, side, side, dtype=torch.float64, requires_grad=True)
        pixel = module(picture)[..., at * scale : (at + 1) * scale, at * scale : (at + 1) * scale].sum()
        (felt,) = torch.autograd.grad(pixel, picture)
        rows = torch.nonzero(felt.abs().sum((0, 1, 3))).flatten()
        columns = torch.nonzero(felt.abs().sum((0, 1, 2))).flatten()
        found = max(found, *(int((places - at).abs().max()) for places in (rows, columns)))
    assert found == reach


@pytest.mark.parametrize(("name", "values"), TINY)
def test_the_config_is_inferred_from_a_checkpoint(name: str, values: dict[str, Any]) -> None:
    state = state_of(name, values)
    found = recognize(state, Path("own.pth"))
    told = {key: value for key, value in values.items() if key != "outscale"}
    assert (found.family.name, found.config) == (name, found.family.configure(told))
    assert all(torch.equal(found.state[key], state[key]) for key in state)


def as_rrdb_trunk(key: str) -> str:
    """BasicSR's key as ESRGAN wrote it in 2019."""
    ends = {"conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2", "conv_hr": "HRconv"}
    layer, leaf = key.rsplit(".", 1)
    return f"{ends.get(layer, layer)}.{leaf}".replace("body.", "RRDB_trunk.").replace(".rdb", ".RDB")


def as_model(key: str, blocks: int) -> str:
    """BasicSR's key as ESRGAN wrote it in 2018."""
    numbers = {"conv_first": "0", "conv_body": f"1.sub.{blocks}", "conv_up1": "3", "conv_up2": "6", "conv_hr": "8"}
    layer, leaf = key.rsplit(".", 1)
    if layer.startswith("body."):
        return f"{layer}.0.{leaf}".replace("body.", "model.1.sub.").replace(".rdb", ".RDB")
    return f"model.{numbers.get(layer, '10')}.{leaf}"


def as_features(key: str, convs: int) -> str:
    """VDSR's key before its blocks had a class."""
    layer, leaf = key.rsplit(".", 1)
    number = 0 if layer == "input" else convs - 1 if layer == "output" else int(layer.split(".")[1]) + 1
    return f"features.{2 * number}.{leaf}"


def as_conv_block(key: str) -> str:
    return f"conv_block{key[4:]}" if key.startswith("conv") else key


@pytest.mark.parametrize(
    ("name", "values", "renamed", "layout"),
    [
        ("rrdb", {"width": 4, "blocks": 3, "growth": 2}, as_rrdb_trunk, "ESRGAN with RRDB_trunk"),
        ("rrdb", {"width": 4, "blocks": 3, "growth": 2}, lambda key: as_model(key, 3), "ESRGAN of 2018"),
        ("vdsr", {"width": 4, "convs": 5}, lambda key: as_features(key, 5), "pytorch-vdsr with features"),
        ("srresnet", {"width": 4, "blocks": 2}, as_conv_block, "SRGAN-PyTorch of 2022"),
    ],
)
def test_earlier_keys_of_the_projects(name: str, values: dict[str, Any], renamed: Any, layout: str) -> None:
    state = state_of(name, values)
    found = recognize({renamed(key): value for key, value in state.items()}, Path("old.pth"))
    assert (found.family.name, found.layout, found.config) == (name, layout, found.family.configure(values))
    assert found.state.keys() == state.keys() and all(torch.equal(found.state[key], state[key]) for key in state)


def test_keys_of_esrgan_as_they_lie_around() -> None:
    assert as_model("body.22.rdb3.conv5.weight", 23) == "model.1.sub.22.RDB3.conv5.0.weight"
    assert as_model("conv_body.bias", 23) == "model.1.sub.23.bias"
    assert as_rrdb_trunk("body.0.rdb1.conv1.weight") == "RRDB_trunk.0.RDB1.conv1.weight"
    assert as_rrdb_trunk("conv_first.weight") == "conv_first.weight"


@pytest.mark.parametrize(("name", "values"), TINY)
@pytest.mark.parametrize("renamed", [True, False])
def test_a_key_that_is_missing_or_renamed_is_named(name: str, values: dict[str, Any], renamed: bool) -> None:
    state = state_of(name, values)
    key = next(key for key in reversed(state) if key.endswith(".bias" if values.get("bias", name != "vdsr") else "t"))
    value = state.pop(key)
    if renamed:
        state[f"{key}_ema"] = value
    with pytest.raises(CheckpointError, match="no checkpoint of a family") as caught:
        recognize(state, Path("cut.pth"))
    assert f"nearest is {name} of" in str(caught.value) and key in str(caught.value)


def test_a_block_cut_off_in_the_middle_is_named() -> None:
    state = state_of("rrdb", {"width": 4, "blocks": 2, "growth": 2})
    for key in [key for key in state if key.startswith("body.1.rdb3.")]:
        del state[key]
    with pytest.raises(CheckpointError, match=r"10 keys missing \(body\.1\.rdb3\.conv1\.weight"):
        recognize(state, Path("cut.pth"))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("srresnet", {"scale": 3}, "scale is 3; srresnet upsamples by 2 or 4"),
        ("msrresnet", {"scale": 8}, "scale is 8; msrresnet upsamples by 2, 3 or 4"),
        ("rrdb", {"scale": 3}, "scale is 3; rrdb upsamples by 1, 2 or 4"),
        ("rrdb", {"growth": 0}, "growth is 0; it must be from 1 to 1024"),
        ("espcn", {"width": 3}, "width is 3; espcn needs an even number"),
        ("vdsr", {"convs": 1}, "convs is 1; it must be from 2 to 64"),
        ("srvgg", {"outscale": 4}, "outscale is 4; it must be from 0 to 3"),
        ("srvgg", {"channels": 4}, r"channels is 4; it must be 1 \(grey\) or 3 \(RGB\)"),
    ],
)
def test_configs_that_cannot_be(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_generator(name, values)


@pytest.mark.parametrize("shapes", [{}, {"conv1.weight": (2,)}, {"conv_first.weight": (0, 0, 3, 3)}])
@pytest.mark.parametrize("name", ["srresnet", "msrresnet", "espcn", "vdsr", "rrdb", "srvgg"])
def test_hostile_shapes_are_guessed_or_not(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    own = dict.fromkeys(state_of(name, next(values for family, values in TINY if family == name)), (0, 0, 0, 0))
    for layout in get_family(name).layouts:
        assert layout.guess(shapes) is None
        assert layout.guess(own) is None


def test_folded_pixels_are_in_the_order_of_pixel_unshuffle() -> None:
    picture = torch.rand(2, 3, 8, 12)
    for side in (1, 2, 4):
        assert torch.equal(pixel_unshuffle(picture, side), nn.PixelUnshuffle(side)(picture))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_pillows_away_from_the_border(scale: int) -> None:
    """Both have a = -0.5; at the border Pillow renormalises, here the last pixel is repeated."""
    import PIL.Image

    picture = np.random.default_rng(0).random((9, 11), np.float32)
    size = (11 * scale, 9 * scale)
    pillow = np.asarray(PIL.Image.fromarray(picture).resize(size, PIL.Image.Resampling.BICUBIC))
    ours = Bicubic(scale)(torch.from_numpy(picture)[None, None])[0, 0].numpy()
    inner = slice(2 * scale, -2 * scale)
    assert np.abs(ours - pillow)[inner, inner].max() < 1e-6


@pytest.mark.parametrize("name", ["espcn_x3", "msrresnet_x4", "rrdbnet_x4", "srvgg_x4"])
def test_the_original_projects_outputs_on_every_backend(name: str, tmp_path: Path) -> None:
    """BasicSR's and pytorch/examples's own code computed them; other sizes and batches work too."""
    case = load_golden_case(name, tmp_path)
    bundle = export(str(case.checkpoint), tmp_path / "net.ganrt")
    (item,) = bundle.spec.images
    (given,) = case.inputs.values()
    other = np.random.default_rng(0).random((3, item.channels, 17, 33), np.float32)
    results = []
    for backend in ("pytorch", "onnxruntime", "openvino"):
        with ganrt.load(bundle.folder, backend) as generator:
            made = generator(**{item.name: given})
            assert np.abs(made - case.output).max() < 1e-4 * np.ptp(case.output)
            results.append(generator(**{item.name: other}))
    assert results[0].shape[2:] == (17 * bundle.spec.output.scale, 33 * bundle.spec.output.scale)
    for made in results[1:]:
        assert np.abs(made - results[0]).max() < 1e-4 * np.ptp(results[0])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rrdb", {"scale": 2, "width": 4, "blocks": 1, "growth": 2}),
        ("rrdb", {"scale": 1, "width": 4, "blocks": 1, "growth": 2}),
        ("srresnet", {"scale": 2, "width": 4, "blocks": 1}),
        ("vdsr", {"scale": 2, "width": 4, "convs": 3}),
        ("msrresnet", {"scale": 3, "width": 4, "blocks": 1}),
    ],
)
def test_the_other_scales_as_graphs(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    family = get_family(name)
    config = family.configure(values)
    module, spec = family.generator(config).eval().requires_grad_(False), family.spec(config)
    ir.save(trace(module, spec), tmp_path / "model.onnx")
    (item,) = spec.images
    size = (9 * item.multiple_of, 13 * item.multiple_of)
    given = np.random.default_rng(0).random((3, item.channels, *size), np.float32)
    expected = run_original(module, {item.name: given})
    assert expected.shape[2:] == tuple(side * values["scale"] for side in size)
    for backend in ("onnxruntime", "openvino"):
        with ganrt.load(tmp_path / "model.onnx", backend, unproven=True) as generator:
            assert np.abs(generator(**{item.name: given}) - expected).max() < 1e-4 * np.ptp(expected)


def test_the_scale_of_a_network_that_takes_upsampled_pictures_is_asked_for(tmp_path: Path) -> None:
    """The weights of vdsr do not tell it."""
    torch.save(state_of("vdsr", {"width": 4, "convs": 3}), tmp_path / "net.pth")
    assert open_source(str(tmp_path / "net.pth"), {}).spec.output.scale == 1
    assert open_source(str(tmp_path / "net.pth"), {"scale": "3"}).spec.output.scale == 3
