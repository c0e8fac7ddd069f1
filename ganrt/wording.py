"""How messages count things."""

from __future__ import annotations


def count_things(number: int, thing: str, plural: str = "") -> str:
    """`count_things(1, "picture")` -> `1 picture`; other numbers get the plural: `0 pictures`.

    Args:
        plural: where it is not `thing` with an s. The words may include a verb, such as `picture was`.
    """
    return f"{number} {thing if number == 1 else plural or f'{thing}s'}"
