"""Golden samples: made, saved and read back; anything else is rejected."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.sessions import SPEC, UPSCALER, images
from hypothesis import given
from hypothesis import strategies as st

from ganrt import feeds
from ganrt.errors import BundleError
from ganrt.golden import Golden
from ganrt.spec import Latent, Output, Spec

LARGE = Spec("large", (Latent("z", (2,)),), Output(3, (-1.0, 1.0), (600, 600)))


def make_golden() -> Golden:
    return Golden.make(SPEC, lambda given: images(SPEC, given))


def test_samples_are_those_of_their_seeds() -> None:
    golden = make_golden()
    runs = len(golden.seeds)
    each = len(golden.images) // runs
    assert runs > 1 and golden.images.dtype == np.float32 and golden.images.shape[1:] == (3, 4, 5)
    for run, (seed, start) in enumerate(zip(golden.seeds, golden.starts, strict=True)):
        for k in (0, each - 1):
            alone = feeds.draw_feeds(SPEC, int(seed), int(start) + k, 1)
            np.testing.assert_allclose(golden.images[run * each + k], images(SPEC, alone)[0], rtol=1e-6)
    np.testing.assert_allclose(images(SPEC, golden.draw_feeds(SPEC)), golden.images, rtol=1e-6)


def test_they_cover_large_seeds_and_numbers_beyond_32_bits() -> None:
    golden = make_golden()
    length = len(golden.images) // len(golden.seeds)
    assert golden.seeds.max() >= 2**63
    assert any(start < 2**32 <= start + length for start in map(int, golden.starts))


def test_a_subset_is_the_first_of_each_run() -> None:
    golden = make_golden()
    part = golden.subset(2)
    assert len(part.images) == 2 * len(golden.seeds)
    np.testing.assert_allclose(images(SPEC, part.draw_feeds(SPEC)), part.images, rtol=1e-6)


def test_large_images_get_fewer_samples() -> None:
    golden = Golden.make(LARGE, lambda given: np.zeros((len(given["z"]), 3, 600, 600), np.float32))
    assert golden.images.nbytes <= 2**25 and len(golden.images) == len(golden.seeds)


def test_samples_are_read_as_they_were_saved(tmp_path: Path) -> None:
    golden = make_golden()
    golden.save(tmp_path / "golden.npz")
    found = Golden.load(tmp_path / "golden.npz", SPEC)
    for key in Golden.KEYS:
        np.testing.assert_array_equal(getattr(found, key), getattr(golden, key))


SEEDS = np.array([1, 2], np.uint64)
GOOD: dict[str, Any] = {"seeds": SEEDS, "starts": SEEDS, "images": np.zeros((4, 3, 4, 5), np.float32)}


@pytest.mark.parametrize(
    "change",
    [
        {"images": np.zeros((4, 3, 4, 5))},
        {"images": np.zeros((4, 3, 5, 4), np.float32)},
        {"images": np.zeros((3, 3, 4, 5), np.float32)},
        {"images": np.zeros((0, 3, 4, 5), np.float32)},
        {"images": np.zeros((4, 60), np.float32)},
        {"images": np.float32(0)},
        {"images": np.full((4, 3, 4, 5), np.nan, np.float32)},
        {"images": np.array([{}], object)},
        {"seeds": np.array([1, 2])},
        {"seeds": np.uint64(1)},
        {"seeds": SEEDS[:0], "starts": SEEDS[:0]},
        {"starts": SEEDS[:1]},
        {"starts": np.array([[1], [2]], np.uint64)},
        {"starts": np.array([0, 2**64 - 1], np.uint64)},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_rejected(change: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **GOOD | change)
    with pytest.raises(BundleError, match=r"golden\.npz"):
        Golden.load(tmp_path / "golden.npz", SPEC)


def test_good_arrays_are_accepted(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **GOOD)
    assert len(Golden.load(tmp_path / "golden.npz", SPEC).draw_feeds(SPEC)["z"]) == 4


@pytest.mark.parametrize("size", [(2, 3), (8, 8)])
def test_a_free_size_fits_any_image(size: tuple[int, int], tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **GOOD | {"images": np.zeros((2, 3, *size), np.float32)})
    assert Golden.load(tmp_path / "golden.npz", UPSCALER).images.shape[2:] == size


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", seeds=SEEDS)
    with pytest.raises(BundleError, match=r"cannot be read as golden samples: .*starts"):
        Golden.load(tmp_path / "golden.npz", SPEC)


def test_compressed_samples_are_rejected(tmp_path: Path) -> None:
    """A small compressed file could fill the memory."""
    np.savez_compressed(tmp_path / "golden.npz", **GOOD)
    with pytest.raises(BundleError, match=r"golden\.npz is compressed"):
        Golden.load(tmp_path / "golden.npz", SPEC)


def test_a_claimed_size_does_not_fill_the_memory(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 3, 4, 5), }"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "golden.npz", "w") as archive:
        for key in Golden.KEYS:
            archive.writestr(f"{key}.npy", content)
    with pytest.raises(BundleError, match="cannot be read as golden samples"):
        Golden.load(tmp_path / "golden.npz", SPEC)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5), st.integers(0, 400))
def test_damaged_files_are_read_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("golden") / "golden.npz"
    np.savez(path, **GOOD)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content[: len(content) - cut])
    try:
        assert isinstance(Golden.load(path, SPEC), Golden)
    except BundleError as error:
        assert "golden.npz" in str(error)
