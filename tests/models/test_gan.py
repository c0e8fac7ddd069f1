"""GAN families: sizes of the literature, other projects' checkpoints and pictures, and what training adds and export
takes away."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers.golden_cases import GoldenCase, load_golden_case

import ganrt
from ganrt import feeds
from ganrt.errors import RequestError
from ganrt.export import export
from ganrt.export.sources import recognize
from ganrt.models import get_family
from ganrt.models.biggan_deep import _effective_row
from ganrt.models.parametrize import fold
from ganrt.models.progan import append_deviation, fade
from ganrt.models.unpickle import read_state

CASES: dict[str, tuple[dict[str, str], dict[str, float]]] = {
    "wgan_dcgan": ({}, {}),
    "biggan_pytorch_64": ({}, {}),
    "gan_zoo_pgan_32": ({}, {}),
    "biggan_deep_32": ({"upsample": "1,2,4"}, {"truncation": 0.4}),
}
"""Case -> the settings that its checkpoint does not tell, and scalar inputs that its file does not hold."""
_NARROW = {"width": 2, "discriminator_width": 2}
_BIGGAN = {"size": 64, "latent": 10, "classes": 3, "shared": 4, "hierarchical": True, "attention": "16,32"}
TINY: dict[str, dict[str, Any]] = {
    "plain": {**_NARROW, "latent": 6},
    "spectral": {**_NARROW, "latent": 6, "attention": "16", "spectral": "both"},
    "classes": {**_NARROW, "latent": 6, "classes": 3},
    "biggan": {**_NARROW, **_BIGGAN, "spectral": "both"},
    "unlabelled": {**_NARROW, "latent": 8, "hierarchical": True},
}
"""Configs of `resnet`."""
GROWING = {"widths": (8, 6, 4, 4), "latent": 5}
DEEP = {"widths": (32, 32, 16, 16, 8), "upsample": (1, 3), "attention": 2, "latent": 4, "classes": 3}


def official(size: int) -> tuple[int, ...]:
    """Widths of the paper's network for a size."""
    return tuple(min(512, 8192 >> k) for k in range(1, size.bit_length() - 1))


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def inputs(spec: ganrt.Spec, count: int = 3, **options: Any) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in feeds.draw_feeds(spec, 1, 0, count, **options).values()]


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Make every weight, gain, bias and statistic matter. Returns the module in eval mode."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim <= 1:
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor) / 2)
    return module.eval()


@pytest.mark.parametrize(
    ("family", "config", "generator", "discriminator"),
    [
        ("resnet", {}, 4_276_739, 1_053_825),
        ("resnet", {"classes": 10}, 4_304_387, 1_055_105),
        ("resnet", {"width": 32, "spectral": "none"}, 1_204_483, 1_053_825),
        ("resnet", {"classes": 10, "discriminator_width": 64}, 4_304_387, 4_207_361),
        ("resnet", {"size": 128, "latent": 120}, 70_433_988, 87_982_370),
        ("progan", {"widths": official(32)}, 20_719_628, None),
        ("progan", {"widths": official(64)}, 22_490_383, None),
        ("progan", {"widths": official(128)}, 22_933_394, None),
        ("progan", {"widths": official(256)}, 23_044_309, 23_052_353),
        ("progan", {"widths": official(1024)}, 23_079_115, 23_087_249),
        ("progan", {"widths": official(256), "pixel_bias": True}, 23_051_989, 23_052_353),
    ],
)
def test_parameter_counts_are_those_of_the_literature(
    family: str, config: dict[str, Any], generator: int, discriminator: int | None
) -> None:
    if config.get("size", 32) > 32:
        config |= {"width": 96, "discriminator_width": 96, "classes": 1000, "shared": 128}
        config |= {"hierarchical": True, "attention": "64", "spectral": "none"}
    found = get_family(family)
    made = found.configure(config)
    assert found.trainable is not None
    with torch.device("meta"):
        assert parameters(found.trainable(made)) == generator
        if discriminator is not None:
            assert found.discriminator is not None
            assert parameters(found.discriminator(made)) == discriminator


@pytest.mark.parametrize(
    ("size", "widths", "published"),
    [
        (128, [16, 16, 16, 16, 8, 8, 4, 4, 2, 2, 1], 50_388_609),
        (256, [16, 16, 16, 16, 8, 8, 8, 8, 4, 4, 2, 2, 1], 55_880_833),
        (512, [16, 16, 16, 16, 8, 8, 8, 8, 4, 4, 2, 2, 1, 1, 1], 56_163_905),
    ],
)
def test_biggan_deep_is_as_large_as_published(size: int, widths: list[int], published: int) -> None:
    """But for 125 of the 128 channels of the last layer, which the original computes and drops."""
    family = get_family("biggan_deep")
    config = family.configure(
        {"widths": [128 * width for width in widths], "upsample": list(range(1, len(widths) - 1, 2))}
    )
    with torch.device("meta"):
        module = family.generator(config)
    assert config.size == size
    assert parameters(module) == published - 125 * (128 * 9 + 1)
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    assert family.layouts[0].guess(shapes) == config


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GoldenCase]:
    folder = tmp_path_factory.mktemp(request.param)
    config, scalars = CASES[request.param]
    case = load_golden_case(request.param, folder)
    case.inputs.update({name: np.full(len(case.output), value, np.float32) for name, value in scalars.items()})
    export(str(case.checkpoint), folder / "known.ganrt", config=config)
    return folder / "known.ganrt", case


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "pytorch"])
def test_a_known_checkpoint_gives_its_projects_own_pictures(exported: tuple[Path, GoldenCase], backend: str) -> None:
    path, case = exported
    with ganrt.load(path, backend) as generator:
        images = generator(**case.inputs)
        span = case.output.max() - case.output.min()
        assert np.abs(images - case.output).max() < 1e-5 * span
        for k in range(len(images)):  # any batch size
            one = generator(**{name: array[k : k + 1] for name, array in case.inputs.items()})
            assert np.abs(one - images[k]).max() < 1e-5 * span


def test_labels_change_the_picture(exported: tuple[Path, GoldenCase]) -> None:
    with ganrt.load(exported[0], "onnxruntime") as generator:
        if generator.spec.find(ganrt.Label) is None:
            with pytest.raises(RequestError, match="no classes"):
                generator.sample(1, labels=3)
            return
        fours, mixed = generator.sample(3, labels=4), generator.sample(3, labels=[4, 5, 4])
        assert np.array_equal(fours[[0, 2]], mixed[[0, 2]])
        assert np.abs(fours[1].astype(int) - mixed[1]).max() > 8


def test_a_fixed_truncation_is_no_input(tmp_path: Path) -> None:
    case = load_golden_case("biggan_deep_32", tmp_path)
    export(str(case.checkpoint), tmp_path / "fixed.ganrt", config={"upsample": "1,2,4", "truncation": "0.4"})
    with ganrt.load(tmp_path / "fixed.ganrt", "onnxruntime") as generator:
        assert np.abs(generator(**case.inputs) - case.output).max() < 1e-5
        assert np.array_equal(generator.sample(2), generator.sample(2, truncation=0.4))
        assert not np.array_equal(generator.sample(2), generator.sample(2, truncation=1.0))


def test_truncation_reaches_the_latent_and_the_statistics() -> None:
    family = get_family("biggan_deep")
    spec = family.spec(family.configure(DEEP))
    whole, half = (feeds.draw_feeds(spec, 1, 0, 2, truncation=truncation) for truncation in (None, 0.5))
    assert np.array_equal(half["z"], whole["z"] / 2) and np.abs(whole["z"]).max() <= 2
    assert (whole["truncation"] == 1).all() and (half["truncation"] == 0.5).all()
    with pytest.raises(RequestError, match=r"truncation is 0\.01; this model takes 0\.02 to 1"):
        feeds.draw_feeds(spec, 1, 0, 2, truncation=0.01)


def test_what_a_checkpoint_does_not_tell_is_asked_for_by_name(tmp_path: Path) -> None:
    case = load_golden_case("biggan_deep_32", tmp_path)
    with pytest.raises(RequestError, match=r"which of its 6 blocks upsample.*--config upsample=1,3,5"):
        export(str(case.checkpoint), tmp_path / "x.ganrt")


def test_dcgan_of_pytorch_gan_zoo(tmp_path: Path) -> None:
    """Under the names that its models/networks/DCGAN_nets.py gives to the layers."""
    family = get_family("dcgan")
    config = family.configure({"size": 32, "width": 3, "latent": 5})
    state = family.generator(config).state_dict()
    names = {"main.0": "formatLayer", "main.9": "main.outlayer"}
    names |= {f"main.{3 * k + 1}": f"main.batchNorm{k}" for k in range(3)}
    names |= {f"main.{3 * k}": f"main.convTranspose{k}" for k in (1, 2)}
    theirs = {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in state.items()}
    found = recognize(theirs, tmp_path / "zoo.pt")
    assert (found.family.name, found.layout, found.config) == ("dcgan", "pytorch_GAN_zoo", config)
    assert all(torch.equal(found.state[key], value) for key, value in state.items())


def test_a_whole_file_of_pytorch_gan_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings object comes along, and older files have shorter keys."""
    case = load_golden_case("gan_zoo_pgan_32", tmp_path)
    state = torch.load(case.checkpoint)
    older = {key.replace(".module.", "."): value for key, value in state.items()}
    path = tmp_path / "zoo.pt"
    config = type("BaseConfig", (), {"__module__": "models.utils.config"})
    with monkeypatch.context() as patch:
        for name in ("models", "models.utils", "models.utils.config"):
            patch.setitem(sys.modules, name, ModuleType(name))
        patch.setattr(sys.modules["models.utils.config"], "BaseConfig", config, raising=False)
        settings = config()
        settings.depthScale0 = 64
        torch.save({"config": settings, "avgG": older, "netD": {}}, path)
    found, known = recognize(read_state(path), path), recognize(state, case.checkpoint)
    assert found.config == known.config
    assert all(torch.equal(found.state[key], value) for key, value in known.state.items())


@pytest.mark.parametrize("statistics", [("stored_mean", "stored_var"), ("running_mean", "running_var")])
def test_biggan_with_norms_of_its_own(tmp_path: Path, statistics: tuple[str, str]) -> None:
    """--mybn and --cross_replica put the statistics one level deeper."""
    state = torch.load(load_golden_case("biggan_pytorch_64", tmp_path).checkpoint)
    theirs = {}
    for key, value in state.items():
        head, _, leaf = key.rpartition(".")
        if leaf in ("stored_mean", "stored_var"):
            theirs[f"{head}.bn.{statistics[leaf == 'stored_var']}"] = value
            extra = "accumulation_counter" if statistics[0].startswith("stored") else "num_batches_tracked"
            theirs[f"{head}.bn.{extra}"] = torch.zeros(1) if statistics[0].startswith("stored") else torch.tensor(0)
        else:
            theirs[key] = value
    found, known = recognize(theirs, tmp_path / "x.pth"), recognize(state, tmp_path / "x.pth")
    assert found.config == known.config
    assert all(torch.equal(found.state[key], value) for key, value in known.state.items())


def test_biggan_with_a_table_per_norm(tmp_path: Path) -> None:
    """The CIFAR script: no shared embedding, so gains and biases are embeddings without spectral norm."""
    family = get_family("resnet")
    config = family.configure({"width": 2, "classes": 5, "latent": 6})
    state = lively(family.generator(config)).state_dict()
    names = {"norm1": "bn1", "norm2": "bn2", "gains": "gain", "biases": "bias", "shortcut": "conv_sc"}
    names |= {"running_mean": "stored_mean", "running_var": "stored_var", "to_rgb": "output_layer.2"}
    theirs = {}
    for key, value in state.items():
        parts = key.replace("norm1.norm", "norm1").replace("norm2.norm", "norm2").split(".")
        if parts[0] == "norm":
            parts[0], parts[1] = "output_layer.0", {"weight": "gain"}.get(parts[1], parts[1])
        if parts[0] == "blocks":
            parts.insert(2, "0")
        if "num_batches_tracked" not in parts:
            theirs[".".join(names.get(part, part) for part in parts)] = value
    found = recognize(theirs, tmp_path / "x.pth")
    assert (found.layout, found.config) == ("BigGAN-PyTorch", config)
    assert all(torch.equal(found.state[key], value) for key, value in state.items() if "num_batches" not in key)


@pytest.mark.parametrize(
    ("family", "values"),
    [*(("resnet", values) for values in TINY.values()), ("progan", GROWING), ("biggan_deep", DEEP)],
)
def test_training_adds_nothing_that_stays(family: str, values: dict[str, Any]) -> None:
    found = get_family(family)
    config = found.configure(values)
    torch.manual_seed(0)
    trained = (found.trainable or found.generator)(config).train()
    given = inputs(found.spec(config))
    for _ in range(2):
        trained(*given)
    module, plain = found.generator(config).eval(), fold(trained)
    assert {key: value.shape for key, value in plain.state_dict().items()} == {
        key: value.shape for key, value in module.state_dict().items()
    }
    module.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        images = trained.eval()(*given)
        assert torch.allclose(module(*given), images, atol=1e-5)
        assert torch.allclose(plain(*given), images, atol=1e-5)
    assert images.flatten(1).std(1).min() > 0


@pytest.mark.parametrize(
    ("family", "values"), [("resnet", TINY["classes"]), ("resnet", TINY["biggan"]), ("biggan_deep", DEEP)]
)
def test_nothing_depends_on_the_rest_of_the_batch(family: str, values: dict[str, Any]) -> None:
    found = get_family(family)
    config = found.configure(values)
    torch.manual_seed(0)
    module = lively(found.generator(config))
    given = inputs(found.spec(config), 4)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with torch.inference_mode():
        whole = module(*given)
        parts = torch.cat([module(*(value[k : k + 1] for value in given)) for k in range(4)])
        labels = torch.full((4,), 2), torch.full((4,), 1)
        one, other = (module(given[0], label, *given[2:]) for label in labels)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert (one - other).abs().max() > 1e-3
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", TINY)
def test_a_discriminator_judges_the_picture_and_its_class(name: str) -> None:
    family = get_family("resnet")
    config = family.configure(TINY[name])
    torch.manual_seed(0)
    assert family.discriminator is not None
    discriminator = family.discriminator(config).eval()
    images = torch.randn(4, 3, config.size, config.size)
    if not config.classes:
        assert discriminator(images).shape == (4,)
        return
    logits = torch.stack([discriminator(images, torch.full((4,), label)) for label in range(config.classes)])
    assert logits.shape == (config.classes, 4)
    assert logits.std(0).min() > 0


def test_spectral_norm_bounds_every_layer_of_the_discriminator() -> None:
    family = get_family("resnet")
    torch.manual_seed(0)
    assert family.discriminator is not None
    discriminator = family.discriminator(family.configure(TINY["biggan"])).train()
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([0, 2])
    for _ in range(30):
        discriminator(images, labels)
    weights = {key: value for key, value in fold(discriminator).state_dict().items() if key.endswith("weight")}
    assert "embedding.weight" in weights
    for weight in weights.values():
        assert torch.linalg.matrix_norm(weight.flatten(1), 2) == pytest.approx(1, abs=0.05)


def test_progan_grows_without_a_jump() -> None:
    """The end of one stage is the beginning of the next, for both networks, and the last stage is the whole network."""
    family = get_family("progan")
    config = family.configure(GROWING)
    torch.manual_seed(0)
    assert family.trainable is not None and family.discriminator is not None
    generator: Any = family.trainable(config).eval()
    discriminator: Any = family.discriminator(config).eval()
    z, real = torch.randn(4, 5), torch.randn(4, 3, 32, 32)
    whole = generator(z)
    assert torch.allclose(fold(generator)(z), whole, atol=1e-6)

    def at(stage: int, alpha: float) -> list[torch.Tensor]:
        for network in (generator, discriminator):
            network.stage, network.alpha = stage, alpha
        images = generator(z)
        return [images, discriminator(images), discriminator(fade(real, stage, alpha))]

    for stage in range(1, 4):
        for old, new in zip(at(stage - 1, 1.0), at(stage, 0.0), strict=True):
            assert torch.allclose(old, new, atol=1e-5)
        images = at(stage, 0.5)[0]
        assert images.shape == (4, 3, 32, 32)
        pixel = 8 >> stage
        assert torch.equal(
            images, images[:, :, ::pixel, ::pixel].repeat_interleave(pixel, 2).repeat_interleave(pixel, 3)
        )
    assert torch.equal(at(3, 1.0)[0], whole)
    assert torch.equal(fade(real, 3, 1.0), real) and torch.equal(fade(real, 0, 0.5), real)


def test_the_deviation_of_a_group_is_told_to_the_discriminator() -> None:
    torch.manual_seed(0)
    alike = torch.randn(1, 2, 4, 4).repeat(8, 1, 1, 1)
    various = torch.randn(8, 2, 4, 4)
    assert append_deviation(alike)[:, 2].max() < 2e-4
    told = append_deviation(various)
    assert told.shape == (8, 3, 4, 4) and torch.equal(told[:, :2], various)
    groups = [various[k::2].std(0, unbiased=False).mean() for k in range(2)]
    assert torch.allclose(told[:, 2, 0, 0], torch.stack(groups).repeat(4))
    assert append_deviation(various[:3]).shape == (3, 3, 4, 4)


def test_truncation_is_interpolated_as_the_original_does() -> None:
    """Its own arithmetic in float64, against the network's in float32; the five odd values included."""
    family = get_family("biggan_deep")
    config = family.configure({**DEEP, "truncation": 0.0})
    torch.manual_seed(0)
    module: Any = lively(family.generator(config))
    module.norms.means.normal_()
    module.norms.variances.uniform_(0.5, 1.5)
    given = inputs(family.spec(config), 1)[:2]
    assert {k: _effective_row(k) for k in range(51) if _effective_row(k) != k} == {7: 8, 14: 15, 28: 29, 29: 28, 47: 46}
    for truncation in (0.02, 0.14, 0.28, 0.4, 0.405, 0.56, 0.58, 0.77, 0.94, 0.999, 1.0):
        fixed = family.generator(family.configure({**DEEP, "truncation": truncation})).eval()
        fixed.load_state_dict(module.state_dict())
        with torch.inference_mode():
            asked = module(*given, torch.tensor([truncation]))
            assert torch.allclose(asked, fixed(*given), atol=2e-4), truncation


@pytest.mark.parametrize(
    ("family", "values", "message"),
    [
        ("resnet", {"size": 48}, "size is 48; resnet makes images of 32, 64, 128, 256 pixels"),
        ("resnet", {"spectral": "all"}, "spectral is 'all'; it must be none, discriminator or both"),
        ("resnet", {"attention": "32"}, r"attention is \(32,\); it takes powers of 2 from 8 to half the size"),
        ("resnet", {"hierarchical": True, "latent": 7}, "latent is 7; a hierarchical one is a multiple of 4"),
        ("resnet", {"shared": 8}, "shared goes with classes"),
        ("resnet", {"hierarchical": True, "classes": 3}, "shared goes with classes"),
        ("resnet", {"eps": 0.0}, r"eps is 0\.0; it must be between 0 and 1"),
        ("progan", {"widths": "8"}, r"widths is \(8,\); it takes 2 to 9 numbers from 1 to 4096"),
        ("biggan_deep", {"widths": "8"}, "widths is .*; it takes 2 to 41 numbers from 4 to 8192"),
        ("biggan_deep", {"upsample": "1,1"}, r"upsample is \(1, 1\); it takes different numbers from 0 to 9"),
        ("biggan_deep", {"attention": 10}, "attention is 10; it must be from -1 to 9"),
        ("biggan_deep", {"truncation": "0.01"}, r"truncation is 0\.01; it must be from 0\.02 to 1, or 0 for an input"),
        ("biggan_deep", {"eps": 1.0}, r"eps is 1\.0; it must be between 0 and 1"),
    ],
)
def test_configs_that_cannot_be(family: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        get_family(family).configure(values)
