"""Checks and descriptions of a normalization: mean and standard deviation of each channel, and the order of colours."""

from __future__ import annotations

from collections.abc import Sequence

from ganrt.checks import is_finite
from ganrt.errors import RequestError

_ORDERS = ("rgb", "bgr")
_MOST = 1e30
"""Values of a network are between 1 / _MOST and _MOST apart, so that they and their difference are float32."""


def check_normalization(
    name: str, channels: int, value_range: tuple[float, float], mean: object, std: object, order: object
) -> None:
    """Raise RequestError unless an input or output can be normalized like this.

    Args:
        name: of the input or output.
        value_range: of the values that are not normalized.
        mean, std: a tuple of one number per channel, or None.
        order: of the colours.
    """
    if order not in _ORDERS:
        raise RequestError(f"{name}: order is {order!r:.100}; it must be one of {', '.join(_ORDERS)}")
    if order != "rgb" and channels not in (3, 4):
        raise RequestError(f"{name}: order is {order!r}, but colours have 3 or 4 channels, and this has {channels}")
    for field, values in (("mean", mean), ("std", std)):
        if values is not None and (
            not isinstance(values, tuple) or len(values) != channels or not all(map(is_finite, values))
        ):
            wanted = f"{channels} numbers, one per channel" if channels > 1 else "1 number, the channel's"
            raise RequestError(f"{name}: {field} is {values!r:.100}; it must be a tuple of {wanted}")
    low, high = value_range
    if isinstance(mean, tuple) and not all(low <= value <= high for value in mean):
        raise RequestError(
            f"{name}: mean is {mean!r:.100}, outside of the range {low:g} to {high:g}; both have the same units, as in "
            "range=(0.0, 255.0), mean=(123.675, 116.28, 103.53)"
        )
    if isinstance(std, tuple) and not all(value > 0 and _fits_float32(low, high, value) for value in std):
        raise RequestError(f"{name}: std is {std!r:.100}; it must be numbers above 0, in the units of range")


def _fits_float32(low: float, high: float, std: float) -> bool:
    return (high - low) / std > 1 / _MOST and max(abs(low), abs(high)) / std < _MOST


def format_normalization(mean: Sequence[float] | None, std: Sequence[float] | None, order: str) -> str:
    """Return what is said of it behind the range of the values; empty for nothing."""
    named = [f"{name} {_format_numbers(values)}" for name, values in (("mean", mean), ("std", std)) if values]
    normalized = f", normalized by {' and '.join(named)}" if named else ""
    return normalized + (f", in the order {order.upper()}" if order != "rgb" else "")


def _format_numbers(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
