"""Training checkpoints as they lie around, recognised by their keys and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ganrt.errors import CheckpointError
from ganrt.models import FAMILIES, AnyFamily, Layout, Shapes, SkipRandomWeights, State, get_family
from ganrt.models.file_kinds import OTHERWISE

_OPTIONAL = "num_batches_tracked"
"""Written since PyTorch 0.4.1 only, and unused in inference."""
_SHOWN = 4
_AVERAGED = re.compile(r"ema|avg|average", re.IGNORECASE)
_GENERATORS = re.compile(r"g|gen|netg|generator.*|.*_g", re.IGNORECASE)


class UnknownCheckpointError(CheckpointError):
    """No family has the network of a checkpoint."""


class Recognized(NamedTuple):
    """A state dict under the keys of its family, and what it was recognised as."""

    family: AnyFamily
    layout: str
    config: Any
    state: State
    part: str = ""
    """Prefix of the keys that were taken, where the checkpoint holds other networks too."""


def recognize(state: State, path: Path) -> Recognized:
    """Find the family, the project's layout and the config of a state dict, and bring it under the family's own keys.
    Where a checkpoint holds several networks, as those of a training loop do, the generator is looked for among them.

    Raises UnknownCheckpointError naming the nearest family and the keys that are missing, unexpected or of another
    shape; CheckpointError for half a network.
    """
    for part in ("", *_list_parts(state)):
        own = {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}
        for family, layout in _list_layouts():
            try:
                config, found = _convert_state(family, layout, own)
            except CheckpointError:  # half a network, whose other half may be here too
                if not part:
                    raise
                continue
            if config is not None and _fits(_state_shapes(found), _family_shapes(family.name, config)):
                return Recognized(family, layout.name, config, found, part)
    nearest = _describe_nearest(state)
    compared = f"The nearest is {nearest}." if nearest else "None shares a key with it."
    raise UnknownCheckpointError(f"{path} is no checkpoint of a family that ganrt knows. {compared} {OTHERWISE}")


def _list_parts(state: State) -> list[str]:
    """Prefixes of keys, those of averaged weights and of generators first."""
    first = {key.partition(".")[0] for key in state if "." in key}

    def rank(name: str) -> tuple[bool, bool, str]:
        return not _AVERAGED.search(name), not _GENERATORS.fullmatch(name), name

    return [f"{name}." for name in sorted(first, key=rank)] if len(first) > 1 or len(state) > 1 else []


def _list_layouts() -> Iterator[tuple[AnyFamily, Layout[Any]]]:
    for name in FAMILIES:
        family = get_family(name)
        yield from ((family, layout) for layout in family.layouts)


def _convert_state(family: AnyFamily, layout: Layout[Any], state: State) -> tuple[Any, State]:
    """The config and the converted state if it looks like this layout, else None and the state as it is."""
    config = layout.guess(_state_shapes(state))
    if config is not None:
        try:
            return config, layout.convert(state, config)
        except KeyError:
            pass
    return None, state


def _describe_nearest(state: State) -> str:
    """The layout that shares most keys with a state, of its own size or the family's default one, and what differs;
    empty if none shares a key."""
    best: tuple[float, str] = (-1.0, "")
    for family, layout in _list_layouts():
        config, found = _convert_state(family, layout, state)
        config = family.config() if config is None else config
        wanted, shapes = _family_shapes(family.name, config), _state_shapes(found)
        likeness = len(shapes.keys() & wanted.keys()) / len(shapes.keys() | wanted.keys())
        if likeness == 0:
            continue
        if likeness > best[0]:
            what = f"{family.name} of {layout.name} ({_format_settings(family, config)})"
            best = likeness, f"{what}: {_describe_differences(shapes, wanted)}"
    return best[1]


def _state_shapes(state: State) -> Shapes:
    return {key: tuple(value.shape) for key, value in state.items()}


@lru_cache(maxsize=64)  # a rejected checkpoint is compared with every family
def _family_shapes(name: str, config: Any) -> Shapes:
    with torch.device("meta"), SkipRandomWeights():  # shapes without memory; drawing on `meta` imports torch._dynamo
        module = get_family(name).generator(config)
    return _state_shapes(module.state_dict())


def _fits(found: Shapes, wanted: Shapes) -> bool:
    required = {key: shape for key, shape in wanted.items() if not key.endswith(_OPTIONAL)}
    return found.keys() <= wanted.keys() and all(found.get(key) == shape for key, shape in required.items())


def _describe_differences(found: Shapes, wanted: Shapes) -> str:
    missing = [key for key in wanted if key not in found and not key.endswith(_OPTIONAL)]
    unexpected = [key for key in found if key not in wanted]
    reshaped = [f"{k} {found[k]} for {wanted[k]}" for k in wanted if k in found and found[k] != wanted[k]]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    return "; ".join(f"{len(keys)} keys {what} ({_join_some(keys)})" for what, keys in parts.items() if keys)


def _join_some(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def _format_settings(family: AnyFamily, config: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in family.settings(config).items())
