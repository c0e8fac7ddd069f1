"""`tune`: find the backend, variant and options that are fastest on this machine at each batch size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ganrt import batching, tuned
from ganrt.backend import backend_table
from ganrt.bundle import Bundle
from ganrt.choosing import LoadRequest, backends_to_try, candidates_by_rule
from ganrt.errors import MachineError, RequestError
from ganrt.machine import default_threads, usable_cores
from ganrt.session_config import SessionConfig
from ganrt.spec import Output
from ganrt.trust import find_refusal
from ganrt.tuned import Origin, Timing, Tuned, TunedConfig

from . import cases, clock, statistics
from .cases import Setup, Size
from .environment import Environment, MachineMonitor
from .process import Worker
from .race import HOPELESS, OnProgress, Race, Racer, Winner, compare_rounds
from .results import BUSY
from .statistics import Estimate
from .system import count_physical_cores

QUALITY = 60.0
"""Default quality in dB. float32 reaches it; lower precisions hardly ever do."""

_BATCHES = (1, 8, 32)
_LOADING_ORDER = ("fp8", "int8", "fp16", "bf16", "fp32")
"""Precisions that are likely to be fast are loaded first, so that slower setups are dropped after their first calls."""


@dataclass(frozen=True)
class Verdict:
    """The winner at one batch size."""

    batch: int
    """Images per call."""
    winner: str
    """Name of the fastest setup."""
    seconds: Estimate
    """Median seconds of an end-to-end call."""
    worst_psnr: float
    """PSNR in dB of its worst golden sample."""
    speedup: Estimate | None
    """Speed relative to `TuningResult.untuned`, from rounds of the same sweeps; None where that is the winner."""
    reason: str
    """How certain the choice is, as text."""


@dataclass(frozen=True)
class TuningResult:
    """The result of `tune`."""

    bundle: str
    """Name of the bundle's folder."""
    record: Tuned
    """What was measured."""
    in_use: Tuned
    """The record that `load` uses from now on: `record`, or an earlier decided one if `record` is provisional."""
    untuned: str | None
    """Name of the setup that `load` opens without a record; None when no such setup runs here."""
    verdicts: tuple[Verdict, ...]
    """One per batch size."""
    left_out: dict[str, str]
    """Name of a setup -> why it was not measured to the end."""
    environment: Environment
    """The machine."""
    seconds: float
    """Duration of the measurement, loading included."""

    @property
    def warnings(self) -> list[str]:
        """Every reason why the figures may be unreliable."""
        share = self.environment.foreign_share
        busy = f"other programs used {share:.0%} of the CPU: the figures are less reliable; tune again without them"
        return [busy] if share > BUSY else []

    def to_json(self) -> str:
        """Return it as JSON, for other tools."""
        records = {"record": self.record.to_dict(), "in_use": self.in_use.to_dict()}
        return json.dumps(asdict(self) | records, indent=1, allow_nan=False)


def tune(
    bundle: str | Path | Bundle,
    *,
    backends: Sequence[str] | None = None,
    device: str = "auto",
    quality: float = QUALITY,
    batches: Sequence[int] | None = None,
    seconds: float = 120.0,
    size: Size | None = None,
    progress: OnProgress | None = None,
) -> TuningResult:
    """Measure the setups that run a bundle on this machine, each in a process of its own, and remember the fastest.

    The record replaces an earlier one of the same bundle, machine and library versions. If it is provisional, because
    the time ran out or other programs used the CPU, an earlier decided one stays.

    Args:
        bundle: the bundle, or its folder.
        backends: names; None: all that are installed, without baselines and those that are slow by design.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        quality: PSNR in dB that the worst golden sample must reach. It decides which precisions take part.
        batches: batch sizes; None: 1, 8 and 32, or what fits with large images.
        seconds: total time, loading included. Every setup that is not dropped gets at least one round, even if that
            takes longer.
        size: height and width in pixels of the pictures that an image-to-image model is given, as for `measure`.
        progress: called now and then with the share of the time that has passed, 0 to 1, and a line of text.

    Raises BundleError for a bundle that cannot be used, RequestError for a wrong argument, and MachineError when no
    setup reaches the quality or the record cannot be written.
    """
    started = clock.now_ns()
    bundle = cases.open_bundle(bundle)
    sizes = _check_batches(bundle.spec.output, batches)
    size = cases.check_size(bundle.spec, size)
    cases.check_seconds(seconds)
    if not 0 <= quality < float("inf"):
        raise RequestError(f"a quality of {quality} dB was asked for; give a number from 0")
    table = backend_table()
    chosen = [name for name in backends_to_try(device) if not table[name].slow]
    setups = cases.list_setups(bundle, chosen if backends is None else backends, None, device, size)
    monitor = MachineMonitor()
    with ExitStack() as stack:

        def start_worker(setup: Setup) -> Worker:
            worker = Worker(setup)
            stack.callback(worker.close)
            return worker

        span = (started, started + round(seconds * 1e9))
        race = Race(sizes, quality, span, progress or (lambda share, text: None), clock.now_ns, start_worker)
        untuned = _enter_all(race, bundle, setups, device, size)
        if any(racer.eligible for racer in race.racers):
            race.decide()
    for racer in race.racers:
        if racer.failure_reason:
            race.left_out[racer.setup.name] = f"failed: {racer.failure_reason}"
    return _make_result(race, bundle, untuned, monitor.finish(), started)


def _check_batches(output: Output, batches: Sequence[int] | None) -> list[int]:
    largest = batching.largest_batch(output)
    if batches is None:
        return sorted({min(batch, largest) for batch in _BATCHES})
    sizes = cases.check_batches(batches)
    if sizes[-1] > largest:
        raise RequestError(
            f"a batch of {sizes[-1]} was asked for; this model computes at most {largest} images at a time and splits "
            f"larger requests: give sizes up to {largest}"
        )
    return sizes


def _enter_all(race: Race, bundle: Bundle, setups: Sequence[Setup], device: str, size: Size | None) -> Racer | None:
    """Enter the setup that `load` opens without a record; then the others with default options; then, for those that
    are still in the race, other numbers of threads, or the backend's options on a GPU. Returns the first."""
    untuned = None
    for rule in candidates_by_rule(bundle, LoadRequest(device=device)):
        setup = Setup(bundle.path, rule.config, size, reuse_proof=True)
        eligible = _without_options(setup) in map(_without_options, setups)
        untuned = race.enter(setup, eligible=eligible, baseline=True)
        if untuned is not None:
            break
    entered = {_without_options(racer.setup) for racer in race.racers}
    for setup in sorted(setups, key=lambda s: _rank_for_loading(bundle, s)):
        if _without_options(setup) in entered or setup.name in race.left_out:
            continue
        if reason := _explain_exclusion(bundle, setup, race.quality):
            race.left_out[setup.name] = reason
        else:
            race.enter(_with_options(setup))
    for racer in list(race.racers):
        for options in _list_other_options(racer) if racer.eligible else ():
            if race.slowdown(racer) <= HOPELESS:
                race.enter(_with_options(racer.setup, **options))
    return untuned


def _without_options(setup: Setup) -> SessionConfig:
    return replace(setup.config, options={})


def _with_options(setup: Setup, **options: int | str) -> Setup:
    return replace(setup, config=replace(setup.config, options=options), reuse_proof=True)


def _list_other_options(racer: Racer) -> Sequence[Mapping[str, int | str]]:
    """Options that a backend may be opened with, other than its defaults, on the device where it runs."""
    entry = backend_table()[racer.setup.config.backend]
    if racer.facts.device != "cpu":
        return entry.on_gpu
    threads = [{"threads": count} for count in _list_thread_counts()] if entry.threads else []
    return [*threads, {"spin": True}] if entry.spin else threads


def _list_thread_counts() -> list[int]:
    """One, half and all of the cores that this process may use, without the default: all of a part of the machine, or
    one thread per physical core."""
    usable = usable_cores()
    return sorted({1, max(1, usable // 2), usable} - {default_threads() or count_physical_cores()})


def _rank_for_loading(bundle: Bundle, setup: Setup) -> tuple[int, bool]:
    variant = bundle.variant(setup.config.variant)
    return _LOADING_ORDER.index(variant.precision), not variant.fewer_macs


def _explain_exclusion(bundle: Bundle, setup: Setup, quality: float) -> str:
    """Why the bundle's own record rules a setup out; empty when it does not."""
    refusal = find_refusal(bundle, setup.config)
    if refusal is not None:
        return f"it {refusal.refusal}"
    recorded = bundle.variant(setup.config.variant).proofs
    proofs = [p for p in recorded if p.passed and p.backend == setup.config.backend]
    best = max((p.worst_psnr for p in proofs), default=quality)
    return "" if best >= quality else f"{best:.1f} dB in the bundle's record, but {quality:g} dB are required"


def _make_result(
    race: Race, bundle: Bundle, untuned: Racer | None, environment: Environment, started: int
) -> TuningResult:
    """Make the record, save it, and explain it."""
    winners = {batch: found for batch in race.batches if (found := race.find_winner(batch)) is not None}
    if not winners:
        reasons = "".join(f"\n- {name}: {reason}" for name, reason in race.left_out.items())
        raise MachineError(f"nothing on this machine runs {bundle.path} at {race.quality:g} dB or more:{reasons}")
    record = _make_record(race, bundle, winners, environment.foreign_share > BUSY)
    return TuningResult(
        bundle=Path(bundle.path).name,
        record=record,
        in_use=tuned.update_record(record),
        untuned=None if untuned is None else untuned.setup.name,
        verdicts=tuple(_make_verdict(batch, winner, untuned) for batch, winner in winners.items()),
        left_out=race.left_out,
        environment=environment,
        seconds=(clock.now_ns() - started) / 1e9,
    )


def _make_record(race: Race, bundle: Bundle, winners: Mapping[int, Winner], disturbed: bool) -> Tuned:
    racers = [racer for racer in race.racers if racer.eligible and not racer.failure_reason]
    undecided = tuple(batch for batch, winner in winners.items() if not winner.decided)
    return Tuned(
        key=tuned.tuned_key(bundle),
        quality=race.quality,
        date=clock.now_utc(),
        versions=tuned.installed_versions(),
        choices=tuple(_make_tuned_config(racer) for racer in racers),
        winners={batch: racers.index(winner.racer) for batch, winner in winners.items()},
        undecided=undecided,
        disturbed=disturbed,
        boot=tuned.read_boot_id() if undecided or disturbed else "",
        origin=Origin.of(bundle),
    )


def _make_tuned_config(racer: Racer) -> TunedConfig:
    return TunedConfig(
        config=replace(racer.setup.config, device=racer.facts.device),
        precision=racer.facts.precision,
        worst_psnr=racer.facts.worst_psnr,
        timings={b: Timing(e.value, e.low, e.high) for b, e in _list_estimates(racer)},
    )


def _list_estimates(racer: Racer) -> Iterator[tuple[int, Estimate]]:
    for batch in racer.tracks:
        estimate = racer.estimate_seconds(batch)
        if estimate is not None:
            yield batch, estimate


def _make_verdict(batch: int, winner: Winner, untuned: Racer | None) -> Verdict:
    racer = winner.racer
    estimate = racer.estimate_seconds(batch)
    assert estimate is not None  # a winner was measured
    speedup = None if untuned is None or untuned is racer else _estimate_speedup(racer, untuned, batch)
    return Verdict(batch, racer.setup.name, estimate, racer.facts.worst_psnr, speedup, winner.reason)


def _estimate_speedup(racer: Racer, base: Racer, batch: int) -> Estimate | None:
    """Speed relative to `base`, from rounds of the same sweeps."""
    ratios = compare_rounds(base, racer, batch)
    return statistics.quantile(ratios, 0.5) if ratios else None
