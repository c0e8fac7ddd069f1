"""Pictures that are too small for a network, whose reflection padding and downsampling need a few pixels: looked into
once computing has failed, because no file says how many."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ganrt.errors import BackendError, RequestError
from ganrt.feeds import Feeds
from ganrt.images import Floats
from ganrt.picture_inputs import LUMA
from ganrt.spec import Image, Spec
from ganrt.transform import transform

_MOST = 512
"""Largest side that is tried, in pixels. What fails at that has another reason."""


def reject_small_pictures(spec: Spec, given: Mapping[str, Any], compute: Callable[[Feeds], Floats]) -> None:
    """Raise RequestError, with the smallest size that works, if one of the pictures is too small for the model.

    Args:
        spec: of the model.
        given: what `collect_inputs` returned, with which computing has failed.
        compute: as for `transform`.
    """
    sides = {item.name: 0 for item in spec.images if item.size is None and item.like is None}
    numbers = {name: np.atleast_1d(value)[:1] for name, value in given.items() if _find_image(spec, name) is None}

    def works(sides: Mapping[str, int]) -> bool:
        blank = {item.name: _make_blank(spec, item, sides) for item in spec.images}
        try:
            transform(spec, blank | numbers, compute, 0)
        except BackendError:
            return False
        return True

    large = 1
    while not works(dict.fromkeys(sides, large)):
        large *= 2
        if large > _MOST:
            return
    for name in sides:
        height, width = given[name].shape[1:3]
        if min(height, width) >= large:
            continue
        others = dict.fromkeys(sides, large)
        least = bisect_left(range(1, large), True, key=partial(_try, works, others, name)) + 1
        if min(height, width) < least:
            raise RequestError(
                f"{name} is {width} x {height} pixels; this {spec.family} model needs at least {least} x {least}"
            )


def _find_image(spec: Spec, name: str) -> Image | None:
    """The image input of a name."""
    return next((item for item in spec.images if item.name == name), None)


def _make_blank(spec: Spec, item: Image, sides: Mapping[str, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A black picture for an input. One that must have the size of another gets it."""
    sized = item
    while sized.like is not None and (other := _find_image(spec, sized.like)) is not None:
        sized = other
    height, width = sized.size or (sides[sized.name], sides[sized.name])
    return np.zeros((height, width, 3 if item.role == LUMA else item.channels), np.uint8)


def _try(works: Callable[[Mapping[str, int]], bool], others: Mapping[str, int], name: str, side: int) -> bool:
    return works({**others, name: side})
