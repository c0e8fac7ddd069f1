"""`Order`: what a request asks a model for, in either protocol, and its way into the batcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrt import feeds
from ganrt.errors import RequestError, TooLargeError
from ganrt.feeds import Array, Feeds
from ganrt.images import Pictures
from ganrt.interpolation import interpolate
from ganrt.sample_request import TRUNCATION, Draw, Labels, Seeds, Truncation, check_request
from ganrt.serve.jobs import Answer
from ganrt.serve.models import Model
from ganrt.spec import Label, Latent, Scalar, Spec
from ganrt.wording import count_things

_NAMES = {"start": "index", "labels": "label"}
"""Argument of `Generator.sample` -> its name in both protocols."""


@dataclass(frozen=True, eq=False)
class Order:
    """Pictures that a client wants. Nothing is checked yet."""

    n: int | None = None
    """As for `Generator.sample`, like the four below."""
    seed: Seeds | None = None
    index: Seeds | None = None
    label: Labels = None
    truncation: Truncation = None
    to_seed: int | None = None
    """Interpolate the latents between those of `seed` and of this seed."""
    amount: Any = None
    """With `to_seed`: how far, one number or one per picture."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """Values of the model's numbers, by name: one or one per picture."""
    pictures: Mapping[str, Pictures] = field(default_factory=dict)
    """Values of its image inputs, by name: uint8 (H, W, C) or (N, H, W, C)."""
    latents: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Values of its latents, by name, in place of those that are drawn: (N, ...)."""
    tile: int | None = None
    """As for `Generator.transform`."""
    timeout_s: float | None = None
    """As for `Batcher.sample`."""


def place_order(model: Model, order: Order, most_pixels: int, reserve: Callable[[int], None]) -> Future[Answer]:
    """Check an order and put it into the queue of a model. Everything that it does not give is drawn from its seed.

    Args:
        model: gets the order.
        order: what is asked for.
        most_pixels: most pixels of the result.
        reserve: is told how many bytes of memory the result takes.

    Returns the future of its answer. Raises RequestError, naming the field; TooLargeError if the result has more than
    `most_pixels` pixels; what `reserve` and the methods of `Batcher` raise.
    """
    spec = model.spec
    _check_names(spec, order)
    seed, index = (0 if value is None else value for value in (order.seed, order.index))
    request = check_request(spec, _count_rows(order), seed, index, order.label, order.truncation, _NAMES)
    pixels = _count_pixels(spec, request.rows, order, most_pixels)
    reserve(2 * pixels * spec.output.channels)  # as an array, and encoded
    timeout_s = order.timeout_s
    if not (spec.images or order.to_seed is not None or order.numbers or order.latents):
        drawn = (request.rows, request.seed, request.start, order.label, order.truncation)
        return model.batcher.sample(*drawn, timeout_s=timeout_s)
    model.batcher.check_size(request.rows)
    draw = model.generator.draw(request.rows, request.seed, request.start, order.label, order.truncation)
    given = _draw_between(spec, order, draw) if order.to_seed is not None else feeds.draw_numbers(spec, draw)
    given |= {name: _expand(name, value, draw.rows) for name, value in order.numbers.items()}
    given |= order.latents
    if spec.images:
        return model.batcher.transform(tile=order.tile, timeout_s=timeout_s, **order.pictures, **given)
    return model.batcher.run(given, draw=draw, timeout_s=timeout_s)


def _check_names(spec: Spec, order: Order) -> None:
    """Raise RequestError if something is given that the model does not take, or that would have no effect."""
    known: dict[str, set[str]] = {
        "picture": {item.name for item in spec.images},
        "number": {item.name for item in spec.inputs if isinstance(item, Scalar) and item.name != TRUNCATION},
        "latent": {item.name for item in spec.inputs if isinstance(item, Latent)},
    }
    given = {"picture": order.pictures, "number": order.numbers, "latent": order.latents}
    for kind, names in given.items():
        for name in sorted(names.keys() - known[kind]):
            there = f"; it has {', '.join(sorted(known[kind]))}" if known[kind] else ""
            raise RequestError(f"this {spec.family} model has no {kind} {name!r:.100}{there}")
    label = spec.find(Label)
    drawn = spec.streams.keys() - order.latents.keys() - ({label.name} if label and order.label is not None else set())
    for name in ("seed", "index"):
        if getattr(order, name) is not None and not drawn:
            raise RequestError(f"{name} was given, but nothing is drawn for this request: leave it out")
    if order.tile is not None and not spec.images:
        raise RequestError(f"tile was given, but this {spec.family} model takes no picture: leave it out")
    if order.amount is not None and order.to_seed is None:
        raise RequestError("amount was given without to_seed")
    if order.to_seed is not None and (spec.images or order.latents):
        raise RequestError("to_seed was given, but the latents of this request are not drawn from a seed alone")


def _count_rows(order: Order) -> int | None:
    """Return the number of images; None if the arguments of the draw decide. Raises RequestError if inputs differ."""
    counts = {name: len(array) for name, array in order.latents.items()}
    counts |= {name: len(picture) if picture.ndim == 4 else 1 for name, picture in order.pictures.items()}
    largest = max(counts.values(), default=None)
    if largest is None or order.n is None:
        return order.n if largest is None else largest
    if order.n != largest:
        name = max(counts, key=counts.__getitem__)
        raise RequestError(f"n is {order.n}, but {name} has {count_things(largest, 'row')}")
    return order.n


def _count_pixels(spec: Spec, rows: int, order: Order, most: int) -> int:
    """Return the number of pixels of the result. Raises TooLargeError for more than `most`."""
    height, width = spec.output.size or (0, 0)
    if spec.output.size is None and spec.images[0].name in order.pictures:
        sides = order.pictures[spec.images[0].name].shape[-3:-1]
        height, width = (side * spec.output.scale for side in sides)
    if rows * height * width > most:
        size = f"of {width} x {height} pixels"
        asked = count_things(rows, f"picture {size} was", f"pictures {size} were")
        raise TooLargeError(f"{asked} asked for; at most {most} pixels are made")
    return rows * height * width


def _draw_between(spec: Spec, order: Order, draw: Draw) -> Feeds:
    """Draw inputs between those of a draw and those of the same samples of `to_seed`."""
    seeds = check_request(spec, draw.rows, order.to_seed or 0).take_rows(0, draw.rows).seeds
    amount = _expand("amount", 0.5 if order.amount is None else order.amount, draw.rows)
    return interpolate(spec, draw, replace(draw, seeds=seeds), amount.astype(np.float64))


def _expand(name: str, value: Any, rows: int) -> Array:
    """Return a number for each image."""
    array = np.asarray(value)
    if array.shape not in ((), (1,), (rows,)):
        entries = count_things(array.size, "entry", "entries")
        raise RequestError(f"{name} has {entries} for {count_things(rows, 'picture')}; give one value, or one each")
    return np.broadcast_to(array, (rows,))
