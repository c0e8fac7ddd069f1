"""Inputs drawn from a seed, and inputs of the caller."""

import math
from typing import Any

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC, UPSCALER
from hypothesis import given
from hypothesis import strategies as st

from ganrt import feeds, latents
from ganrt.errors import RequestError
from ganrt.sample_request import SampleRequest
from ganrt.spec import Image, Label, Latent, Output, Scalar, Spec

INDEXED = Spec("indexed", (Latent("z", (4,)), Label("y", 7), Label("style", 7)), Output(1, (0.0, 1.0), (4, 4)))


def test_drawn_inputs() -> None:
    found = feeds.draw_feeds(CLASSES, 9, 100, 5)
    assert list(found) == ["z", "y", "strength", "noise"]
    assert {n: (a.shape, a.dtype.name) for n, a in found.items()} == {
        "z": ((5, 2, 3), "float32"),
        "y": ((5, 10), "float32"),
        "strength": ((5,), "float32"),
        "noise": ((5, 4), "float32"),
    }
    np.testing.assert_array_equal(found["z"].reshape(5, 6), latents.uniform(9, 100, 5, 0, 6, -2.0, 2.0))
    np.testing.assert_array_equal(found["y"].argmax(axis=1), latents.labels(9, 100, 5, 1, 10))
    np.testing.assert_array_equal(found["y"].sum(axis=1), 1)
    np.testing.assert_array_equal(found["strength"], 1)
    np.testing.assert_array_equal(found["noise"], latents.normal(9, 100, 5, 2, 4))


@given(
    st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 10), st.integers(1, 9), st.sampled_from([SPEC, CLASSES, INDEXED])
)
def test_rows_do_not_depend_on_the_batch(seed: int, start: int, count: int, spec: Spec) -> None:
    together = feeds.draw_feeds(spec, seed, start, count)
    alone = feeds.draw_feeds(spec, seed, start + count - 1, 1)
    assert feeds.check_feeds(spec, together) == count
    for name in together:
        np.testing.assert_array_equal(together[name][-1:], alone[name])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(3, [3, 3, 3]), (np.int64(3), [3, 3, 3]), (np.array(3), [3, 3, 3]), ([0, 6, 2], [0, 6, 2]), (range(3), [0, 1, 2])],
)
def test_labels_of_the_caller(labels: Any, classes: list[int]) -> None:
    found = feeds.draw_feeds(INDEXED, 1, 0, 3, labels=labels)
    assert found["y"].dtype == np.int64
    assert found["y"].tolist() == classes
    assert found["style"].tolist() == latents.labels(1, 0, 3, 2, 7).tolist()
    np.testing.assert_array_equal(found["z"], feeds.draw_feeds(INDEXED, 1, 0, 3)["z"])


def test_no_images_need_no_labels() -> None:
    assert feeds.draw_feeds(INDEXED, 1, 0, 0, labels=[])["y"].shape == (0,)


def test_the_caller_owns_drawn_arrays() -> None:
    for labels in (None, 3, [1]):
        for array in feeds.draw_feeds(INDEXED, 1, 0, 1, labels=labels).values():
            assert array.flags.writeable and array.flags.c_contiguous


def test_truncation_changes_only_the_latent() -> None:
    spec = Spec("both", (Latent("z", (64,), truncation="resampled"), Latent("n", (64,))), SPEC.output)
    found, free = feeds.draw_feeds(spec, 1, 0, 9, truncation=0.5), feeds.draw_feeds(spec, 1, 0, 9)
    assert np.abs(found["z"]).max() <= 0.5 < np.abs(free["z"]).max()
    np.testing.assert_array_equal(found["n"], free["n"])


TRUNCATED = Spec("truncated", (Latent("z", (4,)), Scalar("truncation", (0.25, 1.0), 0.5)), SPEC.output)


@pytest.mark.parametrize(("truncation", "wanted"), [(None, 0.5), (0.25, 0.25), (0.75, 0.75), (1.0, 1.0)])
def test_a_truncation_input_gets_the_truncation(truncation: float | None, wanted: float) -> None:
    found = feeds.draw_feeds(TRUNCATED, 1, 0, 3, truncation=truncation)
    np.testing.assert_array_equal(found["truncation"], np.full(3, wanted, np.float32))
    np.testing.assert_array_equal(found["z"], latents.normal(1, 0, 3, 0, 4))


MASKED = Spec(
    "masked",
    (
        Image("content", "content", 3, (0.0, 1.0), multiple_of=2),
        Image("mask", "mask", 1, (-1.0, 3.0), like="content"),
        Image("style", "style", 3, (0.0, 1.0), (8, 12)),
    ),
    Output(3, (0.0, 1.0), None),
)


def test_synthetic_images_have_the_sizes_of_the_spec() -> None:
    found = feeds.draw_feeds(MASKED, 9, 100, 2, size=(10, 14))
    assert {name: array.shape for name, array in found.items()} == {
        "content": (2, 3, 10, 14),
        "mask": (2, 1, 10, 14),
        "style": (2, 3, 8, 12),
    }
    assert feeds.check_feeds(MASKED, found) == 2
    alike = feeds.draw_feeds(MASKED, 9, 100, 2, size=(8, 12))
    assert not np.array_equal(alike["content"], alike["style"]), "each input has a stream of its own"
    each = feeds.draw_feeds(MASKED, 9, 100, 2, size={"content": (10, 14), "mask": (10, 14)})
    assert all(np.array_equal(each[name], array) for name, array in found.items())


def test_numbers_are_those_of_a_whole_draw() -> None:
    spec = Spec("mixed", (*CLASSES.inputs, Image("photo", "content", 3, (0.0, 1.0))), Output(3, (0.0, 1.0), (4, 4)))
    draw = SampleRequest(4, 5, 3).take_rows(0, 4)
    whole, numbers = feeds.draw_feeds(spec, 5, 3, 4, size=(8, 8)), feeds.draw_numbers(spec, draw)
    assert set(whole) - set(numbers) == {"photo"}
    assert all(np.array_equal(whole[name], array) for name, array in numbers.items())


def test_a_part_of_a_draw_has_the_same_rows() -> None:
    draw = SampleRequest(5, 7, 100, np.array([1, 2, 3, 4, 5]), 0.5).take_rows(0, 5)
    part = draw.take_rows(3, 4)
    assert part.indices.tolist() == [103, 104, 104, 104], "the last row is repeated"
    assert part.labels is not None and part.labels.tolist() == [4, 5, 5, 5]
    assert part.truncation is not None and part.seeds.tolist() == [7] * 4 and part.truncation.tolist() == [0.5] * 4
    for name, rows in feeds.draw_rows(INDEXED, draw.take_rows(1, 3)).items():
        np.testing.assert_array_equal(rows, feeds.draw_rows(INDEXED, draw)[name][1:4])


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (TRUNCATED, {"truncation": 0.2}, "truncation is 0.2; this model takes 0.25 to 1"),
        (TRUNCATED, {"truncation": 1.5}, "truncation is 1.5; this model takes 0.25 to 1"),
        (SPEC, {"labels": 0}, "labels were given, but this fake model has no classes: leave them out"),
        (INDEXED, {"labels": 7}, "labels is 7; this model's classes are the whole numbers 0 to 6"),
        (INDEXED, {"labels": -1}, "labels is -1; this model's classes are"),
        (INDEXED, {"labels": 2**63}, "labels is 9223372036854775808; this model's"),
        (INDEXED, {"labels": [1, 2]}, "labels has 2 entries and n is 3; give one value, or one per image"),
        (INDEXED, {"labels": [[1, 2, 3]]}, r"labels\[0\] is \[1, 2, 3\]; this model's classes"),
        (INDEXED, {"labels": [[1], [2, 3]]}, r"labels\[0\] is \[1\]; this model's classes"),
        (INDEXED, {"labels": 1.0}, r"labels is 1\.0; this model's classes"),
        (INDEXED, {"labels": True}, "labels is True; this model's classes"),
        (INDEXED, {"labels": "cat"}, "labels is 'cat'; this model's classes"),
        (CLASSES, {"truncation": 0.5}, "truncation was given, but this classes model has none: leave it out"),
        (UPSCALER, {"truncation": 0.5}, "truncation was given, but this upscaler model has none"),
        (SPEC, {"truncation": -0.1}, "truncation is -0.1; it must be a finite number from 0"),
        (SPEC, {"truncation": math.nan}, "truncation is nan"),
        (SPEC, {"truncation": math.inf}, "truncation is inf"),
        (SPEC, {"truncation": True}, "truncation is True; it must be a finite number"),
        (SPEC, {"truncation": "0.5"}, "truncation is '0.5'; it must be a finite number"),
        (UPSCALER, {}, r"needs a picture as its input 'x' \(low_res\); it cannot be sampled from a seed alone"),
    ],
)
def test_arguments_that_do_not_fit_are_rejected(spec: Spec, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        feeds.draw_feeds(spec, 0, 0, 3, **arguments)


def good() -> dict[str, Any]:
    return dict(feeds.draw_feeds(CLASSES, 1, 0, 3))


@pytest.mark.parametrize(
    "convert",
    [np.float64, np.float16, lambda a: a.tolist(), np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]],
)
def test_given_arrays_are_cast_and_made_contiguous(convert: Any) -> None:
    given_z = convert(good()["z"])
    found = feeds.check_inputs(CLASSES, good() | {"z": given_z})
    assert feeds.check_feeds(CLASSES, found) == 3
    np.testing.assert_array_equal(found["z"], np.asarray(given_z, np.float32))


def test_integers_are_cast_and_inputs_come_in_the_order_of_the_spec() -> None:
    found = feeds.check_inputs(CLASSES, dict(reversed(good().items())) | {"noise": np.ones((3, 4), np.uint8)})
    assert list(found) == ["z", "y", "strength", "noise"]
    np.testing.assert_array_equal(found["noise"], np.ones((3, 4), np.float32))


def test_a_scalar_may_be_left_out() -> None:
    given_inputs = good()
    del given_inputs["strength"]
    np.testing.assert_array_equal(feeds.check_inputs(CLASSES, given_inputs)["strength"], [1, 1, 1])


def test_values_at_the_ends_of_a_range_are_inside_it() -> None:
    found = feeds.check_inputs(CLASSES, good() | {"strength": [0.0, 1.0, 2.0]})
    np.testing.assert_array_equal(found["strength"], [0, 1, 2])


def photos(**shapes: tuple[int, ...]) -> dict[str, Any]:
    """Inputs of MASKED, some of other shapes."""
    good = {"content": (2, 3, 4, 6), "mask": (2, 1, 4, 6), "style": (2, 3, 8, 12)}
    return {name: np.zeros(shape, np.float32) for name, shape in (good | shapes).items()}


def test_images_that_fit_are_accepted() -> None:
    assert feeds.check_feeds(MASKED, feeds.check_inputs(MASKED, photos())) == 2


class OnAnotherDevice:
    def __array__(self, *_: object, **__: object) -> None:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


BAD_GIVEN: list[tuple[Spec, Any, str]] = [
    (CLASSES, lambda g: g | {"w": g["z"]}, "no input 'w'; its inputs are noise, strength, y, z"),
    (CLASSES, lambda g: {"z": g["z"]}, "the input 'y' is missing; this classes model needs y: float32 one-hot"),
    (CLASSES, lambda g: {}, "the input 'z' is missing"),
    (CLASSES, lambda g: g | {"z": g["z"][:2]}, "differ in batch size: {'z': 2, 'y': 3"),
    (CLASSES, lambda g: g | {"z": g["z"][:, :1]}, r"z has shape \(3, 1, 3\); the model needs .* \(N, 2, 3\)"),
    (CLASSES, lambda g: g | {"z": np.float32(1)}, r"z has shape \(\)"),
    (CLASSES, lambda g: g | {"z": g["z"] * np.nan}, "z holds values that are not finite"),
    (CLASSES, lambda g: g | {"z": g["z"].astype(float) + 1e300}, "z holds values that are not finite as float32"),
    (CLASSES, lambda g: g | {"z": g["z"].astype(complex)}, "z has dtype complex128"),
    (CLASSES, lambda g: g | {"z": g["z"] > 0}, "z has dtype bool"),
    (CLASSES, lambda g: g | {"z": g["z"].astype(str)}, "z has dtype <U"),
    (CLASSES, lambda g: g | {"z": [[1], [2, 3]]}, "z cannot be read as an array"),
    (CLASSES, lambda g: g | {"z": OnAnotherDevice()}, "z cannot be read as an array: can't convert cuda:0"),
    (CLASSES, lambda g: g | {"y": np.array([1, 2, 3])}, r"y has shape \(3,\); .* one-hot of shape \(N, 10\)"),
    (CLASSES, lambda g: g | {"strength": np.full(3, 2.5)}, "strength has values outside 0.0 to 2.0"),
    (CLASSES, lambda g: g | {"strength": 1.0}, r"strength has shape \(\); .* \(N,\)"),
    (INDEXED, lambda g: {"z": np.zeros((1, 4)), "y": [9], "style": [0]}, "class 9 does not exist"),
    (INDEXED, lambda g: {"z": np.zeros((1, 4)), "y": [1.0], "style": [0]}, "y has dtype float64; .* int64"),
    (UPSCALER, lambda g: {"x": np.zeros((1, 3, 4, 5))}, "H and W multiples of 2"),
    (UPSCALER, lambda g: {"x": np.zeros((1, 1, 4, 4))}, r"x has shape \(1, 1, 4, 4\); .* \(N, 3, H, W\)"),
    (UPSCALER, lambda g: {"x": np.zeros((1, 3, 0, 4))}, r"x has shape \(1, 3, 0, 4\)"),
    (UPSCALER, lambda g: {"x": np.zeros((3, 4, 4))}, r"x has shape \(3, 4, 4\)"),
    (UPSCALER, lambda g: {"x": np.zeros((1, 3, 4, 4, 2))}, r"x has shape \(1, 3, 4, 4, 2\)"),
    (
        MASKED,
        lambda g: photos(mask=(2, 1, 6, 6)),
        r"mask has shape \(2, 1, 6, 6\); H and W must be those of content, \(2, 3, 4, 6\)",
    ),
    (MASKED, lambda g: photos(mask=(2, 1, 4, 4)), "H and W must be those of content"),
    (MASKED, lambda g: photos(style=(2, 3, 8, 8)), r"style has shape .* needs .* \(N, 3, 8, 12\)$"),
    (MASKED, lambda g: {"mask": photos()["mask"]}, "the input 'content' is missing"),
    (MASKED, lambda g: {"content": photos()["content"]}, "the input 'mask' is missing"),
]


@pytest.mark.parametrize(("spec", "change", "message"), BAD_GIVEN)
def test_given_arrays_that_do_not_fit_are_rejected(spec: Spec, change: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        feeds.check_inputs(spec, change(good()))


def test_a_session_takes_its_own_batch_sizes() -> None:
    assert feeds.check_feeds(CLASSES, good(), (3,)) == feeds.check_feeds(CLASSES, good(), (1, 3)) == 3


def test_given_arrays_are_not_written_to() -> None:
    given_inputs = good()
    for array in given_inputs.values():
        array.setflags(write=False)
    feeds.check_inputs(CLASSES, given_inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda g: {"z": g["z"]},
            r"the inputs are \['z'\]; this classes model needs z: .*; y: .*; strength: .*; noise",
        ),
        (lambda g: g | {"w": g["z"]}, "the inputs are"),
        (lambda g: g | {"z": g["z"].astype(np.float64)}, r"z is float64 of shape \(3, 2, 3\)"),
        (lambda g: g | {"z": np.asfortranarray(g["z"])}, "C-contiguous"),
        (lambda g: g | {"z": g["z"][:2]}, "2 and 3 rows; they need one batch size, from 1"),
        (lambda g: {n: a[:0] for n, a in g.items()}, "0 rows; they need one batch size, from 1"),
        (lambda g: {n: a[:1] for n, a in g.items()}, r"1 rows; they need one of \(2, 3\)"),
    ],
)
def test_a_session_requires_exact_feeds(change: Any, message: str) -> None:
    sizes = (2, 3) if "one of" in message else ()
    with pytest.raises(RequestError, match=message):
        feeds.check_feeds(CLASSES, change(good()), sizes)
