"""The further inputs of `ganrt transform`: pictures and numbers that the model takes beside what is transformed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ganrt.cli.parsing import parse_numbers, parse_settings
from ganrt.errors import ArtifactError
from ganrt.photos import ReadOptions, read_photo


class ModelInputs(NamedTuple):
    """Further inputs, read once."""

    values: Mapping[str, Any]
    """Name -> photo or number."""
    digests: Mapping[str, str]
    """Name of a photo -> digest of its file."""

    @classmethod
    def read(cls, files: Sequence[str], numbers: Sequence[str], reading: ReadOptions) -> ModelInputs:
        """Read the values of --input and --set. Raises RequestError, naming the option; ArtifactError for a picture
        that cannot be read."""
        contents = {name: _read_file(path) for name, path in parse_settings(tuple(files), "--input").items()}
        photos = {name: read_photo(content, reading, name) for name, content in contents.items()}
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        return cls(photos | parse_numbers(tuple(numbers), "--set"), digests)

    def describe(self) -> dict[str, str]:
        """Name -> number, or digest of the file."""
        numbers = {name: str(value) for name, value in self.values.items() if name not in self.digests}
        return {**numbers, **self.digests}


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
