"""Cutting n rows into the batch sizes that a session has."""

import numpy as np
import pytest
from fake_sessions import SPEC, UPSCALER, FakeSession, samples
from hypothesis import given
from hypothesis import strategies as st

from ganrt.backend import Pending, Ready
from ganrt.batching import Batch, plan, rows, run, run_all
from ganrt.errors import BackendError
from ganrt.feeds import Array, Feeds

sizes = st.lists(st.integers(1, 64), max_size=5, unique=True).map(sorted).map(tuple)


@given(st.integers(0, 300), sizes, st.integers(1, 64))
def test_a_plan_covers_every_row_once_with_sizes_that_exist(count: int, sizes: tuple[int, ...], limit: int) -> None:
    batches = list(plan(count, sizes, limit))
    assert [row for b in batches for row in range(b.first, b.first + b.rows)] == list(range(count))
    for batch in batches:
        assert 1 <= batch.rows <= batch.size
        assert batch.size in sizes if sizes else batch.size == batch.rows
        assert batch.size <= limit or batch.size == min(sizes)
    assert all(batch.rows == batch.size for batch in batches[:-1]), "only the last batch may be padded"


@pytest.mark.parametrize(
    ("count", "sizes", "limit", "wanted"),
    [
        (7, (1, 2, 4, 8), 32, [4, 2, 1]),
        (7, (4,), 32, [4, 4]),
        (70, (), 32, [32, 32, 6]),
        (3, (8, 16), 32, [8]),
        (20, (8, 64), 32, [8, 8, 8]),
        (2, (64,), 32, [64]),
    ],
)
def test_plans(count: int, sizes: tuple[int, ...], limit: int, wanted: list[int]) -> None:
    assert [batch.size for batch in plan(count, sizes, limit)] == wanted


@given(st.integers(1, 40), sizes, st.integers(1, 16))
def test_images_do_not_depend_on_the_cut(count: int, sizes: tuple[int, ...], limit: int) -> None:
    inputs, expected = samples(count=count)
    session = FakeSession(SPEC, sizes)
    np.testing.assert_allclose(run_all(session, SPEC.output, inputs, limit), expected, rtol=1e-6)
    assert session.batches == [batch.size for batch in plan(count, sizes, limit)]


def test_the_next_batch_is_under_way_while_one_is_handed_out() -> None:
    session = FakeSession()
    inputs, _ = samples(count=12)
    seen = [
        (batch.first, len(session.batches)) for batch, _ in run(session, SPEC.output, 12, lambda b: rows(inputs, b), 4)
    ]
    assert seen == [(0, 2), (4, 3), (8, 3)]


def test_rows_are_padded_with_the_last_one() -> None:
    feeds = {"z": np.arange(5)}
    assert rows(feeds, Batch(3, 2, 4))["z"].tolist() == [3, 4, 4, 4]
    assert rows(feeds, Batch(0, 5, 5)) is feeds


class Returning(FakeSession):
    def __init__(self, outputs: dict[str, Array]) -> None:
        super().__init__()
        self.outputs = outputs

    def submit(self, feeds: Feeds) -> Pending:
        return Ready(self.outputs)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.zeros((2, 3, 4, 5), np.float32)}, r"fake returned the outputs \['y'\]; 'image' is missing"),
        ({"image": np.zeros((2, 3, 4, 5))}, r"returned float64 of shape \(2, 3, 4, 5\)"),
        (
            {"image": np.zeros((1, 3, 4, 5), np.float32)},
            r"a batch of 2 of this model is float32 of shape \(2, 3, 4, 5\)",
        ),
        ({"image": np.zeros((2, 4, 5, 3), np.float32)}, r"of shape \(2, 4, 5, 3\)"),
    ],
)
def test_a_session_that_returns_something_else_is_caught(outputs: dict[str, Array], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        run_all(Returning(outputs), SPEC.output, samples(count=2)[0], 8)


def test_an_open_size_still_means_four_sides() -> None:
    inputs = {"x": np.zeros((2, 3, 4, 4), np.float32)}
    assert run_all(FakeSession(UPSCALER), UPSCALER.output, inputs, 8).shape == (2, 3, 8, 8)
    with pytest.raises(BackendError, match=r"float32 of shape \(2, 3\)"):
        run_all(Returning({"image": np.zeros((2, 3), np.float32)}), UPSCALER.output, inputs, 8)
