"""The libraries of the extra `deep`, which read and write more than 8 bits of a color."""

from __future__ import annotations

from typing import Any

from ganrt.errors import MissingLibraryError


def import_codecs() -> Any:
    """The module imagecodecs. Raises MissingLibraryError, naming the extra."""
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingLibraryError("imagecodecs", "deep", "reading and writing 16 bits of color") from error
    return imagecodecs
