"""`Monitor`: is told what a batcher does."""

from __future__ import annotations

from ganrt.serve.jobs import Answer


class Monitor:
    """Ignores everything; subclasses count. The methods are called in the threads of the batcher and of its callers,
    and must be quick."""

    def rows_accepted(self, rows: int) -> None:
        """The rows of a request were put into the queue."""

    def rows_finished(self, rows: int) -> None:
        """All rows of such a request were made, or will not be made."""

    def batch_computed(self, rows: int, requests: int, seconds: float) -> None:
        """A batch was computed: its rows, the requests that they belong to, and how long it took."""

    def request_answered(self, answer: Answer) -> None:
        """All rows of a request were made."""

    def rows_dropped(self, reason: str, rows: int) -> None:
        """Rows of a request will not be made: `full`, `deadline`, `cancelled`, `closed`, `device` (it failed) or
        `error` (computing them did)."""
