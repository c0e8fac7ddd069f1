"""`RowQueue`: requests that wait, and which of their rows are computed next. It has no threads and reads no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from ganrt.serve.jobs import Job, Part


class RowQueue:
    """Requests in the order of their turns.

    In its turn, a request gets `quantum` rows computed, in one batch or in two; then it goes to the back if it has
    more. So a request of up to `quantum` rows waits for one turn of each request ahead of it, however large they are,
    and a large request gets its share however many small ones arrive (round robin, as in Shreedhar and Varghese 1995,
    "Efficient Fair Queuing Using Deficit Round Robin").
    """

    def __init__(self, quantum: int) -> None:
        self.quantum = quantum
        """Rows of a turn, at least 1."""
        self.rows = 0
        """Rows that wait."""
        self._jobs: deque[Job] = deque()
        self._weight = 0
        self._large: dict[Job, None] = {}
        """Requests that take several turns, in their order; the others are too many to look at each of them."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def add(self, job: Job) -> None:
        """Put a request at the back."""
        self._jobs.append(job)
        self._count(job, job.waiting)
        if job.waiting > self.quantum:
            self._large[job] = None

    def count_ahead(self, rows: int) -> int:
        """Return the weight of all rows whose turn comes before the last turn of a new request of `rows` rows."""
        most = -(-rows // self.quantum) * self.quantum
        return self._weight - sum(max(0, job.waiting - most) * job.rows.weight for job in self._large)

    def count_ready(self, limit: int) -> int:
        """Return how many rows the next batch could have, at most `limit`; 0 if nothing waits."""
        if not self._jobs:
            return 0
        rows, ready = self._jobs[0].rows, 0
        limit = min(limit, rows.at_once)
        for job in self._jobs:
            if job.rows.key == rows.key:
                ready += job.waiting
            if ready >= limit:
                return limit
        return ready

    def take(self, rows: int) -> list[Part]:
        """Take a batch of `rows` rows, at most `count_ready`: those of the request at the front, and of others that can
        share its batch."""
        key = self._jobs[0].rows.key
        shares: dict[Job, int] = {}
        passed: list[Job] = []
        ended: deque[Job] = deque()
        """Requests whose turn has ended, and that have more."""
        while rows > 0:
            job = (self._jobs or ended).popleft()
            if job.rows.key != key:
                passed.append(job)
                continue
            turn, left = job.turn_left or self.quantum, job.waiting - shares.get(job, 0)
            share = min(turn, left, rows)
            shares[job] = shares.get(job, 0) + share
            rows -= share
            job.turn_left = turn - share
            if share < left:
                # The batch may be full in the middle of a turn, which then goes on in the next one.
                (passed.insert(0, job) if job.turn_left else ended.append(job))
        self._jobs.extendleft(reversed(passed))
        self._jobs.extend(ended)
        parts = [Part(job, job.taken, share) for job, share in shares.items()]
        for job, share in shares.items():
            job.taken += share
            self._count(job, -share)
        return parts

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Remove and return the requests for which `unwanted` is true."""
        removed = [job for job in self._jobs if unwanted(job)]
        if removed:
            gone = set(removed)
            self._jobs = deque(job for job in self._jobs if job not in gone)
            for job in removed:
                self._count(job, -job.waiting)
                self._large.pop(job, None)
        return removed

    def _count(self, job: Job, rows: int) -> None:
        """Count rows that have come, or that have gone if the number is negative."""
        self.rows += rows
        self._weight += rows * job.rows.weight
        if not job.waiting:
            self._large.pop(job, None)
