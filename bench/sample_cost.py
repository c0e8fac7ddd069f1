"""What `Generator.sample(1)` costs besides the session, stage by stage.

    python -m ganrt.bench.sample_cost BUNDLE BACKEND [threads=N] [spin=0|1]

Prints a table in Markdown: microseconds a call where each call continues the one before it (`start` counts up), and
where each has a new seed. They are processor time of all threads, which other work on the machine hardly changes; with
`threads=1` it is the time that passes on a machine that is otherwise idle.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import click

import ganrt
from ganrt.draw_ahead import DrawAhead
from ganrt.images import to_uint8
from ganrt.levels import find_levels
from ganrt.sample_request import check_request

from . import clock
from .resources import parse_options

_CALLS = 32
"""Calls that are timed together: as many as `DrawAhead` draws at a time, so that each share of time has one drawing."""
_ROUNDS = 300
"""Rounds in which every stage takes a turn, so that a noisy machine slows all alike."""
_KINDS = ("in order", "new seed")

Call = Callable[[int], object]
"""A stage; gets a number that no other call gets."""


def main(arguments: list[str], rounds: int = _ROUNDS) -> None:
    """Print the table."""
    bundle, backend, *settings = arguments
    with ganrt.load(bundle, backend, device="cpu", **parse_options(settings)) as generator:
        medians = {name: measure_calls(calls, rounds) for name, calls in make_stages(generator).items()}
        click.echo(f"{Path(bundle).name} on {generator.info.config}, medians of {rounds} x {_CALLS} calls\n")
    click.echo(format_table(medians))


def make_stages(generator: ganrt.Generator) -> dict[str, dict[str, Call]]:
    """Return kind of calls -> stage -> how it is run. `sample(1)` is all of them and what joins them."""
    spec, session = generator.spec, generator.session
    request = check_request(spec, 1)
    given = DrawAhead(spec).draw(request, 0, 1)
    images = session.submit(given).wait()[spec.output.name]

    def make(arrange: Callable[[int], tuple[int, int]]) -> dict[str, Call]:
        """`arrange` makes a seed and a sample number of a number."""
        ahead = DrawAhead(spec)

        def sample(number: int) -> None:
            seed, start = arrange(number)
            generator.sample(1, seed, start)

        def check(number: int) -> None:
            seed, start = arrange(number)
            check_request(spec, 1, seed, start)

        def draw(number: int) -> None:
            seed, start = arrange(number)
            ahead.draw(request._replace(seed=seed, start=start), 0, 1)

        return {
            "sample(1)": sample,
            "check the arguments": check,
            "draw the inputs": draw,
            "session": lambda _: session.submit(given).wait(),
            "convert to uint8": lambda _: to_uint8(images, find_levels(spec.output)),
        }

    return dict(zip(_KINDS, (make(lambda number: (7, number)), make(lambda number: (number, 0))), strict=True))


def measure_calls(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Return the median microseconds of a call of each stage."""
    numbers = {name: count() for name in calls}  # each stage counts for itself, so that its calls are in order
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            batch = [next(numbers[name]) for _ in range(_CALLS)]
            started = clock.cpu_time_ns()
            for number in batch:
                call(number)
            times[name].append((clock.cpu_time_ns() - started) / 1e3 / _CALLS)
    return {name: statistics.median(found) for name, found in times.items()}


def format_table(medians: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table: one line per stage, then what is left of `sample(1)`, all of it, and its share over the
    session."""
    rows: dict[str, list[float]] = {}
    for found in medians.values():
        total = found["sample(1)"]
        stages = {name: time for name, time in found.items() if name != "sample(1)"}
        stages["turns, batches and the result"] = total - sum(stages.values())
        stages["`sample(1)`"] = total
        stages["over the session"] = total - found["session"]
        for name, time in stages.items():
            rows.setdefault(name, []).append(time)
    lines = [f"| µs a call | {' | '.join(medians)} |", f"| --- {'| --- ' * len(medians)}|"]
    lines += [f"| {name} | {' | '.join(f'{time:.0f}' for time in times)} |" for name, times in rows.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
