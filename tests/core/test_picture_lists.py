"""Lists of pictures given to `Generator.transform`, and pictures that are too small for a network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from helpers.picture_files import save
from onnx import TensorProto, helper, numpy_helper
from onnx import save as save_graph

import ganrt
from ganrt.backend import HostSession
from ganrt.bundle import Bundle, Variant
from ganrt.errors import ArtifactError, BackendError, RequestError
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.photos.reader import read_photo
from ganrt.spec import Image, Label, Output, Scalar, Spec
from ganrt.stores import FolderStore

PHOTO = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
SMALL = PHOTO[:5]
LEVELS = (0.0, 1.0)
STYLED = Spec(
    "styled",
    (
        Image("content", "content", 3, LEVELS, multiple_of=4),
        Image("mask", "mask", 1, LEVELS, like="content", multiple_of=4),
        Image("style", "style", 3, LEVELS),
        Scalar("strength", (0.0, 1.0), 0.0),
        Label("y", 256, "index"),
    ),
    Output(3, LEVELS, None),
)


class Styled(HostSession):
    """The content; where there is strength the grey of the class. Fails for sides below a least one."""

    def __init__(self, spec: Spec = STYLED, content: int = 0, style: int = 0) -> None:
        super().__init__("fake", "fp32", spec, {})
        self.batch_sizes = ()
        self.least = {"content": content, "style": style}
        self.calls = 0

    def run(self, feeds: Feeds) -> Array:
        self.calls += 1
        for name, least in self.least.items():
            if min(feeds[name].shape[2:]) < least:
                raise BackendError("Pad reflect requires axis length >= 2")
        strength = feeds["strength"].reshape(-1, 1, 1, 1)
        made: Array = feeds["content"] * (1 - strength) + feeds["y"].reshape(-1, 1, 1, 1) / np.float32(255) * strength
        return made.astype(np.float32)

    def release(self) -> None:
        pass


def make(content: int = 0, style: int = 0) -> Generator:
    return Generator(STYLED, Styled(STYLED, content, style))


def mask(picture: np.ndarray) -> np.ndarray:
    return np.zeros(picture.shape[:2], np.uint8)


def test_pictures_of_one_size_become_one_array(tmp_path: Path) -> None:
    content = save(PHOTO)
    (tmp_path / "photo.png").write_bytes(content)
    file, path = io.BytesIO(content), tmp_path / "photo.png"
    listed: list[Any] = [
        PHOTO,
        content,
        file,
        PIL.Image.fromarray(PHOTO),
        read_photo(content),
        path,
        str(path),
        PHOTO[None],
    ]
    generator = make()
    for given in (listed, tuple(listed)):
        made = generator.transform(given, mask=mask(PHOTO), style=PHOTO, labels=0)
        assert isinstance(made, np.ndarray) and made.shape == (8, 8, 9, 3) and (made == PHOTO).all()
    assert generator.transform([PHOTO], mask(PHOTO), PHOTO).shape == (1, 8, 9, 3)  # type: ignore[union-attr]


def test_pictures_of_several_sizes_become_a_list_in_order() -> None:
    clear = np.dstack([PHOTO, PHOTO[..., :1] | 1])
    given = [PHOTO, SMALL, PHOTO[::-1], clear]
    masks = [mask(picture) for picture in given]
    made = make().transform(given, masks, PHOTO)
    assert isinstance(made, list)
    for found, wanted in zip(made, given, strict=True):
        np.testing.assert_array_equal(found, wanted)
    by_name = make().transform(content=given[:2], mask=masks[:2], style=[PHOTO])
    assert [found.shape for found in by_name] == [(8, 9, 3), (5, 9, 3)]


@pytest.mark.parametrize("seed", [7, [7, 7, 7]])
def test_what_is_drawn_is_that_of_the_place(seed: Any) -> None:
    """As if each were transformed alone, with the next sample."""
    generator, given = make(), [PHOTO, SMALL, PHOTO]
    masks = [mask(picture) for picture in given]
    made = generator.transform(given, masks, PHOTO, seed=seed, start=3, strength=1)
    counted = isinstance(seed, int)
    for place, found in enumerate(made):
        start = 3 + place * counted
        wanted = generator.transform(given[place], masks[place], PHOTO, seed=7, start=start, strength=1)
        np.testing.assert_array_equal(found, wanted)
    assert (len({int(found.max()) for found in made}) > 1) == counted


def test_what_is_given_for_each_picture_is_split() -> None:
    given = [PHOTO, SMALL, PHOTO]
    masks, styles = [mask(picture) for picture in given], np.stack([PHOTO] * 3)
    made = make().transform(given, masks, styles, labels=[10, 20, 30], strength=np.array([0, 1, 1]))
    assert np.array_equal(made[0], PHOTO) and (made[1] == 20).all() and (made[2] == 30).all()
    with pytest.raises(RequestError, match="labels has 2 entries for 3 pictures; give one, or one per picture"):
        make().transform(given, masks, PHOTO, labels=[10, 20])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], RequestError, "content is an empty list; give at least one picture"),
        ([PHOTO, b"junk"], ArtifactError, r"content\[1\]: the picture is in none of the formats that are read"),
        ([PHOTO, "absent.png"], ArtifactError, r"content\[1\]: absent.png cannot be read: No such file"),
        ([PHOTO, 3], RequestError, r"content\[1\] is an array of int64; give a uint8 or uint16 array, a path or"),
        ([PHOTO, [PHOTO]], RequestError, r"content\[1\] is a list; each entry of a list is one picture"),
        ([PHOTO[None].repeat(2, axis=0)], RequestError, r"content\[0\] is an array of 2 pictures; each entry"),
    ],
)
def test_entries_that_are_no_pictures(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make().transform(given, mask(PHOTO), PHOTO)
    with pytest.raises(RequestError, match="style is a list of pictures of different sizes; give pictures of one size"):
        make().transform(PHOTO, mask(PHOTO), [PHOTO, SMALL])


# Pictures that are too small


@pytest.mark.parametrize(
    ("size", "least", "message"),
    [
        ((3, 20), 8, "content is 20 x 3 pixels; this styled model needs at least 5 x 5"),
        ((20, 4), 8, "content is 4 x 20 pixels; this styled model needs at least 5 x 5"),
        ((1, 1), 100, "content is 1 x 1 pixels; this styled model needs at least 97 x 97"),
    ],
)
def test_the_smallest_size_is_said(size: tuple[int, int], least: int, message: str) -> None:
    """It is that before padding to a multiple of 4."""
    small = np.zeros((*size, 3), np.uint8)
    with pytest.raises(RequestError, match=message):
        make(least).transform(small, mask(small), PHOTO)
    enough = np.zeros((least - 3, least - 3, 3), np.uint8)
    make(least).transform(enough, mask(enough), PHOTO)


def test_the_picture_that_is_too_small_is_named() -> None:
    with pytest.raises(RequestError, match="style is 9 x 5 pixels; this styled model needs at least 6 x 6"):
        make(8, 6).transform(PHOTO, mask(PHOTO), SMALL)


def test_several_pictures_that_are_too_small() -> None:
    small = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(RequestError, match="content is 4 x 4 pixels; this styled model needs at least 5 x 5"):
        make(8).transform(small, small[..., :1], PHOTO, labels=[1, 2], strength=[0.5, 1])


@pytest.mark.parametrize("least", [8, 10**6])
def test_other_errors_stay(least: int) -> None:
    """Of a picture that is large enough, and of a model that takes none."""

    class Broken(Styled):
        def run(self, feeds: Feeds) -> Array:
            if feeds["content"].max() > 0:
                raise BackendError("out of order")
            return super().run(feeds)

    generator = Generator(STYLED, Broken(STYLED, least))
    with pytest.raises(BackendError, match="out of order"):
        generator.transform(PHOTO, mask(PHOTO), PHOTO)
    assert isinstance(generator.session, Styled) and generator.session.calls < 30


REFLECTING = Spec("reflecting", (Image("x", "content", 3, LEVELS, multiple_of=4),), Output(3, LEVELS, None))


@pytest.fixture
def reflecting(tmp_path: Path) -> Bundle:
    """Means over 4 x 4 pixels, mirrored at the border, which takes two of them at least."""
    shape: list[str | int | None] = ["batch", 3, "height", "width"]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in ("x", REFLECTING.output.name)
    )
    sides: dict[str, np.ndarray] = {
        "by": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "scales": np.array([1, 1, 4, 4], np.float32),
    }
    nodes = [
        helper.make_node("AveragePool", ["x"], ["means"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Pad", ["means", "by"], ["wide"], mode="reflect"),
        helper.make_node("AveragePool", ["wide"], ["smooth"], kernel_shape=[3, 3]),
        helper.make_node("Resize", ["smooth", "", "scales"], [REFLECTING.output.name], mode="nearest"),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in sides.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    save_graph(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx"
    )
    return Bundle(FolderStore(tmp_path), REFLECTING, {"fp32": Variant("m.onnx", 20, "fp32")}, {}).with_files("m.onnx")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_with_reflection_padding(backend: str, reflecting: Bundle) -> None:
    """And a picture of the last size is computed again behind one that was too small."""
    with ganrt.load(reflecting, backend, unproven=True) as generator:
        wanted = generator.transform(PHOTO)
        for _ in range(2):
            with pytest.raises(RequestError, match="x is 9 x 4 pixels; this reflecting model needs at least 5 x 5"):
                generator.transform(PHOTO[:4])
            np.testing.assert_array_equal(generator.transform(PHOTO), wanted)
        assert generator.transform(PHOTO[:5, :5]).shape == (5, 5, 3)
