"""What `ganrt transform` is asked to make of each picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganrt.checks import require_whole
from ganrt.cli.model_inputs import ModelInputs
from ganrt.cli.picture_tasks import Task
from ganrt.errors import RequestError
from ganrt.generator import Generator
from ganrt.photos import FILE_FORMATS, Photo, ReadOptions

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
    inputs: ModelInputs

    @classmethod
    def take(cls, options: dict[str, Any]) -> PictureOptions:
        """Take the options of the command out of `options`, and read further pictures. Raises RequestError, naming the
        option; ArtifactError for a picture that cannot be read."""
        settings, writing, found = ({name: options.pop(name) for name in names} for names in _GROUPS)
        if writing["max_side"] is not None:
            require_whole("--max-side", writing["max_side"])
        reading = ReadOptions(settings["depth"], found["max_pixels"])
        inputs = ModelInputs.read(found["files"], found["values"], reading)
        return cls(**writing, reading=reading, settings=settings, inputs=inputs)

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
        found = {**self.settings, "format": self.form, "quality": self.quality, "max-side": self.max_side}
        found = {name: str(value) for name, value in found.items()}
        return {**found, "suffix": self.suffix, **self.inputs.describe()}

    def make_change(self, generator: Generator) -> Callable[[Photo, int], Photo]:
        """A function that makes a photo of a photo, which has a number."""
        side = self.max_side

        def change(photo: Photo, number: int) -> Photo:
            if side is not None:
                photo = photo.map_frames(lambda frame: frame.reduce(side))
            return generator.transform_photo(photo, start=number, **self.settings, **self.inputs.values)

        return change


_GROUPS = (_SETTINGS, _WRITING, _READING)
