"""Style transfer by optimisation, on real photographs and textures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch

from ganrt import images
from ganrt.errors import ArtifactError, MachineError, RequestError
from ganrt.images import Pictures
from ganrt.models import vgg
from ganrt.training import gatys, perceptual, stylize

PHOTO = images.resize(skimage.data.astronaut(), (40, 32))
STYLE = images.resize(skimage.data.immunohistochemistry(), (64, 48))


def style_distance(features: perceptual.FeatureExtractor, picture: Pictures, style: Pictures) -> float:
    found, wanted = (features(torch.from_numpy(images.from_uint8(each[None], (0.0, 1.0)))) for each in (picture, style))
    grams = {name: perceptual.gram(wanted[name]) for name in features.style}
    return float(perceptual.style_loss(found, grams))


def check_painted(features: perceptual.FeatureExtractor, painted: Pictures) -> None:
    assert painted.dtype == np.uint8 and painted.shape == (40, 32, 3)
    style = images.resize(STYLE, (40, 30))
    assert style_distance(features, painted, style) < 0.2 * style_distance(features, PHOTO, style)
    edges = [np.abs(np.diff(picture.mean(-1), axis=0)).ravel() for picture in (PHOTO, painted)]
    assert np.corrcoef(*edges)[0, 1] > 0.4


def test_the_filter_bank_brings_the_style_nearer_and_keeps_the_scene() -> None:
    reports: list[tuple[float, str]] = []
    painted = stylize(PHOTO, STYLE, steps=20, device="cpu", progress=lambda share, text: reports.append((share, text)))
    check_painted(perceptual.load_feature_extractor(), painted)
    shares = [share for share, _ in reports]
    assert shares == sorted(shares) and shares[0] == 1 / 20 and shares[-1] == 1.0
    assert reports[0][1].startswith("step 1, loss ")


def test_a_checkpoint_of_vgg_is_used(tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    torch.manual_seed(0)
    torch.save(vgg.VGG(16).state_dict(), file)
    painted = stylize(PHOTO, STYLE, steps=10, device="cpu", weights=file)
    style = images.resize(STYLE, (40, 30))
    features = perceptual.load_feature_extractor(str(file))
    assert style_distance(features, painted, style) < style_distance(features, PHOTO, style)


def test_the_content_is_scaled_down_to_the_size_and_never_up() -> None:
    assert stylize(PHOTO, STYLE, size=25, steps=1, device="cpu").shape == (25, 20, 3)
    assert stylize(PHOTO, STYLE, size=400, steps=1, device="cpu").shape == (40, 32, 3)


def test_files_and_pillow_images_give_what_arrays_give(tmp_path: Path) -> None:
    (tmp_path / "style.png").write_bytes(images.encode_png(STYLE))
    wanted = stylize(PHOTO, STYLE, steps=2, device="cpu")
    assert np.array_equal(stylize(PIL.Image.fromarray(PHOTO), tmp_path / "style.png", steps=2, device="cpu"), wanted)


def test_a_seed_starts_from_noise_of_its_own() -> None:
    first, again, other = (stylize(PHOTO, STYLE, steps=2, device="cpu", seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, stylize(PHOTO, STYLE, steps=2, device="cpu"))


def test_the_style_weight_trades_the_scene_for_the_style() -> None:
    features, style = perceptual.load_feature_extractor(), images.resize(STYLE, (40, 30))
    faint, strong = (stylize(PHOTO, STYLE, steps=15, device="cpu", style_weight=weight) for weight in (0.01, 100.0))
    assert style_distance(features, strong, style) < style_distance(features, faint, style)
    assert np.abs(strong.astype(int) - PHOTO).mean() > np.abs(faint.astype(int) - PHOTO).mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "size is 512, steps is 0, style_weight is 100.0; they must be at least 16, 1 and 0"),
        ({"size": 15}, "size is 15, steps"),
        ({"style_weight": float("nan")}, "style_weight is nan; they must"),
        ({"style_weight": -1.0}, "style_weight is -1.0; they must"),
        ({"style_weight": 1e39}, "the loss is inf after 0 steps; try a smaller style_weight"),
        ({"content": PHOTO[:15]}, "content has 15 x 32 pixels at this size; each side needs at least 16"),
        ({"style": STYLE[:, :10]}, "style has 40 x 6 pixels at this size"),
        ({"style": np.stack([STYLE, STYLE])}, "style holds 2 pictures; give one"),
        ({"content": PHOTO / 255}, "content is an array of float64; give a uint8 or uint16 array"),
        ({"content": PHOTO.astype(np.uint16)}, "content is an array of uint16; give a uint8 array, a path"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0"),
        ({"device": "gpu"}, "there is no device 'gpu'; choose auto, cpu, cuda, cuda:N"),
    ],
)
def test_requests_that_cannot_be_met(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        stylize(**{"content": PHOTO, "style": STYLE, "steps": 1, "device": "cpu", **change})


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ArtifactError, match=r"notes\.txt is in none of the formats that are read: PNG"):
        stylize(PHOTO, tmp_path / "notes.txt", device="cpu")


def test_devices_that_are_missing_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gatys.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MachineError, match=r"stylizing was to run on cuda:1; torch finds 1 CUDA devices"):
        stylize(PHOTO, STYLE, device="cuda:1")
