"""Where the files of a bundle are: in a folder, in one file, on a model hub.

A `Store` brings a file onto this machine when it is used, and checks it against the manifest. Files that are not used
are not read, and need not be there.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ganrt.errors import BundleError, RequestError
from ganrt.json_reader import read_bytes

MANIFEST = "ganrt.json"
"""File name of the manifest."""
MAX_MANIFEST = 2**24
"""Largest manifest in bytes."""
_CHUNK = 2**20


@dataclass(frozen=True)
class FileDigest:
    """Size and checksum of a file."""

    size: int
    """In bytes."""
    sha256: str
    """Hexadecimal."""

    @classmethod
    def of(cls, path: Path) -> FileDigest:
        """Compute the digest of a file. Raises OSError if it cannot be read."""
        return cls(path.stat().st_size, hash_file(path))

    def check(self, path: Path) -> None:
        """Raise BundleError unless the file has this size and checksum."""
        try:
            if path.exists() and not path.is_file():
                raise BundleError(f"{path} is not a regular file: fetch the bundle again")
            size = path.stat().st_size
            if size != self.size:
                raise BundleError(f"{path} has {size} bytes; the manifest lists {self.size}: fetch the bundle again")
            if hash_file(path) != self.sha256:
                raise BundleError(
                    f"{path} was changed after the bundle was written (sha256 differs): fetch the bundle again"
                )
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read ({error.strerror}); the manifest lists it: fetch the bundle again"
            ) from error


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal. Raises OSError if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class Store(ABC):
    """The files of one bundle. Two stores of one path are equal."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        """What `ganrt.load` takes to read the bundle again. Messages name the bundle by it."""
        self._intact: dict[tuple[Path, FileDigest], tuple[int, ...]] = {}

    @abstractmethod
    def read_manifest(self) -> bytes:
        """Return ganrt.json, at most MAX_MANIFEST bytes. Raises BundleError, naming the path, if there is none."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Return whether a file is there, without reading or fetching it."""

    @abstractmethod
    def fetch(self, name: str, digest: FileDigest) -> Path:
        """Bring a file onto this machine and return its path; `locate` checks the content. Files whose names differ in
        their ends only, such as a graph and its external data, must get into one folder.

        Args:
            name: a plain file name.
            digest: what the manifest lists.

        Raises BundleError if the file is not there, MachineError if it cannot be fetched.
        """

    writable = False
    """Whether the files may be changed, in `folder`."""

    @property
    def folder(self) -> Path:
        """The folder in which files may be changed. Raises RequestError for a store that is not writable."""
        raise RequestError(f"{self.path} cannot be changed: only a bundle that is a folder can")

    def check_listing(self, files: Mapping[str, FileDigest]) -> None:  # noqa: B027  (most stores have nothing to compare)
        """Compare what is there with the manifest's files, before any is fetched. Raises BundleError."""

    def locate(self, name: str, digest: FileDigest) -> Path:
        """Return the path of a file that has this digest.

        It is hashed when it is first used; later it is trusted as long as its size, times and inode are the same.
        Raises what `fetch` raises, and BundleError if the file is missing or was changed.
        """
        return self.check(self.fetch(name, digest), digest)

    def measure(self, path: Path) -> FileDigest:
        """Compute the digest of a file, which `locate` need not hash again. Raises OSError if it cannot be read."""
        state = _read_state(path)
        digest = FileDigest.of(path)
        self._intact[path, digest] = state
        return digest

    def check(self, path: Path, digest: FileDigest) -> Path:
        """Return the path of a file that `fetch` found. Raises BundleError unless it has this digest."""
        try:
            state = _read_state(path)
        except OSError:
            digest.check(path)  # which says what is wrong
            raise
        if self._intact.get((path, digest)) != state:
            digest.check(path)
            self._intact[path, digest] = state
        return path

    def resolve(self) -> Store:
        """Return a store whose path does not depend on the current folder."""
        return self

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Store) and other.path == self.path

    def __hash__(self) -> int:
        return hash((type(self), self.path))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


def _read_state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class FolderStore(Store):
    """A bundle that is a folder."""

    path: Path
    writable = True

    @property
    def folder(self) -> Path:
        return self.path

    def resolve(self) -> Store:
        return type(self)(self.path.resolve())

    def read_manifest(self) -> bytes:
        path = self.folder / MANIFEST
        if not path.exists():
            raise BundleError(f"{self.folder} is not a bundle: it has no {MANIFEST}")
        return read_bytes(path, MAX_MANIFEST, BundleError)

    def exists(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def fetch(self, name: str, digest: FileDigest) -> Path:
        return self.folder / name


class BareStore(FolderStore):
    """An ONNX file without a manifest, in a folder that may hold anything else."""

    @property
    def folder(self) -> Path:
        return self.path.parent


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle, intact or damaged: what an export or a pack may replace."""
    return (folder / MANIFEST).is_file()


def open_store(path: str | Path) -> Store:
    """Return the store of a bundle folder, of a bundle in one file, of a bare .onnx file, or of a bundle on a model hub
    (`hf://owner/name`). Raises BundleError if there is nothing at the path, or something else, and what
    `ganrt.hub.open_hub_store` raises."""
    from ganrt.zip_store import ZipStore, is_zip

    if str(path).startswith("hf:/"):
        from ganrt.hub import open_hub_store

        return open_hub_store(str(path))
    path = Path(path)
    try:
        if path.suffix == ".onnx" and path.is_file():
            return BareStore(path)
        if is_zip(path):
            return ZipStore(path)
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing"
            raise BundleError(f"{path} is not a bundle: there is {found} where a folder with {MANIFEST} should be")
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    return FolderStore(path)
