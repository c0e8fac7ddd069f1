"""Stand-ins for the classes of objects that lie in checkpoints beside the tensors, such as the settings of a training
framework: they take what the file has, and nothing of the class runs."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ganrt.models.family import State

_CLASS = re.compile(r"_?[A-Z]\w*|float(16|32|64)|u?int(8|16|32|64)|bool_")
"""How classes are named; functions are not."""
_OTHERS = frozenset(
    {
        *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "numpy.ndarray"),
        *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "functools.partial"),
        *("builtins.dict", "builtins.list", "builtins.tuple", "builtins.str", "builtins.int", "builtins.float"),
        *("builtins.bool", "builtins.object", "collections.defaultdict", "datetime.datetime", "datetime.date"),
    }
)
"""What else may have a stand-in: it belongs to settings and to numbers of training loops."""
_NEVER = frozenset(
    {"builtins", "__builtin__", "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy"}
    | {"ctypes", "multiprocessing", "pickle", "code", "codeop", "pty", "asyncio", "webbrowser", "operator"}
    | {"commands", "popen2", "urllib", "http"}  # the first two by the names of Python 2, which PyTorch writes
)
"""Modules of which no class belongs in a checkpoint."""
_NAME = "name of the class in the file"
_DEEPEST, _MOST = 64, 100_000


class _Unread:
    """Takes the place of what belongs to Python or NumPy, and keeps nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def make_stand_in(name: str) -> type | None:
    """A class that stands in for `module.Class`; None for what is no class that checkpoints have.

    Called, it gives an OrderedDict: PyTorch's reader gives no other class both items and attributes.
    """
    module, _, own = name.rpartition(".")
    if name in _OTHERS:
        return type("Unread", (_Unread,), {})
    if not _CLASS.fullmatch(own) or module.partition(".")[0] in _NEVER:
        return None

    def create(cls: type, *arguments: Any) -> Any:
        made: OrderedDict[Any, Any] = OrderedDict()
        vars(made)[_NAME] = name
        return made

    return type("StandIn", (), {"__new__": create})


def read_class(value: object) -> str:
    """Name of the class that an object has in its file; empty where it is what it looks like."""
    return str(vars(value).get(_NAME, "")) if isinstance(value, OrderedDict) else ""


def read_module(value: object) -> State | None:
    """The state dict of a whole module that was pickled; None if the object is no module.

    Raises ValueError for modules that are too many, or within one another.
    """
    if not _is_module(value):
        return None
    return dict(_walk_tensors(vars(value), "", 0, [0]))


def _is_module(value: object) -> bool:
    return bool(read_class(value)) and {"_parameters", "_modules"} <= vars(value).keys()


def _walk_tensors(
    values: Mapping[Any, Any], prefix: str, depth: int, count: list[int]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Keys and tensors of a module, by its instance dictionary."""
    count[0] += 1
    if depth > _DEEPEST or count[0] > _MOST:
        raise ValueError("its modules are too many, or within one another without end")
    unsaved = values.get("_non_persistent_buffers_set")
    for kind in ("_parameters", "_buffers"):
        for name, value in _read_items(values, kind):
            if isinstance(value, torch.Tensor) and not (isinstance(unsaved, set) and name in unsaved):
                yield f"{prefix}{name}", value.detach()
    for name, part in _read_items(values, "_modules"):
        if _is_module(part):
            yield from _walk_tensors(vars(part), f"{prefix}{name}.", depth + 1, count)


def _read_items(values: Mapping[Any, Any], kind: str) -> list[tuple[str, Any]]:
    found = values.get(kind)
    return [(str(name), value) for name, value in found.items()] if isinstance(found, dict) else []
