"""What pictures are read from: files that cannot be wound back, closed or damaged ones, and objects that are none."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from helpers.picture_files import save

import ganrt
from ganrt.bundle import Bundle
from ganrt.errors import ArtifactError, RequestError
from ganrt.photos.reader import read_photo
from ganrt.photos.writer import encode_photo

COLOR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


class Reader:
    """An object with the methods that are needed, and no others."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, place: int) -> int:
        return self._file.seek(place)


class Upload:
    """As web frameworks hand over what a client sends."""

    async def read(self, size: int = -1) -> bytes:
        return bytes(size)

    async def seek(self, place: int) -> None:
        """Nothing to do."""


def test_a_path_that_cannot_be_wound_back(tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(save(COLOR),))
    writer.start()
    np.testing.assert_array_equal(read_photo(path).frames[0].color, COLOR)
    writer.join()


def test_an_object_that_does_not_say_whether_it_can_be_wound_back() -> None:
    source: Any = Reader(save(COLOR))
    np.testing.assert_array_equal(read_photo(source).frames[0].color, COLOR)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    closed = io.BytesIO(save(COLOR))
    closed.close()
    with pytest.raises(ArtifactError, match=r"^the picture cannot be read: I/O operation on closed file"):
        read_photo(closed)
    with (
        (tmp_path / "new.png").open("wb") as file,
        pytest.raises(ArtifactError, match=r"new\.png cannot be read: read$"),
    ):
        read_photo(file)
    upload: Any = Upload()
    with pytest.raises(RequestError, match=r"^the picture is read asynchronously; give its content: await file\.read"):
        read_photo(upload)


def test_pillow_images_that_cannot_be_read() -> None:
    content = save(np.tile(COLOR, (20, 20, 1)), "JPEG")
    with pytest.raises(ArtifactError, match=r"^the picture cannot be read: image file is truncated"):
        read_photo(PIL.Image.open(io.BytesIO(content[: len(content) // 2])))
    closed = PIL.Image.open(io.BytesIO(content))
    closed.close()
    with pytest.raises(ArtifactError, match=r"^the picture cannot be read: Operation on closed image"):
        read_photo(closed)
    with pytest.raises(ArtifactError, match=r"^the picture has 0 x 5 pixels"):
        read_photo(PIL.Image.new("RGB", (0, 5)))


def test_an_error_without_a_message_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    content = save(COLOR)
    photo = read_photo(content)
    monkeypatch.setattr(PIL.Image.Image, "save", fail)
    with pytest.raises(RequestError, match=r"^PNG cannot hold it: MemoryError$"):
        encode_photo(photo, "png")
    monkeypatch.setattr(PIL.Image.Image, "convert", fail)
    with pytest.raises(ArtifactError, match=r"^the picture cannot be read: MemoryError$"):
        read_photo(content)


def test_formats_and_qualities_that_are_none() -> None:
    photo, wrong = read_photo(save(COLOR)), ("50", 50.5, True)
    with pytest.raises(RequestError, match=r"^form is 'gif'; choose png, jpeg, webp, avif, tiff$"):
        encode_photo(photo, "gif")
    for quality in wrong:
        with pytest.raises(RequestError, match=f"^quality is {quality!r} for JPEG; it is 1 to 100"):
            encode_photo(photo, "jpeg", quality)  # type: ignore[arg-type]


def test_a_stream_of_one_picture_that_is_not_in_a_list(espcn: Bundle) -> None:
    with ganrt.load(espcn.folder, "onnxruntime") as generator:
        for wrong in ("photo.png", Path("photo.png"), save(COLOR), read_photo(save(COLOR))):
            name = type(wrong).__name__
            with pytest.raises(
                RequestError, match=f"^pictures is one {name}; give a list, or another iterable, of them"
            ):
                generator.transform_stream(wrong)  # type: ignore[arg-type]
