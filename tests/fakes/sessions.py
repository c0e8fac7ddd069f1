"""Sessions in plain NumPy, for tests that need a model whose every image is known."""

import math

import numpy as np

from ganrt import feeds
from ganrt.backend import HostSession
from ganrt.feeds import Array, Feeds
from ganrt.spec import Image, Label, Latent, Output, Scalar, Spec

SPEC = Spec("fake", (Latent("z", (6,), truncation="resampled"),), Output(3, (-1.0, 1.0), (4, 5)))
CLASSES = Spec(
    "classes",
    (
        Latent("z", (2, 3), distribution="uniform", range=(-2.0, 2.0)),
        Label("y", 10, "one_hot"),
        Scalar("strength", (0.0, 2.0), 1.0),
        Latent("noise", (4,)),
    ),
    Output(1, (0.0, 1.0), (4, 4)),
)
UPSCALER = Spec("upscaler", (Image("x", "low_res", 3, (0.0, 1.0), multiple_of=2),), Output(3, (0.0, 1.0), None, 2))


def images(spec: Spec, given: Feeds) -> Array:
    """What the fake model of a Spec makes: a smooth function of every input, row by row."""
    if spec is UPSCALER:
        return given["x"].repeat(2, axis=2).repeat(2, axis=3)
    columns = [given[item.name].astype(np.float64) for item in spec.inputs]
    flat = np.concatenate([column.reshape(len(column), math.prod(column.shape[1:])) for column in columns], axis=1)
    assert spec.output.size is not None
    shape = (spec.output.channels, *spec.output.size)
    mixed = np.einsum("ni,io->no", flat, np.random.default_rng(0).normal(0, 0.5, (flat.shape[1], np.prod(shape))))
    low, high = spec.output.range
    return (low + (high - low) * (0.5 + 0.5 * np.tanh(mixed))).astype(np.float32).reshape(-1, *shape)


def samples(spec: Spec = SPEC, count: int = 12) -> tuple[Feeds, Array]:
    """Inputs and their images."""
    drawn = feeds.draw_feeds(spec, 3, 0, count)
    return drawn, images(spec, drawn)


class FakeSession(HostSession):
    """The fake model of a Spec. Keeps all its promises; remembers the batch sizes that it was given."""

    def __init__(self, spec: Spec = SPEC, batch_sizes: tuple[int, ...] = ()) -> None:
        super().__init__("fake", "fp32", spec, {})
        self.batch_sizes = batch_sizes
        self.batches: list[int] = []

    def run(self, feeds: Feeds) -> Array:
        self.batches.append(len(next(iter(feeds.values()))))
        return images(self._spec, feeds)

    def release(self) -> None:
        pass
