"""`ganrt sample` with a value per picture, and what its files say about their pictures."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner, Result
from fakes.sessions import CLASSES, FakeSession

import ganrt
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.cli.saving import save_pictures
from ganrt.generator import Generator
from ganrt.images import read_picture


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def folder(bundle: Bundle) -> Path:
    return bundle.folder


def read_text(path: Path) -> dict[str, str]:
    with PIL.Image.open(path) as image:
        return dict(image.text)  # type: ignore[attr-defined]


def test_a_value_per_picture(folder: Path, tmp_path: Path) -> None:
    """The number of pictures is that of the values; each file says what it was drawn from."""
    values = ("--seed", "7,18446744073709551615,7", "--start", "0,5,1", "--truncation", "0.5,1.5,2")
    for name in ("arrays.npz", "pictures", "grid.png"):
        result = run("sample", folder, *values, "--out", tmp_path / name, "--backend", "onnxruntime")
        assert result.exit_code == 0 and "3 pictures by onnxruntime" in result.stdout, result.output
    with ganrt.load(folder, "onnxruntime") as generator:
        digest = generator.info.digest
        wanted = generator.sample(seed=[7, 2**64 - 1, 7], start=[0, 5, 1], truncation=[0.5, 1.5, 2])
        with np.load(tmp_path / "arrays.npz") as file:
            assert np.array_equal(file["images"], wanted) and str(file["bundle"]) == digest
            assert file["seeds"].tolist() == [7, 2**64 - 1, 7] and file["indices"].tolist() == [0, 5, 1]
            again = generator.sample(seed=file["seeds"], start=file["indices"], truncation=file["truncation"])
            assert "labels" not in file and np.array_equal(again, wanted)
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in paths] == ["00000000.png", "00000001.png", "00000002.png"]
    assert np.array_equal(read_picture(paths[1], 3), wanted[1])
    last = {"seed": "18446744073709551615", "index": "5", "truncation": "1.5", "bundle": digest}
    assert read_text(paths[1]) == last
    request = {"n": "3", "seed": values[1], "start": "0,5,1", "truncation": "0.5,1.5,2", "bundle": digest}
    assert read_text(tmp_path / "grid.png") == request


def test_pictures_of_one_seed_say_their_sample(folder: Path, tmp_path: Path) -> None:
    assert run("sample", folder, "-n", 2, "--seed", 7, "--start", 3, "--out", tmp_path / "made").exit_code == 0
    text = read_text(tmp_path / "made" / "00000004.png")
    assert text.pop("bundle") and text == {"seed": "7", "index": "4"}


def test_without_a_number_there_are_64_pictures(folder: Path, tmp_path: Path) -> None:
    assert run("sample", folder, "--seed", 7, "--out", tmp_path / "x.npz").exit_code == 0
    assert len(np.load(tmp_path / "x.npz")["images"]) == 64


def test_drawn_labels_are_kept(tmp_path: Path) -> None:
    draw = Generator(CLASSES, FakeSession(CLASSES)).draw(3, seed=7, labels=[None, 4, None])
    pictures = np.zeros((3, 4, 4, 1), np.uint8)
    save_pictures([pictures[:2], pictures[2:]], tmp_path / "made.npz", draw, {}, "abc", False)
    with np.load(tmp_path / "made.npz") as file:
        assert draw.labels is not None and file["labels"].tolist() == draw.labels.tolist()
        assert file["images"].shape == (3, 4, 4, 1) and str(file["bundle"]) == "abc"
