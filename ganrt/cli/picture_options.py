"""What `ganrt transform` is asked to make of each picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganrt.checks import require_whole
from ganrt.cli.parsing import parse_numbers, parse_settings
from ganrt.cli.picture_tasks import Task
from ganrt.errors import ArtifactError, RequestError
from ganrt.generator import Generator
from ganrt.photos import FILE_FORMATS, Photo, ReadOptions, read_photo

_SETTINGS = ("tile", "seed", "labels", "depth")
"""Options that are arguments of `Generator.transform_photo`."""
_WRITING = ("form", "quality", "suffix", "max_side")
_READING = ("max_pixels", "files", "values")


@dataclass(frozen=True)
class PictureOptions:
    """How pictures are read, computed and written."""

    form: str | None
    """Name of the format to write; None for that of each picture."""
    quality: int | None
    suffix: str
    max_side: int | None
    reading: ReadOptions
    settings: Mapping[str, Any]
    """Arguments of `Generator.transform_photo`, the same for all pictures."""
    inputs: Mapping[str, Any]
    """Further inputs of the model: numbers and photos."""
    digests: Mapping[str, str]
    """Name of a further picture -> digest of its file."""

    @classmethod
    def take(cls, options: dict[str, Any]) -> PictureOptions:
        """Take the options of the command out of `options`, and read further pictures. Raises RequestError, naming the
        option; ArtifactError for a picture that cannot be read."""
        settings, writing, found = ({name: options.pop(name) for name in names} for names in _GROUPS)
        if writing["max_side"] is not None:
            require_whole("--max-side", writing["max_side"])
        reading = ReadOptions(settings["depth"], found["max_pixels"])
        contents = {name: _read_file(path) for name, path in parse_settings(found["files"], "--input").items()}
        photos = {name: read_photo(content, reading, name) for name, content in contents.items()}
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        inputs = photos | parse_numbers(found["values"], "--set")
        return cls(**writing, reading=reading, settings=settings, inputs=inputs, digests=digests)

    def check_quality(self, tasks: Sequence[Task]) -> None:
        """Raise RequestError if a quality was asked for that none of the formats has."""
        lossy = [name for name, form in FILE_FORMATS.items() if form.lossy]
        if self.quality is None:
            return
        if not 1 <= self.quality <= 100:
            raise RequestError(f"--quality is {self.quality}; it is 1 to 100")
        if not any(task.format in lossy for task in tasks):
            raise RequestError(f"--quality is for {', '.join(lossy)}, and no picture is written as one; leave it out")

    def describe(self) -> dict[str, str]:
        """Everything that a result depends on beside the picture and the model."""
        found = {name: value for name, value in self.inputs.items() if name not in self.digests}
        found |= {**self.settings, "format": self.form, "quality": self.quality, "max-side": self.max_side}
        return {name: str(value) for name, value in found.items()} | {"suffix": self.suffix, **self.digests}

    def make_change(self, generator: Generator) -> Callable[[Photo, int], Photo]:
        """A function that makes a photo of a photo, which has a number."""
        side = self.max_side

        def change(photo: Photo, number: int) -> Photo:
            if side is not None:
                photo = photo.map_frames(lambda frame: frame.reduce(side))
            return generator.transform_photo(photo, start=number, **self.settings, **self.inputs)

        return change


_GROUPS = (_SETTINGS, _WRITING, _READING)


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
