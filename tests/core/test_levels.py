"""Mean and deviation per channel, and the order of colours: pictures become what networks take, and come back."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from fakes.sessions import SPEC, FakeSession, images
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from ganrt import feeds
from ganrt.agreement import compare
from ganrt.errors import RequestError
from ganrt.flat_parts import measure_flat_parts
from ganrt.golden import Golden
from ganrt.images import Floats, Pictures, from_uint8, to_uint8
from ganrt.levels import find_hull, find_levels, find_plain_range, find_span, normalize, undo_normalization
from ganrt.proving import allowed_drift, measure_distance, prove
from ganrt.spec import Image, Latent, Output, Scalar, Spec
from ganrt.transform import transform

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CAFFE: dict[str, Any] = {"mean": (103.939, 116.779, 123.68), "order": "bgr"}


@st.composite
def normalizations(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of an input or output: channels, range, mean, std and order."""
    channels = draw(st.sampled_from([1, 3, 4]))
    low = draw(st.sampled_from([0.0, -1.0, -0.5, 16.0]))
    high = low + draw(st.sampled_from([1.0, 2.0, 255.0]))
    shares, widths = (
        st.none() | st.lists(st.floats(*ends), min_size=channels, max_size=channels)
        for ends in ((0.0, 1.0), (0.01, 300.0))
    )
    mean, std = draw(shares), draw(widths)
    return {
        "channels": channels,
        "range": (low, high),
        "mean": mean and tuple(min(max(low + share * (high - low), low), high) for share in mean),
        "std": std and tuple(std),
        "order": draw(st.sampled_from(["rgb", "bgr"])) if channels > 1 else "rgb",
    }


def make_pair(fields: dict[str, Any]) -> Spec:
    """A network that takes what it makes."""
    return Spec("same", (Image("x", "content", **fields),), Output(size=None, **fields))


def draw_pictures(channels: int, count: int = 2) -> Pictures:
    return np.random.default_rng(channels).integers(0, 256, (count, 16, 16, channels), np.uint8)


def normalize_as_torchvision(pictures: Pictures, fields: dict[str, Any]) -> Any:
    """ToTensor and Normalize of torchvision in float64, for any range, and channels turned round for BGR."""
    channels = pictures.shape[-1]
    turned = pictures[..., [2, 1, 0, 3][:channels]] if fields.get("order") == "bgr" else pictures
    low, high = fields["range"]
    values = low + turned.astype(np.float64) / 255 * (high - low)
    mean, std = fields.get("mean") or (0.0,) * channels, fields.get("std") or (1.0,) * channels
    return ((values - mean) / std).transpose(0, 3, 1, 2)


@given(normalizations())
def test_an_identity_gives_the_picture_back(fields: dict[str, Any]) -> None:
    """On the general path, and where the values and the order allow it, on that of one range for all channels."""
    spec, pictures = make_pair(fields), draw_pictures(fields["channels"])
    pictures.reshape(-1)[:256] = np.arange(256)
    taken = from_uint8(pictures, find_levels(spec.images[0]))
    assert taken.dtype == np.float32 and taken.flags.c_contiguous
    wanted = normalize_as_torchvision(pictures, fields)
    np.testing.assert_allclose(taken, wanted, rtol=1e-6, atol=2e-6 * np.abs(wanted).max())
    np.testing.assert_array_equal(to_uint8(taken, find_levels(spec.output)), pictures)
    np.testing.assert_array_equal(transform(spec, {"x": pictures}, lambda feeds: feeds["x"], None), pictures)


def test_channels_alike_make_the_pictures_of_one_range() -> None:
    """A mean of 0.5 and a deviation of 0.5 are the range -1 to 1, ties included, on both paths."""
    plain, normalized = (-1.0, 1.0), find_levels(Output(3, (0.0, 1.0), None, mean=(0.5,) * 3, std=(0.5,) * 3))
    halves = (-1 + (np.arange(-20, 276) + 0.5) * 2 / 255).astype(np.float32)
    values = np.stack([halves, halves[::-1], np.roll(halves, 7)]).reshape(1, 3, 8, 37)
    np.testing.assert_array_equal(to_uint8(values, normalized), to_uint8(values, plain))
    pictures = draw_pictures(3)
    np.testing.assert_array_equal(from_uint8(pictures, normalized), from_uint8(pictures, plain))


@pytest.mark.parametrize("fields", [{}, {"mean": None, "std": None, "order": "rgb"}])
def test_without_a_normalization_there_is_one_range(fields: dict[str, Any]) -> None:
    levels = find_levels(Output(3, (-1.0, 2.0), None, **fields))
    assert levels == find_plain_range(levels) == find_hull(levels) == (-1.0, 2.0) and find_span(levels) == 3.0
    values = np.zeros((1, 3, 2, 2), np.float32)
    assert normalize(values, levels) is values and undo_normalization(values, levels) is values


def test_known_values() -> None:
    black, red = np.zeros((1, 1, 1, 3), np.uint8), np.array([[[[255, 0, 0]]]], np.uint8)
    imagenet = find_levels(Image("x", "content", 3, (0.0, 1.0), **IMAGENET))
    np.testing.assert_allclose(from_uint8(black, imagenet).ravel(), [-2.117904, -2.035714, -1.804444], rtol=1e-6)
    np.testing.assert_allclose(from_uint8(red, imagenet).ravel()[0], 2.248908, rtol=1e-6)
    caffe = find_levels(Image("x", "content", 3, (0.0, 255.0), **CAFFE))
    np.testing.assert_allclose(from_uint8(red, caffe).ravel(), [-103.939, -116.779, 131.32], rtol=1e-6)
    assert find_plain_range(caffe) == (0.0, 255.0) and find_hull(caffe) == pytest.approx((-123.68, 151.061))
    assert find_span(imagenet) == pytest.approx(1 / 0.229)
    clear = np.array([[[[255, 0, 9, 51]]]], np.uint8)
    turned = find_levels(Image("x", "content", 4, (0.0, 255.0), order="bgr"))
    assert from_uint8(clear, turned).ravel().tolist() == [9, 0, 255, 51]
    assert to_uint8(from_uint8(clear, turned), turned).tolist() == clear.tolist()


@given(normalizations())
def test_a_normalization_is_undone(fields: dict[str, Any]) -> None:
    levels = find_levels(make_pair(fields).output)
    low, high = fields["range"]
    plain = np.random.default_rng(0).uniform(low, high, (2, fields["channels"], 3, 3)).astype(np.float32)
    network = normalize(plain, levels)
    assert network.dtype == np.float32
    np.testing.assert_allclose(undo_normalization(network, levels), plain, rtol=0, atol=1e-5 * (high - low))
    pictures = draw_pictures(fields["channels"])
    mapped = normalize(from_uint8(pictures, fields["range"]), levels)
    np.testing.assert_allclose(mapped, from_uint8(pictures, levels), rtol=0, atol=1e-5 * np.abs(mapped).max())


@cache
def make_head(fields: tuple[tuple[str, Any], ...]) -> Any:
    import onnx_ir as ir

    from ganrt.export.engines.post_processing import add_post_processing_head

    output = Output(size=(4, 4), **dict(fields))
    spec = Spec("identity", (Latent("x", (output.channels, 4, 4)),), output)
    x = ir.val("x", ir.DataType.FLOAT, ["N", output.channels, 4, 4])
    node = ir.node("Identity", [x])
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = "image", ir.DataType.FLOAT, x.shape
    model = ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}, name="g"), ir_version=10)
    return ReferenceEvaluator(ir.to_proto(add_post_processing_head(model, spec)))


@given(normalizations(), st.integers(0, 2**32 - 1))
def test_an_engine_makes_the_pictures_of_the_host(fields: dict[str, Any], seed: int) -> None:
    levels = find_levels(Output(size=None, **fields))
    low, high = find_hull(levels)
    margin = 0.1 * (high - low)
    shape = (3, fields["channels"], 4, 4)
    values = np.random.default_rng(seed).uniform(low - margin, high + margin, shape).astype(np.float32)
    made = make_head(tuple(fields.items())).run(["ganrt_pictures"], {"x": values})[0]
    np.testing.assert_array_equal(made, to_uint8(values, levels))


@pytest.mark.parametrize("fields", [IMAGENET, {"order": "bgr"}, IMAGENET | {"order": "bgr"}])
def test_images_are_compared_with_their_normalization_undone(fields: dict[str, Any]) -> None:
    levels = find_levels(Output(3, (0.0, 1.0), None, **fields))
    rng = np.random.default_rng(0)
    expected = np.full((3, 3, 24, 24), 0.5, np.float32)
    expected[0] = rng.uniform(0, 1, (3, 24, 24))
    found = (expected + rng.normal(0, 0.01, expected.shape)).astype(np.float32)
    wanted = compare(found, expected, (0.0, 1.0))
    made = compare(normalize(found, levels), normalize(expected, levels), levels)
    np.testing.assert_allclose(made.psnr, wanted.psnr, atol=1e-3)
    np.testing.assert_allclose(made.max_abs, wanted.max_abs, rtol=1e-3)
    flat = measure_flat_parts(normalize(found, levels), normalize(expected, levels), levels)
    np.testing.assert_allclose(flat.texture, measure_flat_parts(found, expected, (0.0, 1.0)).texture, atol=1e-3)
    assert flat.texture[1] > 1.0
    black = normalize(np.zeros_like(expected), levels)
    assert compare(black, normalize(expected, levels), levels).defects[0] == "flat where the original is not"


def test_batch_drift_is_in_units_of_the_range() -> None:
    """As for a network that makes the same pictures without normalizing them, also where they leave the range."""
    z = Latent("z", (1,))
    plain = Spec("s", (z,), Output(3, (0.0, 1.0), (2, 2)))
    spec = Spec("s", (z,), Output(3, (0.0, 1.0), (2, 2), mean=(0.5, 0.0, 1.0), std=(0.01, 3.0, 0.2), order="bgr"))
    one, other = np.random.default_rng(0).uniform(-0.5, 1.8, (2, 1, 3, 2, 2)).astype(np.float32)
    levels = find_levels(spec.output)
    drawn = [normalize(images, levels) for images in (one, other)]
    assert measure_distance(spec, *drawn) == pytest.approx(measure_distance(plain, one, other), rel=1e-4)
    assert allowed_drift(spec, "fp32", drawn[0]) == pytest.approx(allowed_drift(plain, "fp32", one), rel=1e-4)
    assert allowed_drift(spec, "fp32", 0 * drawn[0]) == allowed_drift(plain, "fp32", 0 * one)


class Normalized(FakeSession):
    """The fake model, with images that are normalized."""

    def __init__(self, spec: Spec, error: float) -> None:
        super().__init__(spec)
        self._error = error

    def run(self, feeds: feeds.Feeds) -> Any:
        return normalize(images(SPEC, feeds) + np.float32(self._error), find_levels(self._spec.output))


@pytest.mark.parametrize(("error", "psnr"), [(0.0005, 72), (0.02, 40)])
def test_a_proof_is_about_what_the_pictures_show(error: float, psnr: float) -> None:
    output = Output(3, (-1.0, 1.0), (4, 5), mean=(0.1, 0.0, -0.1), std=(0.01, 5.0, 0.2), order="bgr")
    spec = Spec("fake", SPEC.inputs, output)
    golden = Golden.make(spec, Normalized(spec, 0.0).run)
    proof = prove(Normalized(spec, error), spec, golden, "key").proof
    assert proof.worst_psnr == pytest.approx(psnr, abs=0.1) and proof.passed == (psnr > 60)


def test_synthetic_pictures_are_normalized_as_photographs_are() -> None:
    plain, normalized = (
        Spec("s", (Image("x", "content", 3, (0.0, 1.0), **fields),), Output(3, (0.0, 1.0), None))
        for fields in ({}, IMAGENET | {"order": "bgr"})
    )
    drawn = [feeds.draw_feeds(spec, 1, 0, 3, size=(24, 32))["x"] for spec in (plain, normalized)]
    wanted = (drawn[0][:, ::-1] - np.reshape(IMAGENET["mean"], (3, 1, 1))) / np.reshape(IMAGENET["std"], (3, 1, 1))
    np.testing.assert_allclose(drawn[1], wanted, atol=1e-5)


@pytest.mark.parametrize("tile", [None, 16])
def test_tiles_of_a_network_that_takes_bgr_and_makes_normalized_rgba(tile: int | None) -> None:
    """It takes what Caffe's networks take, and makes the picture with its red as the opacity."""
    picture = Image("x", "content", 3, (0.0, 255.0), **CAFFE)
    made_of: dict[str, Any] = {"mean": (0.5, 0.25, 0.75, 0.0), "std": (0.5, 0.25, 1.0, 2.0)}
    spec = Spec("s", (picture,), Output(4, (0.0, 1.0), None, reach=2, **made_of))
    mean, std = (np.reshape(made_of[name], (4, 1, 1)) for name in ("mean", "std"))

    def compute(given: feeds.Feeds) -> Floats:
        blue, green, red = (given["x"][:, k] + CAFFE["mean"][k] for k in range(3))
        rgba = np.stack([red, green, blue, red], axis=1) / 255
        return ((rgba - mean) / std).astype(np.float32)

    photo = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
    made = transform(spec, {"x": photo}, compute, tile)
    np.testing.assert_array_equal(made[0], np.concatenate([photo, photo[..., :1]], axis=2))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "order": ({"order": "gbr"}, "x: order is 'gbr'; it must be one of rgb, bgr"),
    "grey": ({"channels": 1, "order": "bgr"}, "x: order is 'bgr', but colours have 3 or 4 channels, and this has 1"),
    "short": ({"mean": (0.5, 0.5)}, r"x: mean is \(0.5, 0.5\); it must be a tuple of 3 numbers, one per channel"),
    "long": ({"channels": 1, "std": (0.5, 0.5)}, "x: std is .* must be a tuple of 1 number, the channel's"),
    "list": ({"mean": [0.5, 0.5, 0.5]}, "x: mean is .* must be a tuple of 3"),
    "one": ({"std": 0.5}, "x: std is 0.5; it must be a tuple of 3"),
    "nan": ({"mean": (0.5, float("nan"), 0.5)}, "x: mean is .*nan.* must be a tuple of 3"),
    "bool": ({"std": (1, True, 1)}, "x: std is .* must be a tuple of 3"),
    "units": ({"mean": (123.7, 116.3, 103.5)}, "x: mean is .*, outside of the range 0 to 1; both have the same units"),
    "below": ({"mean": (0.5, -0.1, 0.5)}, "x: mean is .*, outside of the range 0 to 1"),
    "zero": ({"std": (0.5, 0.0, 0.5)}, "x: std is .*; it must be numbers above 0, in the units of range"),
    "negative": ({"std": (0.5, -1.0, 0.5)}, "x: std is .*; it must be numbers above 0"),
    "tiny": ({"std": (0.5, 1e-31, 0.5)}, "x: std is .*; it must be numbers above 0"),
    "huge": ({"std": (0.5, 1e31, 0.5)}, "x: std is .*; it must be numbers above 0"),
}


@pytest.mark.parametrize(("fields", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_normalized_is_rejected(fields: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"channels": 3, "range": (0.0, 1.0)} | fields
    with pytest.raises(RequestError, match=message):
        Image("x", "content", **values)
    with pytest.raises(RequestError, match=message):
        Output(size=(8, 8), name="x", **values)


def test_the_ends_of_the_range_can_be_a_mean() -> None:
    assert Output(3, (0.0, 1.0), None, mean=(0.0, 1.0, 0.5)).mean == (0.0, 1.0, 0.5)


def test_a_normalization_is_told_in_words() -> None:
    picture = Image("x", "content", 3, (0.0, 1.0), **IMAGENET)
    assert str(picture) == (
        "picture (content), 3 channels, values 0 to 1, normalized by mean (0.485, 0.456, 0.406) and std "
        "(0.229, 0.224, 0.225)"
    )
    assert Output(3, (0.0, 255.0), None, **CAFFE).values == (
        "values 0 to 255, normalized by mean (103.939, 116.779, 123.68), in the order BGR"
    )
    assert Output(1, (-1.0, 1.0), None).values == "values -1 to 1"
    assert str(Output(4, (0.0, 1.0), (8, 9), order="bgr")) == "rgba images of 9 x 8 pixels"


def test_scalars_and_latents_have_none() -> None:
    spec = Spec("s", (Latent("z", (4,)), Scalar("s", (0.0, 1.0), 0.5)), Output(3, (0.0, 1.0), (8, 8), order="bgr"))
    raw = spec.to_dict()
    assert raw["output"]["order"] == "bgr" and not {"mean", "std", "order"} & {*raw["inputs"][0], *raw["inputs"][1]}
    assert Spec.from_dict(raw) == spec


@pytest.mark.parametrize("field", ["mean", "std", "order"])
def test_a_manifest_holds_what_is_used_alone(field: str) -> None:
    """So that an older ganrt reads the others, and bundles keep their digests."""
    value = (0.5,) * 3 if field != "order" else "bgr"
    plain, used = (
        make_pair({"channels": 3, "range": (0.0, 1.0)}),
        make_pair({"channels": 3, "range": (0.0, 1.0), field: value}),
    )
    keys = {"name", "role", "channels", "range", "size", "multiple_of", "like", "kind"}
    assert set(plain.to_dict()["inputs"][0]) == keys and set(used.to_dict()["inputs"][0]) == keys | {field}
    assert set(plain.to_dict()["output"]) == {"channels", "range", "size", "scale", "name", "reach"}
    assert set(used.to_dict()["output"]) == {"channels", "range", "size", "scale", "name", "reach", field}
    assert Spec.from_dict(used.to_dict()) == used and Spec.from_dict(plain.to_dict()) == plain
