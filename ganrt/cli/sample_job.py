"""`ganrt sample` into a folder: a job that continues where it was stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ganrt
from ganrt import atomic, batching, shards
from ganrt.cli.stopping import StopRequest, watch_signals
from ganrt.cli.terminal import log, show_item_progress
from ganrt.errors import RequestError
from ganrt.folder_lock import lock_folder
from ganrt.generator import Generator
from ganrt.job_record import JobRecord, Manifest
from ganrt.sample_request import SampleRequest
from ganrt.wording import count_things

_SHARD = 1000
"""Pictures in a shard by default."""
_LONGEST_TEXT = 200
"""Characters of an option that are kept as they are."""
_FILES = (".png", ".npz", ".tar", ".parquet")
"""Endings that no folder is meant to have."""


@dataclass(frozen=True)
class ShardOptions:
    """How a folder is written."""

    form: str | None
    """A name of `ganrt.shards.FORMATS`; None for a folder of PNG files."""
    size: int | None
    """Pictures in a shard."""
    overwrite: bool = False

    def check(self, out: Path) -> None:
        """Raise RequestError where the options do not fit each other or the output, MissingLibraryError if the format
        needs a library that is not installed."""
        if self.form is None and self.size is not None:
            raise RequestError(f"--shard is for shards; add --format with one of {', '.join(shards.FORMATS)}")
        if self.form is not None:
            shards.open_format(self.form)
            if out.suffix in _FILES:
                raise RequestError(f"with --format, --out is a folder of shards; {out} is named like a file")

    def make_job(self, generator: Generator, request: SampleRequest) -> shards.ShardJob:
        """Return the job of a request. Pictures in one folder are done in the batches in which they are computed."""
        if self.form is None:
            return shards.ShardJob(request, generator.max_batch, shards.FLAT)
        return shards.ShardJob(request, _SHARD if self.size is None else self.size, shards.open_format(self.form))


def run_job(
    generator: Generator, request: SampleRequest, out: Path, options: ShardOptions, asked: Mapping[str, Any]
) -> str:
    """Write the pictures of a request into the folder `out`, those that are missing.

    Args:
        asked: the options of the command, that make the request.

    Returns what was done, as a sentence. Raises RequestError if the folder holds something else; SystemExit when a
    signal stopped the job.
    """
    job = options.make_job(generator, request)
    facts = {**asked, "n": request.rows, **describe_job(generator, job, options)}
    record = JobRecord(out, facts) if job.form.is_flat else Manifest(out, facts)
    check_folder(out, record, options.overwrite)
    with atomic.translate_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with lock_folder(out):
        check_folder(out, record, options.overwrite)  # another process may have written it meanwhile
        if options.overwrite:
            shards.clear_folder(out)
        shards.remove_drafts(out)
        there = job.count_present(out)
        if there < request.rows or not record.is_unfinished():
            record.begin()
        with watch_signals() as stop:
            _write_missing(generator, job, out, stop)
        if stop.number and job.count_present(out) < request.rows:
            log(_describe_stop(job, out, stop, options.overwrite))
            raise SystemExit(stop.exit_code)
        if job.form.is_flat:
            os.sync()  # while there is a record, an empty file that a loss of power leaves is made again
        record.finish([name for shard in job.list_shards() for name in job.name_files(shard)])
    pictures = count_things(request.rows, "picture")
    if 0 < there == request.rows:
        return f"{out} is complete: {count_things(there, 'picture was', 'pictures were')} there already"
    made = f"{pictures} by {generator.session.backend} ({generator.session.device}) in {out}"
    return f"{made}; {count_things(there, 'was', 'were')} there already" if there else made


def check_folder(out: Path, record: JobRecord, overwrite: bool) -> None:
    """Check that a job can write a folder: there is none, it is empty, it holds the beginning of the job, or it holds
    what another job made and is overwritten. Raises RequestError or MachineError."""
    there = out.is_dir()
    if there and not overwrite and record.is_unfinished():
        return
    if not (there and shards.is_unused(out)):
        atomic.check_output(out, overwrite, shards.was_made_by_jobs)


def _write_missing(generator: Generator, job: shards.ShardJob, out: Path, stop: StopRequest) -> None:
    missing = job.list_missing(out)
    with show_item_progress("pictures", sum(shard.rows for shard in missing)) as report:
        shards.write_shards(generator, job, missing, out, report, lambda: stop.number != 0)


def _describe_stop(job: shards.ShardJob, out: Path, stop: StopRequest, overwrite: bool) -> str:
    there = f"{job.count_present(out)} of {count_things(job.request.rows, 'picture')}"
    command = "the same command without --overwrite" if overwrite else "the same command"
    return f"stopped by {stop.name}: {there} are in {out}; {command} continues"


def describe_job(generator: Generator, job: shards.ShardJob, options: ShardOptions) -> dict[str, Any]:
    """Return all that the bytes of the files depend on besides what was asked for: with other batches or another
    library, pictures are equal up to rounding only."""
    most = generator.max_batch
    rows = min(most, job.rows_per_shard)
    batches = batching.plan_batches(rows, generator.session.batch_sizes, most, generator.seconds)
    return {
        "format": options.form,
        "shard": None if job.form.is_flat else job.rows_per_shard,
        "bundle": generator.info.digest,
        "configuration": str(generator.info.config),
        "libraries": dict(generator.info.details),
        "sizes of batches": [batch.size for batch in batches],
        "ganrt": ganrt.__version__,
    }


def describe_values(text: str | None, values: Any) -> str | None:
    """Return an option's text, or the digest of its values where they are in a file or the text is long."""
    if text is None or (not text.startswith("@") and len(text) <= _LONGEST_TEXT):
        return text
    digest = hashlib.sha256(" ".join(map(repr, values)).encode()).hexdigest()
    return f"sha256 {digest} of {count_things(len(values), 'value')}"
