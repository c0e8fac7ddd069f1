"""Pictures from the three sources, and the order they come in."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from ganrt.errors import ArtifactError, MissingLibraryError, RequestError
from ganrt.training import load_images
from ganrt.training.data import shuffle_indices


def test_digits_are_the_scans_resized() -> None:
    data = load_images("digits", 8, 1)
    assert data.pictures.shape == (1797, 8, 8, 1) and data.pictures.dtype == np.uint8
    assert data.labels is not None and data.labels.dtype == np.int64
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (data.pictures.min(), data.pictures.max()) == (0, 255)
    assert len(np.unique(data.pictures)) == 17
    assert data.name == "digits" and len(data) == 1797


def test_digits_in_colour_are_grey() -> None:
    grey, colour = load_images("digits", 16, 1), load_images("digits", 16, 3)
    assert colour.pictures.shape == (1797, 16, 16, 3)
    assert (colour.pictures == grey.pictures).all()
    assert colour.digest() != grey.digest()


def test_digits_without_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingLibraryError, match=r"`digits` needs sklearn.*ganrt\[train\]"):
        load_images("digits", 16, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of odd sizes, with a red, a green and a blue centre, and files that are no pictures."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    sizes = {"b.png": (21, 13), "deep/er/a.JPG": (16, 40), "z.webp": (9, 9)}
    for channel, (name, (width, height)) in enumerate(sizes.items()):
        array = np.zeros((height, width, 3), np.uint8)
        array[..., channel] = 255
        if width > height:  # what the centre crop must cut off
            array[:, :4] = array[:, -4:] = 255
        PIL.Image.fromarray(array).save(tmp_path / name, quality=100)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_a_folder_is_read_in_order_cropped_and_resized(folder: Path) -> None:
    data = load_images(f"folder:{folder}", 8, 3)
    assert data.pictures.shape == (3, 8, 8, 3) and data.labels is None
    assert data.pictures.mean(axis=(1, 2)).argmax(axis=1).tolist() == [0, 1, 2]
    assert (data.pictures[0] == [255, 0, 0]).all()
    assert load_images(f"folder:{folder}", 8, 1).pictures.shape == (3, 8, 8, 1)


def test_a_damaged_picture_is_named(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    with pytest.raises(ArtifactError, match=r"bad\.png begins as a PNG file does, but it is damaged"):
        load_images(f"folder:{folder}", 8, 3)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds no pictures: no file in it ends in \.png"):
        load_images(f"folder:{tmp_path}", 8, 3)
    with pytest.raises(ArtifactError, match="is not a folder"):
        load_images(f"folder:{tmp_path / 'nowhere'}", 8, 3)


def save(path: Path, **arrays: object) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def test_npz_with_and_without_a_channel_axis(tmp_path: Path) -> None:
    pictures = np.arange(2 * 6 * 4, dtype=np.uint8).reshape(2, 6, 4)
    flat = load_images(save(tmp_path / "flat.npz", images=pictures, labels=np.array([3, 1], np.uint8)), 4, 1)
    deep = load_images(save(tmp_path / "deep.npz", images=pictures[..., None]), 4, 1)
    np.testing.assert_array_equal(flat.pictures, pictures[:, 1:5, :, None])
    np.testing.assert_array_equal(flat.pictures, deep.pictures)
    assert flat.labels is not None and flat.labels.tolist() == [3, 1] and flat.labels.dtype == np.int64
    assert deep.labels is None


GREY = np.zeros((2, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "channels", "message"),
    [
        ({"pictures": GREY}, 1, r"has no array `images`; it has pictures"),
        ({"images": GREY}, 3, r"images is uint8 of shape \(2, 8, 8\); wanted uint8 of shape \(N, H, W, 3\)$"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8)}, 1, r"wanted uint8 of shape \(N, H, W, 1\) or \(N, H, W\)$"),
        ({"images": GREY.astype(np.float32)}, 1, r"images is float32"),
        ({"images": GREY[0]}, 1, r"shape \(8, 8\)"),
        ({"images": GREY[:0]}, 1, r"shape \(0, 8, 8\)"),
        ({"images": GREY, "labels": np.zeros(3, np.int64)}, 1, r"labels is int64 of shape \(3,\); wanted .*\(2,\)"),
        ({"images": GREY, "labels": np.zeros(2)}, 1, r"labels is float64"),
    ],
)
def test_npz_with_the_wrong_arrays(tmp_path: Path, arrays: dict[str, object], channels: int, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load_images(save(tmp_path / "x.npz", **arrays), 8, channels)


def test_npz_that_is_damaged_or_something_else(tmp_path: Path) -> None:
    good = Path(save(tmp_path / "good.npz", images=np.random.default_rng(0).integers(0, 255, (9, 32, 32), np.uint8)))
    whole = good.read_bytes()
    changed = bytearray(whole)
    changed[2000] ^= 1
    for content in (b"", b"nonsense", whole[:-30], bytes(changed)):
        bad = tmp_path / "bad.npz"
        bad.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"bad\.npz cannot be read as an \.npz file of arrays"):
            load_images(str(bad), 8, 1)
    with pytest.raises(ArtifactError, match=r"no\.npz cannot be read: No such file"):
        load_images(str(tmp_path / "no.npz"), 8, 1)


class Trap:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def test_code_in_an_npz_is_not_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    boxed = np.empty(1, object)
    boxed[0] = Trap(marker)
    save(tmp_path / "object.npz", images=boxed)
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap(marker)))
    for name in ("object.npz", "bare.npz"):
        with pytest.raises(ArtifactError, match=r"cannot be read as an \.npz file of arrays"):
            load_images(str(tmp_path / name), 8, 1)
    assert not marker.exists()


@pytest.mark.parametrize("source", ["", "cats", "folder", "images.npy"])
def test_unknown_source(source: str) -> None:
    with pytest.raises(RequestError, match=f"there is no data '{source}'; choose digits, folder:PATH or FILE.npz"):
        load_images(source, 8, 1)


def test_every_epoch_is_another_permutation() -> None:
    order = shuffle_indices(seed=3, count=10, first=0, number=40).reshape(4, 10)
    assert (np.sort(order, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in order}) == 4
    assert not np.array_equal(order.ravel(), shuffle_indices(4, 10, 0, 40))


@pytest.mark.parametrize("first", [0, 7, 10, 35])
def test_the_order_does_not_depend_on_where_one_looks(first: int) -> None:
    np.testing.assert_array_equal(shuffle_indices(3, 10, first, 25), shuffle_indices(3, 10, 0, 60)[first : first + 25])


def test_the_order_is_the_same_on_every_machine() -> None:
    """Known answer: a change here would break the resumption of every run."""
    assert shuffle_indices(7, 8, 0, 16).tolist() == [2, 6, 7, 4, 1, 5, 0, 3, 5, 6, 3, 0, 4, 1, 2, 7]
