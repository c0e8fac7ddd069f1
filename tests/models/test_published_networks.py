"""Families of published networks that are not trained here: borders, settings, layouts, what golden cases leave out.

That their checkpoints make the pictures of their projects is tested in test_golden_families.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ganrt import feeds
from ganrt.errors import CheckpointError, RequestError
from ganrt.export.sources import open_source, recognize
from ganrt.models import SkipRandomWeights, State, build_generator, get_family, lama, read_state
from ganrt.tiles import compute_margin

TINY: list[tuple[str, dict[str, Any]]] = [
    ("upcunet", {}),
    ("upcunet", {"scale": 3, "pro": True, "channels": 1}),
    ("upcunet", {"scale": 4}),
    ("upcunet", {"scale": 2, "excite": False}),
    ("upcunet", {"scale": 1, "waifu2x": True}),
    ("upcunet", {"waifu2x": True, "clip": True, "tile": (44, 40)}),
    ("upconv7", {}),
    ("upconv7", {"scale": 1, "channels": 1}),
    ("span", {"scale": 2, "width": 6, "img_range": 1.0}),
    ("gfpgan", {"widths": (8, 8, 6, 4), "style": 6, "layers": 2}),
    ("gfpgan", {"widths": (4, 8), "style": 6, "layers": 1, "half": False, "different_w": False}),
    ("lama", {"width": 4, "blocks": 1, "transformed": 24}),
    ("lama", {"width": 4, "halvings": 1, "blocks": 2, "transformed": 2, "activation": "tanh", "paste": True}),
]
UNTOLD = {"img_range", "pro", "waifu2x", "clip", "tile", "activation", "paste"}
"""Settings that a file under the family's own keys does not hold; but only waifu2x has a scale of 1."""


def build(name: str, **values: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_generator(name, values).eval().requires_grad_(False)


def draw(name: str, values: dict[str, Any], count: int, size: tuple[int, int]) -> list[torch.Tensor]:
    spec = get_family(name).spec(get_family(name).configure(values))
    return [torch.from_numpy(rows) for rows in feeds.draw_feeds(spec, 3, 0, count, size=size).values()]


def save_nunif(path: Path, name: str, state: State, **kwargs: Any) -> Path:
    """Write a file as nunif does."""
    torch.save({"nunif_model": 1, "name": name, "kwargs": kwargs, "train_kwargs": None, "state_dict": state}, path)
    return path


@pytest.mark.parametrize(("name", "values"), TINY)
def test_pictures_are_those_of_the_spec_and_a_batch_is_its_pictures(name: str, values: dict[str, Any]) -> None:
    family = get_family(name)
    config = family.configure(values)
    spec, module = family.spec(config), build(name, **values)
    height, width = (5 * spec.images[0].multiple_of, 7 * spec.images[0].multiple_of)
    inputs = draw(name, values, 3, (height, width))
    made = module(*inputs)
    size = spec.output.size or (height * spec.output.scale, width * spec.output.scale)
    assert made.shape == (3, spec.output.channels, *size) and made.std() > 0
    alone = torch.cat([module(*(rows[k : k + 1] for rows in inputs)) for k in range(3)])
    torch.testing.assert_close(made, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "values"), TINY)
def test_the_config_is_inferred_from_a_checkpoint(name: str, values: dict[str, Any]) -> None:
    state = build(name, **values).state_dict()
    found = recognize(state, Path("own.pth"))
    told = {key: value for key, value in values.items() if key not in UNTOLD or values.get("scale") == 1}
    assert (found.family.name, found.config) == (name, found.family.configure(told))
    assert all(torch.equal(found.state[key], state[key]) for key in state)


@pytest.mark.parametrize(("name", "values"), TINY)
def test_a_family_is_whole_once_its_weights_are_loaded(name: str, values: dict[str, Any]) -> None:
    wanted = build(name, **values)
    with SkipRandomWeights():
        found = build_generator(name, values).eval().requires_grad_(False)
    found.load_state_dict(wanted.state_dict())
    inputs = draw(name, values, 1, (32, 32))
    torch.testing.assert_close(found(*inputs), wanted(*inputs), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("upcunet", {"scale": 1}, "scale is 1; Real-CUGAN's upcunet upsamples by 2, 3 or 4"),
        ("upcunet", {"scale": 3, "waifu2x": True}, "scale is 3; waifu2x's upcunet upsamples by 1 or 2"),
        ("upcunet", {"pro": True, "waifu2x": True}, "pro is true and so is waifu2x; only Real-CUGAN has pro weights"),
        ("upcunet", {"clip": True}, "clip is true and waifu2x is not; only waifu2x clamps between its U-Nets"),
        ("upcunet", {"tile": "64,63"}, "tile is 64,63; .* a height and a width, each 36 plus a multiple of 2"),
        ("upcunet", {"tile": "64,36"}, "tile is 64,36; .* each 36 plus a multiple of 2"),
        ("upcunet", {"tile": "64"}, "tile is 64; it must be a height and a width"),
        ("upcunet", {"tile": "60,58", "scale": 1, "waifu2x": True}, "each 56 plus a multiple of 4"),
        ("upconv7", {"scale": 4}, "scale is 4; upconv7 upsamples by 1 or 2"),
        ("span", {"mean": "0.5"}, "mean has 1 values; it must have 3, for red, green and blue"),
        ("span", {"mean": "0.5,0.5,x"}, "span: .*'x'"),
        ("span", {"mean": 1}, "1 is not a list of numbers"),
        ("span", {"img_range": "inf"}, "img_range is inf and mean .*; they must be finite"),
        ("span", {"scale": 9}, "scale is 9; it must be from 1 to 8"),
        ("gfpgan", {"widths": "8,7"}, "widths is 8,7; it must be 2 to 9 even numbers from 2 to 1024"),
        ("gfpgan", {"widths": (8,)}, "widths is 8; it must be 2 to 9 even numbers"),
        ("gfpgan", {"style": 0}, "style is 0; it must be from 1 to 4096"),
        ("lama", {"transformed": 511}, "transformed is 511; it must be an even number from 2 to 511"),
        ("lama", {"transformed": 512}, "transformed is 512; it must be an even number from 2 to 511"),
        ("lama", {"activation": "relu"}, "activation is 'relu'; it must be sigmoid or tanh"),
        ("lama", {"blocks": 65}, "blocks is 65; it must be from 1 to 64"),
    ],
)
def test_configs_that_cannot_be(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_generator(name, values)


@pytest.mark.parametrize("name", ["upcunet", "upconv7", "span", "gfpgan", "lama"])
def test_hostile_shapes_are_guessed_or_not(name: str) -> None:
    keys = build(name, **next(values for family, values in TINY if family == name)).state_dict()
    for shape in ((), (0,), (0, 0, 0, 0), (1, 1), (3, 3, 3, 3)):
        for layout in get_family(name).layouts:
            found = layout.guess(dict.fromkeys(keys, shape))
            assert found is None or isinstance(found, get_family(name).config)


@pytest.mark.parametrize("size", [(24, 26), (23, 30), (21, 25)])
@pytest.mark.parametrize(
    ("values", "border", "multiple"),
    [
        ({"scale": 2}, 18, 2),
        ({"scale": 3}, 14, 4),
        ({"scale": 4}, 19, 2),
        ({"scale": 2, "waifu2x": True}, 18, 2),
        ({"scale": 1, "waifu2x": True, "clip": True}, 28, 4),
    ],
)
def test_the_border_is_that_of_the_projects(
    values: dict[str, Any], border: int, multiple: int, size: tuple[int, int]
) -> None:
    """A tile that NumPy gave its border makes the same picture."""
    scale, mode = values["scale"], "edge" if "waifu2x" in values else "reflect"
    more = [-side % multiple for side in size]
    picture = np.random.default_rng(0).random((1, 3, *size), np.float32)
    padded = np.pad(picture, [(0, 0), (0, 0), *((border, border + extra) for extra in more)], mode)  # type: ignore[call-overload]
    whole, tile = build("upcunet", **values), build("upcunet", **values, tile=padded.shape[2:])
    made = tile(torch.from_numpy(padded))[:, :, : scale * size[0], : scale * size[1]]
    torch.testing.assert_close(whole(torch.from_numpy(picture)), made, rtol=0, atol=1e-6)


@pytest.mark.parametrize("values", [{}, {"scale": 3}, {"waifu2x": True}])
def test_pictures_smaller_than_their_border(values: dict[str, Any]) -> None:
    module = build("upcunet", **values)
    for size in ((1, 1), (2, 13)):
        made = module(torch.rand(1, 3, *size))
        assert made.shape[2:] == tuple(side * values.get("scale", 2) for side in size) and made.isfinite().all()


def test_waifu2x_clamps_its_output_and_between_its_u_nets_if_asked() -> None:
    picture, seen = torch.rand(1, 3, 24, 24), list[torch.Tensor]()
    for values in ({"waifu2x": True}, {"waifu2x": True, "clip": True}, {}):
        module: Any = build("upcunet", **values)
        module.unet1.conv_bottom.bias.data.fill_(3.0)
        module.unet2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        assert (module(picture).max() <= 1) == ("waifu2x" in values)
    assert [bool(inner.max() > 1) for inner in seen] == [True, False, True]


@pytest.mark.parametrize(
    ("header", "kwargs", "scale", "clip"),
    [
        ("waifu2x.upcunet", {"no_clip": True}, 2, False),
        ("waifu2x.upcunet", {"no_clip": False}, 2, True),
        ("waifu2x.upcunet", {"in_channels": 3}, 2, True),
        ("waifu2x.cunet", {"no_clip": True}, 1, False),
    ],
)
def test_the_header_of_nunif_tells_waifu2x(
    tmp_path: Path, header: str, kwargs: dict[str, Any], scale: int, clip: bool
) -> None:
    state = build("upcunet", scale=scale, waifu2x=True).state_dict()
    path = save_nunif(tmp_path / "net.pth", header, state, **kwargs)
    found = recognize(read_state(path), path)
    assert (found.layout, found.config.waifu2x, found.config.clip) == ("waifu2x of nunif", True, clip)
    assert found.config.scale == scale and found.state.keys() == state.keys()


def test_without_the_header_the_user_tells_waifu2x(tmp_path: Path) -> None:
    torch.save(build("upcunet").state_dict(), tmp_path / "net.pth")
    assert recognize(read_state(tmp_path / "net.pth"), tmp_path).layout == "Real-CUGAN"
    source = open_source(tmp_path / "net.pth", {"waifu2x": "true"})
    assert source.model is not None and source.model["config"]["waifu2x"] is True


def test_a_header_of_another_network_is_no_waifu2x(tmp_path: Path) -> None:
    path = save_nunif(tmp_path / "net.pth", "waifu2x.cunet", build("upcunet").state_dict())
    with pytest.raises(CheckpointError, match=r"nearest is upcunet .*keys unexpected \(header.waifu2x.cunet\)"):
        recognize(read_state(path), path)


def test_headers_that_are_not_nunifs(tmp_path: Path) -> None:
    state = build("upconv7").state_dict()
    torch.save({"nunif_model": 1, "kwargs": [1], "state_dict": state}, tmp_path / "net.pth")
    assert read_state(tmp_path / "net.pth").keys() - state.keys() == {"header.None"}
    torch.save({"name": "waifu2x.upconv_7", "kwargs": {}, "state_dict": state}, tmp_path / "net.pth")
    assert read_state(tmp_path / "net.pth").keys() == state.keys()


@pytest.mark.parametrize("mark", [True, "pro", torch.zeros(2, 2)])
def test_any_value_marks_pro_weights(tmp_path: Path, mark: object) -> None:
    state = build("upcunet", scale=3).state_dict()
    torch.save({**state, "pro": mark}, tmp_path / "net.pth")
    found = recognize(read_state(tmp_path / "net.pth"), tmp_path)
    assert found.config.pro and found.state.keys() == state.keys()


def test_pro_weights_work_on_a_compressed_range() -> None:
    picture = torch.rand(1, 3, 24, 22)
    inner = build("upcunet", scale=4)(0.7 * picture + 0.15)
    torch.testing.assert_close(build("upcunet", scale=4, pro=True)(picture), (inner - 0.15) / 0.7)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_radius_of_upconv7_is_exact(scale: int) -> None:
    """With positive weights nothing cancels, so the derivative is zero out of reach and nowhere else."""
    family = get_family("upconv7")
    config = family.configure({"scale": scale})
    module: Any = family.generator(config).double()
    side, at = 24, 12
    picture = torch.ones(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        for weights in module.parameters():
            weights.abs_().add_(0.1)
        brightest = module.net(picture).max()
        for weights in module.net[-1].parameters():
            weights.div_(2 * brightest)  # inside of the clamp
    (felt,) = torch.autograd.grad(module(picture)[..., at * scale : (at + 1) * scale, at * scale].sum(), picture)
    rows = torch.nonzero(felt.abs().sum((0, 1, 3))).flatten()
    assert int((rows - at).abs().max()) == family.spec(config).output.reach == compute_margin(family.spec(config)) == 7


def test_networks_that_look_at_the_whole_picture_are_not_cut_into_tiles() -> None:
    for name in ("upcunet", "gfpgan", "lama"):
        assert get_family(name).spec(get_family(name).config()).output.reach is None


def make_branches(module: nn.Module) -> State:
    """Branches that a SPAN could have been merged of: the 3x3 convolution among identities, and nothing beside it."""
    state: State = {}
    for key, value in module.state_dict().items():
        stem, leaf = key.rsplit(".", 1)
        if stem.startswith(("conv_cat", "upsampler")):
            state[key] = value
        elif leaf == "weight":
            after, before = value.shape[:2]
            layers = {"conv.0": torch.eye(before), "conv.1": value, "conv.2": torch.eye(after)}
            layers["sk"] = torch.zeros(after, before)
            state |= {f"{stem}.{at}.weight": w if w.ndim == 4 else w[..., None, None] for at, w in layers.items()}
            state[f"{stem}.eval_conv.weight"] = torch.full_like(value, 9.0)
        else:
            for at, where in (("conv.0", stem), ("conv.1", stem), ("conv.2", stem), ("sk", stem)):
                size = len(state[f"{where}.{at}.bias"[:-4] + "weight"]) if at == "conv.0" else len(value)
                state[f"{stem}.{at}.bias"] = value if at == "conv.2" else torch.zeros(size)
            state[f"{stem}.eval_conv.bias"] = value
    return state


def test_span_takes_pictures_as_they_are_if_the_file_says_so() -> None:
    module = build("span", width=6)
    branches = make_branches(module)
    found = recognize(branches, Path("span.pth"))
    assert (found.layout, found.config.mean, found.config.img_range) == ("SPAN", (0.4488, 0.4371, 0.4040), 255.0)
    assert all(torch.equal(found.state[key], value) for key, value in module.state_dict().items())
    plain = recognize({**branches, "no_norm": torch.zeros(1)}, Path("span.pth"))
    assert (plain.config.mean, plain.config.img_range) == ((0.0, 0.0, 0.0), 1.0)
    assert plain.state.keys() == found.state.keys()


def test_span_subtracts_the_mean_and_multiplies() -> None:
    picture, mean = torch.rand(1, 3, 9, 8), (0.1, 0.2, 0.3)
    changed = (picture - torch.tensor(mean).view(3, 1, 1)) * 7
    plain = build("span", width=6, mean=(0, 0, 0), img_range=1)
    torch.testing.assert_close(build("span", width=6, mean="0.1,0.2,0.3", img_range="7")(picture), plain(changed))


def test_styles_are_mapped_if_the_u_net_does_not_make_them() -> None:
    values = {"widths": (8, 8, 4), "style": 6, "layers": 2}
    picture = torch.rand(1, 3, 16, 16)
    for direct in (True, False):
        module: Any = build("gfpgan", **values, input_is_latent=direct)
        before = module(picture)
        module.stylegan_decoder.style_mlp[1].bias.data += 1
        assert torch.equal(module(picture), before) == direct


def test_previews_are_dropped() -> None:
    state = build("gfpgan", widths=(8, 8, 4), style=6, layers=2).state_dict()
    found = recognize({**state, "toRGB.0.weight": torch.zeros(3, 4, 1, 1)}, Path("gfpgan.pth"))
    assert found.family.name == "gfpgan" and found.state.keys() == state.keys()


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (5, 1), (1, 4), (64, 33)])
def test_the_fourier_unit_is_that_of_fft(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    unit = lama.FourierUnit(3).eval().requires_grad_(False)
    x = torch.randn(2, 3, *size)
    spectrum = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
    channels = torch.stack([spectrum.real, spectrum.imag], 2).flatten(1, 2)
    changed = unit.bn(unit.conv_layer(channels)).relu().unflatten(1, (3, 2))
    back = torch.complex(changed[:, :, 0].contiguous(), changed[:, :, 1].contiguous())
    wanted = torch.fft.irfftn(back, s=size, dim=(-2, -1), norm="ortho")
    torch.testing.assert_close(unit(x, lama.build_waves(*size)), wanted, rtol=0, atol=1e-5)


def test_waves_are_exact_for_large_sizes() -> None:
    size = 1531
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(size // 2 + 1)) / size
    found = lama.build_waves(2, size)
    assert np.abs(found.cosines.numpy() * np.sqrt(size) - np.cos(angles)).max() < 1e-6
    assert np.abs(found.sines.numpy() * np.sqrt(size) + np.sin(angles)).max() < 1e-6


def test_lama_does_not_look_into_the_holes_and_pastes_if_asked() -> None:
    values = {"width": 4, "blocks": 1, "transformed": 24}
    picture, mask = torch.rand(1, 3, 32, 24), (torch.rand(1, 1, 32, 24) > 0.7).float()
    made = build("lama", **values)(picture, mask)
    hidden = picture * (1 - mask) + 0.3 * mask
    torch.testing.assert_close(build("lama", **values)(hidden, mask), made, rtol=0, atol=0)
    pasted = build("lama", **values, paste=True)(picture, mask)
    torch.testing.assert_close(pasted, picture * (1 - mask) + made * mask)


def test_lama_reads_the_generator_of_a_training() -> None:
    state = build("lama", width=4, blocks=1, transformed=24).state_dict()
    training = {f"generator.{key}": value for key, value in state.items()}
    training |= {"discriminator.model0.0.weight": torch.zeros(1), "loss_resnet_pl.impl.weight": torch.zeros(1)}
    found = recognize(training, Path("best.ckpt"))
    assert (found.family.name, found.layout, found.state.keys()) == ("lama", "LaMa", state.keys())


def test_lama_reads_the_generator_of_a_module_that_pastes() -> None:
    state = build("lama", width=4, blocks=1, transformed=24).state_dict()
    found = recognize({f"model.{key}": value for key, value in state.items()}, Path("big-lama.pth"))
    assert (found.family.name, found.layout, found.state.keys()) == ("lama", "chaiNNer's LaMa", state.keys())
    assert found.config.paste


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_the_activation_of_lama(activation: str) -> None:
    module: Any = build("lama", width=4, blocks=1, transformed=24, activation=activation)
    seen = list[torch.Tensor]()
    module.model[-1].register_forward_hook(lambda _, inputs, output: seen.append(output))
    made = module(*draw("lama", {}, 1, (16, 16)))
    torch.testing.assert_close(made, getattr(torch, activation)(seen[0]))
