"""Families: sizes as in the literature, configs, and what a checkpoint's shapes tell."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganrt.errors import RequestError
from ganrt.models import FAMILIES, build_generator, get_family

CONFIGS: dict[str, st.SearchStrategy[dict[str, int]]] = {
    "dcgan": st.fixed_dictionaries(
        {
            "size": st.sampled_from([16, 32, 64, 128]),
            "channels": st.sampled_from([1, 3]),
            "latent": st.integers(1, 20),
            "width": st.integers(1, 6),
        }
    ),
    "mlp": st.fixed_dictionaries(
        {"size": st.integers(16, 40), "channels": st.sampled_from([1, 3]), "latent": st.integers(1, 20)}
    ),
}
any_config = st.sampled_from(sorted(CONFIGS)).flatmap(lambda name: st.tuples(st.just(name), CONFIGS[name]))


def test_every_family_has_its_configs_here() -> None:
    assert set(CONFIGS) == set(FAMILIES)


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
def test_shapes_and_ranges_are_those_of_the_spec(family_and_config: tuple[str, dict[str, int]]) -> None:
    name, values = family_and_config
    family = get_family(name)
    config = family.configure(values)
    spec = family.spec(config)
    (latent,) = spec.inputs
    size = (values["size"], values["size"])
    assert (spec.family, latent.name, latent.shape) == (name, "z", (values["latent"],))  # type: ignore[union-attr]
    assert (spec.output.channels, spec.output.size, spec.output.range) == (values["channels"], size, (-1.0, 1.0))
    with torch.no_grad():
        images = family.generator(config).eval()(10 * torch.randn(2, values["latent"]))
        assert images.shape == (2, values["channels"], *size) and images.dtype == torch.float32
        assert images.abs().max() <= 1
        assert family.discriminator(config).eval()(images).shape == (2,)


@given(any_config)
def test_a_checkpoint_tells_its_config(family_and_config: tuple[str, dict[str, int]]) -> None:
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
    ]
)
shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)


@given(st.dictionaries(keys, shapes), st.sampled_from(sorted(FAMILIES)))
def test_any_checkpoint_is_guessed_or_not(state: dict[str, tuple[int, ...]], name: str) -> None:
    found = get_family(name).layouts[0].guess(state)
    assert found is None or isinstance(found, get_family(name).config)


def test_a_discriminator_is_no_generator() -> None:
    for name in FAMILIES:
        family = get_family(name)
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
        ("mlp", {"width": 64}, "mlp has no setting 'width'; it has channels, latent, size"),
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
