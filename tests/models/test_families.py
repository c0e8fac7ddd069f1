"""Families: sizes as in the literature, configs, and what a checkpoint's shapes tell."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganrt import feeds
from ganrt.errors import RequestError
from ganrt.models import FAMILIES, build_generator, get_family
from ganrt.spec import Label

_CHANNELS = st.sampled_from([1, 3])
_LATENT = st.integers(1, 20)


def with_upsampling(values: dict[str, Any]) -> dict[str, Any]:
    """The config with every second stage upsampling."""
    return {**values, "upsample": tuple(range(1, len(values["widths"]) - 1, 2))}


def with_widths(values: dict[str, Any]) -> dict[str, Any]:
    """The config with what goes with the sizes of its layers."""
    return {**values, **STYLEGAN3[values["sizes"]]}


def with_groups(values: dict[str, Any]) -> dict[str, Any]:
    """The config with two channels outside a block per group, and with as many blocks as there are stages below."""
    groups = tuple(width // 2 for width in values["widths"])
    blocks = tuple(range(1, 1 + len(groups)))
    return {**values, "groups": groups, "blocks": blocks, "embedding": values["embedding"] if values["classes"] else 0}


STYLEGAN3: dict[tuple[int, ...], dict[str, Any]] = {
    (36, 36, 52, 32): {"up": (2, 2, 4, 2), "widths": (4, 3, 2, 3, 2)},
    (40, 72, 32): {"up": (2, 4, 2), "widths": (2, 3, 4, 1)},
}
"""Sizes of StyleGAN3's layers -> settings that go with them."""
LINEAR = {"progan", "stylegan2", "stylegan3", "r3gan"}
"""Families whose output is not limited to the range."""
CONFIGS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "dcgan": st.fixed_dictionaries(
        {
            "size": st.sampled_from([16, 32, 64, 128]),
            "channels": st.sampled_from([1, 3]),
            "latent": st.integers(1, 20),
            "width": st.integers(1, 6),
        }
    ),
    "mlp": st.fixed_dictionaries(
        {
            "size": st.integers(16, 40),
            "channels": st.sampled_from([1, 3]),
            "latent": st.integers(1, 20),
            "batch_norm": st.booleans(),
        }
    ),
    "resnet": st.one_of(
        st.fixed_dictionaries(
            {
                "size": st.sampled_from([32, 64]),
                "channels": _CHANNELS,
                "latent": _LATENT,
                "width": st.integers(1, 3),
                "attention": st.sampled_from([(), (8,), (8, 16)]),
                "classes": st.integers(0, 3),
            }
        ),
        st.fixed_dictionaries(
            {
                "size": st.just(64),
                "latent": st.integers(1, 3).map(lambda chunk: 5 * chunk),
                "width": st.integers(1, 3),
                "hierarchical": st.just(True),
                "classes": st.integers(1, 3),
                "shared": st.integers(1, 5),
            }
        ),
    ),
    "progan": st.fixed_dictionaries(
        {
            "widths": st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple),
            "channels": _CHANNELS,
            "latent": _LATENT,
            "pixel_bias": st.booleans(),
        }
    ),
    "biggan_deep": st.fixed_dictionaries(
        {
            "widths": st.sampled_from([(8, 8, 4), (16, 16, 8, 8, 8)]),
            "attention": st.integers(-1, 1),
            "latent": _LATENT,
            "classes": st.integers(1, 3),
        }
    ).map(with_upsampling),
    "stylegan2": st.fixed_dictionaries(
        {
            "widths": st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
            "channels": _CHANNELS,
            "latent": _LATENT,
            "classes": st.integers(0, 3),
            "style": st.integers(1, 6),
            "layers": st.integers(1, 3),
        }
    ),
    "stylegan3": st.fixed_dictionaries(
        {
            "sizes": st.sampled_from([(36, 36, 52, 32), (40, 72, 32)]),
            "kernel": st.sampled_from([1, 3]),
            "radial": st.integers(0, 2),
            "latent": _LATENT,
            "style": st.integers(1, 5),
            "mapping": st.integers(1, 3),
            "classes": st.integers(0, 3),
            "channels": _CHANNELS,
        }
    ).map(with_widths),
    "r3gan": st.fixed_dictionaries(
        {
            "widths": st.sampled_from([(8, 8, 4), (4, 2), (6, 6, 2, 2)]),
            "expansion": st.integers(1, 3),
            "latent": _LATENT,
            "classes": st.integers(0, 3),
            "embedding": st.integers(1, 4),
            "channels": _CHANNELS,
        }
    ).map(with_groups),
}
any_config = st.sampled_from(sorted(CONFIGS)).flatmap(lambda name: st.tuples(st.just(name), CONFIGS[name]))


def test_every_family_that_needs_no_picture_has_its_configs_here() -> None:
    specs = {name: get_family(name).spec(get_family(name).config()) for name in FAMILIES}
    assert set(CONFIGS) == {name for name, spec in specs.items() if not spec.images}


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("family", "config", "generator", "discriminator"),
    [
        ("dcgan", {}, 3_576_704, 2_765_568),
        ("dcgan", {"channels": 1}, 3_574_656, 2_763_520),
        ("dcgan", {"size": 32}, 1_068_928, 663_296),
        ("mlp", {}, 1_626_672, 2_757_057),
    ],
)
def test_parameter_counts_are_those_of_the_literature(
    family: str, config: dict[str, int], generator: int, discriminator: int
) -> None:
    found = get_family(family)
    made = found.configure(config)
    assert found.discriminator is not None
    assert parameters(found.generator(made)) == generator
    assert parameters(found.discriminator(made)) == discriminator


def test_state_dict_keys_are_those_of_pytorch_examples() -> None:
    state = build_generator("dcgan", {}).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items() if tensor.ndim == 4} == {
        "main.0.weight": (100, 512, 4, 4),
        "main.3.weight": (512, 256, 4, 4),
        "main.6.weight": (256, 128, 4, 4),
        "main.9.weight": (128, 64, 4, 4),
        "main.12.weight": (64, 3, 4, 4),
    }
    assert {key.split(".", 2)[2] for key in state if key.startswith("main.1.")} == {
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


@given(any_config)
def test_shapes_and_ranges_are_those_of_the_spec(family_and_config: tuple[str, dict[str, Any]]) -> None:
    name, values = family_and_config
    family = get_family(name)
    config = family.configure(values)
    spec = family.spec(config)
    size, channels = (config.size, config.size), values.get("channels", 3)
    assert (spec.family, spec.inputs[0].name, spec.inputs[0].shape) == (name, "z", (values["latent"],))  # type: ignore[union-attr]
    assert (spec.output.channels, spec.output.size, spec.output.range) == (channels, size, (-1.0, 1.0))
    inputs = [torch.from_numpy(array) for array in feeds.draw_feeds(spec, 0, 0, 2).values()]
    with torch.no_grad():
        images = family.generator(config).eval()(10 * inputs[0], *inputs[1:])
        assert images.shape == (2, channels, *size) and images.dtype == torch.float32
        assert images.abs().max() <= 1 or name in LINEAR
        if family.discriminator is not None:
            labels = inputs[1:] if spec.find(Label) else []
            assert family.discriminator(config).eval()(images, *labels).shape == (2,)


@given(any_config)
def test_the_config_is_inferred_from_a_checkpoint(family_and_config: tuple[str, dict[str, Any]]) -> None:
    name, values = family_and_config
    family = get_family(name)
    config = family.configure(values)
    shapes = {key: tuple(tensor.shape) for key, tensor in family.generator(config).state_dict().items()}
    assert family.layouts[0].guess(shapes) == config
    assert family.configure(family.settings(config)) == config
    for other in set(FAMILIES) - {name}:
        assert get_family(other).layouts[0].guess(shapes) is None


keys = st.sampled_from(
    [
        "main.0.weight",
        "main.3.weight",
        "main.6.weight",
        "main.00.weight",
        "main.x.weight",
        "main.٣.weight",
        "main.",
        "a",
        "main.initial:4-2:convt.weight",
        "main.pyramid:2-1:convt.weight",
        "main.final:1-3:convt.weight",
        "formatLayer.weight",
        "main.convTranspose1.weight",
        "main.outlayer.weight",
        "linear.weight",
        "to_rgb.weight",
        "shared.weight",
        "blocks.0.norm1.gain.weight",
        "blocks.1.norm1.gain.weight",
        "blocks.2.norm1.gain.weight",
        "blocks.0.0.conv1.weight",
        "stem.linear.weight",
        "blocks.0.conv1.weight",
        "scaleLayers.0.0.weight",
        "toRGBLayers.1.weight",
        "embedding.weight",
        "blocks.0.conv0.weight",
        "blocks.0.conv3.weight",
        "embeddings.weight",
        "generator.gen_z.bias",
        "generator.layers.0.conv_0.weight_orig",
        "generator.layers.0.conv_3.weight",
        "generator.layers.1.gamma",
        "stem.conv.weight",
        "head.weight",
        "blocks.0.first.conv.weight",
        "blurs_up.0.filt",
        "model.1.weight",
        "model.4.weight",
        "model.7.filt",
        "model.10.conv_block.1.weight",
        "model.10.block.9.weight",
        "model.16.weight",
        "model.model.0.weight",
        "model.model.3.weight",
        "model.model.1.model.1.weight",
        "block_c.1.layers.0.1.weight",
        "out_layer.0.weight",
        "blocks.0.to_image.conv.weight",
        "blocks.0.conv1.conv.weight",
        "mapping.layers.0.weight",
        "mapping.embed.weight",
        "synthesis.b4.conv1.weight",
        "synthesis.b4.torgb.weight",
        "mapping.fc0.weight",
        "conv1.conv.weight",
        "convs.0.conv.weight",
        "convs.1.conv.weight",
        "to_rgb1.conv.weight",
        "style.1.weight",
        "layers.0_36.conv.weight",
        "layers.0_36.up.0.weight",
        "layers.0_36.down.0.weight",
        "mapping.layers.0.weight",
        "to_rgb.conv.weight",
        "synthesis.input.freqs",
        "synthesis.L0_36_2.weight",
        "synthesis.L0_36_2.up_filter",
        "synthesis.L0_36_2.down_filter",
        "synthesis.L1_32_3.weight",
        "synthesis.L1_32_3.magnitude_ema",
        "mapping.fc0.weight",
        "stages.0.0.basis",
        "stages.0.0.linear.weight",
        "stages.0.1.conv2.weight",
        "stages.0.1.conv3.weight",
        "Model.MainLayers.0.Layers.0.Basis",
        "fc.weight",
        "head_0.norm_0.mlp_shared.0.weight",
        "head_0.norm_0.mlp_gamma.weight",
    ]
)
shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)


@given(st.dictionaries(keys, shapes), st.sampled_from(sorted(FAMILIES)))
def test_any_checkpoint_is_guessed_or_not(state: dict[str, tuple[int, ...]], name: str) -> None:
    for layout in get_family(name).layouts:
        found = layout.guess(state)
        assert found is None or isinstance(found, get_family(name).config)


def test_a_discriminator_is_no_generator() -> None:
    for family in map(get_family, CONFIGS):
        if family.discriminator is None:
            continue
        state = family.discriminator(family.configure({})).state_dict()
        found = {key: tuple(tensor.shape) for key, tensor in state.items()}
        assert all(get_family(other).layouts[0].guess(found) is None for other in FAMILIES)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("dcgan", {"size": 48}, "size is 48; dcgan makes images of 16, 32, 64 or 128 pixels"),
        ("dcgan", {"channels": 2}, r"channels is 2; it must be 1 \(grey\) or 3 \(RGB\)"),
        ("dcgan", {"latent": 0}, "latent is 0; it must be from 1 to 4096"),
        ("dcgan", {"width": 2000}, "width is 2000; it must be from 1 to 1024"),
        ("mlp", {"size": 8}, "size is 8; it must be from 16 to 128"),
        ("mlp", {"width": 64}, "mlp has no setting 'width'; it has batch_norm, channels, latent, size"),
        ("mlp", {"size": "large"}, "mlp: .*'large'"),
        ("mlp", {"size": 28.5}, r"28\.5 is not a whole number"),
        ("mlp", {"size": True}, "True is not a whole number"),
        ("mlp", {"size": None}, "None is not a whole number"),
        ("mlp", {"size": [28]}, r"\[28\] is not a whole number"),
        ("stylegan", {}, "there is no family 'stylegan'; choose one of mlp, dcgan"),
        ("__init__", {}, "there is no family '__init__'"),
    ],
)
def test_configs_that_cannot_be(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_generator(name, values)


def test_text_counts_as_a_number() -> None:
    family = get_family("dcgan")
    assert family.configure({"size": "32", "width": "8"}) == family.configure({"size": 32, "width": 8})
