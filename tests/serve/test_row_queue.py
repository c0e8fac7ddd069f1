"""Which rows of the requests that wait are computed next."""

from collections import Counter
from collections.abc import Hashable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ganrt.images import Pictures
from ganrt.serve.jobs import Job
from ganrt.serve.row_queue import RowQueue
from ganrt.serve.rows import Rows


class FakeRows(Rows):
    """Rows without inputs."""

    def __init__(self, count: int, key: Hashable = "a", at_once: int = 100, weight: int = 1) -> None:
        self.count, self.key, self.at_once, self.weight = count, key, at_once, weight

    def take(self, first: int, rows: int) -> None: ...

    def put(self, first: int, made: Pictures) -> None: ...

    def finish(self) -> Pictures:
        return np.empty(0, np.uint8)

    compute = staticmethod(lambda generator, taken: np.empty(0, np.uint8))


def make_job(count: int, key: Hashable = "a", at_once: int = 100, weight: int = 1) -> Job:
    return Job(FakeRows(count, key, at_once, weight), None, 0.0)


def fill(quantum: int, *jobs: Job) -> RowQueue:
    queue = RowQueue(quantum)
    for job in jobs:
        queue.add(job)
    return queue


def take(queue: RowQueue, limit: int) -> list[tuple[Job, int, int]]:
    return [(part.job, part.first, part.rows) for part in queue.take(queue.count_ready(limit))]


def test_small_requests_share_a_batch_in_their_order() -> None:
    jobs = [make_job(1) for _ in range(5)]
    queue = fill(2, *jobs)
    assert take(queue, 3) == [(job, 0, 1) for job in jobs[:3]]
    assert take(queue, 3) == [(job, 0, 1) for job in jobs[3:]]
    assert not queue and queue.rows == 0 and queue.count_ready(3) == 0


def test_a_large_request_does_not_hold_up_a_small_one() -> None:
    large, small = make_job(1000), make_job(1)
    queue = fill(2, large, small)
    assert take(queue, 8) == [(large, 0, 7), (small, 0, 1)]
    assert take(queue, 8) == [(large, 7, 8)]


def test_small_requests_do_not_hold_up_a_large_one() -> None:
    """With as many new requests in each batch as can be computed, the large one gets its share in every round."""
    large = make_job(1000)
    queue = fill(2, large, *(make_job(1) for _ in range(16)))
    for _ in range(40):
        take(queue, 8)
        for _ in range(7):
            queue.add(make_job(1))
    assert 20 <= large.taken <= 60


def test_a_turn_that_a_full_batch_interrupts_goes_on_in_the_next() -> None:
    large, small = make_job(100), make_job(1)
    queue = fill(4, large, small)
    assert take(queue, 3) == [(large, 0, 3)]
    assert take(queue, 3) == [(large, 3, 2), (small, 0, 1)]


def test_only_requests_with_the_same_key_share_a_batch() -> None:
    first, other, again = make_job(3, "a"), make_job(2, "b"), make_job(1, "a")
    queue = fill(8, first, other, again)
    assert queue.count_ready(16) == 4
    assert take(queue, 16) == [(first, 0, 3), (again, 0, 1)]
    assert take(queue, 16) == [(other, 0, 2)]


def test_requests_with_other_keys_keep_their_order() -> None:
    jobs = [make_job(1, key) for key in ("a", "b", "c", "b", "a")]
    queue = fill(4, *jobs)
    take(queue, 8)
    assert list(queue) == jobs[1:4]
    take(queue, 8)
    assert list(queue) == [jobs[2]]


def test_rows_limit_their_batch() -> None:
    queue = fill(8, make_job(5, at_once=2))
    assert queue.count_ready(16) == 2


def test_what_is_ahead_of_a_new_request() -> None:
    queue = fill(4, make_job(1000), make_job(3, weight=10), make_job(1, "b"))
    assert queue.count_ahead(1) == 4 + 30 + 1
    assert queue.count_ahead(4) == 4 + 30 + 1
    assert queue.count_ahead(5) == 8 + 30 + 1
    assert queue.count_ahead(2000) == 1000 + 30 + 1
    assert queue.rows == 1004


def test_removed_requests_are_gone() -> None:
    jobs = [make_job(2) for _ in range(4)]
    queue = fill(4, *jobs)
    assert queue.remove(lambda job: job in jobs[1:3]) == jobs[1:3]
    assert list(queue) == [jobs[0], jobs[3]] and queue.rows == 4 and queue.count_ahead(1) == 4
    assert queue.remove(lambda job: False) == []


@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from("ab"), st.integers(1, 10)), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(1, 16),
)
def test_every_row_is_taken_once_and_turns_are_fair(
    requests: list[tuple[int, str, int]], quantum: int, limit: int
) -> None:
    jobs = [make_job(*request) for request in requests]
    queue = fill(quantum, *jobs)
    taken: Counter[Job] = Counter()
    while queue:
        front, ready = next(iter(queue)), queue.count_ready(limit)
        assert 1 <= ready <= min(limit, front.rows.at_once)
        parts = queue.take(ready)
        assert parts[0].job is front and sum(part.rows for part in parts) == ready
        assert len({part.job for part in parts}) == len(parts)
        for job, first, rows in parts:
            assert job.rows.key == front.rows.key and first == taken[job] and rows > 0
            taken[job] += rows
    assert taken == {job: job.rows.count for job in jobs}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=10), st.integers(1, 8), st.integers(1, 8), st.integers(1, 16))
def test_a_request_never_waits_longer_than_predicted(ahead: list[int], rows: int, quantum: int, limit: int) -> None:
    """At most the rows ahead, its own and those that fill its last batch are computed before it is done."""
    queue = fill(quantum, *(make_job(count) for count in ahead))
    predicted = queue.count_ahead(rows)
    job = make_job(rows)
    queue.add(job)
    computed = 0
    while job.waiting:
        computed += sum(part.rows for part in queue.take(queue.count_ready(limit)))
    turns = -(-rows // quantum)
    assert computed <= predicted + rows + turns * limit
