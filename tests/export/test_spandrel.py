"""Checkpoints that spandrel knows: modules with a Spec, proven like all others."""

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from enum import Enum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ganrt
from ganrt.errors import CheckpointError, RequestError
from ganrt.export import export
from ganrt.export.sources import open_source

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("spandrel"), reason="spandrel is not installed")


@pytest.fixture(scope="module", autouse=True)
def torchvision() -> Iterator[None]:
    """spandrel imports torchvision for two architectures that are not loaded here; it is not needed for the others."""
    if importlib.util.find_spec("torchvision"):
        yield
        return
    functional: Any = ModuleType("torchvision.transforms.functional")
    functional.InterpolationMode, functional.rotate, functional.normalize = Enum("Mode", "BILINEAR"), None, None
    with pytest.MonkeyPatch.context() as patch:
        for module in (ModuleType("torchvision"), ModuleType("torchvision.transforms"), functional):
            module.__spec__ = ModuleSpec(module.__name__, None)
            patch.setitem(sys.modules, module.__name__, module)
        import spandrel

        assert spandrel.MAIN_REGISTRY
        yield


def save(module: nn.Module, path: Path) -> Path:
    """The state dict of a module, as a file."""
    save_file({key: value.contiguous().clone() for key, value in module.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from spandrel.architectures.DnCNN import DnCNN

    torch.manual_seed(0)
    network = DnCNN(in_nc=3, out_nc=3, nc=8, nb=8, act_mode="R")
    return save(network, tmp_path_factory.mktemp("spandrel") / "dncnn.safetensors")


def make_transformer() -> nn.Module:
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="meshgrid"):
        return SwinIR(
            img_size=8, embed_dim=4, depths=[1], num_heads=[1], window_size=4, upscale=2, upsampler="pixelshuffle"
        )


def make_restorer() -> nn.Module:
    from spandrel.architectures.NAFNet import NAFNet

    torch.manual_seed(0)
    network: nn.Module = NAFNet(width=4, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    for part in network.modules():
        if isinstance(part, nn.Conv2d):  # the initial scale of its branches is 0
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return network


def run_spandrel(path: Path, picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What spandrel itself makes of a picture, uint8 HWC, as floats from 0 to 255."""
    import spandrel

    descriptor = spandrel.ModelLoader(device="cpu").load_from_file(path)
    given = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        images: Any = descriptor(given)[0].permute(1, 2, 0).numpy() * 255
    return images


def test_a_network_is_proven_at_any_size(tmp_path: Path) -> None:
    path, lines = save(make_restorer(), tmp_path / "nafnet.safetensors"), list[str]()
    bundle = export(path, tmp_path / "x.ganrt", backends="onnxruntime", progress=lines.append)
    assert any("nafnet.safetensors is NAFNet of spandrel" in line for line in lines)
    assert (bundle.spec.output.scale, bundle.spec.output.size, bundle.spec.output.reach) == (1, None, None)
    (proof,) = bundle.variants["fp32"].proofs
    assert proof.passed and proof.worst_psnr > 110
    assert bundle.provenance["source"]["original"].startswith("NAFNet of spandrel")
    rng = np.random.default_rng(0)
    with ganrt.load(tmp_path / "x.ganrt", backend="onnxruntime") as generator:
        for size in ((40, 56), (45, 51)):  # multiples of what it needs, and none
            picture = rng.integers(0, 256, (*size, 3), np.uint8)
            assert np.abs(generator.transform(picture) - run_spandrel(path, picture)).max() <= 0.51


def test_a_transformer_that_fixes_its_batch_size_takes_one_image_at_a_time(tmp_path: Path) -> None:
    spec = open_source(save(make_transformer(), tmp_path / "swinir.safetensors")).spec
    assert spec.single and (spec.family, spec.output.scale, spec.output.reach) == ("SwinIR", 2, None)


def test_the_receptive_field_of_convolutions_is_measured(denoiser: Path) -> None:
    source = open_source(denoiser)
    spec = source.spec
    assert (spec.family, spec.output.reach, spec.single) == ("DnCNN", 8, False)
    assert source.remarks == (f"dncnn.safetensors is DnCNN of spandrel {importlib.metadata.version('spandrel')}",)


def test_settings_are_spandrels_own(denoiser: Path) -> None:
    with pytest.raises(RequestError, match="is DnCNN, which spandrel loads without settings: leave --config out"):
        open_source(denoiser, {"width": 8})
    with pytest.raises(RequestError, match="brings its own Spec"):
        open_source(denoiser, spec=open_source(denoiser).spec)


def test_what_spandrel_does_not_know_keeps_its_error(tmp_path: Path) -> None:
    path = save(nn.Sequential(nn.Conv2d(3, 3, 3)), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="is no checkpoint of a family that ganrt knows") as caught:
        open_source(path)
    assert "pip install" not in str(caught.value)


def test_what_spandrel_cannot_load_is_an_error(denoiser: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import spandrel

    def fail(*arguments: Any) -> None:
        raise IndexError("no such layer")

    monkeypatch.setattr(spandrel.ModelLoader, "load_from_state_dict", fail)
    with pytest.raises(CheckpointError, match=r"spandrel recognizes it, but cannot load it: .*no such layer"):
        open_source(denoiser)


def test_a_missing_library_is_named(denoiser: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(CheckpointError, match=r'pip install "ganrt\[spandrel\]" adds some forty architectures'):
        open_source(denoiser)
