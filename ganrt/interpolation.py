"""Interpolate between the latents of two samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ganrt.errors import RequestError
from ganrt.feeds import Array, Feeds, draw_rows
from ganrt.latents import Float64s
from ganrt.sample_request import Draw
from ganrt.spec import Latent, Spec

_PARALLEL = 1e-6
"""Sine of an angle below which vectors count as parallel."""


def interpolate(spec: Spec, first: Draw, second: Draw, amount: Float64s) -> Feeds:
    """Draw the inputs of images between those of two draws.

    Normal latents are interpolated on a great circle (White 2016, "Sampling Generative Networks", section 2.1), so that
    they keep the length of the vectors that the model was trained on; uniform ones on a line. Classes and all other
    inputs are those of the first draw.

    Args:
        spec: inputs of the model, which takes no pictures.
        first, second: draws of the same number of images.
        amount: for each image, from 0 (the first) to 1 (the second): (n,).

    Returns feeds, owned by the caller. Raises RequestError if the model has no latents or takes pictures.
    """
    if spec.find(Latent) is None:
        raise RequestError(f"this {spec.family} model has no latents to interpolate")
    feeds, others = draw_rows(spec, first), draw_rows(spec, second)
    for item in spec.inputs:
        if isinstance(item, Latent):
            start, end = feeds[item.name].astype(np.float64), others[item.name].astype(np.float64)
            along = amount.reshape(-1, *(1 for _ in item.shape))
            weights = (1 - along, along) if item.distribution == "uniform" else _weigh_on_circle(start, end, along)
            feeds[item.name] = (weights[0] * start + weights[1] * end).astype(np.float32)
    return feeds


def _weigh_on_circle(start: Array, end: Array, amount: NDArray[np.float64]) -> tuple[Array, Array]:
    """Return the weights of spherical linear interpolation (Shoemake 1985, section 3.3) for each row; those of a line
    where the vectors are parallel."""
    axes = tuple(range(1, start.ndim))
    lengths = np.sqrt((start**2).sum(axes, keepdims=True) * (end**2).sum(axes, keepdims=True))
    cosine = np.divide((start * end).sum(axes, keepdims=True), lengths, out=np.ones_like(lengths), where=lengths > 0)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    is_arc = np.sin(angle) > _PARALLEL
    sine = np.where(is_arc, np.sin(angle), 1.0)
    first = np.where(is_arc, np.sin((1 - amount) * angle) / sine, 1 - amount)
    second = np.where(is_arc, np.sin(amount * angle) / sine, amount)
    return first, second
