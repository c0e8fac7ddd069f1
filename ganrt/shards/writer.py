"""Make shards and write them: the next pictures are computed while the last ones are encoded and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from ganrt.generator import Generator
from ganrt.images import Pictures
from ganrt.machine import usable_cores
from ganrt.sampling import compute_ahead
from ganrt.shards.job import Shard, ShardJob
from ganrt.shards.rows import Rows, make_rows


class _Part(NamedTuple):
    """Rows of a shard that are computed together."""

    shard: Shard
    first: int
    rows: int

    @property
    def is_last(self) -> bool:
        return self.first + self.rows == self.shard.first + self.shard.rows


def list_parts(shards: Iterable[Shard], size: int) -> Iterator[_Part]:
    """Yield the parts of shards, of at most `size` rows.

    They begin at the first row of each shard, never at the first row that is missing: pictures are the same in every
    batch up to rounding only, so a shard has the same bytes in every run if it is split into the same batches.
    """
    for shard in shards:
        end = shard.first + shard.rows
        for first in range(shard.first, end, size):
            yield _Part(shard, first, min(size, end - first))


def write_shards(
    generator: Generator,
    job: ShardJob,
    shards: Iterable[Shard],
    folder: Path,
    report: Callable[[int, str], None] = lambda rows, name: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Make some shards of a job in a folder that is there.

    Args:
        generator: makes the pictures.
        shards: any of the job's, in any order; other machines may make others.
        report: called with the number of rows that are computed, and the name of the last shard.
        is_stopped: asked after each batch; True drops what is not complete, and returns.

    Memory holds one shard, as it is encoded, and some batches. Raises MachineError if a file cannot be written, and
    what `Generator.make` raises; shards that are complete stay.
    """

    def compute(part: _Part) -> tuple[_Part, Rows, Pictures]:
        return (part, *make_rows(generator, job.request, part.first, part.rows, job.in_order))

    def encode(rows: Rows, pictures: Pictures) -> tuple[Rows, Sequence[Any]]:
        return rows, job.form.encode(rows, pictures)

    def write(shard: Shard, encoded: Sequence[Future[tuple[Rows, Sequence[Any]]]]) -> None:
        # The parts entered the pool's queue before this task, so another thread has done them or is at it.
        parts = [future.result() for future in encoded]
        rows = Rows.join([rows for rows, _ in parts])
        job.write(folder, shard, job.form.pack(rows, [entry for _, entries in parts for entry in entries]))

    workers, done = usable_cores(), 0
    waiting: deque[Future[Any]] = deque()
    encoded: list[Future[tuple[Rows, Sequence[Any]]]] = []
    computed = compute_ahead(compute, list_parts(shards, generator.max_batch))
    with ThreadPoolExecutor(workers, "ganrt-encode") as pool, closing(computed):
        for part, rows, pictures in computed:
            encoded.append(pool.submit(encode, rows, pictures))
            waiting.append(encoded[-1])
            if part.is_last:
                waiting.append(pool.submit(write, part.shard, encoded))
                encoded = []
            while len(waiting) > 2 * workers:
                waiting.popleft().result()
            done += part.rows
            report(done, job.name_files(part.shard)[-1])
            if is_stopped():
                break
        for future in waiting:
            future.result()
