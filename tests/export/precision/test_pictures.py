"""The user's pictures: which files, which parts of them, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganrt.errors import ArtifactError, RequestError
from ganrt.export.precision import pictures, read_crops
from ganrt.images import Pictures, encode_png
from ganrt.spec import Image, Latent, Output, Spec

SIZE = (12, 16)


def take_images(*inputs: Image) -> Spec:
    return Spec("small", inputs, Output(3, (0.0, 1.0), (8, 8)))


def photo(name: str = "photo", role: str = "content", channels: int = 3, **others: Any) -> Image:
    return Image(name, role, channels, (0.0, 1.0), **others)


def write(folder: Path, name: str, picture: Pictures) -> None:
    (folder / name).write_bytes(encode_png(picture))


def paint(shade: int, height: int = 40, width: int = 60) -> Pictures:
    """One that is told from others by its red channel; green and blue are the row and the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([np.full_like(rows, shade), rows, columns], axis=-1).astype(np.uint8)


def read(folder: Path, *inputs: Image, sizes: Any = (SIZE,)) -> pictures.PictureCrops:
    every = [dict.fromkeys([item.name for item in inputs], size) for size in sizes]
    return read_crops(folder, take_images(*inputs), every, lambda _: None)


def shades(crops: pictures.Crops, name: str = "photo") -> list[int]:
    return [int(picture[0, 0, 0]) for picture in crops[name]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(15):
        write(tmp_path, f"{number}.png", paint(number))
    return tmp_path


def test_half_of_the_files_is_held_out(folder: Path) -> None:
    found = read(folder, photo())
    shown, held = set(shades(found.calibration)), set(shades(found.held_out[0]))
    assert len(shown) == 8 and len(held) == 7 and not shown & held
    assert found.calibration["photo"].shape == (16, *SIZE, 3) and found.held_out[0]["photo"].shape == (8, *SIZE, 3)
    assert (found.files, found.used, found.skipped) == (15, (8, 7), ())
    assert str(found) == "16 crops from 8 of 15 picture files; 8 from 7 other files are held out"


def test_crops_are_parts_of_the_pictures_as_they_are(folder: Path) -> None:
    found = read(folder, photo()).calibration["photo"]
    places = set()
    for shade, top, left in found[:, 0, 0].tolist():
        places.add((top, left))
        here = next(picture for picture in found if picture[0, 0].tolist() == [shade, top, left])
        np.testing.assert_array_equal(here, paint(shade)[top : top + SIZE[0], left : left + SIZE[1]])
    assert len(places) > 8


def test_the_same_folder_gives_the_same_crops_wherever_it_is(folder: Path, tmp_path: Path) -> None:
    one = read(folder, photo())
    other = tmp_path / "copy" / "of"
    other.mkdir(parents=True)
    for path in sorted(folder.glob("*.png"), reverse=True):
        (other / path.name).write_bytes(path.read_bytes())
    again = read(other, photo())
    np.testing.assert_array_equal(one.calibration["photo"], again.calibration["photo"])
    np.testing.assert_array_equal(one.held_out[0]["photo"], again.held_out[0]["photo"])


def test_many_files_are_not_all_read(tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path, f"{number}.png", paint(number))
    found = read(tmp_path, photo())
    assert found.used == (16, 8) and len(set(shades(found.calibration))) == 16
    assert str(found) == "16 crops from 16 of 60 picture files; 8 from 8 other files are held out"


def test_held_out_crops_of_every_size_are_from_further_files(folder: Path) -> None:
    found = read(folder, photo(), sizes=(SIZE, (20, 8), (9, 9)))
    assert [crops["photo"].shape for crops in found.held_out] == [(3, *SIZE, 3), (3, 20, 8, 3), (3, 9, 9, 3)]
    assert len({shade for crops in found.held_out for shade in shades(crops)}) == 7
    assert found.calibration["photo"].shape[1:3] == SIZE


def test_what_cannot_be_read_is_named_and_skipped(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    Pillow.new("L", (9000, 9000)).save(tmp_path / "bomb.png")
    content = encode_png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "notes.txt").write_text("no picture by its name either")
    lines: list[str] = []
    with pytest.raises(ArtifactError, match="holds no pictures to calibrate on; give it PNG, JPEG or WebP files"):
        read_crops(tmp_path, take_images(photo()), [{"photo": SIZE}], lines.append)
    assert len(lines) == 4
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", "one.png", paint(1))
    write(tmp_path, "two.png", paint(2))
    lines.clear()
    found = read_crops(tmp_path, take_images(photo()), [{"photo": SIZE}], lines.append)
    assert sorted(Path(line.split(": ")[1].split(" ")[0]).name for line in lines) == [
        *("bomb.png", "cut.png", "empty.jpg", "text.png")
    ]
    assert all(line.startswith("skipped: ") for line in lines) and len(found.skipped) == 4
    assert {*shades(found.calibration), *shades(found.held_out[0])} == {1, 2}
    assert str(found).endswith(
        "6 crops from 1 of 6 picture files; 3 from 1 other file are held out; 4 could not be read"
    )


def test_one_picture_is_calibrated_on_and_proven_at_different_places(tmp_path: Path) -> None:
    (tmp_path / "broken.png").touch()
    write(tmp_path, "a.png", paint(7))
    found = read(tmp_path, photo())
    assert found.calibration["photo"].shape == (16, *SIZE, 3) and found.held_out[0]["photo"].shape == (8, *SIZE, 3)
    assert found.calibration["photo"][..., 2].max() < 30 <= found.held_out[0]["photo"][..., 2].min()
    assert "16 crops from 1 of 2 picture files; 8 from another part of it are held out" in str(found)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 1), (30, 3), (12, 16)])
def test_small_pictures_are_continued_by_reflection(height: int, width: int, tmp_path: Path) -> None:
    write(tmp_path, "a.png", paint(3, height, width))
    write(tmp_path, "b.png", paint(4, height, width))
    found = read(tmp_path, photo()).calibration["photo"]
    assert found.shape == (16, *SIZE, 3)
    rows = found[0, :, 0, 1].astype(int)
    assert set(rows.tolist()) <= set(range(height)) and np.abs(np.diff(rows)).max() <= 1
    assert np.bincount(rows).max() <= -(-SIZE[0] // height) + 1  # reflected: the last row is not repeated


def test_a_model_of_one_size_gets_the_whole_photograph(tmp_path: Path) -> None:
    write(tmp_path, "a.png", paint(3, 80, 160))
    write(tmp_path, "b.png", paint(4, 80, 160))
    found = read(tmp_path, photo(size=(8, 8))).calibration["photo"]
    heights = np.ptp(found[..., 1].astype(int), axis=(1, 2))
    assert found.shape == (16, 8, 8, 3) and heights[0] > 60  # all rows, and as many columns
    assert np.ptp(found[0, ..., 2].astype(int)) == pytest.approx(heights[0], abs=6)
    assert 30 < heights.min() < 60 and len(set(heights.tolist())) > 4  # parts of it, never less than half of a side


def test_no_picture_is_enlarged_without_need(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path, f"{name}.png", paint(3, 10, 12))
    found = read(tmp_path, photo(size=(8, 8))).calibration["photo"]
    assert np.ptp(found[..., 1].astype(int), axis=(1, 2)).min() >= 6


def test_several_inputs_get_files_in_turn_and_those_like_another_the_same_part(folder: Path) -> None:
    content, style, depth = photo("content"), photo("style", "style"), photo("depth", "depth", 1, like="content")
    found = read(folder, content, style, depth).calibration
    assert all(one != other for one, other in zip(shades(found, "content"), shades(found, "style"), strict=True))
    for picture, grey in zip(found["content"], found["depth"], strict=True):
        from PIL import Image as Pillow

        np.testing.assert_array_equal(grey[..., 0], np.asarray(Pillow.fromarray(picture).convert("L")))


@pytest.mark.parametrize("role", ["mask", "labels", "instances", "segmentation"])
def test_masks_and_maps_stay_made_up_beside_photographs(role: str, folder: Path) -> None:
    found = read(folder, photo(), photo("other", role, 1, like="photo"), photo("many", "content", 5))
    assert set(found.calibration) == {"photo"}


def test_a_folder_is_of_maps_where_the_model_takes_nothing_else(folder: Path) -> None:
    found = read(folder, photo("labels", "labels", 1, size=(8, 8))).calibration["labels"]
    assert set(np.unique(found)) <= set(np.unique([np.asarray(_pillow(paint(k)).convert("L")) for k in range(15)]))


def test_values_of_a_map_are_not_mixed(tmp_path: Path) -> None:
    checks = np.repeat(np.indices((40, 40)).sum(axis=0)[..., None] % 2 * 255, 3, axis=-1).astype(np.uint8)
    for name in "ab":
        write(tmp_path, f"{name}.png", checks)
    assert set(np.unique(read(tmp_path, photo("m", "mask", 3, size=(9, 9))).calibration["m"])) <= {0, 255}
    assert len(np.unique(read(tmp_path, photo("m", "content", 3, size=(9, 9))).calibration["m"])) > 2


def test_one_crop_in_four_is_flat(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    noise[:100, :100] = 90
    for number in range(4):
        write(tmp_path, f"{number}.png", noise)
    found = read(tmp_path, photo())
    flat = [picture.std() < 30 for picture in found.calibration["photo"]]
    assert 4 <= sum(flat) <= 9 and any(picture.std() < 30 for picture in found.held_out[0]["photo"])


@pytest.mark.parametrize("inputs", [(Latent("z", (4,)),), (photo("many", "labels", 35),)])
def test_a_model_without_pictures_takes_none(inputs: Any, folder: Path) -> None:
    with pytest.raises(RequestError, match="pictures to calibrate on were given, but this small model takes none"):
        read_crops(folder, Spec("small", inputs, Output(3, (0.0, 1.0), (8, 8))), [{"many": SIZE}], lambda _: None)


def _pillow(picture: Pictures) -> Any:
    from PIL import Image as Pillow

    return Pillow.fromarray(picture)
