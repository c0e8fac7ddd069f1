"""Requests of many users share batches, and each gets byte for byte what it would get alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC, UPSCALER, FakeSession
from hypothesis import given
from hypothesis import strategies as st

import ganrt
from ganrt import feeds
from ganrt.backend import HostSession
from ganrt.bundle import Bundle
from ganrt.errors import RequestError
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.spec import Image, Label, Latent, Output, Scalar, Spec

BOTH = Spec(
    "both",
    (Latent("z", (4,), truncation="resampled"), Label("y", 10, "one_hot"), Latent("noise", (2, 3))),
    Output(1, (0.0, 1.0), (4, 4)),
)
INSIDE = Spec(
    "inside",
    (Latent("z", (4,), truncation="scaled", default=0.5), Label("y", 10), Scalar("truncation", (0.0, 2.0), 1.0)),
    Output(3, (0.0, 1.0), (4, 5)),
)


def make_requests(count: int, classes: int) -> list[dict[str, Any]]:
    """Requests of one picture each; some choose a class or a truncation."""
    random = np.random.default_rng(5)
    words = random.integers(0, 2**64, (count, 2), np.uint64, endpoint=False)
    return [
        {
            "seed": int(words[k, 0]) if k % 5 else 7,
            "start": int(words[k, 1]) if k % 3 else k,
            "labels": None if k % 4 == 0 else int(words[k, 0] % np.uint64(classes)),
            "truncation": None if k % 3 == 0 else 0.25 + k / 50,
        }
        for k in range(count)
    ]


def join(requests: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [request[name] for request in requests] for name in requests[0]}


@pytest.mark.parametrize(("backend", "count"), [("onnxruntime", 100), ("openvino", 100), ("reference", 4)])
def test_a_picture_is_the_same_alone_and_in_shared_batches(backend: str, count: int, conditional: Bundle) -> None:
    requests = make_requests(count, 7)
    with ganrt.load(conditional.folder, backend) as generator:
        together = generator.sample(**join(requests))
        assert together.shape == (count, 32, 32, 3) and len(np.unique(together, axis=0)) == count
        for request, picture in zip(requests, together, strict=True):
            np.testing.assert_array_equal(generator.sample(1, **request)[0], picture)
        streamed = generator.stream(**join(requests), batch=7)
        np.testing.assert_array_equal(np.concatenate(list(streamed)), together)


@pytest.mark.parametrize(("backend", "share"), [("pytorch", 1e-4), ("mnn", 0.01)])
def test_on_others_they_are_the_same_up_to_their_own_rounding(backend: str, share: float, conditional: Bundle) -> None:
    """Their matrix products add up in another order in another batch size; what is drawn is the same."""
    requests = make_requests(100, 7)
    with ganrt.load(conditional.folder, backend) as generator:
        together = generator.sample(**join(requests)).astype(int)
        alone = np.concatenate([generator.sample(1, **request) for request in requests])
        assert np.abs(together - alone).max() <= 1 and (together != alone).mean() < share


entries = st.tuples(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 9),
    st.none() | st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 2),
)


@given(st.lists(entries, min_size=1, max_size=40), st.data(), st.sampled_from([BOTH, INSIDE]))
def test_any_partition_of_a_request_gives_the_same_rows(rows: list[Any], data: st.DataObject, spec: Spec) -> None:
    seeds, starts, labels, truncations = (list(column) for column in zip(*rows, strict=True))
    whole = feeds.draw_feeds(spec, seeds, starts, len(rows), labels, truncations)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows)))) | {len(rows)})
    first = 0
    for last in cuts:
        part = slice(first, last)
        drawn = feeds.draw_feeds(spec, seeds[part], starts[part], last - first, labels[part], truncations[part])
        for name, array in drawn.items():
            np.testing.assert_array_equal(array, whole[name][part])
        first = last
    for k, (seed, start, label, truncation) in enumerate(rows):
        for name, array in feeds.draw_feeds(spec, seed, start, 1, label, truncation).items():
            np.testing.assert_array_equal(array[0], whole[name][k])


def test_the_values_of_the_design_hold_beside_other_seeds() -> None:
    spec = Spec("plain", (Latent("z", (4,)),), SPEC.output)
    drawn = feeds.draw_feeds(spec, [2**64 - 1, 7, 8], [5, 0, 0], 3)["z"]
    np.testing.assert_array_equal(drawn[1], np.array([1.6911626, 0.67496884, -1.2046078, -1.3679883], np.float32))


@pytest.mark.parametrize("spec", [SPEC, CLASSES, BOTH, INSIDE], ids=lambda spec: spec.family)
def test_what_was_drawn_makes_each_picture_again(spec: Spec) -> None:
    chosen: dict[str, Any] = {"labels": [3, None, 0, None]} if spec.find(Label) else {}
    if spec is not CLASSES:
        chosen |= {"truncation": [None, 0.5, 1.0, None]}
    generator = Generator(spec, FakeSession(spec))
    draw = generator.draw(seed=[7, 9, 7, 2**64 - 1], start=[0, 12, 1, 5], **chosen)
    wanted = generator.sample(seed=[7, 9, 7, 2**64 - 1], start=[0, 12, 1, 5], **chosen)
    columns = (draw.seeds, draw.indices, draw.labels, draw.truncation)
    np.testing.assert_array_equal(generator.sample(None, *columns), wanted)
    for k in range(4):
        one = draw.take_rows(k, 1)
        made = generator.sample(seed=one.seeds, start=one.indices, labels=one.labels, truncation=one.truncation)
        np.testing.assert_array_equal(made[0], wanted[k])


def test_drawn_labels_are_in_the_draw() -> None:
    draw = Generator(CLASSES, FakeSession(CLASSES)).draw(50, seed=7, start=3)
    given_labels = feeds.draw_feeds(CLASSES, 7, 3, 50)["y"].argmax(axis=1)
    assert draw.labels is not None and draw.labels.tolist() == given_labels.tolist()
    assert draw.truncation is None and draw.rows == 50
    chosen = Generator(CLASSES, FakeSession(CLASSES)).draw(50, seed=7, start=3, labels=[4, *[None] * 49])
    assert chosen.labels is not None and chosen.labels.tolist() == [4, *given_labels[1:].tolist()]
    assert Generator(SPEC, FakeSession()).draw(2).labels is None


def test_a_draw_that_does_not_fit_into_memory_is_rejected() -> None:
    with pytest.raises(RequestError, match="what is drawn for 1000000000000000 pictures does not fit into memory"):
        Generator(SPEC, FakeSession()).draw(10**15)


PAINTED = Spec(
    "painted",
    (
        Image("photo", "content", 3, (0.0, 1.0)),
        Latent("z", (3,)),
        Label("y", 5),
        Scalar("strength", (0.0, 1.0), 1.0),
    ),
    Output(3, (0.0, 1.0), None, 1),
)


class Painting(HostSession):
    """Adds to each colour what was drawn for it, and the label to all."""

    def __init__(self) -> None:
        super().__init__("fake", "fp32", PAINTED, {})

    def run(self, feeds: Feeds) -> Array:
        shift = (feeds["z"] + feeds["y"][:, None].astype(np.float32)) / np.float32(100)
        painted: Array = feeds["photo"] / 2 + (feeds["strength"][:, None] * shift)[:, :, None, None] + np.float32(0.2)
        return painted

    def release(self) -> None:
        pass


PHOTO = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)


def test_a_transformation_draws_from_its_seed() -> None:
    generator = Generator(PAINTED, Painting())
    made = generator.transform(PHOTO, seed=7)
    drawn = feeds.draw_feeds(replace(PAINTED, inputs=PAINTED.inputs[1:], output=SPEC.output), 7, 0, 1)
    np.testing.assert_array_equal(generator.transform(PHOTO, z=drawn["z"], y=drawn["y"]), made)
    assert not np.array_equal(generator.transform(PHOTO, seed=8), made)
    np.testing.assert_array_equal(generator.transform(PHOTO), generator.transform(PHOTO, seed=0))
    only_z = generator.transform(PHOTO, seed=7, y=drawn["y"])
    np.testing.assert_array_equal(only_z, made)


def test_one_seed_or_one_per_transformed_picture() -> None:
    generator = Generator(PAINTED, Painting())
    photos = np.stack([PHOTO, PHOTO, PHOTO])
    each = generator.transform(photos, seed=[7, 8, 7])
    for k, seed in enumerate((7, 8, 7)):
        np.testing.assert_array_equal(each[k], generator.transform(PHOTO, seed=seed))
    whole = generator.transform(photos, seed=7)
    np.testing.assert_array_equal(whole[0], each[0])
    drawn = feeds.draw_feeds(replace(PAINTED, inputs=PAINTED.inputs[1:], output=SPEC.output), 7, 2, 1)
    np.testing.assert_array_equal(whole[2], generator.transform(PHOTO, z=drawn["z"], y=drawn["y"]))
    with pytest.raises(RequestError, match="seed has 2 entries and n is 3"):
        generator.transform(photos, seed=[7, 8])
    with pytest.raises(RequestError, match=r"seed\[1\] is -8; it must be a whole number"):
        generator.transform(photos, seed=[7, -8, 7])


@pytest.mark.parametrize("seed", [7, [0], np.zeros(1, int), True])
def test_a_seed_without_anything_to_draw_is_rejected(seed: Any) -> None:
    generator = Generator(UPSCALER, FakeSession(UPSCALER))
    with pytest.raises(
        RequestError, match="seed was given, but nothing is drawn for this upscaler model: leave it out"
    ):
        generator.transform(PHOTO[:4], seed=seed)
    assert generator.transform(PHOTO[:4], seed=0).shape == (8, 12, 3)
    painting = Generator(PAINTED, Painting())
    with pytest.raises(RequestError, match="nothing is drawn for this painted model"):
        painting.transform(PHOTO, seed=seed, z=np.zeros((1, 3)), y=1)


def test_the_classes_of_transformed_pictures_can_be_chosen() -> None:
    generator = Generator(PAINTED, Painting())
    photos = np.stack([PHOTO, PHOTO])
    drawn = feeds.draw_feeds(replace(PAINTED, inputs=PAINTED.inputs[1:], output=SPEC.output), 7, 0, 2)
    for labels in (1, [1, 0], [None, 1]):
        classes = [drawn["y"][k] if c is None else c for k, c in enumerate(np.broadcast_to(labels, 2).tolist())]  # type: ignore[arg-type]
        wanted = generator.transform(photos, z=drawn["z"], y=np.array(classes))
        np.testing.assert_array_equal(generator.transform(photos, seed=7, labels=labels), wanted)
    np.testing.assert_array_equal(
        generator.transform(PHOTO, labels=1, z=drawn["z"][:1]), generator.transform(PHOTO, y=1, z=drawn["z"][:1])
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": 9}, "labels is 9; this model's classes are the whole numbers 0 to"),
        ({"labels": [0, 1]}, "labels has 2 entries and n is 1"),
        ({"labels": 1, "y": 1}, "y was given, and labels too; leave one of them out"),
        ({"labels": 1, "seed": 7, "z": np.zeros((1, 3))}, "seed was given, but nothing is drawn"),
    ],
)
def test_classes_that_cannot_be_chosen(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Generator(PAINTED, Painting()).transform(PHOTO, **given)
    with pytest.raises(RequestError, match="labels were given, but this upscaler model has no classes"):
        Generator(UPSCALER, FakeSession(UPSCALER)).transform(PHOTO[:4], labels=1)


def test_missing_pictures_are_named_before_anything_is_drawn() -> None:
    with pytest.raises(RequestError, match="the picture 'photo' is missing"):
        Generator(PAINTED, Painting()).transform(seed=7)
