"""Values that may be None, in tests that know better."""

from typing import TypeVar

T = TypeVar("T")


def unwrap(value: T | None) -> T:
    """The value, which must not be None."""
    assert value is not None
    return value
