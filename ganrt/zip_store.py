"""A bundle in one file: a zip archive with the files of the folder, stored without compression.

Nothing in such a file is trusted before it is checked: it holds the manifest and files that the manifest lists, each
once and with the listed size, and never more bytes than the file itself has. A file is extracted when it is used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ganrt import atomic
from ganrt.cache import cache_folder
from ganrt.errors import BundleError, MachineError
from ganrt.stores import MANIFEST, MAX_MANIFEST, FileDigest, Store

_log = logging.getLogger(__name__)
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every member, so that the same files make the same archive."""
_READABLE = 0o644 << 16
_ENCRYPTED = 1


def is_zip(path: Path) -> bool:
    """Return whether a path is a zip archive."""
    return path.is_file() and zipfile.is_zipfile(path)


def write_zip(folder: Path, names: list[str], out: Path) -> None:
    """Write files of a folder to one file, atomically and always with the same bytes. Raises MachineError."""
    with atomic.new_file(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            member = zipfile.ZipInfo(name, _DATE)
            member.external_attr, member.create_system = _READABLE, 3  # 3: Unix
            member.file_size = (folder / name).stat().st_size  # lets the archive choose the 64-bit format
            with (folder / name).open("rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target)


class ZipStore(Store):
    """The files of a bundle in one file.

    Files that are used are extracted to the user's cache, under the checksum of the manifest; where there is no cache,
    to a temporary folder that is removed with the store.
    """

    path: Path

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._target: Path | None = None

    def resolve(self) -> Store:
        return ZipStore(self.path.resolve())

    def read_manifest(self) -> bytes:
        with self._open() as (archive, members):
            if MANIFEST not in members:
                raise BundleError(f"{self.path} is not a bundle: it has no {MANIFEST}")
            if members[MANIFEST].file_size > MAX_MANIFEST:
                raise BundleError(f"{MANIFEST} in {self.path} is larger than {MAX_MANIFEST} bytes")
            return archive.read(MANIFEST)

    def exists(self, name: str) -> bool:
        with self._open() as (_, members):
            return name in members

    def check_listing(self, files: Mapping[str, FileDigest]) -> None:
        with self._open() as (_, members):
            for name, member in members.items():
                if name == MANIFEST:
                    continue
                if name not in files:
                    raise BundleError(f"{self.path} holds {name!r:.100}, which its manifest does not list")
                if member.file_size != files[name].size:
                    raise BundleError(
                        f"{name} in {self.path} has {member.file_size} bytes; the manifest lists {files[name].size}: "
                        "fetch the bundle again"
                    )

    def fetch(self, name: str, digest: FileDigest) -> Path:
        if self._target is None:
            try:
                self._target = cache_folder("bundles") / hashlib.sha256(self.read_manifest()).hexdigest()
                return self._extract(name, digest, self._target)
            except MachineError as error:
                reason = str(error)  # whoever keeps the message must not keep this store
                _log.info("%s is extracted for this process alone, because there is no cache: %s", self.path, reason)
                self._target = self._make_temporary_folder()
        return self._extract(name, digest, self._target)

    def _extract(self, name: str, digest: FileDigest, folder: Path) -> Path:
        """Return the path of a file in a folder; extract it unless it is there already."""
        path = folder / name
        if path.is_file():
            try:
                return self.check(path, digest)
            except BundleError as error:
                _log.warning("%s; it is extracted again", error)
        with self._open() as (archive, members):
            if name not in members:
                raise BundleError(f"{self.path} holds no {name}, which its manifest lists: fetch the bundle again")
            if members[name].file_size != digest.size:
                raise BundleError(f"{self.path} was changed while it was in use: load it again")
            with archive.open(members[name]) as source, atomic.new_file(path) as target:
                shutil.copyfileobj(source, target)
        return path

    def _make_temporary_folder(self) -> Path:
        try:
            folder = Path(tempfile.mkdtemp(prefix="ganrt-"))
        except OSError as error:
            raise MachineError(f"{self.path} cannot be extracted: there is no temporary folder ({error})") from error
        weakref.finalize(self, _remove, folder, os.getpid())
        return folder

    @contextmanager
    def _open(self) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
        """The archive and its members. Raises BundleError for what is no archive of stored files."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive, self._list_members(archive)
        except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BundleError(f"{self.path} cannot be read ({reason}): fetch the bundle again") from error

    def _list_members(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            if member.filename in members:
                raise BundleError(f"{self.path} holds {member.filename!r:.100} twice")
            stored = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
            if not stored or member.flag_bits & _ENCRYPTED:
                raise BundleError(
                    f"{member.filename!r:.100} in {self.path} is compressed or encrypted; a bundle's files are stored "
                    "as they are: make it with `ganrt pack`"
                )
            members[member.filename] = member
        if sum(member.file_size for member in members.values()) > self.path.stat().st_size:
            raise BundleError(f"{self.path} is damaged: its files overlap")
        return members


def _remove(folder: Path, process: int) -> None:
    """Remove a temporary folder, but not in a fork of the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
