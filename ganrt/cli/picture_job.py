"""`ganrt transform` of pictures: a job that continues where it was stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

import ganrt
from ganrt import atomic
from ganrt.backend import library_version
from ganrt.cli.picture_options import PictureOptions
from ganrt.cli.picture_pipeline import Failure, Pipeline
from ganrt.cli.picture_tasks import Task
from ganrt.cli.stopping import watch_signals
from ganrt.cli.terminal import log, show_item_progress
from ganrt.errors import RequestError
from ganrt.folder_lock import lock_folder
from ganrt.generator import Generator
from ganrt.job_record import JobRecord
from ganrt.wording import count_things


@dataclass(frozen=True)
class Existing:
    """What is done about files that exist already."""

    overwrite: bool = False
    skip: bool = False

    def __post_init__(self) -> None:
        if self.overwrite and self.skip:
            raise RequestError("--skip-existing leaves files that --overwrite replaces; leave one of them out")


def select_tasks(tasks: Sequence[Task], record: JobRecord, existing: Existing) -> list[Task]:
    """The tasks that are left to do. Files that the beginning of this job has written are complete, and stay, unless
    their source is newer.

    Raises RequestError when a file exists that may not be replaced, or the folder holds the beginning of another job.
    """
    if existing.overwrite:
        for task in tasks:
            atomic.check_output(task.target, True)
        return list(tasks)
    if existing.skip:
        return [task for task in tasks if not task.target.is_file()]
    if record.is_unfinished():
        beginning, replaces = record.find_beginning()
        return [task for task in tasks if not _is_made(task, beginning, replaces)]
    made = next((task.target for task in tasks if task.target.exists()), None)
    if made is not None:
        raise RequestError(
            f"{made} exists already; choose another name, or add --skip-existing to leave such files as they are, or "
            "--overwrite"
        )
    atomic.check_output(tasks[0].target, False)
    return list(tasks)


def _is_made(task: Task, beginning: int, replaces: bool) -> bool:
    """Whether a target is there that is newer than its source. What is older than the beginning of the job is not made
    by it: it is replaced if the job `replaces` files, and stays otherwise."""
    if not task.target.is_file():
        return False
    made = task.target.stat().st_mtime_ns
    if made < beginning:
        return not replaces
    if not task.source.exists():
        return True
    source = task.source.stat()
    # A file that is moved or copied over another one keeps the time of its content, and not that of its inode.
    return made >= max(source.st_mtime_ns, source.st_ctime_ns)


def _remove_drafts(tasks: Sequence[Task], out: Path) -> None:
    """Remove what a killed process had not finished."""
    targets = [*(task.target for task in tasks), out / JobRecord.name]
    begun = {target.with_name(atomic.shorten_name(target.name)) for target in targets}
    for folder in {target.parent for target in begun}:
        for name, path in atomic.list_drafts(folder) if folder.is_dir() else ():
            if folder / name in begun:
                path.unlink()


@dataclass(frozen=True)
class PictureJob:
    """Pictures to be transformed."""

    generator: Generator
    tasks: Sequence[Task]
    out: Path
    """A folder, or the one file."""
    options: PictureOptions

    def run(self, existing: Existing, keep_going: bool) -> list[Failure]:
        """Do what is left to do, and print what was done. Returns the failures, none of them unless `keep_going`.

        Raises RequestError for files that may not be replaced and for a folder that holds the beginning of another
        job; the error of a picture unless `keep_going`; SystemExit when a signal stopped the job.
        """
        record = JobRecord(self.out, self.describe(), ", or --skip-existing to keep the files that are there")
        if len(self.tasks) == 1:
            return self._transform(select_tasks(self.tasks, record, existing), keep_going, lambda: False)[0]
        with atomic.translate_os_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        with lock_folder(self.out):
            left = select_tasks(self.tasks, record, existing)
            _remove_drafts(self.tasks, self.out)
            if existing.overwrite or existing.skip or not record.is_unfinished():
                record.begin(existing.overwrite)
            with watch_signals() as stop:
                failures, done = self._transform(left, keep_going, lambda: stop.number != 0)
            if done < len(left):
                command = "the same command without --overwrite" if existing.overwrite else "the same command"
                log(f"stopped by {stop.name}; {command} continues")
                raise SystemExit(stop.exit_code)
            if not failures:
                record.finish()
        return failures

    def _transform(
        self, left: Sequence[Task], keep_going: bool, is_stopped: Callable[[], bool]
    ) -> tuple[list[Failure], int]:
        """Returns the failures, and how many tasks were done."""
        change, wanted = self.options.make_change(self.generator), self.options
        pipeline = Pipeline(change, wanted.reading, wanted.quality, keep_going, log)
        made = 0

        def report(done: int, task: Task) -> None:
            nonlocal made
            made = done
            show(done, task.source.name)

        with show_item_progress("pictures", len(left)) as show:
            failures = pipeline.run(left, report, is_stopped)
        session = self.generator.session
        pictures = count_things(made - len(failures), "picture")
        click.echo(f"{pictures} by {session.backend} ({session.device}) in {self.out}")
        there = len(self.tasks) - len(left)
        if there:
            click.echo(f"{count_things(there, 'picture was', 'pictures were')} there already")
        for failure in failures:
            log(f"failed: {failure}")
        return failures, made

    def _list_versions(self) -> dict[str, str]:
        """Of all that computes and writes pictures."""
        codecs = {name: library_version(name) for name in ("pillow", "imagecodecs", "tifffile")}
        return {"ganrt": ganrt.__version__, **self.generator.info.details, **codecs}

    def describe(self) -> dict[str, str]:
        """Everything that the results depend on, beside the content of the sources."""
        names = "\n".join(f"{task.source}\n{task.target}" for task in self.tasks)
        return self.options.describe() | {
            "bundle": self.generator.info.digest or "",
            "configuration": str(self.generator.info.config),
            "libraries": ", ".join(f"{name} {version}" for name, version in self._list_versions().items()),
            "the list of pictures": f"{len(self.tasks)}, sha256 {hashlib.sha256(os.fsencode(names)).hexdigest()}",
        }
