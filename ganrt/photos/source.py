"""Open what a picture is read from: without Pillow's own limit of pixels, and without its warnings on the console."""

from __future__ import annotations

import inspect
import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from ganrt.errors import ArtifactError, RequestError

if TYPE_CHECKING:
    import PIL.Image

FileSource: TypeAlias = "str | Path | bytes | IO[bytes]"
"""A path, the content of a file, or an open binary file."""


class _PixelLimit:
    """Pillow's limit of pixels, which is a variable of the whole process: lifted while pictures are read, whose size
    `ReadOptions.most_pixels` bounds instead."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._kept: int | None = None

    @contextmanager
    def lift(self) -> Iterator[None]:
        import PIL.Image

        with self._lock:
            if not self._users:
                self._kept = PIL.Image.MAX_IMAGE_PIXELS
                PIL.Image.MAX_IMAGE_PIXELS = None
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    PIL.Image.MAX_IMAGE_PIXELS = self._kept


PIXEL_LIMIT = _PixelLimit()
_WARNINGS = threading.Lock()
"""Python keeps what is done with warnings for the whole process."""


@contextmanager
def collect_warnings(remarks: list[str]) -> Iterator[None]:
    """Turn what Pillow warns of, such as damaged EXIF data, into remarks. For short work: threads wait for each
    other."""
    with _WARNINGS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            found = (" ".join(str(warning.message).split()) for warning in caught)
            remarks.extend(f"is partly damaged: {text}" for text in dict.fromkeys(found))


@contextmanager
def open_source(source: FileSource) -> Iterator[tuple[str, IO[bytes]]]:
    """Open a source for reading from its beginning. Files that were given open stay open.

    Yields a name for messages, and the file. Raises ArtifactError for a file that cannot be opened or read,
    RequestError for one that is open as text, or whose methods are asynchronous.
    """
    if isinstance(source, str | Path):
        try:
            file = Path(source).open("rb")  # noqa: SIM115
        except OSError as error:
            raise ArtifactError(f"{source} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ArtifactError(f"{str(source)!r} cannot be read: {error}") from error
        with file:
            yield str(source), _rewind(file)
    elif isinstance(source, bytes | bytearray | memoryview):
        yield "the picture", io.BytesIO(source)
    else:
        yield _find_name(source), _rewind(source)


def _find_name(file: IO[bytes]) -> str:
    name = getattr(file, "name", "")
    return name if isinstance(name, str) and name else "the picture"


def _rewind(file: IO[bytes]) -> IO[bytes]:
    """The file at its beginning, or its content if it cannot be wound back."""
    if inspect.iscoroutinefunction(file.read):
        raise RequestError(f"{_find_name(file)} is read asynchronously; give its content: await file.read()")
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
            if isinstance(file.read(0), bytes):
                return file
        else:  # a pipe, or an object that does not say
            content = file.read()
            if isinstance(content, bytes):
                return io.BytesIO(content)
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        raise ArtifactError(f"{_find_name(file)} cannot be read: {error}") from error
    raise RequestError(f"{_find_name(file)} is open as text; open it in binary mode: open(path, 'rb')")


def open_image(name: str, file: IO[bytes], formats: Sequence[str]) -> PIL.Image.Image:
    """Read the header of a picture file. Raises ArtifactError, saying what else the file is."""
    import PIL.Image

    try:
        return PIL.Image.open(file, formats=tuple(formats))
    except PIL.UnidentifiedImageError as error:
        file.seek(0)
        prefix = file.read(16)
        if not prefix:
            raise ArtifactError(f"{name} is an empty file") from error
        for form in formats:
            accept = PIL.Image.OPEN[form][1]
            if accept and accept(prefix) is True:
                raise ArtifactError(
                    f"{name} begins as a {form} file does, but it is damaged or of a kind that is not read"
                ) from error
        raise ArtifactError(f"{name} is in none of the formats that are read: {', '.join(formats)}") from error
