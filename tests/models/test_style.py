"""Style transfer: two families, VGG, and the optimisation that they replace."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.golden_cases import GoldenCase, load_golden_case
from torch import nn

import ganrt
from ganrt.bundle import Bundle
from ganrt.errors import CheckpointError, RequestError
from ganrt.export import export
from ganrt.export.sources import recognize
from ganrt.models import adain, build_generator, get_family, transformer_net, vgg
from ganrt.training.perceptual import gram

BACKENDS = ["onnxruntime", "openvino", "pytorch"]
SETTINGS = {"fast_neural_style": {}, "adain": {"strength": np.full(1, 0.7, np.float32)}}
"""Inputs of a golden case that its file does not hold."""


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[GoldenCase, Path]]:
    """Name -> golden case and the bundle that its checkpoint became; AdaIN's comes in two files, as its users have
    it."""
    folder = tmp_path_factory.mktemp("style")
    made = {name: load_golden_case(name, folder) for name in SETTINGS}
    bundles = {name: folder / f"{name}.ganrt" for name in SETTINGS}
    export(str(made["fast_neural_style"].checkpoint), bundles["fast_neural_style"])
    state = torch.load(made["adain"].checkpoint)
    parts = {part: {k.partition(".")[2]: v for k, v in state.items() if k.startswith(part)} for part in ("vgg", "dec")}
    parts["vgg"] |= {"32.weight": torch.zeros(512, 512, 3, 3), "32.bias": torch.zeros(512)}
    torch.save(parts["vgg"], folder / "vgg_normalised.pth")
    torch.save(parts["dec"], folder / "decoder.pth")
    export(str(folder / "decoder.pth"), bundles["adain"], config={"encoder": str(folder / "vgg_normalised.pth")})
    return {name: (made[name], bundles[name]) for name in SETTINGS}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_known_checkpoint_gives_its_projects_own_pictures(
    cases: dict[str, tuple[GoldenCase, Path]], name: str, backend: str
) -> None:
    case, bundle = cases[name]
    with ganrt.load(bundle, backend) as generator:
        found = generator(**case.inputs, **SETTINGS[name])
    assert np.abs(found - case.output).max() < 1e-4 * np.ptp(case.output)


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


@pytest.mark.parametrize("size", [(1, 8, 8), (2, 20, 36)])
def test_any_size_through_the_traced_graph(cases: dict[str, tuple[GoldenCase, Path]], size: tuple[int, ...]) -> None:
    count, height, width = size
    image = 255 * pictures(count, 3, height, width)
    found = [run(cases["fast_neural_style"][1], backend, image=image) for backend in BACKENDS]
    assert found[-1].shape == image.shape
    assert all(np.abs(other - found[-1]).max() < 1e-4 * np.ptp(found[-1]) for other in found)


@pytest.mark.parametrize(("content", "style"), [((16, 24), (31, 17)), ((24, 16), (9, 50))])
def test_content_and_style_have_sizes_of_their_own(
    cases: dict[str, tuple[GoldenCase, Path]], content: tuple[int, int], style: tuple[int, int]
) -> None:
    inputs = {
        "content": pictures(2, 3, *content),
        "style": pictures(2, 3, *style),
        "strength": np.array([0.0, 1.0], np.float32),
    }
    found = [run(cases["adain"][1], backend, **inputs) for backend in BACKENDS]
    assert found[-1].shape == (2, 3, *content)
    assert all(np.abs(other - found[-1]).max() < 1e-4 * np.ptp(found[-1]) for other in found)
    alone = run(cases["adain"][1], "onnxruntime", **{name: value[1:] for name, value in inputs.items()})
    assert np.abs(alone - found[0][1:]).max() < 1e-5


def run(bundle: Path, backend: str, **inputs: np.ndarray) -> np.ndarray:
    with ganrt.load(bundle, backend) as generator:
        return generator(**inputs)


def test_a_photo_and_a_painting_of_any_size(cases: dict[str, tuple[GoldenCase, Path]]) -> None:
    content, style = ((255 * pictures(*size, 3)).astype(np.uint8) for size in ((21, 30), (17, 40)))
    with ganrt.load(cases["adain"][1], "onnxruntime") as generator:
        assert generator.transform(content, style=style, strength=0.5).shape == content.shape


def test_the_bundle_names_both_files(cases: dict[str, tuple[GoldenCase, Path]]) -> None:
    bundle = Bundle.read(cases["adain"][1])
    source = bundle.provenance["source"]
    assert (source["name"], source["encoder"]["name"]) == ("decoder.pth", "vgg_normalised.pth")
    assert bundle.model == {"family": "adain", "config": {"width": 64}}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_those_of_the_literature() -> None:
    assert parameters(build_generator("transformer_net", {})) == 1_679_235
    made: Any = build_generator("adain", {})
    assert (parameters(made.vgg), parameters(made.decoder)) == (3_505_740, 3_505_219)
    assert [parameters(vgg.VGG(depth)) for depth in (16, 19)] == [14_714_688, 20_024_384]


@pytest.mark.parametrize(
    ("family", "values"),
    [("transformer_net", {"width": 3, "blocks": 2}), ("transformer_net", {"width": 8}), ("adain", {"width": 5})],
)
def test_the_config_is_inferred_from_a_checkpoint(family: str, values: dict[str, int]) -> None:
    found, state = get_family(family), build_generator(family, values).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert found.layouts[0].guess(shapes) == found.configure(values)


def test_old_instance_norm_statistics_are_dropped() -> None:
    made = build_generator("transformer_net", {"width": 2})
    state = made.state_dict()
    norms = [name for name, part in made.named_modules() if isinstance(part, nn.InstanceNorm2d)]
    unused = {f"{name}.{leaf}": torch.zeros(2) for name in norms for leaf in ("running_mean", "running_var")}
    assert (len(state), len(unused)) == (62, 30)
    found = recognize(state | unused, Path("mosaic.pth"))
    assert found.config == transformer_net.Config(width=2)
    assert found.state.keys() == state.keys()


def test_both_parts_in_one_file() -> None:
    state = build_generator("adain", {"width": 3}).state_dict()
    whole = state | {"vgg.32.weight": torch.zeros(3, 3, 3, 3), "vgg.32.bias": torch.zeros(3)}
    found = recognize(whole, Path("adain.pth"))
    assert (found.family.name, found.config) == ("adain", adain.Config(3))
    assert found.state.keys() == state.keys()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("vgg", "the encoder of AdaIN by itself; name its decoder too, as in --config decoder=decoder.pth"),
        ("decoder", "the decoder of AdaIN by itself; name its encoder too, as in --config encoder=vgg_normalised.pth"),
    ],
)
def test_one_part_asks_for_the_other(part: str, message: str, tmp_path: Path) -> None:
    made: Any = build_generator("adain", {"width": 4})
    torch.save(getattr(made, part).state_dict(), tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=message):
        export(str(tmp_path / "part.pth"), tmp_path / "no.ganrt")


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    decoder = tmp_path / "decoder.pth"
    torch.save(adain.Generator(adain.Config(4)).decoder.state_dict(), decoder)
    with pytest.raises(RequestError, match=r"gone\.pth was named as a part of decoder\.pth, but there is no such file"):
        export(str(decoder), tmp_path / "no.ganrt", config={"encoder": "gone.pth"})
    with pytest.raises(CheckpointError, match="nearest is adain of pytorch-AdaIN"):
        export(str(decoder), tmp_path / "no.ganrt", config={"encoder": str(decoder)})


@pytest.fixture(scope="module")
def tiny() -> Any:
    """An AdaIN generator whose pictures have contrast."""
    torch.manual_seed(3)
    module = build_generator("adain", {"width": 4})
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return module.requires_grad_(False)


def test_strength_goes_from_the_content_to_the_style(tiny: Any) -> None:
    content, style = torch.rand(3, 3, 24, 16), torch.rand(3, 3, 19, 30)
    found = tiny(content, style, torch.tensor([0.0, 0.5, 1.0]))
    features, wanted = tiny.vgg(content), adain.adain(tiny.vgg(content), tiny.vgg(style))
    torch.testing.assert_close(found[:1], tiny.decoder(features[:1]))
    torch.testing.assert_close(found[1:2], tiny.decoder((features[1:2] + wanted[1:2]) / 2))
    torch.testing.assert_close(found[2:], tiny.decoder(wanted[2:]))


def test_a_picture_is_its_own_style(tiny: Any) -> None:
    content = torch.rand(1, 3, 24, 16)
    torch.testing.assert_close(tiny(content, content, torch.ones(1)), tiny.decoder(tiny.vgg(content)))


def test_statistics_are_taken_over_with_the_unbiased_variance() -> None:
    content, style = 3 * torch.randn(2, 5, 4, 6) + 1, torch.randn(2, 5, 3, 3) - 2
    found = adain.adain(content, style)
    torch.testing.assert_close(found.mean((2, 3)), style.mean((2, 3)))
    ratio = ((style.var((2, 3)) + 1e-5) / (content.var((2, 3)) + 1e-5)).sqrt()
    torch.testing.assert_close(found.std((2, 3)), ratio * content.std((2, 3)))


@pytest.mark.parametrize(
    ("family", "values", "message"),
    [
        ("transformer_net", {"width": 0}, "width is 0; it must be from 1 to 512"),
        ("transformer_net", {"blocks": 65}, "blocks is 65; it must be from 1 to 64"),
        ("adain", {"width": 513}, "width is 513; it must be from 1 to 512"),
    ],
)
def test_configs_that_cannot_be(family: str, values: dict[str, int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_generator(family, values)


def test_layers_of_vgg_end_where_torchvision_has_them() -> None:
    sixteen, nineteen = vgg.layer_ends(16), vgg.layer_ends(19)
    assert {k: sixteen[k] for k in ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "pool5")} == {
        "relu1_2": 4,
        "relu2_2": 9,
        "relu3_3": 16,
        "relu4_3": 23,
        "pool5": 31,
    }
    assert [nineteen[f"relu{k}_1"] for k in range(1, 6)] == [2, 7, 12, 21, 30]
    assert nineteen["relu5_4"] == 36


@pytest.fixture(scope="module")
def untrained() -> vgg.VGG:
    return vgg.VGG()


def test_features_are_those_of_the_layers(untrained: vgg.VGG) -> None:
    x = torch.rand(2, 3, 20, 24)
    found = untrained(x, ["relu3_1", "relu1_2"])
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert found.keys() == {"relu3_1", "relu1_2"}
    assert torch.equal(found["relu3_1"], untrained.features[:12]((x - mean) / deviation))
    assert found["relu1_2"].shape == (2, 64, 20, 24)
    with pytest.raises(RequestError, match="VGG-19 has no layer 'relu9_9'; it has relu1_1, relu1_2, pool1"):
        untrained(x, ["relu9_9"])


def test_weights_of_torchvision_are_recognised(untrained: vgg.VGG) -> None:
    state = untrained.state_dict()
    found = vgg.load_torchvision(state | {"classifier.0.weight": torch.zeros(1)})
    assert found.depth == 19
    assert all(torch.equal(value, state[key]) for key, value in found.state_dict().items())
    assert not any(parameter.requires_grad for parameter in found.parameters())
    with pytest.raises(CheckpointError, match=r"no VGG-16 or VGG-19 of torchvision: 1 of its 2 tensors are named feat"):
        vgg.load_torchvision({"features.0.weight": torch.zeros(64, 3, 3, 3), "conv1_1.weight": torch.zeros(1)})


def test_gram_matrices_are_averages_over_pixels() -> None:
    features = torch.randn(2, 3, 4, 5)
    wanted = np.einsum("nchw,ndhw->ncd", features.numpy(), features.numpy()) / 20
    np.testing.assert_allclose(gram(features).numpy(), wanted, rtol=1e-5, atol=1e-6)
