"""Read, compute and write many pictures: while the session computes one, others are read, converted and encoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ganrt import atomic
from ganrt.cli.picture_tasks import Task
from ganrt.errors import ArtifactError, BackendError, GanrtError, MissingLibraryError, RequestError
from ganrt.machine import usable_cores
from ganrt.photos import FILE_FORMATS, Photo, ReadOptions, encode_photo, list_losses, read_photo

_OF_A_PICTURE = (ArtifactError, BackendError, RequestError, MissingLibraryError)
"""Errors that one picture may have, and the next not."""
_MOST_AT_ONCE = 6
"""Pictures that are in memory at a time."""


@dataclass(frozen=True)
class Failure:
    """A picture of which nothing was made."""

    source: Path
    error: GanrtError

    def __str__(self) -> str:
        text = str(self.error)
        return text if text.startswith(str(self.source)) else f"{self.source}: {text}"


@dataclass(frozen=True)
class Pipeline:
    """Reads, computes and writes pictures at the same time: a few threads do one picture each, and take turns at the
    session."""

    change: Callable[[Photo, int], Photo]
    """Makes a photo of a photo, which has a number. Called by several threads at a time."""
    options: ReadOptions
    quality: int | None
    """Of formats that lose something; others have none."""
    keep_going: bool
    """Continue after a picture that cannot be read, computed or written."""
    log: Callable[[str], None]
    """Called with what a user should know about a picture."""

    def run(
        self, tasks: Sequence[Task], report: Callable[[int, Task], None], is_stopped: Callable[[], bool]
    ) -> list[Failure]:
        """Do tasks. Each file is complete or not there, at any moment.

        Args:
            report: called after each task with the number of those that are done.
            is_stopped: whether to begin no further picture; those that were begun are finished.

        Returns the failures. Raises the first one unless `keep_going`; always what is no fault of a picture.
        """
        failures: list[Failure] = []
        waiting: deque[tuple[Task, Future[None]]] = deque()
        done, threads = 0, min(usable_cores() + 1, _MOST_AT_ONCE)

        def finish_oldest() -> None:
            nonlocal done
            task, future = waiting.popleft()
            try:
                future.result()
            except _OF_A_PICTURE as error:
                if not self.keep_going:
                    raise
                failures.append(Failure(task.source, error))
            done += 1
            report(done, task)

        with ThreadPoolExecutor(threads, "ganrt-pictures") as pool:
            for task in tasks:
                waiting.append((task, pool.submit(self._transform, task)))
                if len(waiting) > threads:
                    finish_oldest()
                if is_stopped():
                    break
            while waiting:
                finish_oldest()
        return failures

    def _transform(self, task: Task) -> None:
        self._write(task, self.change(self._read(task), task.number))

    def _read(self, task: Task) -> Photo:
        photo = read_photo(task.source, self.options)
        for remark in photo.remarks:
            self.log(remark)
        return photo

    def _write(self, task: Task, photo: Photo) -> None:
        for loss in list_losses(photo, task.format):
            self.log(f"{task.target}: {loss}")
        quality = self.quality if FILE_FORMATS[task.format].lossy else None
        try:
            content = encode_photo(photo, task.format, quality)
        except RequestError as error:
            raise RequestError(f"{task.target}: {error}") from error
        atomic.write_file(task.target, content)
