"""Which layers must not be computed in a lower precision: found by what they do to the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

Units = Sequence[tuple[str, ...]]
"""Layers that are judged together."""
_MOST = 32
"""Units that are judged one by one: each costs a run of the whole network."""
_TRIES = 12
"""Of `choose_by_halves`: each costs such a run too."""


def choose_kept_layers(
    layers: Sequence[str],
    error: Callable[[Collection[str]], float],
    allowed: float,
    work: Callable[[str], float] = lambda name: 1.0,
    estimate: Callable[[Collection[str]], float] | None = None,
) -> tuple[tuple[str, ...], dict[str, float]]:
    """The layers to leave as they are, so that the others may be computed in the lower precision.

    Args:
        layers: names, in the order of the graph.
        error: names of the layers that are in the lower precision -> error of the worst picture; infinite for a picture
            that is not finite.
        allowed: how large that may be.
        work: what it costs to keep a layer, in any unit.
        estimate: like `error`, on some of the pictures, so never more than that; compares the layers one by one, and
            rejects most choices before `error` is asked.

    Errors of layers add up, nearly; so the layers with the largest errors of their own for their work are kept first,
    and only as many as it takes. Returns the names to keep, in the order of the graph (all of them where nothing
    helps), and what each layer, or the few around it, does on its own; that is empty where nothing needs to be kept.
    """
    estimate = estimate or error
    total = error(layers)
    if total <= allowed:
        return (), {}
    units = _group_layers(layers)
    alone = {unit: estimate(unit) for unit in units}
    left = sorted(units, key=lambda unit: alone[unit] / sum(map(work, unit)))
    share = total / max(sum(alone.values()), 1e-300) if math.isfinite(total) else 1.0
    while left:
        left.pop()
        expected = share * sum(alone[unit] for unit in left)
        lowered = [name for unit in left for name in unit]
        if left and expected <= 1.5 * allowed and estimate(lowered) <= allowed and error(lowered) <= allowed:
            break
    chosen = {name for unit in left for name in unit}
    each = {name: found for unit, found in alone.items() for name in unit}
    return tuple(name for name in layers if name not in chosen), each


def release_layers(
    layers: Sequence[str],
    kept: Sequence[str],
    error: Callable[[Collection[str]], float],
    allowed: float,
    estimate: Callable[[Collection[str]], float] | None = None,
) -> tuple[str, ...]:
    """What of `kept` has to be kept: one by one, those that may be in the lower precision after all are let go. They
    were kept because of the layers that they were judged together with. Takes the functions of `choose_kept_layers`."""
    estimate = estimate or error
    left = list(kept)
    for name in kept:
        others = [other for other in left if other != name]
        lowered = [layer for layer in layers if layer not in others]
        if estimate(lowered) <= allowed and error(lowered) <= allowed:
            left = others
    return tuple(left)


def choose_by_halves(names: Sequence[str], fits: Callable[[Collection[str]], bool]) -> list[str]:
    """As many names as fit together, the first ones preferred: what does not fit is tried again in halves. This takes
    one call where all fit, and at most _TRIES, after which the rest is left out.

    Args:
        fits: whether these can be taken together.
    """
    chosen: list[str] = []
    left = [list(names)]
    for _ in range(_TRIES):
        if not left:
            break
        part = left.pop(0)
        if fits([*chosen, *part]):
            chosen += part
        elif len(part) > 1:
            left[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
    return chosen


def _group_layers(layers: Sequence[str]) -> Units:
    """At most _MOST units of neighbouring layers."""
    size = -(-len(layers) // _MOST)
    return [tuple(layers[first : first + size]) for first in range(0, len(layers), size)]
