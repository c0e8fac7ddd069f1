"""Prove a session: compare it with the golden samples of its bundle, and check that every image depends only on its own
row of the inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganrt.agreement import THRESHOLDS, Agreement, compare
from ganrt.backend import Session
from ganrt.batching import run_all
from ganrt.feeds import Array, Feeds
from ganrt.flat_parts import FlatParts, measure_flat_parts
from ganrt.golden import Golden
from ganrt.images import Floats
from ganrt.levels import find_levels, undo_normalization
from ganrt.proof import Proof
from ganrt.spec import Spec

BATCH = 8
"""Rows per batch."""
_ROWS, _PICTURE_ROWS = 8, 2
"""Rows for the checks of batch independence, which need several; _PICTURE_ROWS for models with image inputs, which take
much longer per row."""
_CHECKS = (
    "a second run differs from the first",
    "permuting the rows of a batch does not permute the images",
    "identical rows of a batch give different images",
    "an image depends on the other rows of its batch",
    "an image depends on the size of its batch",
)
"""Checks of batch independence, each as its failure message."""
_FEWEST_MIXED = 4
"""Rows of a batch that holds identical rows and moved ones."""

_DRIFT = {"fp32": 5e-5, "int8": 3e-2, "fp8": 3e-2}
_REDUCED_DRIFT = 1e-2
"""Largest batch drift allowed, as a fraction of the output range; _REDUCED_DRIFT for the other precisions. It allows
for another summation order, which norms over flat parts amplify. In 8 bits, a value halfway between two steps may be
rounded either way, and so may all values computed from it; the PSNR threshold allows differences of 3 % in every
pixel."""


@dataclass(frozen=True)
class GoldenComparison:
    """The images of a session and of the golden samples, compared."""

    golden: Golden
    """The samples that were compared."""
    found: tuple[Floats, ...]
    """Images of the session, float32 NCHW, for each group."""
    agreement: Agreement
    """Result of `compare` for all samples, group after group."""
    failures: tuple[str, ...]
    """Why the images do not agree, by the threshold of the session's precision; empty if they do."""


@dataclass(frozen=True)
class Comparison:
    """A proof and the images behind it, for a contact sheet."""

    proof: Proof
    """The record to keep."""
    compared: GoldenComparison
    """The images of the session and of the original."""


def compare_with_golden(session: Session, spec: Spec, golden: Golden) -> GoldenComparison:
    """Run the golden samples through a session and compare the images by the threshold of its precision. In reduced
    precisions, flat parts must stay flat; int8 is compared on the user's pictures, if there are any. Slow sessions run
    only the first sample of each run. Raises BackendError if the session fails."""
    golden = golden.select_for(session.precision)
    if session.slow:
        golden = golden.subset(1)
    found = tuple(run_all(session, spec.output, group.draw_feeds(spec), BATCH) for group in golden.groups)
    levels = find_levels(spec.output)
    agreement = Agreement.join(
        [compare(made, group.images, levels) for made, group in zip(found, golden.groups, strict=True)]
    )
    failures = agreement.failures(THRESHOLDS[session.precision])
    if session.precision != "fp32" and not failures:
        failures = _measure_flat_parts(found, golden, spec).failures()
    return GoldenComparison(golden, found, agreement, failures)


def _measure_flat_parts(found: Sequence[Floats], golden: Golden, spec: Spec) -> FlatParts:
    return FlatParts.join(
        [
            measure_flat_parts(made, group.images, find_levels(spec.output))
            for made, group in zip(found, golden.groups, strict=True)
        ]
    )


def prove(session: Session, spec: Spec, golden: Golden, key: str) -> Comparison:
    """Compare a session with the golden samples and check batch independence.

    Args:
        session: the session under test.
        spec: inputs and output of the model.
        golden: the samples to compare with.
        key: key of the proof (`ganrt.trust.proof_key`).

    Wrong images do not raise; the proof records them. Raises BackendError if the session fails.
    """
    compared = compare_with_golden(session, spec, golden)
    failures, batch_drift = compared.failures, None
    if not failures:
        inputs = compared.golden.groups[0].draw_feeds(spec)
        drifts, allowed = _measure_drifts_for_proof(session, spec, inputs, compared.found[0])
        largest = float(np.max(list(drifts.values())))
        batch_drift = largest if np.isfinite(largest) else None
        failures = tuple(_describe_drifts(drifts, allowed))
    agreement = compared.agreement
    proof = Proof(
        key=key,
        backend=session.backend,
        device=session.device,
        precision=session.precision,
        details=dict(session.details),
        samples=len(agreement.psnr),
        worst_psnr=_finite(agreement.psnr.min()),
        median_psnr=_finite(np.median(agreement.psnr)),
        max_abs=_finite(agreement.max_abs.max()),
        failures=failures,
        batch_drift=batch_drift,
    )
    return Comparison(proof, compared)


def _count_rows(images: Collection[object], found: Array) -> int:
    return min(_PICTURE_ROWS if images else _ROWS, len(found))


def count_proof_samples(golden: Golden) -> float:
    """Return how many samples of the first group are as much work as a proof: all samples, larger pictures in
    proportion to their area, and the rows of the checks of batch independence."""
    areas = [sum(height * width for height, width in group.sizes.values()) or 1 for group in golden.groups]
    samples = sum(len(group.images) * area for group, area in zip(golden.groups, areas, strict=True)) / areas[0]
    first = golden.groups[0]
    return samples + len(_mix_rows(first.pictures, first.images)) + 2


def _mix_rows(images: Collection[object], found: Array) -> Array:
    """Rows of one batch for all checks that need several, as indices: row 0 at every even place, and between them rows
    that have moved."""
    count = max(_FEWEST_MIXED, _count_rows(images, found))
    rows, others = np.zeros(count, int), min(count // 2, len(found) - 1)
    if others:
        rows[1::2] = 1 + (np.arange(count // 2) - 1) % others
    return rows


def find_drifts(session: Session, spec: Spec, inputs: Feeds, found: Array) -> Iterator[str]:
    """Yield a sentence for each check of batch independence that fails: an image depends on its position in the batch,
    on the other rows, on the batch size or on an earlier run.

    Args:
        inputs: rows to try; the first few are used.
        found: images that the session made from them, float32 NCHW.
    """
    drifts = _measure_drifts(session, spec, inputs, found)
    yield from _describe_drifts(drifts, allowed_drift(spec, session.precision, found))


def _measure_drifts_for_proof(
    session: Session, spec: Spec, inputs: Feeds, found: Array
) -> tuple[dict[str, float], float]:
    """Failure message of each check -> largest difference that it found; and the largest that is allowed.

    One mixed batch serves the checks that need several rows, because a proof of a heavy model is mostly these. If
    something differs there, every check gets a batch of its own, which says what it is.
    """
    allowed = allowed_drift(spec, session.precision, found)
    mixed = _measure_mixed_drifts(session, spec, inputs, found)
    if any(_describe_drifts(mixed, allowed)):
        single = _measure_drifts(session, spec, inputs, found)
        single[_CHECKS[0]] = float(np.maximum(mixed[_CHECKS[0]], single[_CHECKS[0]]))
        return (single if any(_describe_drifts(single, allowed)) else mixed), allowed
    return mixed, allowed


def _measure_mixed_drifts(session: Session, spec: Spec, inputs: Feeds, found: Array) -> dict[str, float]:
    """`_measure_drifts` with one batch of several rows, and one of a single row that is run twice."""
    rows = _mix_rows(spec.images, found)
    mixed, alone, again = (
        run_all(session, spec.output, take_rows(inputs, chosen), BATCH) for chosen in (rows, rows[:1], rows[:1])
    )
    copies = mixed[rows == 0]
    moved, first = (mixed[1:], found[rows[1:]]), found[:1]
    pairs = ((again, alone), moved, (copies, copies[:1]), (mixed[:1], first), (alone, first))
    return _measure_distances(spec, *pairs)


def _measure_drifts(session: Session, spec: Spec, inputs: Feeds, found: Array) -> dict[str, float]:
    """Failure message of each check -> largest difference that it found, in a batch of its own."""
    count = _count_rows(spec.images, found)
    turned = np.roll(np.arange(count), 1)

    def run_rows(rows: Array) -> Array:
        return run_all(session, spec.output, take_rows(inputs, rows), BATCH)

    copies = run_rows(np.zeros(count, int))
    return _measure_distances(
        spec,
        (run_rows(np.arange(count)), found[:count]),
        (run_rows(turned), found[turned]),
        (copies, copies[:1]),
        (copies[:1], found[:1]),
        (run_rows(np.zeros(1, int)), found[:1]),
    )


def _measure_distances(spec: Spec, *pairs: tuple[Array, Array]) -> dict[str, float]:
    """Largest difference of the images of each check, in the order of _CHECKS."""
    return {check: measure_distance(spec, *pair) for check, pair in zip(_CHECKS, pairs, strict=True)}


def measure_distance(spec: Spec, found: Array, expected: Array) -> float:
    """Return the largest difference of images whose normalization is undone."""
    levels = find_levels(spec.output)
    return float(np.abs(undo_normalization(found, levels) - undo_normalization(expected, levels)).max())


def _describe_drifts(drifts: Mapping[str, float], allowed: float) -> Iterator[str]:
    for failure, drift in drifts.items():
        if not drift <= allowed:  # NaN fails too
            yield f"{failure}: by {drift:.3g}; {allowed:.3g} is allowed"


def allowed_drift(spec: Spec, precision: str, images: Array) -> float:
    """Return the largest batch drift allowed for `images`, in the units of the output range. Rounding errors scale with
    the values, which may lie outside of it."""
    low, high = spec.output.range
    values = undo_normalization(images, find_levels(spec.output))
    return max(high - low, float(np.ptp(values))) * _DRIFT.get(precision, _REDUCED_DRIFT)


def take_rows(feeds: Feeds, rows: Array) -> Feeds:
    """Copy some rows of the feeds, in the order of the indices `rows`; C-contiguous."""
    return {name: np.ascontiguousarray(array[rows]) for name, array in feeds.items()}


def _finite(value: Any) -> float:
    """A finite Python float, because JSON has no infinity."""
    return float(np.nan_to_num(value, nan=-1e9, posinf=1e9, neginf=-1e9))
