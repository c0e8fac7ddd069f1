"""`measure`: a fresh process per backend and variant, interleaved rounds of all cases, one report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from ganrt.bundle import FAITHFUL, Bundle
from ganrt.spec import Output
from ganrt.trust import find_refusal

from . import cases, clock, schedule
from .cases import Case, Scope, Setup, Size
from .environment import MachineMonitor
from .process import Worker, WorkerFailed
from .results import SCHEMA, BackendResult, Measurement, Report
from .schedule import Log, Track
from .worker import Facts, Failure, Round


def measure(
    bundle: str | Path | Bundle,
    *,
    backends: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    variants: Sequence[str] | None = None,
    device: str = "auto",
    batches: Sequence[int] = (1, 8),
    seconds: float = 60.0,
    size: Size | None = None,
    progress: Log | None = None,
) -> Report:
    """Measure a bundle, each backend and variant in a process of its own.

    A backend that fails, or whose images are not the original's, is in the report with the reason.

    Args:
        bundle: the bundle, or its folder.
        backends: names, or a mapping of names to the variants of each; None: all that are installed (the others are
            reported as not installed), without those that the bundle's record says are refused on this machine.
        variants: names; None: all of the bundle, each on the backends that run it.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batches: batch sizes; a backend that is slow by design is measured at batch 1 only.
        seconds: total time, loading included. Every case gets at least one round, even if that takes longer.
        size: height and width in pixels of the pictures that an image-to-image model is given; None: those of its
            proof, which are small (`golden.proof_picture_size`).
        progress: called with a line of text now and then.

    Raises BundleError for a bundle that cannot be used, and RequestError for an unknown backend or variant, a wrong
    batch size or time, or a picture size that the model does not take.
    """
    log = progress or (lambda line: None)
    started = clock.now_ns()
    bundle = cases.open_bundle(bundle)
    sizes = cases.check_batches(batches)
    size = cases.check_size(bundle.spec, size)
    cases.check_seconds(seconds)
    setups = cases.list_setups(bundle, backends, variants, device, size)
    if backends is None:
        setups = [setup for setup in setups if not _is_refused(bundle, setup, log)]
    monitor = MachineMonitor()
    facts, tracks = _run_workers(setups, sizes, started + round(seconds * 1e9), log)
    return Report(
        schema=SCHEMA,
        bundle=Path(bundle.path).name,
        digest=bundle.digest(FAITHFUL if FAITHFUL in bundle.variants else next(iter(bundle.variants))),
        family=bundle.spec.family,
        image=_describe_image(bundle.spec.output, size),
        picture=size,
        precision=", ".join(sorted({bundle.variant(setup.config.variant).precision for setup in setups})),
        date=clock.now_utc(),
        seconds=(clock.now_ns() - started) / 1e9,
        environment=monitor.finish(),
        backends=tuple(_summarize(s, f, tracks, optional=backends is None) for s, f in facts.items()),
        measurements=tuple(_collect_measurements(tracks, cases.end_to_end_scope(size is not None))),
    )


def _is_refused(bundle: Bundle, setup: Setup, log: Log) -> bool:
    refusal = find_refusal(bundle, setup.config)
    if refusal is not None:
        log(f"{setup.name} is left out: it {refusal.refusal}")
    return refusal is not None


def _run_workers(
    setups: Sequence[Setup], sizes: Sequence[int], deadline: int, log: Log
) -> tuple[dict[Setup, Facts | Failure], list[Track]]:
    """Load every setup in a process of its own, then time the rounds of all."""
    facts: dict[Setup, Facts | Failure] = {}
    tracks: list[Track] = []
    with ExitStack() as stack:
        for setup in setups:
            log(f"loading {setup.name} and comparing it with the original")
            worker = Worker(setup)
            stack.callback(worker.close)
            facts[setup] = _load(worker)
            tracks += _make_tracks(setup, facts[setup], sizes, worker)
        schedule.run(tracks, deadline, clock.now_ns, log)
    return facts, tracks


def _describe_image(output: Output, size: Size | None) -> str:
    """Width, height and colours of one image: `32 x 32 grey`."""
    height, width = output.size or (output.scale * side for side in size or (0, 0))
    return f"{width} x {height} {output.colour}"


def _load(worker: Worker) -> Facts | Failure:
    try:
        return worker.wait_until_loaded()
    except WorkerFailed as error:
        return error.failure


def _make_tracks(setup: Setup, facts: Facts | Failure, sizes: Sequence[int], worker: Worker) -> list[Track]:
    if isinstance(facts, Failure):
        return []
    return [Track(Case(setup, batch, facts.slow), worker) for batch in ([1] if facts.slow else sizes)]


def _summarize(setup: Setup, facts: Facts | Failure, tracks: Sequence[Track], optional: bool) -> BackendResult:
    mine = [track for track in tracks if track.case.setup == setup]
    failure = facts if isinstance(facts, Failure) else next((t.failure for t in mine if t.failure), None)
    if failure is not None:
        missing = optional and failure.kind == "MissingLibraryError"
        reason = failure.reason.replace(f"{Path(setup.bundle).parent}/", "")  # reports are published
        return BackendResult(setup.name, "not installed" if missing else "failed", reason)
    assert isinstance(facts, Facts)
    rounds = [r for track in mine for r in (*track.warm_up, *track.rounds.values())]
    peaks = [r.peak_mib for r in rounds if r.peak_mib is not None]
    return BackendResult(setup.name, "measured", "", facts, max(peaks, default=None), all(r.idle_after for r in rounds))


def _collect_measurements(tracks: Sequence[Track], scope: Scope) -> Iterator[Measurement]:
    for track in tracks:
        if track.failure is None:
            yield _make_measurement(track, "session", lambda r: r.session)
            yield _make_measurement(track, scope, lambda r: r.end_to_end)


def _make_measurement(track: Track, scope: Scope, calls_of: Callable[[Round], tuple[int, ...]]) -> Measurement:
    return Measurement(
        backend=track.case.setup.name,
        batch=track.case.batch,
        scope=scope,
        rounds=tuple(calls_of(r) for r in track.rounds.values()),
        sweeps=tuple(track.rounds),
        warm_up_calls=sum(len(calls_of(r)) for r in track.warm_up),
        steady=track.steady,
    )
