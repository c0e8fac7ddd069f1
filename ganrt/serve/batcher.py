"""`Batcher`: requests from many callers share batches, and each gets the pictures that it would get alone."""

from __future__ import annotations

import atexit
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from ganrt import batching, forking
from ganrt.checks import is_finite, require_whole
from ganrt.errors import (
    BackendError,
    ClosedError,
    DeadlineError,
    DeviceLostError,
    DeviceMemoryError,
    OverloadedError,
    RequestError,
    TooLargeError,
)
from ganrt.generator import Generator
from ganrt.picture_inputs import Picture, Values
from ganrt.sample_request import Draw, Labels, Seeds, Truncation, check_request
from ganrt.serve.clock import now
from ganrt.serve.drain_rate import DrainRate
from ganrt.serve.jobs import Answer, Job, Part, halve_batch
from ganrt.serve.monitor import Monitor
from ganrt.serve.row_queue import RowQueue
from ganrt.serve.rows import InputRows, PictureRows, Rows, SampleRows
from ganrt.transform import collect_inputs
from ganrt.wording import count_things

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_log = logging.getLogger(__name__)


class Batcher:
    """Computes the rows of many requests in shared batches, in a thread of its own.

    with Batcher(generator) as batcher:
        answer = batcher.sample(4, seed=7).result()
        answer = await asyncio.wrap_future(batcher.sample(4, seed=7))

    A row is one image. Requests take turns: in each, a request gets a quarter of a batch, so that one of 1,000 pictures
    does not hold up one of a single picture. Any thread may call the methods. A request is cancelled by `cancel()` of
    its future; its rows are dropped unless they are in a batch already. If a batch fails, its halves are computed
    separately, and so on: only the request whose row fails gets the error.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        largest_batch: int | None = None,
        longest_wait_s: float = 0.002,
        longest_queue_s: float = 10.0,
        most_rows: int = 4096,
        turns: AbstractContextManager[Any] | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        """Start the thread.

        Args:
            generator: computes the batches; the caller closes it after the batcher.
            largest_batch: most rows of a batch; None for `Generator.max_batch`.
            longest_wait_s: how long a row may wait, in seconds, for others that fill its batch.
            longest_queue_s: a request is rejected if it would wait longer than this many seconds, by the measured rate.
            most_rows: most rows of a request, and most that wait at a time.
            turns: held while a batch is computed: batchers that share one (`ganrt.fair_lock.FairLock`) take turns, so
                that their models do not compete for the processor.
            monitor: is told what happens.

        Raises RequestError for an argument out of range.
        """
        most = generator.max_batch
        self._largest = most if largest_batch is None else min(most, require_whole("largest_batch", largest_batch))
        for name, seconds in {"longest_wait_s": longest_wait_s, "longest_queue_s": longest_queue_s}.items():
            if not is_finite(seconds) or seconds < 0:
                raise RequestError(f"{name} is {seconds!r}; it must be a number of seconds from 0")
        self.generator = generator
        """Computes the batches."""
        self.most_rows = require_whole("most_rows", most_rows)
        """Most rows of a request."""
        self._longest_wait_s, self._longest_queue_s = longest_wait_s, longest_queue_s
        self._turns = turns or nullcontext()
        self.monitor = monitor or Monitor()
        """Is told what happens."""
        self._queue = RowQueue(max(1, self._largest // 4))
        self._rate = DrainRate()
        self._changed = threading.Condition()
        self._handing_out = threading.Lock()
        self._in_flight: list[Part] = []
        self._are_cancelled = False
        """Whether requests may wait that were cancelled."""
        self._next_deadline = math.inf
        """No request that waits has an earlier one."""
        self._closing = False
        self._lost: DeviceLostError | None = None
        self._generation = forking.generation()
        # On a GPU, a second thread prepares and submits a batch while the first one hands out its pictures.
        count = 1 if generator.session.device == "cpu" else 2
        self._threads = [threading.Thread(target=self._work, name="ganrt-batcher", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def sample(
        self,
        n: int | None = None,
        seed: Seeds = 0,
        start: Seeds = 0,
        labels: Labels = None,
        truncation: Truncation = None,
        *,
        timeout_s: float | None = None,
    ) -> Future[Answer]:
        """Ask for the pictures of `Generator.sample`.

        Args:
            n, seed, start, labels, truncation: as for `Generator.sample`; at least one picture.
            timeout_s: seconds after which rows that are not in a batch yet are dropped.

        Returns a future of the answer. It raises BackendError if the pictures cannot be computed, DeadlineError after
        the timeout, DeviceLostError if the device fails, ClosedError if the batcher is closed meanwhile.

        Raises RequestError as `Generator.sample` does, TooLargeError for more than `most_rows` pictures,
        OverloadedError if too much is waiting, ClosedError after `close`.
        """
        generator, spec = self.generator, self.generator.spec
        if spec.images:
            raise RequestError(f"this {spec.family} model needs a picture; use transform()")
        self.check_size(check_request(spec, n, seed, start, labels, truncation).rows)
        draw = generator.draw(n, seed, start, labels, truncation)
        return self._enqueue(SampleRows(generator, draw), draw, timeout_s)

    def run(
        self, inputs: Mapping[str, ArrayLike], *, draw: Draw | None = None, timeout_s: float | None = None
    ) -> Future[Answer]:
        """Ask for the pictures of your own inputs.

        Args:
            inputs: input name -> array-like of shape (N, ...), as for `Generator.__call__`.
            draw: what they were drawn from, for the answer; None if they were not.
            timeout_s: as for `sample`.

        Returns and raises what `sample` does.
        """
        rows = InputRows(self.generator, inputs)
        self.check_size(rows.count)
        return self._enqueue(rows, draw, timeout_s)

    def transform(
        self,
        *pictures: Picture,
        tile: int | None = None,
        seed: Seeds = 0,
        timeout_s: float | None = None,
        **inputs: Any,
    ) -> Future[Answer]:
        """Ask for the result of `Generator.transform`, as a batch: (N, H, W, C). A row is a tile of a picture.

        Args:
            pictures, tile, seed, inputs: as for `Generator.transform`.
            timeout_s: as for `sample`.

        Returns and raises what `sample` does; also ArtifactError for a file that cannot be read.
        """
        given, _ = collect_inputs(self.generator.spec, pictures, inputs, seed)
        rows = PictureRows(self.generator, given, tile)
        self.check_size(rows.count)
        return self._enqueue(rows, None, timeout_s)

    def check_size(self, rows: int) -> None:
        """Raise RequestError for a request of no rows, TooLargeError for one of more than `most_rows`."""
        if rows == 0:
            raise RequestError("no pictures were asked for; ask for at least one")
        if rows > self.most_rows:
            raise TooLargeError(f"{rows} pictures were asked for; at most {self.most_rows} are made in one request")

    def find_overload(self) -> OverloadedError | None:
        """Return the error that a request for one picture would get now, if too much is waiting. A server that asks
        before it reads a request spends less on those that it rejects."""
        with self._changed:
            return self._find_overload(1, self._longest_queue_s)

    @property
    def largest_batch(self) -> int:
        """Most rows of a batch; smaller after one did not fit into memory."""
        return self._largest

    @property
    def waiting_rows(self) -> int:
        """Number of rows that wait."""
        with self._changed:
            return self._queue.rows

    def close(self, timeout_s: float | None = None) -> None:
        """Reject new requests, compute those that wait, and end the thread. May be called twice.

        Args:
            timeout_s: seconds after which requests that still wait fail with ClosedError; None computes all of them.
        """
        if forking.generation() != self._generation:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self._queue and not self._in_flight, timeout_s):
                self._fail_all(ClosedError("the batcher was closed before these pictures were made"), "closed")
        for thread in self._threads:
            thread.join()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enqueue(self, rows: Rows, draw: Draw | None, timeout_s: float | None) -> Future[Answer]:
        if timeout_s is not None and not (is_finite(timeout_s) and timeout_s > 0):
            raise RequestError(f"timeout_s is {timeout_s!r}; it must be a number of seconds above 0")
        if forking.generation() != self._generation:
            raise BackendError("this batcher was made before the process forked: make one in the child")
        since = now()
        job = Job(rows, draw, since, math.inf if timeout_s is None else since + timeout_s)
        job.future.add_done_callback(self._notice_cancelled)
        with self._changed:
            if self._lost is not None:
                raise DeviceLostError(str(self._lost))
            if self._closing:
                raise ClosedError("the batcher is closed; it takes no more requests")
            patience = self._longest_queue_s if timeout_s is None else min(timeout_s, self._longest_queue_s)
            if (error := self._find_overload(rows.count, patience)) is not None:
                self.monitor.rows_dropped("full", rows.count)
                raise error
            self._queue.add(job)
            self._next_deadline = min(self._next_deadline, job.deadline)
            self.monitor.rows_accepted(rows.count)
            if self._queue.rows == rows.count or self._queue.rows >= self._largest:  # else it waits for more anyway
                self._changed.notify_all()
        return job.future

    def _find_overload(self, rows: int, patience_s: float) -> OverloadedError | None:
        """Return the error for a request if too many rows wait, or its last row would wait too long."""
        for is_last in (False, True):
            waiting = self._queue.rows
            too_many = max(0, waiting + rows - self.most_rows)
            expected_s = self._rate.predict(self._queue.count_ahead(rows))
            if not too_many and expected_s <= patience_s:
                return None
            if not is_last:
                self._drop_unwanted()
        retry_after_s = max(expected_s - patience_s, self._rate.predict(too_many))
        queue = count_things(waiting, "picture waits", "pictures wait")
        return OverloadedError(f"{queue}, about {expected_s:.1f} s; try again in {retry_after_s:.1f} s", retry_after_s)

    def _drop_unwanted(self) -> None:
        """Drop requests that were cancelled, or whose deadline has passed."""
        moment = now()
        if self._are_cancelled:
            self._are_cancelled = False
            for job in self._queue.remove(lambda job: job.future.cancelled()):
                self.monitor.rows_dropped("cancelled", job.waiting)
                self._settle(job)
        if moment >= self._next_deadline:
            for job in self._queue.remove(lambda job: job.deadline <= moment):
                self._fail(job, DeadlineError("the timeout passed before all of these pictures were made"), "deadline")
            self._next_deadline = min((job.deadline for job in self._queue), default=math.inf)

    def _notice_cancelled(self, future: Future[Answer]) -> None:
        if future.cancelled():
            self._are_cancelled = True

    def _work(self) -> None:
        while parts := self._take_batch():
            started = now()
            for part in parts:
                if part.first == 0:
                    part.job.queue_s = started - part.job.since
            self._compute(parts)
            with self._changed:
                draining = sum(part.rows for part in parts) >= self._largest or len(self._queue) > 0
                self._rate.add(sum(part.rows * part.job.rows.weight for part in parts), now() - started, draining)
                self._in_flight = [part for part in self._in_flight if part not in parts]
                self._changed.notify_all()

    def _take_batch(self) -> list[Part]:
        """Wait for rows, and for more that fill a batch. Returns an empty list when the batcher is closed."""
        with self._changed:
            while True:
                self._drop_unwanted()
                ready = self._queue.count_ready(self._largest)
                if not ready and self._closing:
                    self._changed.notify_all()  # `close` waits for an empty queue, which cancelled requests have left
                    return []
                if not ready:
                    self._changed.wait()
                    continue
                oldest = next(iter(self._queue))
                left_s = oldest.since + self._longest_wait_s - now()
                if ready >= min(self._largest, oldest.rows.at_once) or left_s <= 0 or self._closing:
                    session, seconds = self.generator.session, self.generator.seconds
                    plan = batching.plan_batches(ready, session.batch_sizes, self._largest, seconds)
                    parts = self._queue.take(next(plan).rows)  # the first batch of the cheapest plan
                    self._in_flight += parts
                    return parts
                self._changed.wait(left_s)

    def _compute(self, parts: Sequence[Part]) -> None:
        """Compute a batch. If it fails, compute its halves; the request of a single row that fails gets the error."""
        rows = sum(part.rows for part in parts)
        try:
            taken = [part.job.rows.take(part.first, part.rows) for part in parts]
            with self._turns:
                started = now()
                made = parts[0].job.rows.compute(self.generator, taken)
                seconds = now() - started
        except DeviceLostError as error:
            with self._changed:
                self._lost = error
                self._fail_all(error, "device")
        except Exception as error:  # whatever happens to the rows of one request, those of others are computed
            if rows == 1:
                self._give_up(parts[0].job, error)
                return
            if isinstance(error, DeviceMemoryError):
                self._largest = min(self._largest, rows // 2)
                _log.warning("a batch of %d does not fit into memory; batches have %d from now on", rows, self._largest)
            for half in halve_batch(parts):
                left = [part for part in half if not part.job.is_settled]
                if left:
                    self._compute(left)
        else:
            self._hand_out(parts, made, seconds)

    def _hand_out(self, parts: Sequence[Part], made: Values, seconds: float) -> None:
        """Give each request its pictures of a batch, and its answer if they were the last."""
        self.monitor.batch_computed(len(made), len(parts), seconds)
        ends = accumulate(part.rows for part in parts)
        for part, end in zip(parts, ends, strict=True):
            job = part.job
            try:
                with self._handing_out:
                    job.rows.put(part.first, made[end - part.rows : end])
                    job.made += part.rows
                    job.compute_s += seconds
                    is_complete = job.made == job.rows.count
                if is_complete:
                    self._answer(job, len(made), len(parts))
            except Exception as error:  # such as too little memory for one result; the others get theirs
                self._give_up(job, error)

    def _answer(self, job: Job, batch_rows: int, batch_requests: int) -> None:
        pictures = job.rows.finish()
        if self._settle(job):
            answer = Answer(pictures, job.draw, job.queue_s, job.compute_s, batch_rows, batch_requests)
            job.future.set_result(answer)
            self.monitor.request_answered(answer)

    def _give_up(self, job: Job, error: Exception) -> None:
        """Fail a request, and drop its rows that wait."""
        with self._changed:
            self._queue.remove(lambda other: other is job)
        self._fail(job, error, "error")

    def _fail_all(self, error: Exception, reason: str) -> None:
        """Fail all requests that wait or are in flight."""
        waiting = self._queue.remove(lambda _: True)
        for job in dict.fromkeys([*waiting, *(part.job for part in self._in_flight)]):
            self._fail(job, error, reason)

    def _fail(self, job: Job, error: Exception, reason: str) -> None:
        if self._settle(job):
            self.monitor.rows_dropped(reason, job.rows.count - job.made)
            job.future.set_exception(error)

    def _settle(self, job: Job) -> bool:
        """Return whether the caller, and nobody else, is to give a request its answer or error: False if somebody has
        done so, or the request was cancelled."""
        with self._changed:
            if job.is_settled:
                return False
            job.is_settled = True
        self.monitor.rows_finished(job.rows.count)
        return job.future.set_running_or_notify_cancel()
