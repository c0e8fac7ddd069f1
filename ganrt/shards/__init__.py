"""Bulk sampling: the pictures of a request in shards, files of many pictures, each of which can be made anywhere.

A shard is a range of rows of a job. Its content depends on the generator, the request and the range alone, so that a
job that was stopped continues with the shards that are missing, and several machines can share one.
"""

from ganrt.shards.folder import clear_folder, is_unused, remove_drafts, was_made_by_jobs
from ganrt.shards.formats import FLAT, FORMATS, ShardFormat, open_format, pack_arrays
from ganrt.shards.job import Shard, ShardJob
from ganrt.shards.rows import Rows, make_rows
from ganrt.shards.writer import write_shards

__all__ = [
    "FLAT",
    "FORMATS",
    "Rows",
    "Shard",
    "ShardFormat",
    "ShardJob",
    "clear_folder",
    "is_unused",
    "make_rows",
    "open_format",
    "pack_arrays",
    "remove_drafts",
    "was_made_by_jobs",
    "write_shards",
]
