"""`ShardJob`: the shards of a request, and which of them a folder lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ganrt import atomic
from ganrt.errors import RequestError
from ganrt.sample_request import SampleRequest
from ganrt.shards.formats import Content, ShardFormat, name_picture
from ganrt.shards.rows import is_in_order

_MOST_SHARDS = 10**6
"""Most shards of a job: so many files in a folder are slow to list."""


class Shard(NamedTuple):
    """Rows `first` to `first + rows - 1` of a job."""

    number: int
    first: int
    rows: int


@dataclass(frozen=True, eq=False)
class ShardJob:
    """Pictures to be written in shards."""

    request: SampleRequest
    rows_per_shard: int
    """Rows of each shard; the last one may have fewer."""
    form: ShardFormat

    def __post_init__(self) -> None:
        if self.rows_per_shard < 1:
            raise RequestError(f"shards of {self.rows_per_shard} pictures were asked for; a shard has at least 1")
        if not self.form.is_flat and self.request.rows > self.rows_per_shard * _MOST_SHARDS:
            raise RequestError(
                f"{self.request.rows} pictures in shards of {self.rows_per_shard} are more than {_MOST_SHARDS} shards; "
                "make the shards larger"
            )

    @cached_property
    def in_order(self) -> bool:
        """Whether the pictures are consecutive samples of one seed, and numbered by sample."""
        return is_in_order(self.request)

    def list_shards(self) -> Iterator[Shard]:
        """Yield all shards, in order."""
        rows, size = self.request.rows, self.rows_per_shard
        for number, first in enumerate(range(0, rows, size)):
            yield Shard(number, first, min(size, rows - first))

    def name_files(self, shard: Shard) -> list[str]:
        """Return the names in the job's folder that a shard is complete with."""
        if not self.form.is_flat:
            return [f"shard-{shard.number:06d}{self.form.suffix}"]
        if self.in_order:
            numbers = self.request.take_rows(shard.first, shard.rows).indices.tolist()
        else:
            numbers = list(range(shard.first, shard.first + shard.rows))
        return [name_picture(number) for number in numbers]

    def list_missing(self, folder: Path) -> list[Shard]:
        """Return the shards that a folder lacks, or of which it lacks a picture. What is there is complete, because it
        appears atomically."""
        there = self._list_present(folder)
        return [shard for shard in self.list_shards() if not there.issuperset(self.name_files(shard))]

    def count_present(self, folder: Path) -> int:
        """Return the number of pictures that are in a folder."""
        there = self._list_present(folder)
        found = ((shard, [name in there for name in self.name_files(shard)]) for shard in self.list_shards())
        return sum(sum(names) if self.form.is_flat else shard.rows * all(names) for shard, names in found)

    def _list_present(self, folder: Path) -> set[str]:
        """Names in a folder, without those of drafts, which may vanish meanwhile."""
        names = (path.name for path in folder.iterdir())
        return {
            name
            for name in names
            if not name.startswith(".") and not (self.form.is_flat and _is_missing(folder / name))
        }

    def write(self, folder: Path, shard: Shard, content: Content) -> None:
        """Write a shard. It appears complete or not at all; a flat one picture by picture, those that are missing.

        Raises MachineError if it cannot be written.
        """
        target = folder / self.name_files(shard)[0]
        if isinstance(content, bytes):
            atomic.write_file(target, content)
            return
        with atomic.new_draft(target) as draft:
            for name, part in content.items():
                (draft / name).write_bytes(part)
            if self.form.is_flat:
                for name in content:
                    if _is_missing(folder / name):
                        (draft / name).replace(folder / name)
            else:
                os.sync()  # many times faster than to wait for each file
                draft.replace(target)


def _is_missing(path: Path) -> bool:
    """Whether a picture is not there. A machine that loses its power may leave an empty file of it."""
    return not path.exists() or path.stat().st_size == 0
