"""Fake classes with exactly the members that a class of a library has in one version.

A member that the version lacks does not exist, even if the behaviour defines it; a member without behaviour raises when
it is used. Arguments are checked against the signatures, read-only properties cannot be set, and using an object after
its `close` raises.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from helpers.foreign_api import Api, Signature


class ClosedError(RuntimeError):
    """Something was used after it was closed."""


def make_strict(api: Api, name: str, behaviour: type) -> type:
    """Return the class `name` of a version, with the methods and properties of `behaviour`."""
    facts = api.classes[name]
    members: dict[str, Any] = {n: v for n, v in vars(behaviour).items() if n.startswith("_") and n != "__dict__"}
    for member, fact in facts.items():
        if member.startswith("__"):
            continue
        found = behaviour.__dict__.get(member)
        if isinstance(fact, list):
            members[member] = _method(name, member, fact, found)
        elif fact == "attr":
            members[member] = found
        else:
            members[member] = _property(name, member, found, fact == "settable")
    construct = facts.get("__init__")
    own = members.pop("__init__", None)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(construct, list) and any(s.required or s.positional or s.keyword_only for s in construct):
            _check(name, "__init__", construct, args, kwargs)
        if own is not None:
            own(self, *args, **kwargs)

    def __setattr__(self: Any, attribute: str, value: Any) -> None:
        slot = getattr(type(self), attribute, None)
        if not attribute.startswith("_") and not (isinstance(slot, property) and slot.fset):
            subclass = type(self) is not made
            if not subclass:
                raise AttributeError(f"{name}.{attribute} cannot be set")
        object.__setattr__(self, attribute, value)

    members |= {"__init__": __init__, "__setattr__": __setattr__}
    members.pop("__weakref__", None)
    made = type(name, (), members)
    return made


def unknown_members(versions: dict[str, Api], name: str, behaviour: type) -> set[str]:
    """Return the members of a behaviour that no version of the class has."""
    known = {member for api in versions.values() for member in api.classes.get(name, {})}
    return {member for member in vars(behaviour) if not member.startswith("_")} - known


def make_enum(name: str, members: tuple[str, ...], first: int) -> Any:
    """Return an enum with arbitrary numbers, so that code which uses a number instead of a name fails."""
    made = Enum(name, {member: first + i for i, member in enumerate(members)}, module=__name__)  # type: ignore[misc]
    made.__int__ = lambda self: self.value  # type: ignore[attr-defined]
    return made


def _check(name: str, member: str, signatures: list[Signature], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not any(signature.takes(len(args), kwargs) for signature in signatures):
        raise TypeError(f"{name}.{member} does not take {len(args)} arguments and {sorted(kwargs)}")


def _use(owner: Any, name: str, member: str) -> None:
    if getattr(owner, "_closed", False) and member not in ("close", "is_closed"):
        raise ClosedError(f"{name}.{member} was used after close")


def _method(name: str, member: str, signatures: list[Signature], found: Any) -> Any:
    static = isinstance(found, staticmethod)
    work: Any = found.__func__ if static else found

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        _use(self, name, member)
        _check(name, member, signatures, args, kwargs)
        if work is None:
            raise NotImplementedError(f"the fake has no behaviour for {name}.{member}")
        return work(self, *args, **kwargs)

    def call_static(*args: Any, **kwargs: Any) -> Any:
        _check(name, member, signatures, args, kwargs)
        return work(*args, **kwargs)

    return staticmethod(call_static) if static else call


def _property(name: str, member: str, found: Any, settable: bool) -> property:
    def get(self: Any) -> Any:
        _use(self, name, member)
        if found is None:
            raise NotImplementedError(f"the fake has no behaviour for {name}.{member}")
        if isinstance(found, property) and found.fget:
            return found.fget(self)
        return getattr(self, f"_{member}", found)

    def set_(self: Any, value: Any) -> None:
        _use(self, name, member)
        if isinstance(found, property) and found.fset:
            found.fset(self, value)
        else:
            object.__setattr__(self, f"_{member}", value)

    return property(get, set_ if settable else None)
