"""The record of a job in the folder that it writes: with it, the same command continues where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganrt import atomic
from ganrt.errors import ArtifactError, RequestError
from ganrt.json_reader import read_bytes, read_json

_NAME = ".ganrt-job.json"
_SHARDS = "shards"
_OVERWRITES = "overwrites"
_LARGEST = 1 << 26


class JobRecord:
    """What an unfinished job in a folder is asked to do."""

    name = _NAME

    def __init__(self, folder: Path, request: Mapping[str, Any], advice: str = "") -> None:
        """
        Args:
            folder: that the job writes.
            request: everything that its files depend on, as JSON holds it.
            advice: what else can be done when the folder holds another job; it follows the advice to choose another
                folder or to overwrite.
        """
        self._advice = f"choose another --out, or add --overwrite{advice}"
        self._folder, self._path, self._request = folder, folder / self.name, dict(request)

    def is_unfinished(self) -> bool:
        """Whether the folder holds the beginning of this job. Raises RequestError if it is that of another one,
        ArtifactError if the record is damaged."""
        if not self._path.is_file():
            return False
        found = self._read()
        what = "another job" if _SHARDS in found else "the beginning of another job"
        names = sorted({*found, *self._request} - {_SHARDS, _OVERWRITES})
        different = [name for name in names if found.get(name) != self._request.get(name)]
        if different:
            name = different[0]
            raise RequestError(
                f"{self._folder} holds {what}, with {name} {found.get(name)!r:.100} instead of "
                f"{self._request.get(name)!r:.100}; {self._advice}"
            )
        return True

    def begin(self, overwrite: bool = False) -> None:
        """Write the record.

        Args:
            overwrite: the job replaces files that are there already.
        """
        self._write({**self._request, _OVERWRITES: True} if overwrite else self._request)

    def find_beginning(self) -> tuple[int, bool]:
        """When an unfinished job began, in nanoseconds by the clock of the file system, and whether it replaces files:
        those that are older are not of this job."""
        return self._path.stat().st_mtime_ns, bool(self._read().get(_OVERWRITES))

    def finish(self, files: Sequence[str] = ()) -> None:
        """Remove it: the job is done.

        Args:
            files: what the job has made, for a record that stays.
        """
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            found = read_json(self._path, _LARGEST)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; {self._advice}") from error
        if not isinstance(found, dict):
            raise ArtifactError(f"{self._path} is damaged: no object; {self._advice}")
        return found

    def _write(self, content: Mapping[str, Any]) -> None:
        """Write the record, if it is another: a job that is done may lie where nothing can be written."""
        text = json.dumps(content, indent=1, sort_keys=True).encode()
        if not self._path.is_file() or read_bytes(self._path, _LARGEST) != text:
            atomic.write_file(self._path, text)


class Manifest(JobRecord):
    """The record of a job that writes shards. It stays, and lists them when the job is done."""

    name = "job.json"

    def finish(self, files: Sequence[str] = ()) -> None:
        """Write the record of a job that is done."""
        self._write({**self._request, _SHARDS: list(files)})
