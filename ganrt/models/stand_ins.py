"""Stand-ins for the classes of objects that lie in checkpoints beside the tensors, such as the settings of a training
framework: they take what the file has, and nothing of the class runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ganrt.models.family import State

_CLASS = re.compile(r"_?[A-Z]\w*|float(16|32|64)|u?int(8|16|32|64)|bool_")
"""How classes are named; functions are not."""
_OTHERS = frozenset(
    {
        *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "numpy.ndarray"),
        *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
        *("builtins.dict", "builtins.list", "builtins.tuple", "builtins.str", "builtins.int", "builtins.float"),
        *("builtins.bool", "collections.defaultdict", "datetime.datetime", "datetime.date", "functools.partial"),
        *("typing.Any", "torch._C._nn.gelu"),
    }
)
"""What else may have a stand-in: it belongs to settings and to numbers of training loops."""
_NEVER = frozenset(
    {"builtins", "__builtin__", "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy"}
    | {"ctypes", "multiprocessing", "pickle", "code", "codeop", "pty", "asyncio", "webbrowser", "operator"}
)
"""Modules of which no class belongs in a checkpoint."""
_DEEPEST, _MOST = 64, 100_000


class StandIn:
    """Takes the place of an object. Each class of the file gets a subclass."""

    name = ""
    """`module.Class` in the file."""

    def __new__(cls, *arguments: Any) -> StandIn:
        made = object.__new__(cls)
        made.values = {}
        return made

    def __init__(self, *arguments: Any) -> None:
        self.values: Mapping[Any, Any]
        """The instance dictionary."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.values = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Items of mappings are not kept."""


def make_stand_in(name: str) -> type[StandIn] | None:
    """A class that stands in for `module.Class`; None for what is no class that checkpoints have."""
    module, _, own = name.rpartition(".")
    if name not in _OTHERS and (not _CLASS.fullmatch(own) or module.partition(".")[0] in _NEVER):
        return None
    return type("StandIn", (StandIn,), {"name": name})


def read_module(value: object) -> State | None:
    """The state dict of a whole module that was pickled; None if the object is no module.

    Raises ValueError for modules that are too many, or within one another.
    """
    if not isinstance(value, StandIn) or not {"_parameters", "_modules"} <= value.values.keys():
        return None
    return dict(_walk_tensors(value, "", 0, [0]))


def _walk_tensors(module: StandIn, prefix: str, depth: int, count: list[int]) -> Iterator[tuple[str, torch.Tensor]]:
    values, count[0] = module.values, count[0] + 1
    if depth > _DEEPEST or count[0] > _MOST:
        raise ValueError("its modules are too many, or within one another without end")
    unsaved = values.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, value in _read_items(values, kind):
            if isinstance(value, torch.Tensor) and name not in unsaved:
                yield f"{prefix}{name}", value.detach()
    for name, part in _read_items(values, "_modules"):
        if isinstance(part, StandIn):
            yield from _walk_tensors(part, f"{prefix}{name}.", depth + 1, count)


def _read_items(values: Mapping[Any, Any], kind: str) -> list[tuple[str, Any]]:
    found = values.get(kind)
    return [(str(name), value) for name, value in found.items()] if isinstance(found, dict) else []
