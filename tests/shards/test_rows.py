"""The rows of a job: their numbers, and what is said about each."""

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC, FakeSession

from ganrt.generator import Generator
from ganrt.sample_request import Labels, Seeds, check_request
from ganrt.shards import Rows, make_rows
from ganrt.shards.rows import is_in_order


@pytest.mark.parametrize(
    ("seed", "start", "numbers"),
    [
        (7, 5, [5, 6]),
        ([7, 7], [5, 6], [5, 6]),
        ([7, 8], [5, 6], [0, 1]),
        ([7, 7], [5, 7], [0, 1]),
        ([7, 7], [6, 5], [0, 1]),
        ([7, 7], 5, [0, 1]),
        (7, [5, 7], [0, 1]),
    ],
)
def test_pictures_are_numbered_by_sample_only_in_order(seed: Seeds, start: Seeds, numbers: list[int]) -> None:
    generator = Generator(SPEC, FakeSession())
    request = check_request(SPEC, 2, seed, start)
    rows, pictures = make_rows(generator, request, 0, 2, is_in_order(request))
    assert rows.numbers.tolist() == numbers
    assert np.array_equal(pictures, generator.sample(2, seed, start))


def test_any_range_of_rows_is_what_sample_makes() -> None:
    generator = Generator(CLASSES, FakeSession(CLASSES))
    request = check_request(CLASSES, 20, 7, 100)
    rows, pictures = make_rows(generator, request, 13, 4, True)
    assert np.array_equal(pictures, generator.sample(4, 7, 113)) and rows.numbers.tolist() == [113, 114, 115, 116]
    assert rows.draw.labels is not None
    assert rows.draw.labels.tolist() == generator.draw(4, 7, 113).labels.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize(("labels", "first"), [(None, None), ([None, 4], None), (4, 4)])
def test_the_label_is_said_whether_drawn_or_chosen(labels: Labels, first: int | None) -> None:
    generator = Generator(CLASSES, FakeSession(CLASSES))
    rows, _ = make_rows(generator, check_request(CLASSES, 2, 2**64 - 1, labels=labels), 0, 2, True)
    drawn = generator.draw(2, 2**64 - 1, labels=labels).labels
    assert drawn is not None and first in (None, drawn[0])
    for row in range(2):
        assert rows.describe(row) == {"seed": 2**64 - 1, "index": row, "label": drawn[row]}


def test_the_models_own_truncation_is_not_said() -> None:
    rows, _ = make_rows(Generator(SPEC, FakeSession()), check_request(SPEC, seed=7, truncation=[None, 0.5]), 0, 2, True)
    assert rows.describe(0) == {"seed": 7, "index": 0}
    assert rows.describe(1) == {"seed": 7, "index": 1, "truncation": 0.5}


def test_parts_are_joined() -> None:
    generator, request = Generator(CLASSES, FakeSession(CLASSES)), check_request(CLASSES, 6, 7)
    parts = [make_rows(generator, request, first, 3, True)[0] for first in (0, 3)]
    joined, whole = Rows.join(parts), make_rows(generator, request, 0, 6, True)[0]
    assert [joined.describe(row) for row in range(6)] == [whole.describe(row) for row in range(6)]
    assert joined.numbers.tolist() == list(range(6))
