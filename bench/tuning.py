"""`tune`: which backend, variant and number of threads is fastest on this machine at each batch size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from ganrt import batching, tuned
from ganrt.backend import BACKENDS
from ganrt.bundle import Bundle
from ganrt.choosing import Wish, backends_here, by_rules
from ganrt.errors import MachineError, RequestError
from ganrt.machine import usable_cores
from ganrt.spec import Output
from ganrt.tuned import Choice, Timing, Tuned

from . import cases, clock, statistics
from .cases import Setup, Size
from .environment import Environment, Witness
from .process import Worker
from .race import HOPELESS, Contest, Entrant, Progress, ratios
from .results import BUSY
from .statistics import Estimate

QUALITY = 60.0
"""dB: what float32 reaches and nothing else is likely to."""

_BATCHES = (1, 8, 32)
_LONGEST_S = 1e6
_NARROW_FIRST = ("int8", "fp16", "bf16", "fp32")
"""The order of loading: what is likely to be fast first, so that the rest can be dropped at first sight."""


@dataclass(frozen=True)
class Verdict:
    """What was found at one batch size."""

    batch: int
    winner: str
    seconds: Estimate
    """Of a batch, the whole way."""
    worst_psnr: float
    speedup: Estimate | None
    """How many times as fast as `Outcome.untuned`, in rounds near in time; None where that is the winner itself."""
    reason: str
    """How sure it is."""


@dataclass(frozen=True)
class Outcome:
    """What `tune` found."""

    bundle: str
    """Name of the bundle's folder."""
    record: Tuned
    untuned: str | None
    """What `load` takes without a record; None when nothing of it runs here."""
    verdicts: tuple[Verdict, ...]
    left_out: dict[str, str]
    """Name of a candidate -> why it did not come to the end."""
    environment: Environment
    seconds: float
    """How long it all took."""

    @property
    def warnings(self) -> list[str]:
        """Every reason to doubt the figures."""
        share = self.environment.foreign_share
        busy = f"other programs used {share:.0%} of the processor: the figures suffer, tune again when it is quiet"
        return [busy] if share > BUSY else []

    def to_json(self) -> str:
        """For readers of other tools."""
        return json.dumps(asdict(self) | {"record": self.record.to_dict()}, indent=1, allow_nan=False)


def tune(
    bundle_path: str | Path,
    quality: float = QUALITY,
    batches: Sequence[int] | None = None,
    seconds: float = 120.0,
    backends: Sequence[str] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    size: Size | None = None,
) -> Outcome:
    """Measure the ways to run a bundle on this machine, each in a process of its own, and remember the fastest, in the
    place of an earlier record.

    Args:
        quality: dB that the worst golden sample must reach; it decides which precisions take part.
        batches: batch sizes; by default 1, 8 and 32, or what the model's size allows.
        seconds: how long it may take in all, loading included; every candidate that is left gets one round at least.
        backends: names, or None: all that are installed here, but for those that are slow by design.
        progress: called now and then.
        size: height and width of the pictures that an image-to-image model is given, as for `measure`.

    Raises BundleError for a bundle that cannot be used, RequestError for an argument that makes no sense, MachineError
    when nothing here reaches the quality, or when the record cannot be written.
    """
    started = clock.now_ns()
    bundle = Bundle.read(Path(bundle_path).resolve())
    sizes = _batch_sizes(bundle.spec.output, batches)
    size = cases.check_size(bundle.spec, size)
    if not 0 < seconds < _LONGEST_S:
        raise RequestError(f"{seconds} seconds were asked for; give a number above 0 and below {_LONGEST_S:g}")
    if not 0 <= quality < float("inf"):
        raise RequestError(f"a quality of {quality} dB was asked for; give a number from 0")
    chosen = [n for n in backends_here(device) if n not in BACKENDS or not BACKENDS[n].slow]
    setups = cases.setups(bundle, chosen if backends is None else backends, None, device, size)
    witness = Witness()
    with ExitStack() as stack:

        def start(setup: Setup) -> Worker:
            worker = Worker(setup)
            stack.callback(worker.close)
            return worker

        span = (started, started + round(seconds * 1e9))
        contest = Contest(sizes, quality, span, progress or (lambda share, text: None), clock.now_ns, start)
        untuned = _enter_all(contest, bundle, setups, device, size)
        if any(entrant.eligible for entrant in contest.entrants):
            contest.decide()
    for entrant in contest.entrants:
        if entrant.failed:
            contest.left_out[entrant.setup.name] = f"failed: {entrant.failed}"
    outcome = _outcome(contest, bundle, untuned, witness.environment(), (clock.now_ns() - started) / 1e9)
    tuned.remember(outcome.record)
    return outcome


def _batch_sizes(output: Output, batches: Sequence[int] | None) -> list[int]:
    largest = batching.largest(output)
    if batches is None:
        return sorted({min(batch, largest) for batch in _BATCHES})
    sizes = cases.check_batches(batches)
    if sizes[-1] > largest:
        raise RequestError(
            f"a batch of {sizes[-1]} was asked for; of this model at most {largest} pictures are computed at a time, "
            f"and larger requests are cut: give sizes up to {largest}"
        )
    return sizes


def _enter_all(
    contest: Contest, bundle: Bundle, setups: Sequence[Setup], device: str, size: Size | None
) -> Entrant | None:
    """First what `load` takes without a record (it is returned), then the others with the library's own number of
    threads; then other numbers of threads, or the options for GPUs, of those that are left."""
    untuned = None
    for rule in by_rules(bundle, Wish(device=device)):
        setup = Setup(bundle.folder, rule.backend, rule.variant, device, size, known=True)
        untuned = contest.enter(setup, eligible=_plain(setup) in map(_plain, setups), baseline=True)
        if untuned is not None:
            break
    entered = {_plain(entrant.setup) for entrant in contest.entrants}
    for setup in sorted(setups, key=lambda s: _likely_speed(bundle, s)):
        if _plain(setup) in entered or setup.name in contest.left_out:
            continue
        if reason := _too_poor(bundle, setup, contest.quality):
            contest.left_out[setup.name] = reason
        else:
            contest.enter(_with(setup))
    for entrant in list(contest.entrants):
        for options in _further_options(entrant) if entrant.eligible else ():
            if contest.lag(entrant) <= HOPELESS:
                contest.enter(_with(entrant.setup, **options))
    return untuned


def _plain(setup: Setup) -> tuple[str, str]:
    return setup.backend, setup.variant


def _further_options(entrant: Entrant) -> Sequence[Mapping[str, int | str]]:
    """What else a backend may be opened with where it runs."""
    entry = BACKENDS.get(entrant.setup.backend)
    if entry is None:
        return ()
    if entrant.facts.device != "cpu":
        return entry.on_gpu
    return [{"threads": threads} for threads in _thread_counts()] if entry.threads else ()


def _with(setup: Setup, **options: int | str) -> Setup:
    return Setup(
        setup.bundle, setup.backend, setup.variant, setup.device, setup.size, tuple(options.items()), known=True
    )


def _likely_speed(bundle: Bundle, setup: Setup) -> tuple[int, bool]:
    variant = bundle.variant(setup.variant)
    return _NARROW_FIRST.index(variant.precision), not variant.lighter


def _too_poor(bundle: Bundle, setup: Setup, quality: float) -> str:
    """Why the bundle's own record rules a candidate out; empty when it does not."""
    proofs = [p for p in bundle.variant(setup.variant).proofs if p.backend == setup.backend]
    best = max((p.worst_psnr for p in proofs), default=quality)
    return "" if best >= quality else f"{best:.1f} dB in the bundle's record, where {quality:g} dB are asked for"


def _thread_counts() -> list[int]:
    """One, half and all of the cores that this process may use, but for the number that libraries take by themselves:
    one thread per physical core."""
    usable = usable_cores()
    own = psutil.cpu_count(logical=False)
    return sorted({1, max(1, usable // 2), usable} - {own})


def _outcome(
    contest: Contest, bundle: Bundle, untuned: Entrant | None, environment: Environment, seconds: float
) -> Outcome:
    found = {batch: contest.winner(batch) for batch in contest.batches}
    won = {batch: pair for batch, pair in found.items() if pair is not None}
    if not won:
        reasons = "".join(f"\n- {name}: {reason}" for name, reason in contest.left_out.items())
        raise MachineError(f"nothing on this machine runs {bundle.folder} at {contest.quality:g} dB or more:{reasons}")
    entrants = [entrant for entrant in contest.entrants if entrant.eligible and not entrant.failed]
    record = Tuned(
        key=tuned.tuned_key(bundle),
        quality=contest.quality,
        date=clock.date(),
        versions=tuned.versions(),
        choices=tuple(_choice(entrant) for entrant in entrants),
        winners={batch: entrants.index(entrant) for batch, (entrant, _) in won.items()},
    )
    verdicts = tuple(_verdict(batch, *pair, untuned) for batch, pair in won.items())
    name = None if untuned is None else untuned.setup.name
    return Outcome(bundle.folder.name, record, name, verdicts, contest.left_out, environment, seconds)


def _choice(entrant: Entrant) -> Choice:
    setup, facts = entrant.setup, entrant.facts
    return Choice(
        backend=setup.backend,
        variant=setup.variant,
        device=facts.device,
        options=dict(setup.options),
        precision=facts.precision,
        worst_psnr=facts.worst_psnr,
        timings={b: Timing(e.value, e.low, e.high) for b, e in _estimates(entrant)},
    )


def _estimates(entrant: Entrant) -> Iterator[tuple[int, Estimate]]:
    for batch in entrant.tracks:
        estimate = entrant.estimate(batch)
        if estimate is not None:
            yield batch, estimate


def _verdict(batch: int, entrant: Entrant, reason: str, untuned: Entrant | None) -> Verdict:
    estimate = entrant.estimate(batch)
    assert estimate is not None  # a winner was measured
    speedup = None if untuned is None or untuned is entrant else _speedup(entrant, untuned, batch)
    return Verdict(batch, entrant.setup.name, estimate, entrant.facts.worst_psnr, speedup, reason)


def _speedup(entrant: Entrant, base: Entrant, batch: int) -> Estimate | None:
    """How many times as fast as `base`, from the rounds of the same sweeps."""
    found = ratios(base, entrant, batch)
    return statistics.quantile(found, 0.5) if found else None
