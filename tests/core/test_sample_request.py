"""Arguments of one value or one per image."""

import math
from typing import Any

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC, UPSCALER
from hypothesis import given
from hypothesis import strategies as st

from ganrt.errors import RequestError
from ganrt.sample_request import Draw, check_request, find_truncations, mix_requests
from ganrt.spec import Latent, Output, Scalar, Spec

NAN = math.nan
BIG = [2**64 - 1, 2**63 + 1, 2**53 + 1, 0]
INSIDE = Spec("inside", (Latent("z", (2,)), Scalar("truncation", (0.25, 1.0), 0.5)), Output(1, (0.0, 1.0), (4, 4)))


def take_all(spec: Spec = CLASSES, n: int | None = None, **arguments: Any) -> Draw:
    request = check_request(spec, n, **arguments)
    return request.take_rows(0, request.rows)


def test_one_seed_counts_its_samples() -> None:
    draw = take_all(n=3, seed=7, start=2**64 - 3)
    assert draw.seeds.dtype == draw.indices.dtype == np.uint64
    assert draw.seeds.tolist() == [7, 7, 7] and draw.indices.tolist() == [2**64 - 3, 2**64 - 2, 2**64 - 1]
    assert draw.labels is None and draw.truncation is None and draw.rows == 3


def test_a_seed_per_image_takes_one_start_or_one_per_image() -> None:
    assert take_all(seed=[7, 9, 7], start=5).indices.tolist() == [5, 5, 5]
    assert take_all(seed=[7, 9, 7], start=[5, 0, 2**64 - 1]).indices.tolist() == [5, 0, 2**64 - 1]
    assert take_all(seed=[7, 9, 7]).indices.tolist() == [0, 0, 0]
    assert take_all(seed=[2**64 - 1], start=2**64 - 1).indices.tolist() == [2**64 - 1]


def test_one_seed_takes_a_start_per_image() -> None:
    draw = take_all(seed=7, start=[12, 0, 12])
    assert draw.seeds.tolist() == [7, 7, 7] and draw.indices.tolist() == [12, 0, 12]


@pytest.mark.parametrize(
    "seeds",
    [
        BIG,
        tuple(BIG),
        np.array(BIG, np.uint64),
        np.array(BIG, object),
        [np.uint64(BIG[0]), BIG[1], np.int64(BIG[2]), np.int8(0)],
    ],
)
def test_no_seed_loses_a_bit(seeds: Any) -> None:
    draw = take_all(seed=seeds, start=seeds)
    assert draw.seeds.tolist() == draw.indices.tolist() == BIG and draw.seeds.dtype == np.uint64


@pytest.mark.parametrize("seeds", [range(3), np.arange(3, dtype=np.int8), np.arange(9)[::4] // 4, [0, True + 0, 2]])
def test_whole_numbers_of_any_kind(seeds: Any) -> None:
    assert take_all(seed=seeds).seeds.tolist() == [0, 1, 2]


def test_arrays_of_other_libraries() -> None:
    torch = pytest.importorskip("torch")
    assert take_all(seed=torch.tensor([3, 1]), labels=torch.tensor(4)).seeds.tolist() == [3, 1]


def test_the_caller_keeps_its_arrays() -> None:
    seeds, truncation = np.array([3, 4], np.uint64), np.array([0.5, NAN])
    draw = take_all(SPEC, seed=seeds, truncation=truncation)
    seeds[:], truncation[:] = 0, 0.0
    assert draw.seeds.tolist() == [3, 4] and draw.truncation is not None and draw.truncation[0] == 0.5


def test_an_entry_none_is_drawn_or_the_default() -> None:
    draw = take_all(labels=[3, None, 0])
    assert draw.labels is not None and draw.labels.tolist() == [3, -1, 0] and draw.labels.dtype == np.int64
    draw = take_all(SPEC, truncation=[0.5, None, 0])
    assert draw.truncation is not None and draw.truncation.dtype == np.float64
    np.testing.assert_array_equal(draw.truncation, [0.5, NAN, 0.0])
    np.testing.assert_array_equal(draw.fill_truncation(2.0), [0.5, 2.0, 0.0])
    single = take_all(SPEC, truncation=np.array([0.25, NAN], np.float32)).truncation
    np.testing.assert_array_equal(single, [0.25, NAN])


def test_both_ends_of_a_range_are_inside_it() -> None:
    for ends in ([0.25, 1.0], np.array([0.25, 1.0])):
        draw = take_all(INSIDE, truncation=ends)
        assert draw.truncation is not None and draw.truncation.tolist() == [0.25, 1.0]
    assert take_all(labels=[0, 9]).rows == 2 and take_all(labels=np.array([0, 9])).rows == 2


@pytest.mark.parametrize("spec", [SPEC, CLASSES, UPSCALER])
def test_nothing_but_none_is_no_argument(spec: Spec) -> None:
    draw = take_all(spec, labels=[None, None], truncation=[None, None])
    assert draw.rows == 2 and draw.labels is None and draw.truncation is None
    assert take_all(spec, truncation=np.full(2, NAN)).truncation is None


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ({}, 1),
        ({"n": 5}, 5),
        ({"seed": [1, 2]}, 2),
        ({"start": [1, 2, 3]}, 3),
        ({"labels": [1, 2, None]}, 3),
        ({"seed": [], "labels": np.array([], np.int64)}, 0),
        ({"n": np.int8(2), "seed": [1, 2], "start": np.array([1, 2])}, 2),
    ],
)
def test_the_number_of_images(arguments: dict[str, Any], rows: int) -> None:
    assert take_all(**arguments).rows == rows


BAD: list[tuple[Spec, dict[str, Any], str]] = [
    (SPEC, {"seed": [1, 2, 3, -1]}, r"seed\[3\] is -1; it must be a whole number from 0 to 2\^64 - 1"),
    (SPEC, {"seed": [0, 2**64]}, r"seed\[1\] is 18446744073709551616; it must be"),
    (SPEC, {"seed": [0, 10**400]}, r"seed\[1\] is 1000"),
    (SPEC, {"seed": [0, True]}, r"seed\[1\] is True; it must be"),
    (SPEC, {"seed": [0, 1.0]}, r"seed\[1\] is 1\.0; it must be"),
    (SPEC, {"seed": [0, None]}, r"seed\[1\] is None; it must be"),
    (SPEC, {"seed": [0, "7"]}, r"seed\[1\] is '7'; it must be"),
    (SPEC, {"seed": "78"}, "seed is '78'; it must be"),
    (SPEC, {"seed": None}, "seed is None; it must be"),
    (SPEC, {"seed": np.array([1.0, 2.0])}, r"seed\[0\] is 1\.0; it must be"),
    (SPEC, {"seed": np.array([False, True])}, r"seed\[0\] is False; it must be"),
    (SPEC, {"seed": np.array([4, -5, -7])}, r"seed\[1\] is -5; it must be"),
    (SPEC, {"seed": np.array(["a", "b"])}, r"seed\[0\] is 'a'; it must be"),
    (SPEC, {"seed": np.zeros((2, 3), int)}, r"seed is an array of shape \(2, 3\); give one value, or one per image"),
    (SPEC, {"start": [0, -1]}, r"start\[1\] is -1; it must be a whole number"),
    (SPEC, {"start": 2**64 - 1, "n": 2}, r"start \+ n is 18446744073709551617; sample numbers end at"),
    (SPEC, {"n": 2, "seed": [1, 2, 3]}, "seed has 3 entries and n is 2; give one value, or one per image"),
    (SPEC, {"n": 2, "seed": [1]}, "seed has 1 entry and n is 2"),
    (SPEC, {"n": 0, "seed": [1]}, "seed has 1 entry and n is 0"),
    (SPEC, {"seed": [1, 2], "start": [1, 2, 3]}, "start has 3 entries and seed has 2; give one value"),
    (SPEC, {"seed": [1, 2], "truncation": [0.5]}, "truncation has 1 entry and seed has 2"),
    (SPEC, {"n": [1, 2]}, r"n is \[1, 2\]; it must be a whole number"),
    (CLASSES, {"labels": [1, 10]}, r"labels\[1\] is 10; this model's classes are the whole numbers 0 to 9"),
    (CLASSES, {"labels": np.array([1, 10, 11])}, r"labels\[1\] is 10; this model's classes"),
    (CLASSES, {"labels": np.array([-1, 3])}, r"labels\[0\] is -1; this model's classes"),
    (CLASSES, {"labels": [1, NAN]}, r"labels\[1\] is nan; this model's classes"),
    (SPEC, {"labels": [None, 3]}, "labels were given, but this fake model has no classes"),
    (SPEC, {"truncation": [0.5, -0.5]}, r"truncation\[1\] is -0\.5; it must be a finite number from 0"),
    (SPEC, {"truncation": [0.5, NAN]}, r"truncation\[1\] is nan; it must be a finite number from 0"),
    (SPEC, {"truncation": [0.5, math.inf]}, r"truncation\[1\] is inf; it must be"),
    (SPEC, {"truncation": np.array([0.5, math.inf])}, r"truncation\[1\] is inf; it must be"),
    (SPEC, {"truncation": [0.5, True]}, r"truncation\[1\] is True; it must be"),
    (CLASSES, {"truncation": [None, 0.5]}, "truncation was given, but this classes model has none"),
    (INSIDE, {"truncation": [0.25, 1.5]}, r"truncation\[1\] is 1\.5; this model takes 0\.25 to 1"),
    (INSIDE, {"truncation": np.array([0.2, 0.5])}, r"truncation\[0\] is 0\.2; this model takes 0\.25 to 1"),
]


@pytest.mark.parametrize(("spec", "arguments", "message"), BAD)
def test_a_wrong_entry_is_named_with_its_position(spec: Spec, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_request(spec, **arguments)


def test_an_array_that_cannot_be_read_is_named() -> None:
    class OnAnotherDevice:
        def __array__(self, *_: object, **__: object) -> None:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    with pytest.raises(RequestError, match="seed cannot be read as an array: can't convert cuda:0"):
        check_request(SPEC, seed=OnAnotherDevice())  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_the_last_sample_number_is_allowed_and_the_next_is_not(n: int) -> None:
    last = 2**64 - max(n, 1)
    assert check_request(CLASSES, n, 7, last) == (n, 7, last, None, None)
    with pytest.raises(RequestError, match=r"2\^64"):
        check_request(CLASSES, n, 7, last + 1)


@pytest.mark.parametrize("bad", [-1, 2**64])
@pytest.mark.parametrize("name", ["n", "seed", "start"])
def test_plain_numbers_out_of_range_are_named(name: str, bad: int) -> None:
    arguments: dict[str, Any] = {"n": 1, name: bad}
    with pytest.raises(RequestError, match=rf"^{name} is {bad}; it must be a whole number from 0 to"):
        check_request(CLASSES, **arguments)


def test_a_request_for_any_number_of_images_is_small() -> None:
    request = check_request(SPEC, 10**15, seed=7, start=3, truncation=0.5)
    assert request.take_rows(10**14, 2).indices.tolist() == [10**14 + 3, 10**14 + 4]


word64 = st.integers(0, 2**64 - 1)


@given(
    st.lists(st.tuples(word64, word64, st.none() | st.integers(0, 9), st.none() | st.floats(0, 4)), max_size=20),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_a_part_of_a_request_is_that_part_of_its_lists(rows: list[Any], first: int, count: int) -> None:
    both = Spec("both", (Latent("z", (4,), truncation="resampled"), *CLASSES.inputs[1:]), CLASSES.output)
    seeds, starts, labels, truncations = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 4
    request = check_request(both, seed=seeds, start=starts, labels=labels, truncation=truncations)
    part = request.take_rows(first, count)
    assert part.seeds.tolist() == seeds[first : first + count]
    assert part.indices.tolist() == starts[first : first + count]
    wanted = [-1 if label is None else label for label in labels[first : first + count]]
    assert part.labels is None or part.labels.tolist() == wanted
    assert part.labels is not None or set(labels) <= {None}
    limits = [NAN if limit is None else limit for limit in truncations[first : first + count]]
    np.testing.assert_array_equal(np.full(part.rows, NAN) if part.truncation is None else part.truncation, limits)


@pytest.mark.parametrize(("spec", "wanted"), [(SPEC, (0.0, math.inf)), (CLASSES, None), (INSIDE, (0.25, 1.0))])
def test_the_truncations_that_a_model_takes(spec: Spec, wanted: tuple[float, float] | None) -> None:
    assert find_truncations(spec) == wanted


@pytest.mark.parametrize("spec", [SPEC, CLASSES, INSIDE])
def test_mixed_requests_are_allowed_and_differ(spec: Spec) -> None:
    draw = mix_requests(spec, 9)
    assert len(set(draw.seeds.tolist())) > 1 and len(set(draw.indices.tolist())) > 1
    assert (draw.labels is not None and {-1} < set(draw.labels.tolist())) == (spec is CLASSES)
    assert (draw.truncation is not None and 0 < np.isnan(draw.truncation).sum() < 9) == (spec is not CLASSES)
    labels = None if draw.labels is None else [None if label < 0 else label for label in draw.labels.tolist()]
    again = take_all(spec, seed=draw.seeds, start=draw.indices, labels=labels, truncation=draw.truncation)
    for name in ("seeds", "indices", "labels", "truncation"):
        np.testing.assert_array_equal(getattr(again, name), getattr(draw, name))
