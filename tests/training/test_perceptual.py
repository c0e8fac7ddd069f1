"""What pictures are compared by, against numpy; style pictures; holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ganrt import images
from ganrt.errors import ArtifactError, CheckpointError, RequestError
from ganrt.models import vgg
from ganrt.training import perceptual
from ganrt.training.masks import NUMBERS, centre_mask, draw_masks
from ganrt.training.style_pictures import BUNDLED, load_style_picture

BANK = perceptual.load_feature_extractor()


def features(seed: int) -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    return {name: torch.rand(2, 3, side, side + 1, generator=numbers) for name, side in {"a": 6, "b": 3}.items()}


def test_style_is_the_difference_of_gram_matrices() -> None:
    found, style = features(0), {name: value[:1] for name, value in features(1).items()}
    wanted = 0.0
    for name in found:
        here, there = (np.einsum("nchw,ndhw->ncd", x[name].numpy(), x[name].numpy()) for x in (found, style))
        here, there = here / found[name][0, 0].numel(), there / style[name][0, 0].numel()
        wanted += np.mean((here - there) ** 2) / np.mean(there**2) / 2
    grams = {name: perceptual.gram(value) for name, value in style.items()}
    assert float(perceptual.style_loss(found, grams)) == pytest.approx(wanted, rel=1e-5)


def test_statistics_are_means_and_unbiased_deviations() -> None:
    found, style = features(0), features(1)
    wanted = 0.0
    for name, scale in {"a": 2.0, "b": 0.5}.items():
        (m, s), (n, t) = (
            (x[name].numpy().mean((2, 3)), np.sqrt(x[name].numpy().var((2, 3), ddof=1) + 1e-5)) for x in (found, style)
        )
        wanted += (np.mean((m - n) ** 2) + np.mean((s - t) ** 2)) / scale / 2
    assert float(perceptual.statistics_loss(found, style, {"a": 2.0, "b": 0.5})) == pytest.approx(wanted, rel=1e-4)


def test_content_is_compared_place_by_place_in_the_layers_that_have_a_scale() -> None:
    found, wanted = features(0), features(1)
    expected = np.mean((found["a"] - wanted["a"]).numpy() ** 2) / 4
    assert float(perceptual.content_loss(found, wanted, {"a": 4.0})) == pytest.approx(expected, rel=1e-5)


def test_total_variation_is_that_of_neighbours() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(1, 1, 4, 3)
    assert float(perceptual.total_variation(stripes)) == 1.0
    assert float(perceptual.total_variation(stripes.mT)) == 1.0
    assert float(perceptual.total_variation(torch.ones(1, 3, 4, 4))) == 0.0


def test_filters_are_blind_to_flat_colour_and_the_same_for_everybody() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    again = perceptual.FilterBank()
    assert torch.equal(before, torch.random.get_rng_state())
    x = torch.full((1, 3, 32, 32), 0.9)
    found = again(x, ["texture1", "texture5", "colour5"])
    assert float(found["texture1"].max()) < 1e-5
    assert found["colour5"].shape == (1, 6, 2, 2) and found["texture5"].shape == (1, 48, 2, 2)
    assert torch.equal(found["texture1"], BANK.network(x, ["texture1"])["texture1"])
    with pytest.raises(RequestError, match="the filter bank has no layer 'relu1_1'; it has colour1, texture1, colour2"):
        again(x, ["relu1_1"])


def test_a_picture_is_told_from_its_negative() -> None:
    picture = torch.rand(1, 3, 32, 32) * torch.tensor([0.9, 0.5, 0.2])[:, None, None]
    seen = BANK(picture)
    wanted = {name: perceptual.gram(seen[name]) for name in BANK.style}
    assert float(perceptual.style_loss(seen, wanted)) == 0
    assert float(perceptual.style_loss(BANK(1 - picture), wanted)) > 0.5


def test_scales_make_photographs_count_about_one() -> None:
    photo = torch.from_numpy(images.from_uint8(load_style_picture("immunohistochemistry", 64)[None], (0.0, 1.0)))
    seen = BANK(photo)
    nothing = {name: torch.zeros_like(value) for name, value in seen.items()}
    assert 0.2 < float(perceptual.content_loss(seen, nothing, BANK.scale)) < 5


@pytest.mark.parametrize(("depth", "content"), [(16, "relu2_2"), (19, "relu4_2")])
def test_vgg_is_taken_from_a_checkpoint(tmp_path: Path, depth: vgg.Depth, content: str) -> None:
    file = tmp_path / "vgg.pth"
    state = vgg.VGG(depth).state_dict()
    torch.save(state, file)
    found = perceptual.load_feature_extractor(str(file))
    assert found.content == (content,) and content in found.scale
    assert torch.equal(found.network.state_dict()["features.0.weight"], state["features.0.weight"])


def test_other_files_are_no_vgg(tmp_path: Path) -> None:
    torch.save({"main.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="this is no VGG-16 or VGG-19 of torchvision: 0 of its 1 tensors"):
        perceptual.load_feature_extractor(str(tmp_path / "other.pth"))
    with pytest.raises(CheckpointError, match=r"none\.pth cannot be read: No such file"):
        perceptual.load_feature_extractor(str(tmp_path / "none.pth"))


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_style_pictures(name: str) -> None:
    picture = load_style_picture(name, 32)
    assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8 and picture.std() > 5


def test_a_style_picture_of_one_s_own(tmp_path: Path) -> None:
    drawn = np.zeros((20, 40, 3), np.uint8)
    drawn[:, 10:30, 0] = 200  # the square in the middle is red
    (tmp_path / "red.png").write_bytes(images.encode_png(drawn))
    np.testing.assert_array_equal(load_style_picture(str(tmp_path / "red.png"), 8), np.full((8, 8, 3), (200, 0, 0)))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ArtifactError, match=r"text\.png is in none of the formats that are read: PNG, JPEG, WEBP"):
        load_style_picture(str(tmp_path / "text.png"), 8)
    with pytest.raises(
        RequestError, match="there is no style picture 'starry_night': it is not a file and none of immuno"
    ):
        load_style_picture("starry_night", 8)


def test_holes_have_the_sizes_that_are_promised() -> None:
    drawn = torch.rand(64, NUMBERS, generator=torch.Generator().manual_seed(0))
    made = draw_masks(32, 48, drawn)
    assert made.shape == (64, 1, 32, 48) and set(made.unique().tolist()) == {0.0, 1.0}
    rectangles, strokes = made[drawn[:, 0] < 0.5], made[drawn[:, 0] >= 0.5]
    for mask in rectangles[:, 0]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 7 <= len(rows) <= 17 and 11 <= len(columns) <= 25
    shares = strokes.mean((1, 2, 3))
    assert float(shares.min()) > 0.02 and float(shares.max()) < 0.7 and len(shares.unique()) > 20
    assert torch.equal(draw_masks(32, 48, drawn[5:6]), made[5:6])


def test_the_hole_in_the_middle_has_half_the_sides() -> None:
    mask = centre_mask(8, 12)[0, 0]
    assert mask.sum() == 24 and mask[2:6, 3:9].all()
