"""How the cost of a picture depends on how many are asked for at once, and how that of a pixel depends on their size.

    python -m ganrt.bench.scaling BUNDLE --out FILE.md [--batches 1,2,3,...] [--sides 64,96,...] [--rounds 7]

A generator that takes a seed is asked for batches: `Generator.sample(batch)`. One that takes pictures gets one square
picture at a time: `Generator.transform(picture)`. It is loaded by `ganrt.load(BUNDLE)`, as a user loads it. All sizes
are timed in one fresh process, in rounds of shuffled order, and then each is run in a fresh process of its own, whose
peak memory is read. FILE.md gets the table, and the JSON file beside it the raw times.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import numpy as np

import ganrt
from ganrt.atomic import write_file
from ganrt.bundle import Bundle
from ganrt.errors import GanrtError, MachineError, RequestError
from ganrt.spec import Spec

from . import calls, clock, statistics, texts
from .cases import check_batches, check_size
from .environment import Environment, MachineMonitor
from .statistics import Estimate
from .system import read_peak_mib

_log = partial(click.echo, err=True)
_BATCHES = "1,2,3,4,5,6,8,12,16,24,32,48,64"
_SIDES = ",".join(map(str, range(64, 1025, 32)))
_DIGITS = 10
"""A size has fewer."""
_ROUND_NS = 50e6
"""The timed part of a round, unless one call takes longer."""
_STEP = 0.15
"""Change of the cost from one size to the next above which it is named."""
_T = TypeVar("_T")

Call = Callable[[int], object]
"""Makes pictures of a size; gets a number that no other call gets."""


@dataclass(frozen=True)
class Row:
    """What was measured at one size."""

    size: int
    """Pictures per call, or side of the picture in pixels."""
    rounds: tuple[tuple[int, ...], ...]
    """Nanoseconds of each call, round by round."""
    peak_mib: float | None
    """Peak resident memory in MiB of a process that ran this size alone, loading included; None where the system does
    not report it."""


@dataclass(frozen=True)
class Step:
    """The change of the cost from one size to the next."""

    before: int
    """The smaller size."""
    after: int
    """The larger size."""
    change: float
    """0.2 if a picture or a pixel costs a fifth more at the larger size; negative where it costs less."""


@dataclass(frozen=True)
class Scaling:
    """A measurement."""

    bundle: str
    """Name of the bundle's folder."""
    digest: str | None
    """SHA-256 of the graph and weights that ran (`Info.digest`)."""
    takes_pictures: bool
    """Whether the sizes are sides of pictures; otherwise they are batch sizes."""
    config: str
    """What `ganrt.load` chose."""
    reason: str
    """Why."""
    date: str
    """Date and time in UTC."""
    environment: Environment
    """The machine."""
    rows: tuple[Row, ...]
    """Sizes ascend."""

    def cost(self, row: Row) -> Estimate:
        """Return the milliseconds of a picture, or of a megapixel of input."""
        return statistics.median(row.rounds).scale(1e-6 / self._units(row))

    def _units(self, row: Row) -> float:
        return row.size**2 / 1e6 if self.takes_pictures else row.size

    @property
    def steps(self) -> list[Step]:
        """The change of the cost from each size to the next: the median of its changes within a round, because other
        programs may slow a whole round down."""
        return [
            Step(before.size, after.size, self._compare(before, after) - 1) for before, after in pairwise(self.rows)
        ]

    def _compare(self, before: Row, after: Row) -> float:
        pairs = zip(after.rounds, before.rounds, strict=True)
        ratio = statistics.quantile([float(np.median(late) / np.median(early)) for late, early in pairs], 0.5)
        return ratio.value * self._units(before) / self._units(after)


@dataclass(frozen=True)
class Timed:
    """What the process that timed all sizes returns."""

    config: str
    reason: str
    digest: str | None
    rounds: Mapping[int, tuple[tuple[int, ...], ...]]
    """Size -> nanoseconds of each call, round by round."""


def measure(bundle: Bundle, sizes: Sequence[int], rounds: int) -> Scaling:
    """Time all sizes in a fresh process, and run each in another.

    Raises MachineError when such a process dies, and what `ganrt.load` and the generator raise in it.
    """
    monitor = MachineMonitor()
    timed = _run_fresh(_time_bundle, bundle.path, sizes, rounds)
    rows = []
    for size in sizes:
        rows.append(Row(size, timed.rounds[size], _run_fresh(_read_peak, bundle.path, size)))
        _log(f"{size}: peak memory {_format_peak(rows[-1])} MiB")
    return Scaling(
        bundle=Path(bundle.path).name,
        digest=timed.digest,
        takes_pictures=bool(bundle.spec.images),
        config=timed.config,
        reason=timed.reason,
        date=clock.now_utc(),
        environment=monitor.finish(),
        rows=tuple(rows),
    )


def time_sizes(runs: Mapping[int, Call], rounds: int, seed: int = 0) -> dict[int, tuple[tuple[int, ...], ...]]:
    """Time the call of each size in `rounds` rounds of shuffled order.

    In a round each size has as many calls as fit into 50 ms, at least one, after one that is not counted, so that
    caches and buffers adapt to it.

    Args:
        runs: size -> how it is run.
        rounds: number of rounds.
        seed: of the order.

    Returns size -> nanoseconds of each call, round by round.
    """
    numbers, shuffle = count(), random.Random(seed)
    times: dict[int, list[tuple[int, ...]]] = {size: [] for size in runs}
    for done in range(rounds):
        for size in shuffle.sample(list(runs), len(runs)):
            uncounted = _time_call(runs[size], next(numbers))
            repeats = max(1, round(_ROUND_NS / uncounted))
            times[size].append(tuple(_time_call(runs[size], next(numbers)) for _ in range(repeats)))
        _log(f"round {done + 1} of {rounds}")
    return {size: tuple(found) for size, found in times.items()}


def make_call(generator: ganrt.Generator, size: int) -> Call:
    """Return how pictures of a size are made. Every call of a generator that takes a seed has a new one; the input
    picture is drawn here, so that it does not count."""
    if not generator.spec.images:
        return lambda number: generator.sample(size, number)
    given: dict[str, Any] = calls.draw_inputs(generator.spec, 0, 1, (size, size)).pictures or {}
    return lambda _: generator.transform(tile=None, **given)


def _time_call(call: Call, number: int) -> int:
    started = clock.now_ns()
    call(number)
    return clock.now_ns() - started


def _time_bundle(path: Path | str, sizes: Sequence[int], rounds: int) -> Timed:
    with ganrt.load(path) as generator:
        found = time_sizes({size: make_call(generator, size) for size in sizes}, rounds)
        info = generator.info
        return Timed(str(info.config), info.reason, info.digest, found)


def _read_peak(path: Path | str, size: int) -> float | None:
    """Run a size twice, because the second call may need memory while the buffers of the first are still held."""
    with ganrt.load(path) as generator:
        call = make_call(generator, size)
        for number in range(2):
            call(number)
        return read_peak_mib()


def _run_fresh(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function in a fresh process. Raises what it raises, and MachineError when the process dies."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool as error:
        raise MachineError(
            "the process that ran the generator died, perhaps for want of memory; try smaller sizes"
        ) from error


def format_page(found: Scaling) -> str:
    """Return the page in Markdown: what was measured, the steps, and a line per size."""
    machine = found.environment
    call = "Generator.transform(picture)" if found.takes_pictures else "Generator.sample(batch)"
    titles = (
        ("side", "ms a call", "ms a megapixel of input")
        if found.takes_pictures
        else ("batch", "ms a call", "ms a picture")
    )
    lines = [
        f"# {found.bundle}: cost over {'sides of the picture' if found.takes_pictures else 'batch sizes'}",
        "",
        f"    python -m ganrt.bench.scaling {found.bundle}",
        "",
        f"`{call}` on {found.config} ({found.reason}); {machine.processor}, {machine.cores} cores; {found.date[:10]}; "
        f"other programs used {machine.foreign_share:.0%} of the CPU. Medians of {len(found.rows[0].rounds)} rounds of "
        "shuffled order in one process, with their 95 % interval if there are enough rounds; a change is the median of "
        "the changes within a round. Peak memory is that of a fresh process that ran the size alone, loading included.",
        "",
        *_describe_steps(found.steps),
        "",
        _format_row(*titles, "change", "peak MiB"),
        _format_row(*["---:"] * 5),
    ]
    changes = ["", *(f"{step.change:+.1%}" for step in found.steps)]
    for row, change in zip(found.rows, changes, strict=True):
        call_ms, cost = statistics.median(row.rounds).scale(1e-6), found.cost(row)
        lines.append(_format_row(str(row.size), *map(_format_estimate, (call_ms, cost)), change, _format_peak(row)))
    return "\n".join(lines) + "\n"


def _describe_steps(steps: Sequence[Step]) -> Iterator[str]:
    """Sentences on the largest step, the largest rise, and all steps above _STEP."""
    if not steps:
        return
    limit = f"{_STEP:.0%}"
    largest = max(steps, key=lambda step: abs(step.change))
    verdict = "above" if abs(largest.change) > _STEP else "not above"
    yield f"Largest step of the cost between neighbours: {_format_step(largest)}, {verdict} {limit}."
    rise = max(steps, key=lambda step: step.change)
    if rise.change > 0 and rise is not largest:
        verdict = "above" if rise.change > _STEP else "not above"
        yield f"Largest rise: {_format_step(rise)}, {verdict} {limit}."
    above = [step for step in steps if abs(step.change) > _STEP]
    if above:
        yield f"All above {limit}: {', '.join(map(_format_step, above))}."


def _format_step(step: Step) -> str:
    return f"{step.change:+.1%} from {step.before} to {step.after}"


def _format_estimate(estimate: Estimate) -> str:
    interval = "" if estimate.low is None else f" ({texts.format_interval(estimate)})"
    return texts.format_number(estimate.value) + interval


def _format_peak(row: Row) -> str:
    return "-" if row.peak_mib is None else f"{row.peak_mib:.0f}"


def _format_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def choose_sizes(spec: Spec, batches: str | None, sides: str | None) -> list[int]:
    """Return the sizes to measure, ascending: `batches` for a generator that takes a seed, `sides` for one that takes
    pictures. Both are numbers separated by commas; None: the default.

    Raises RequestError for a list of the wrong kind, a wrong number, or a side that the model does not take.
    """
    wrong, own = ("--batches", batches) if spec.images else ("--sides", sides), sides if spec.images else batches
    if wrong[1] is not None:
        what = "pictures, one at a time" if spec.images else "a seed and no pictures"
        raise RequestError(f"{wrong[0]} was given, but this {spec.family} model takes {what}: leave it out")
    default = _SIDES if spec.images else _BATCHES
    numbers = (default if own is None else own).split(",")
    if not all(text.isascii() and text.isdigit() and len(text) < _DIGITS for text in numbers):
        raise RequestError(f"{own!r} is not a list of whole numbers separated by commas")
    if not spec.images:
        return check_batches([int(text) for text in numbers])
    sizes = sorted({int(text) for text in numbers})
    for size in sizes:
        check_size(spec, (size, size))
    return sizes


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The table, in Markdown.")
@click.option("--batches", metavar="LIST", help="Batch sizes, for a generator that takes a seed.")
@click.option("--sides", metavar="LIST", help="Sides in pixels, for one that takes pictures.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1), help="Rounds in which all take turns.")
def main(bundle: Path, out: Path, batches: str | None, sides: str | None, rounds: int) -> None:
    """Measure how the cost of a picture of BUNDLE depends on the batch size or on its own size."""
    try:
        if out.suffix != ".md":
            raise RequestError(
                f"--out is {out}; let it end in .md, because the raw times go to the .json file beside it"
            )
        read = Bundle.read(bundle)
        sizes = choose_sizes(read.spec, batches, sides)
        found = measure(read, sizes, rounds)
        write_file(out.with_suffix(".json"), json.dumps(asdict(found), indent=1).encode() + b"\n")
        write_file(out, format_page(found).encode())
    except GanrtError as error:
        _exit(str(error), error.exit_code)
    click.echo(out)


def _exit(message: str, code: int) -> NoReturn:
    _log(f"error: {message}")
    sys.exit(code)


if __name__ == "__main__":
    main()
