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
        self._jobs: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(job.waiting for job in self._jobs)

    def add(self, job: Job) -> None:
        """Put a request at the back."""
        self._jobs.append(job)

    def count_ahead(self, rows: int) -> int:
        """Return the weight of all rows whose turn comes before the last turn of a new request of `rows` rows."""
        turns = -(-rows // self.quantum)
        return sum(min(job.waiting, turns * self.quantum) * job.rows.weight for job in self._jobs)

    def count_ready(self, limit: int) -> int:
        """Return how many rows the next batch could have, at most `limit`; 0 if nothing waits."""
        if not self._jobs:
            return 0
        rows = self._jobs[0].rows
        waiting = sum(job.waiting for job in self._jobs if job.rows.key == rows.key)
        return min(waiting, limit, rows.at_once)

    def take(self, rows: int) -> list[Part]:
        """Take a batch of `rows` rows, at most `count_ready`: those of the request at the front, and of others that can
        share its batch."""
        key = self._jobs[0].rows.key
        shares: dict[Job, int] = {}
        turns = deque(job for job in self._jobs if job.rows.key == key)
        while rows > 0:
            job = turns.popleft()
            turn = job.turn_left or self.quantum
            share = min(turn, job.waiting - shares.get(job, 0), rows)
            shares[job] = shares.get(job, 0) + share
            rows -= share
            job.turn_left = turn - share
            if shares[job] < job.waiting:
                turns.append(job)
        parts = [Part(job, job.taken, share) for job, share in shares.items()]
        for job, share in shares.items():
            job.taken += share
        waiting = [job for job in shares if job.waiting]
        others = [job for job in self._jobs if job not in shares]
        # The batch may be full in the middle of a turn, which then goes on in the next one.
        interrupted = [job for job in waiting if job.turn_left]
        self._jobs = deque([*interrupted, *others, *(job for job in waiting if not job.turn_left)])
        return parts

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Remove and return the requests for which `unwanted` is true."""
        removed = [job for job in self._jobs if unwanted(job)]
        if removed:
            gone = set(removed)
            self._jobs = deque(job for job in self._jobs if job not in gone)
        return removed
