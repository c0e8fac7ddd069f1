"""Options that take one value are given once: click alone would take the last one and say nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from ganrt.errors import RequestError


def reject_repetitions(command: click.Command, parent: click.Context, name: str | None, words: Sequence[str]) -> None:
    """Raise RequestError, naming the option, if one that takes a single value is given more than once. A flag may be
    repeated, unless it has an opposite such as --no-spin.

    Args:
        parent: context of the group that the command belongs to.
        name: of the command.
        words: of the command line after it.
    """
    context = click.Context(command, parent=parent, info_name=name)
    _, _, order = command.make_parser(context).parse_args(list(words))
    for parameter, times in Counter(order).items():
        if times > 1 and isinstance(parameter, click.Option) and takes_one_value(parameter):
            option = " or ".join([max(parameter.opts, key=len), *parameter.secondary_opts])
            raise RequestError(f"{option} was given {times} times, and takes one value; give it once")


def takes_one_value(option: click.Option) -> bool:
    """Return whether an option must not be repeated."""
    return not option.multiple and not option.count and (not option.is_flag or bool(option.secondary_opts))
