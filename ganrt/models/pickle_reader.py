"""Pickles read as data: no name in them is looked up, and nothing is called.

A pickle is a program that builds objects. This reader runs the part of it that builds plain containers; where the
program would call something, it leaves a record of the call.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import IO, Any

_LARGEST = 1_000_000
"""Operations in one pickle: a hundred times those of the largest network."""
_DICTS = ("collections.OrderedDict", "dnnlib.util.EasyDict")
_SETS = ("builtins.set", "__builtin__.set")


class UnexpectedName(ValueError):
    """A pickle names a function or class that it should not: `args[0]`."""


@dataclass(frozen=True, eq=False)
class Name:
    """A function or class that a pickle names."""

    full: str
    """Such as `collections.OrderedDict`."""


@dataclass(frozen=True, eq=False)
class Call:
    """What a pickle would call."""

    name: str
    arguments: tuple[Any, ...]
    states: list[Any] = field(default_factory=list)
    """What the pickle would then set the attributes of the result from: one, as a rule."""


@dataclass(frozen=True, eq=False)
class Reference:
    """An object outside the pickle."""

    value: Any
    """What identifies it."""


def read_pickle(stream: IO[bytes], names: Collection[str]) -> Any:
    """Read one pickle; the stream is left behind it.

    Args:
        names: functions and classes that it may name, as `module.name`.

    Returns None, bools, numbers, strings, bytes, bytearrays, and tuples, lists, sets and dicts of these;
    `collections.OrderedDict` and EasyDict become dicts; all else is a Name, a Call or a Reference. Containers may hold
    themselves.

    Raises UnexpectedName for another name, ValueError for a pickle that is damaged or holds what is not listed here.
    """
    machine = _Machine(names)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if operation.name == "STOP":
                return machine.stack.pop()
            if count == _LARGEST:
                raise ValueError(f"it has more than {_LARGEST:,} operations")
            action = _ACTIONS.get(operation.name)
            if action is None:
                raise ValueError(f"it has the operation {operation.name}")
            action(machine, argument)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("its operations do not fit together") from error
    raise ValueError("it has no end")


class _Machine:
    """Stack and memo of a pickle."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        """The stacks below each mark."""
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, argument: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_marked(self) -> list[Any]:
        """Everything above the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def make_tuple(self, count: int) -> None:
        items = tuple(self.stack.pop() for _ in range(count))[::-1]
        self.push(items)

    def push_name(self, full: object) -> None:
        if not isinstance(full, str):
            raise ValueError("a name in it is no text")
        if full not in self.names:
            raise UnexpectedName(full)
        self.push(Name(full))

    def name_on_stack(self, argument: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.push_name(f"{module}.{name}" if isinstance(name, str) and isinstance(module, str) else None)

    def store(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError
        target.extend(items)

    def add(self, argument: None) -> None:
        items, target = self.pop_marked(), self.stack[-1]
        target.update(map(_check_key, items))

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError
        target.update(zip(map(_check_key, items[::2]), items[1::2], strict=True))

    def call(self, argument: None) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise TypeError
        if name.full in _DICTS and not arguments:
            self.push({})
        elif name.full in _SETS:
            self.push(set(map(_check_key, arguments[0])))
        else:
            self.push(Call(name.full, arguments))

    def build(self, argument: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Call):
            target.states.append(state)
        elif not isinstance(target, dict):  # what is set on dicts is not among their items
            raise TypeError


def _check_key(key: Any) -> Any:
    """Keys that are cheap to hash: tuples of tuples that share their items can take for ever."""
    if not isinstance(key, str | int):
        raise TypeError
    return key


_VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    "BYTEARRAY8",
)
"""Operations whose argument is the value."""
_ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "NONE": lambda machine, argument: machine.push(None),
    "NEWTRUE": lambda machine, argument: machine.push(True),
    "NEWFALSE": lambda machine, argument: machine.push(False),
    **dict.fromkeys(_VALUES, _Machine.push),
    "EMPTY_TUPLE": lambda machine, argument: machine.push(()),
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    "EMPTY_SET": lambda machine, argument: machine.push(set()),
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.pop_marked())),
    "TUPLE1": lambda machine, argument: machine.make_tuple(1),
    "TUPLE2": lambda machine, argument: machine.make_tuple(2),
    "TUPLE3": lambda machine, argument: machine.make_tuple(3),
    "APPEND": lambda machine, argument: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, argument: machine.extend(machine.pop_marked()),
    "SETITEM": lambda machine, argument: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, argument: machine.set_items(machine.pop_marked()),
    "ADDITEMS": _Machine.add,
    "PUT": _Machine.store,
    "BINPUT": _Machine.store,
    "LONG_BINPUT": _Machine.store,
    "MEMOIZE": lambda machine, argument: machine.store(len(machine.memo)),
    "GET": lambda machine, argument: machine.push(machine.memo[argument]),
    "BINGET": lambda machine, argument: machine.push(machine.memo[argument]),
    "LONG_BINGET": lambda machine, argument: machine.push(machine.memo[argument]),
    "GLOBAL": lambda machine, argument: machine.push_name(argument.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.name_on_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": lambda machine, argument: machine.push(Reference(machine.stack.pop())),
}
