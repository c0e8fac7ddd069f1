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
from ganrt.feeds import Feeds
from ganrt.golden import Golden, proof_picture_size, proof_sizes
from ganrt.images import Floats, from_uint8
from ganrt.spec import Image, Latent, Output, Spec
from ganrt.synthetic import draw_texture

LARGE = Spec("large", (Latent("z", (2,)),), Output(3, (-1.0, 1.0), (600, 600)))


def make_golden() -> Golden:
    return Golden.make(SPEC, lambda given: images(SPEC, given))


def test_samples_are_those_of_their_seeds() -> None:
    (golden,) = make_golden().groups
    runs = len(golden.seeds)
    each = len(golden.images) // runs
    assert runs > 1 and golden.images.dtype == np.float32 and golden.images.shape[1:] == (3, 4, 5)
    for run, (seed, start) in enumerate(zip(golden.seeds, golden.starts, strict=True)):
        for k in (0, each - 1):
            alone = feeds.draw_feeds(SPEC, int(seed), int(start) + k, 1)
            np.testing.assert_allclose(golden.images[run * each + k], images(SPEC, alone)[0], rtol=1e-6)
    np.testing.assert_allclose(images(SPEC, golden.draw_feeds(SPEC)), golden.images, rtol=1e-6)


def test_they_cover_large_seeds_and_numbers_beyond_32_bits() -> None:
    (golden,) = make_golden().groups
    length = len(golden.images) // len(golden.seeds)
    assert golden.seeds.max() >= 2**63
    assert any(start < 2**32 <= start + length for start in map(int, golden.starts))


def test_a_subset_is_the_first_of_each_run() -> None:
    (golden,) = make_golden().groups
    part = golden.subset(2)
    assert len(part.images) == 2 * len(golden.seeds)
    np.testing.assert_allclose(images(SPEC, part.draw_feeds(SPEC)), part.images, rtol=1e-6)


def test_large_images_get_fewer_samples() -> None:
    golden = Golden.make(LARGE, lambda given: np.zeros((len(given["z"]), 3, 600, 600), np.float32)).groups[0]
    assert golden.images.nbytes <= 2**25 and len(golden.images) == len(golden.seeds)


@pytest.mark.parametrize(("macs", "count"), [(0, 64), (10**9, 64), (5 * 10**9, 20), (10**12, 4)])
def test_heavy_models_get_fewer_samples(macs: int, count: int) -> None:
    assert len(Golden.make(SPEC, lambda given: images(SPEC, given), macs=macs).groups[0].images) == count


FREE = Spec(
    "two",
    (
        Image("photo", "content", 3, (-1.0, 1.0), multiple_of=4),
        Image("mask", "mask", 1, (0.0, 1.0), multiple_of=4, like="photo"),
        Image("style", "style", 3, (0.0, 1.0)),
        Latent("z", (2,)),
    ),
    Output(3, (-1.0, 1.0), None, 2),
)


def make_images(given: Feeds) -> Floats:
    """Twice as large as the photo, and different for every value of every input."""
    shift = sum(given[name].mean(axis=(1, 2, 3)) for name in ("mask", "style")) + given["z"].sum(axis=1)
    large = given["photo"].repeat(2, axis=2).repeat(2, axis=3)
    return np.asarray(large * 0.5 + np.tanh(shift).reshape(-1, 1, 1, 1) * 0.5, np.float32)


def test_free_sizes_get_groups_of_other_shapes() -> None:
    first, *others = Golden.make(FREE, make_images).groups
    assert first.sizes == {"photo": (48, 64), "mask": (48, 64), "style": (48, 64)}
    assert len(others) == 2
    for group in others:
        height, width = group.sizes["photo"]
        assert group.sizes["mask"] == (height, width) != group.sizes["style"]
        assert height % 4 == width % 4 == 0 and height % 8 == width % 8 == 4
        np.testing.assert_allclose(make_images(group.draw_feeds(FREE)), group.images, rtol=1e-6)
        assert group.images.shape[2:] == (2 * height, 2 * width)
    shapes = [group.sizes["photo"] for group in others]
    assert any(height > width for height, width in shapes) and any(height < width for height, width in shapes)
    assert any(height > 48 and width > 64 for height, width in shapes)


@given(st.integers(1, 200), st.integers(1, 32), st.booleans())
def test_every_size_of_a_proof_is_one_that_the_model_takes(rule: int, scale: int, second: bool) -> None:
    style = (Image("style", "style", 3, (0.0, 1.0), multiple_of=3),) if second else ()
    spec = Spec(
        "any", (Image("x", "content", 3, (0.0, 1.0), multiple_of=rule), *style), Output(3, (0.0, 1.0), None, scale)
    )
    sizes = proof_sizes(spec)
    assert len({size["x"] for size in sizes}) == 3 and sizes[0]["x"] == proof_picture_size(spec)
    for size in sizes:
        assert all(side > 0 and side % item.multiple_of == 0 for item in spec.images for side in size[item.name])


def test_models_that_enlarge_much_get_smaller_images() -> None:
    sizes = {scale: proof_picture_size(Spec("up", FREE.inputs, Output(3, (0.0, 1.0), None, scale))) for scale in (4, 8)}
    assert sizes == {4: (48, 64), 8: (24, 32)}


def test_fixed_sizes_have_one_group() -> None:
    fixed = Spec("fixed", (Image("x", "content", 3, (0.0, 1.0), (8, 12)),), Output(3, (0.0, 1.0), (8, 12)))
    (group,) = Golden.make(fixed, lambda given: given["x"]).groups
    assert group.sizes == {"x": (8, 12)}


def test_given_pictures_are_a_group_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = {"photo": (16, 12, 3), "mask": (16, 12, 1), "style": (9, 7, 3)}
    pictures = {name: rng.integers(0, 256, (3, *shape), np.uint8) for name, shape in sizes.items()}
    golden = Golden.make(FREE, make_images, pictures=[pictures])
    golden.save(tmp_path / "golden.npz")
    for found in (golden, Golden.load(tmp_path / "golden.npz", FREE)):
        group = found.groups[-1]
        assert len(found.groups) == 4 and group.has_given_pictures and len(group.images) == 3
        inputs = group.draw_feeds(FREE)
        np.testing.assert_array_equal(inputs["photo"], from_uint8(pictures["photo"], (-1.0, 1.0)))
        np.testing.assert_array_equal(inputs["z"], feeds.draw_feeds(FREE, 0, 0, 3, size=(8, 8))["z"])
        np.testing.assert_allclose(make_images(inputs), group.images, rtol=1e-6)
    assert str(golden) == ("12 golden samples of 64 x 48, 76 x 116, 100 x 36 pixels and 3 of the given pictures")
    assert golden.select_for("int8").groups == golden.groups[-1:]  # which int8 was calibrated for
    assert golden.select_for("fp16") is golden and make_golden().select_for("int8").groups


def test_samples_are_read_as_they_were_saved(tmp_path: Path) -> None:
    golden = Golden.make(FREE, make_images)
    golden.save(tmp_path / "golden.npz")
    found = Golden.load(tmp_path / "golden.npz", FREE)
    for one, other in zip(found.groups, golden.groups, strict=True):
        for key in ("seeds", "starts", "images"):
            np.testing.assert_array_equal(getattr(one, key), getattr(other, key))
        assert set(one.pictures) == {"photo", "mask", "style"}
        for name, array in one.pictures.items():
            np.testing.assert_array_equal(array, other.pictures[name])


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
    assert len(Golden.load(tmp_path / "golden.npz", SPEC).groups[0].draw_feeds(SPEC)["z"]) == 4


@pytest.mark.parametrize("size", [(4, 8), (8, 8)])
def test_a_free_size_fits_any_image(size: tuple[int, int], tmp_path: Path) -> None:
    pictures = np.zeros((2, 3, size[0] // 2, size[1] // 2), np.float32)
    arrays = GOOD | {"images": np.zeros((2, 3, *size), np.float32), "pictures.x": pictures}
    np.savez(tmp_path / "golden.npz", **arrays)
    assert Golden.load(tmp_path / "golden.npz", UPSCALER).groups[0].images.shape[2:] == size


UPSCALED = GOOD | {"images": np.zeros((2, 3, 8, 12), np.float32), "pictures.x": np.zeros((2, 3, 4, 6), np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures.x": np.zeros((2, 3, 4, 6))}, "float64 of shape"),
        ({"pictures.x": np.zeros((2, 1, 4, 6), np.float32)}, "x has shape"),
        ({"pictures.x": np.zeros((2, 3, 4, 5), np.float32)}, "x has shape"),
        ({"pictures.x": np.zeros((1, 3, 4, 6), np.float32)}, "float32 of shape"),
        ({"pictures.x": np.full((2, 3, 4, 6), np.inf, np.float32)}, "x holds values that are not finite"),
        ({"pictures.y": np.zeros((2, 3, 4, 6), np.float32)}, "the Spec has other image inputs"),
        ({"pictures.x": np.zeros((2, 3, 8, 6), np.float32)}, "the Spec makes images of 12 x 16 pixels"),
        ({"1.seeds": SEEDS}, r"cannot be read as golden samples: .*1\.starts"),
    ],
)
def test_pictures_that_do_not_fit_are_rejected(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **UPSCALED)
    assert Golden.load(tmp_path / "golden.npz", UPSCALER).groups[0].sizes == {"x": (4, 6)}
    np.savez(tmp_path / "golden.npz", **UPSCALED | change)
    with pytest.raises(BundleError, match=message):
        Golden.load(tmp_path / "golden.npz", UPSCALER)


def test_images_that_a_file_of_the_first_version_lacks_are_drawn(tmp_path: Path) -> None:
    """It held none, and they were textures of 48 x 64 pixels."""
    images = np.zeros((4, 3, 96, 128), np.float32)
    np.savez(tmp_path / "golden.npz", seeds=SEEDS, starts=SEEDS, images=images)
    given = Golden.load(tmp_path / "golden.npz", UPSCALER).groups[0].draw_feeds(UPSCALER)["x"]
    wanted = draw_texture(UPSCALER.images[0], 2, 2, 2, 2**31, (48, 64))
    np.testing.assert_array_equal(given[2:], wanted)


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
        for key in ("seeds", "starts", "images"):
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
