"""StyleGAN2: two projects' checkpoints in one module, truncation, classes, noise, and batches on every backend.

Their pictures are compared with the projects' own in test_golden_families.py.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.golden_cases import load_golden_case

import ganrt
from ganrt import feeds, latents
from ganrt.errors import CheckpointError, RequestError
from ganrt.export import export
from ganrt.export.sources import Source, open_source
from ganrt.export.sources.checkpoints import Recognized, recognize
from ganrt.models import State, get_family
from ganrt.models.stylegan2_network import Convolution, Generator
from ganrt.models.unpickle import read_state

BACKENDS = ["onnxruntime", "openvino", "pytorch"]
_LEAF = {
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
    "conv.modulation.": "affine.",
    "conv.weight": "weight",
}
"""Name in rosinality's layers -> name in NVIDIA's."""
TINY: dict[str, Any] = {"widths": (6, 5, 4), "latent": 7, "style": 8, "layers": 2, "classes": 3}


def read_golden(name: str, folder: Path) -> State:
    """The state dict of a golden case, in its project's layout."""
    return read_state(load_golden_case(name, folder).checkpoint)


def rename_as_nvlabs(state: State) -> State:
    """A state dict of rosinality's code under NVIDIA's keys, and in its shapes."""
    names = {"conv1": "b4.conv1", "to_rgb1": "b4.torgb"}
    names |= {f"convs.{k}": f"b{8 << k // 2}.conv{k % 2}" for k in range(6)}
    names |= {f"to_rgbs.{k}": f"b{8 << k}.torgb" for k in range(3)}
    made = {"mapping.w_avg": state["latent_avg"], "synthesis.b4.const": state["input.input"][0]}
    for k in range(4):
        for leaf in ("weight", "bias"):
            made[f"mapping.fc{k}.{leaf}"] = state[f"style.{k + 1}.{leaf}"]
    for old, new in names.items():
        for key, value in state.items():
            if not key.startswith(f"{old}."):
                continue
            leaf = key.removeprefix(f"{old}.")
            if "kernel" in leaf:
                made[f"synthesis.{new.replace('.torgb', '')}.resample_filter"] = value / 4
                continue
            for theirs, ours in _LEAF.items():
                leaf = leaf.replace(theirs, ours)
            if leaf == "noise_strength":
                value = value[0]
            elif leaf == "bias" or value.ndim == 5:
                value = value.reshape([side for k, side in enumerate(value.shape) if k or value.ndim in (1, 2)])
            made[f"synthesis.{new}.{leaf}"] = value.flatten() if leaf == "bias" else value
    order = ["b4.conv1", *(f"b{8 << k}.conv{j}" for k in range(3) for j in (0, 1))]
    for k, name in enumerate(order):
        made[f"synthesis.{name}.noise_const"] = state[f"noises.noise_{k}"][0, 0]
    return made


def build(found: Recognized, **changes: Any) -> Generator:
    """The generator of a recognised state dict, with other settings."""
    config = found.family.configure({**found.family.settings(found.config), **changes})
    module = found.family.generator(config)
    module.load_state_dict(found.state)
    assert isinstance(module, Generator)
    return module.eval().requires_grad_(False)


def build_tiny(**changes: Any) -> tuple[Generator, ganrt.Spec]:
    """A small network in which every parameter matters."""
    family = get_family("stylegan2")
    config = family.configure({**TINY, **changes})
    torch.manual_seed(3)
    module = family.generator(config)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith((".strength", ".noise", "bias", "mean")):
                tensor.copy_(torch.randn_like(tensor) / 2 + 0.2)
    assert isinstance(module, Generator)
    return module.eval().requires_grad_(False), family.spec(config)


def draw(spec: ganrt.Spec, count: int, **options: Any) -> dict[str, torch.Tensor]:
    drawn = feeds.draw_feeds(spec, 5, 0, count, **options)
    return {name: torch.from_numpy(array) for name, array in drawn.items()}


def test_both_layouts_of_the_same_weights_make_the_same_picture(tmp_path: Path) -> None:
    state = read_golden("rosinality_stylegan2_32", tmp_path)
    one, other = recognize(state, Path("a.pt")), recognize(rename_as_nvlabs(state), Path("b.pt"))
    assert (one.layout, other.layout) == ("rosinality/stylegan2-pytorch", "stylegan2-ada and stylegan3")
    assert (one.config.clamp, other.config.clamp) == (0, 256)
    assert one.state.keys() == other.state.keys()
    assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    z, psi = torch.randn(2, 32), torch.full((2,), 0.7)
    assert torch.equal(build(one)(z, psi), build(other)(z, psi))


def test_a_training_file_of_rosinality_has_a_mean_that_is_always_the_same(tmp_path: Path) -> None:
    """It has no `latent_avg`, for which the original draws 4096 styles; its options and optimisers lie beside."""
    case = load_golden_case("rosinality_stylegan2_32", tmp_path)
    content = torch.load(case.checkpoint)
    del content["latent_avg"]
    whole = {"g": content["g_ema"], "g_optim": {"state": {}}, "args": argparse.Namespace(size=32), **content}
    torch.save(whole, tmp_path / "150000.pt")
    found = [recognize(read_state(tmp_path / "150000.pt"), tmp_path / "150000.pt") for _ in range(2)]
    assert torch.equal(found[0].state["mapping.mean"], found[1].state["mapping.mean"])
    styles = build(found[0]).mapping(torch.from_numpy(latents.normal(0, 0, 4096, 0, 32)))
    assert torch.allclose(found[0].state["mapping.mean"], styles.mean(0), atol=1e-4)
    assert styles.mean(0).abs().max() > 0.1


def test_a_network_that_was_trained_without_noise_has_none(tmp_path: Path) -> None:
    state = read_golden("stylegan2_cond", tmp_path)
    plain = {key: value for key, value in state.items() if ".noise_" not in key}
    found = recognize(plain, Path("plain.pt"))
    assert found.config.noise == "none"
    z, c, psi = torch.randn(2, 24), torch.eye(5)[:2], torch.ones(2)
    assert torch.equal(build(found)(z, c, psi), build(recognize(state, Path("a.pt")), noise="none")(z, c, psi))


def test_what_the_family_does_not_have_is_not_dropped_in_silence(tmp_path: Path) -> None:
    """Such as the shortcuts of the residual architecture, or a filter of other length."""
    state = read_golden("stylegan2_cond", tmp_path)
    residual = {**state, "synthesis.b8.skip.weight": torch.zeros(32, 32, 1, 1)}
    with pytest.raises(CheckpointError, match=r"1 keys unexpected \(synthesis\.b8\.skip\.weight\)"):
        recognize(residual, Path("residual.pt"))
    longer = {**state, "synthesis.b8.conv0.resample_filter": torch.ones(6, 6)}
    with pytest.raises(CheckpointError, match=r"blocks\.1\.conv0\.blur\.weight \(32, 1, 6, 6\) for \(32, 1, 4, 4\)"):
        recognize(longer, Path("longer.pt"))


@pytest.mark.parametrize("name", ["stylegan2_cond", "rosinality_stylegan2_32"])
def test_any_entry_may_be_missing_or_of_any_shape(name: str, tmp_path: Path) -> None:
    state = read_golden(name, tmp_path)
    state.pop("latent_avg", None)
    for key, value in state.items():
        other = {k: v for k, v in state.items() if k != key}
        for changed in (None, value[None], value[..., None], value.flatten()[:0], torch.zeros(2, 2)):
            if changed is not None:
                other[key] = changed
            family = get_family("stylegan2")
            for layout in family.layouts[1:]:
                config = layout.guess({k: tuple(v.shape) for k, v in other.items()})
                if config is not None:
                    try:
                        layout.convert(other, config)
                    except KeyError:
                        continue


def test_filters_are_read_from_the_file(tmp_path: Path) -> None:
    """Where they are not symmetric, they are flipped as a convolution does."""
    state = read_golden("stylegan2_cond", tmp_path)
    taps = torch.arange(16.0).reshape(4, 4) / 120
    filters = {key: taps for key in state if key.endswith("resample_filter")}
    found = recognize({**state, **filters}, Path("a.pt")).state
    x = torch.randn(1, 3, 5, 5)
    zeros = torch.zeros(1, 3, 10, 10)
    zeros[:, :, ::2, ::2] = x
    padded = torch.nn.functional.pad(zeros, (2, 1, 2, 1))
    expected = torch.nn.functional.conv2d(padded, 4 * taps.flip((0, 1)).expand(3, 1, 4, 4), groups=3)
    weight = found["blocks.1.upsample.weight"]
    made = torch.nn.functional.conv_transpose2d(x, weight, stride=2, padding=1, groups=3)
    assert torch.allclose(made, expected, atol=1e-6)
    assert torch.allclose(found["blocks.1.conv0.blur.weight"][7, 0], 4 * taps.flip((0, 1)))


def test_a_rate_of_the_mapping_that_the_file_does_not_tell(tmp_path: Path) -> None:
    state = read_golden("rosinality_stylegan2_32", tmp_path)
    other = {key: value / 4 if key.startswith("style.") else value for key, value in state.items()}
    one, two = recognize(state, Path("a.pt")), recognize(other, Path("b.pt"))
    z, psi = torch.randn(2, 32), torch.ones(2)
    expected = build(one)(z, psi)
    assert torch.allclose(build(two, mapping_rate="0.04")(z, psi), expected, atol=1e-5)
    assert (build(two)(z, psi) - expected).abs().max() > 0.1


def test_values_behind_each_convolution_are_clamped() -> None:
    outputs: list[float] = []
    for clamp in (0.0, 0.25):
        module, spec = build_tiny(clamp=clamp)
        layers = [block.get_submodule(name) for block in module.blocks for name in ("conv1", "to_image")]
        largest: list[torch.Tensor] = []
        for layer in (*layers, module.blocks[1].get_submodule("conv0")):
            layer.register_forward_hook(lambda part, given, made, found=largest: found.append(made.abs().max()))
        module(*draw(spec, 4).values())
        outputs.append(float(max(largest)))
        assert len(largest) == 7
    assert outputs[0] > 1 and outputs[1] == 0.25


def test_truncation_acts_on_the_first_layers() -> None:
    module, spec = build_tiny()
    given = list(draw(spec, 3).values())
    assert torch.equal(given[2], torch.ones(3))
    whole = module(*given)
    none = [given[0], given[1], torch.zeros(3)]
    assert torch.allclose(module(*none), module(*none)[:1].expand(3, -1, -1, -1), atol=1e-6)  # the mean style alone
    images = [whole]
    for cutoff in (1, 2, 5, 6, 0):
        images.append(build_tiny(cutoff=cutoff)[0](*given[:2], torch.tensor([1.0, 0.5, 0.5])))
        assert torch.equal(images[-1][0], whole[0])
    changes = [(one[1:] - other[1:]).abs().max() for one, other in itertools.pairwise(images)]
    assert min(changes[:4]) > 1e-3 and changes[4] == 0


def test_noise_is_stored_drawn_or_left_out() -> None:
    module, spec = build_tiny(noise="random")
    assert [(item.name, getattr(item, "shape", None)) for item in spec.inputs[3:]] == [
        *(("noise0", (1, 4, 4)), ("noise1", (1, 8, 8)), ("noise2", (1, 8, 8))),
        *(("noise3", (1, 16, 16)), ("noise4", (1, 16, 16))),
    ]
    given = draw(spec, 2)
    images = module(*given.values())
    for name in [name for name in given if name.startswith("noise")]:
        changed = {**given, name: given[name].flip(0)}
        assert (module(*changed.values()) - images).abs().amax((1, 2, 3)).min() > 1e-3
    stored = [part for part in module.modules() if isinstance(part, Convolution)]
    same = {f"noise{k}": (part.noise / part.strength).expand(2, 1, -1, -1) for k, part in enumerate(stored)}
    first = list(given.values())[:3]
    assert torch.allclose(module(*first, *same.values()), build_tiny()[0](*first), atol=1e-5)
    silent = module(*first, *(torch.zeros_like(value) for value in same.values()))
    assert torch.allclose(silent, build_tiny(noise="none")[0](*first), atol=1e-6)


@pytest.mark.parametrize("noise", ["const", "none", "random"])
def test_nothing_depends_on_the_rest_of_the_batch(noise: str) -> None:
    module, spec = build_tiny(noise=noise)
    given = draw(spec, 8, truncation=[None, 0.5, 0.7, 0, 1, 2, 0.3, None])
    parts = [module(*(value[k : k + 1] for value in given.values())) for k in range(8)]
    assert torch.allclose(module(*given.values()), torch.cat(parts), atol=1e-5)


def test_a_grey_network_without_classes() -> None:
    module, spec = build_tiny(channels=1, classes=0, widths=(4,))
    assert [item.name for item in spec.inputs] == ["z", "truncation"]
    assert module(*draw(spec, 2).values()).shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"noise": "some"}, "noise is 'some'; it must be one of const, none, random"),
        ({"cutoff": 15}, "cutoff is 15; it must be from 0 to 14"),
        ({"clamp": -1}, r"clamp is -1\.0; it must be a number from 0, where 0 means no limit"),
        ({"clamp": "inf"}, "clamp is inf; it must be a number from 0"),
        ({"mapping_rate": 0}, r"mapping_rate is 0\.0; it must be a number above 0"),
        ({"mapping_rate": "inf"}, "mapping_rate is inf; it must be a number above 0"),
        ({"widths": ()}, r"widths is \(\); it takes 1 to 10 numbers from 1 to 4096"),
        ({"widths": (4,) * 11}, "it takes 1 to 10 numbers from 1 to 4096"),
        ({"widths": (4, 0)}, "it takes 1 to 10 numbers from 1 to 4096"),
        ({"channels": 2}, r"channels is 2; it must be 1 \(grey\) or 3 \(RGB\)"),
    ],
)
def test_settings_out_of_bounds(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        get_family("stylegan2").configure(values)


@pytest.fixture(scope="module")
def drawn_noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Source]:
    """A bundle of the conditional case with drawn noise and a cutoff, and its module."""
    folder = tmp_path_factory.mktemp("stylegan2")
    case, config = load_golden_case("stylegan2_cond", folder), {"noise": "random", "cutoff": "4"}
    export(str(case.checkpoint), folder / "drawn.ganrt", config=config, backends=BACKENDS)
    return folder / "drawn.ganrt", open_source(case.checkpoint, config)


@pytest.fixture(scope="module", params=BACKENDS)
def generator(request: pytest.FixtureRequest, drawn_noise: tuple[Path, Source]) -> Iterator[ganrt.Generator]:
    with ganrt.load(drawn_noise[0], request.param) as loaded:
        yield loaded


def test_seeds_classes_truncation_and_noise_are_the_modules(
    generator: ganrt.Generator, drawn_noise: tuple[Path, Source]
) -> None:
    options: dict[str, Any] = {"labels": [3, 0, 4, 3], "truncation": [0.7, None, 0.0, 1.5]}
    given = draw(generator.spec, 4, **options)
    with torch.inference_mode():
        expected = drawn_noise[1].module(*given.values()).numpy()
    found = generator(**{name: value.numpy() for name, value in given.items()})
    assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)
    pictures = generator.sample(4, seed=5, **options)
    exact = np.clip((expected.transpose(0, 2, 3, 1) + 1) * 127.5, 0, 255)
    assert np.abs(pictures - exact).max() <= 0.51 + 0.0255 * np.ptp(expected)


def test_a_batch_of_eight_equals_eight_of_one(generator: ganrt.Generator) -> None:
    given = draw(generator.spec, 8, labels=[0, 1, 2, 3, 4, 0, 1, 2], truncation=0.7)
    arrays = {name: value.numpy() for name, value in given.items()}
    parts = [generator(**{name: value[k : k + 1] for name, value in arrays.items()}) for k in range(8)]
    whole = generator(**arrays)
    assert np.abs(whole - np.concatenate(parts)).max() < 1e-5 * np.ptp(whole)
    pictures = generator.sample(8, seed=9)
    ones = np.concatenate([generator.sample(1, seed=9, start=k) for k in range(8)])
    assert np.abs(pictures.astype(int) - ones).max() <= 1


def test_the_seed_alone_changes_the_noise(generator: ganrt.Generator) -> None:
    """With all styles at their mean, nothing else is left of a seed."""
    one, other = (generator.sample(1, seed=seed, labels=2, truncation=0).astype(int) for seed in (1, 2))
    assert np.abs(one - other).max() > 3
    assert np.array_equal(one, generator.sample(1, seed=1, labels=2, truncation=0))
