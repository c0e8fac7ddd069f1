"""`measure`: a fresh process per backend, interleaved rounds over all cases, one report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from ganrt.bundle import FAITHFUL, Bundle
from ganrt.errors import RequestError
from ganrt.spec import Output

from . import cases, clock, schedule
from .cases import Case, Scope, Setup, Size
from .environment import Witness
from .process import Worker, WorkerFailed
from .results import SCHEMA, Backend, Measurement, Report
from .schedule import Progress, Track
from .worker import Facts, Failure, Round

_LONGEST_S = 1e6


def measure(
    bundle_path: str | Path,
    backends: Sequence[str] | Mapping[str, Sequence[str]] | None,
    batches: Sequence[int],
    seconds: float,
    variants: Sequence[str] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    size: Size | None = None,
) -> Report:
    """Measure a bundle, each backend in a process of its own.

    Args:
        backends: names, or names with the variants of each; or None: all that are installed here (the others are
            listed as not installed).
        variants: names, or None: all that the bundle has, each on the backends that run it.
        batches: batch sizes; a backend that is slow by design is measured at batch 1 only.
        seconds: how long it may take in all, loading included; every case gets one round at least.
        progress: called with a line now and then.
        size: height and width of the pictures that an image-to-image model is given; by default those of its proof,
            which are small (`golden.picture_size`).

    A backend that fails is in the report with its reason, and so is one that does not make the original's images.
    Raises BundleError for a bundle that cannot be used, RequestError for an unknown backend, variant or batch size,
    or a picture size that the model does not take.
    """
    tell = progress or (lambda line: None)
    started = clock.now_ns()
    path = Path(bundle_path).resolve()
    bundle = Bundle.read(path)
    sizes = cases.check_batches(batches)
    size = cases.check_size(bundle.spec, size)
    if not 0 < seconds < _LONGEST_S:
        raise RequestError(f"{seconds} seconds were asked for; give a number above 0 and below {_LONGEST_S:g}")
    setups = cases.setups(bundle, backends, variants, device, size)
    witness = Witness()
    workers: dict[Setup, Worker] = {}
    facts: dict[Setup, Facts | Failure] = {}
    with ExitStack() as stack:
        for setup in setups:
            tell(f"loading {setup.name} and comparing it with the original")
            workers[setup] = Worker(setup)
            stack.callback(workers[setup].close)
            facts[setup] = _load(workers[setup])
        tracks = [track for setup, found in facts.items() for track in _tracks(setup, found, sizes, workers[setup])]
        schedule.run(tracks, started + round(seconds * 1e9), clock.now_ns, tell)
    return Report(
        schema=SCHEMA,
        bundle=path.name,
        digest=bundle.digest(FAITHFUL),
        family=bundle.spec.family,
        image=_image(bundle.spec.output, size),
        picture=size,
        precision=", ".join(sorted({bundle.variant(setup.variant).precision for setup in setups})),
        date=clock.date(),
        seconds=(clock.now_ns() - started) / 1e9,
        environment=witness.environment(),
        backends=tuple(_outcome(s, f, tracks, optional=backends is None) for s, f in facts.items()),
        measurements=tuple(_measurements(tracks, cases.end_to_end(size is not None))),
    )


def _image(output: Output, size: Size | None) -> str:
    """What one image is: `32 x 32 grey`, width first."""
    height, width = output.size or (output.scale * side for side in size or (0, 0))
    return f"{width} x {height} {output.colour}"


def _load(worker: Worker) -> Facts | Failure:
    try:
        return worker.facts()
    except WorkerFailed as error:
        return error.failure


def _tracks(setup: Setup, facts: Facts | Failure, sizes: Sequence[int], worker: Worker) -> list[Track]:
    if isinstance(facts, Failure):
        return []
    return [Track(Case(setup, batch, facts.slow), worker) for batch in ([1] if facts.slow else sizes)]


def _outcome(setup: Setup, facts: Facts | Failure, tracks: Sequence[Track], optional: bool) -> Backend:
    mine = [track for track in tracks if track.case.setup == setup]
    failure = facts if isinstance(facts, Failure) else next((t.failure for t in mine if t.failure), None)
    if failure is not None:
        missing = optional and failure.kind == "MissingLibraryError"
        reason = failure.reason.replace(f"{setup.bundle.parent}/", "")  # a report is shown to others
        return Backend(setup.name, "not installed" if missing else "failed", reason)
    assert isinstance(facts, Facts)
    rounds = [r for track in mine for r in (*track.warm_up, *track.rounds.values())]
    peaks = [r.peak_mib for r in rounds if r.peak_mib is not None]
    return Backend(setup.name, "measured", "", facts, max(peaks, default=None), all(r.quiet for r in rounds))


def _measurements(tracks: Sequence[Track], whole: Scope) -> Iterator[Measurement]:
    for track in tracks:
        if track.failure is None:
            yield _measurement(track, "session", lambda r: r.session)
            yield _measurement(track, whole, lambda r: r.whole)


def _measurement(track: Track, scope: Scope, calls: Callable[[Round], tuple[int, ...]]) -> Measurement:
    return Measurement(
        backend=track.case.setup.name,
        batch=track.case.batch,
        scope=scope,
        rounds=tuple(calls(r) for r in track.rounds.values()),
        sweeps=tuple(track.rounds),
        warm_up_calls=sum(len(calls(r)) for r in track.warm_up),
        steady=track.steady,
    )
