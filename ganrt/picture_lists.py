"""Requests with a list of pictures of different sizes, which become a request for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ganrt.checks import is_whole
from ganrt.errors import RequestError
from ganrt.picture_inputs import is_list
from ganrt.spec import Spec


def split_request(spec: Spec, request: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The arguments of `Generator.transform` for each of several pictures.

    Args:
        request: arguments by their names. Those that are for each picture are a sequence or an array with `count`
            entries; a number that begins the samples of one seed is counted on.

    Raises RequestError, naming the argument, for another number of entries.
    """
    images = {item.name for item in spec.images}
    parts = [
        {name: _take_entry(name, value, place, count, name in images) for name, value in request.items()}
        for place in range(count)
    ]
    if is_whole(request.get("seed", 0)) and is_whole(request.get("start", 0)):
        for place, part in enumerate(parts):
            part["start"] = request.get("start", 0) + place
    return parts


def _take_entry(name: str, value: Any, place: int, count: int, image: bool) -> Any:
    several = is_list(value) or (isinstance(value, np.ndarray) and value.ndim >= (4 if image else 1))
    if not several or len(value) == 1:
        return value[0] if several else value
    if len(value) != count:
        raise RequestError(f"{name} has {len(value)} entries for {count} pictures; give one, or one per picture")
    return value[place]
