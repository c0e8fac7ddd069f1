"""Making a proof: one session compared with the golden samples of its bundle, worst sample first, and checked for what
an image must not depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganrt.agreement import THRESHOLDS, Agreement, compare
from ganrt.backend import Session
from ganrt.batching import run_all
from ganrt.feeds import Array, Feeds
from ganrt.golden import Golden
from ganrt.proof import Proof
from ganrt.spec import Spec

BATCH = 8
"""Rows at a time; the invariance checks need several in one batch."""

_DRIFT = {"fp32": 1e-5, "int8": 3e-2}
_REDUCED_DRIFT = 1e-2
"""Share of the image range by which a row may move with its batch: the rounding of another summation order. In int8 a
number halfway between two of 256 steps is rounded one way or the other, and so are those that it has a part in; the
threshold of int8 allows differences of 3 % in every pixel."""


@dataclass(frozen=True)
class GoldenComparison:
    """The golden samples, and what a session makes of the same inputs."""

    inputs: Feeds
    found: Array
    """float32 NCHW, as `expected`."""
    expected: Array
    agreement: Agreement
    failures: tuple[str, ...]
    """Why the images do not agree, by the threshold of the session's precision; empty when they do."""


@dataclass(frozen=True)
class Comparison:
    """A proof with the images that it was made from, for a contact sheet."""

    proof: Proof
    agreement: Agreement
    found: Array
    expected: Array


def compare_with_golden(session: Session, spec: Spec, golden: Golden) -> GoldenComparison:
    """Run the golden samples through a session, of a slow session only the first of each run, and compare the images
    by the threshold of its precision."""
    if session.slow:
        golden = golden.subset(1)
    inputs = golden.feeds(spec)
    found = run_all(session, spec.output, inputs, BATCH)
    agreement = compare(found, golden.images, spec.output.range)
    return GoldenComparison(inputs, found, golden.images, agreement, agreement.failures(THRESHOLDS[session.precision]))


def prove(session: Session, spec: Spec, golden: Golden, key: str) -> Comparison:
    """Compare a session with the golden samples, and check that an image depends on nothing but its own row of the
    inputs. Never raises for a wrong image: the proof records it."""
    compared = compare_with_golden(session, spec, golden)
    failures, batch_drift = compared.failures, None
    if not failures:
        drifts = _measure_drifts(session, spec, compared.inputs, compared.found)
        largest = float(np.max(list(drifts.values())))
        batch_drift = largest if np.isfinite(largest) else None
        failures = tuple(_describe_drifts(drifts, allowed_drift(spec, session.precision, compared.found)))
    agreement = compared.agreement
    proof = Proof(
        key=key,
        backend=session.backend,
        device=session.device,
        precision=session.precision,
        details=dict(session.details),
        samples=len(compared.found),
        worst_psnr=_finite(agreement.psnr.min()),
        median_psnr=_finite(np.median(agreement.psnr)),
        max_abs=_finite(agreement.max_abs.max()),
        failures=failures,
        batch_drift=batch_drift,
    )
    return Comparison(proof, agreement, compared.found, compared.expected)


def find_drifts(session: Session, spec: Spec, inputs: Feeds, found: Array) -> Iterator[str]:
    """Describe where an image depends on more than its own row: on its place, its neighbours, the batch size or an
    earlier run.

    Args:
        inputs: rows to try; the first BATCH of them are used.
        found: the images that the session made of them, float32 NCHW.
    """
    drifts = _measure_drifts(session, spec, inputs, found)
    yield from _describe_drifts(drifts, allowed_drift(spec, session.precision, found))


def _measure_drifts(session: Session, spec: Spec, inputs: Feeds, found: Array) -> dict[str, float]:
    """Each change that must not change an image -> the largest difference that it makes."""
    count = min(BATCH, len(found))
    turned = np.roll(np.arange(count), 1)

    def images(places: Array) -> Array:
        return run_all(session, spec.output, take_rows(inputs, places), BATCH)

    copies = images(np.zeros(count, int))
    trials = {
        "a second run differs from the first": (images(np.arange(count)), found[:count]),
        "permuting the rows of a batch does not permute the images": (images(turned), found[turned]),
        "identical rows of a batch give different images": (copies, copies[:1]),
        "an image depends on the neighbours of its row": (copies[:1], found[:1]),
        "a row alone gives another image than in a batch": (images(np.zeros(1, int)), found[:1]),
    }
    return {failure: float(np.abs(one - other).max()) for failure, (one, other) in trials.items()}


def _describe_drifts(drifts: Mapping[str, float], allowed: float) -> Iterator[str]:
    for failure, drift in drifts.items():
        if not drift <= allowed:  # NaN is a failure, too
            yield f"{failure}: by {drift:.3g}, where {allowed:.3g} is allowed"


def allowed_drift(spec: Spec, precision: str, images: Array) -> float:
    """How far values of images may drift with their batch, in their own units. Rounding errors scale with the values,
    which may lie outside the range of the output."""
    low, high = spec.output.range
    return max(high - low, float(np.ptp(images))) * _DRIFT.get(precision, _REDUCED_DRIFT)


def take_rows(feeds: Feeds, places: Array) -> Feeds:
    """Some rows of the feeds, in the order of `places`, C-contiguous."""
    return {name: np.ascontiguousarray(array[places]) for name, array in feeds.items()}


def _finite(value: Any) -> float:
    """A finite Python float: JSON has no infinity."""
    return float(np.nan_to_num(value, nan=-1e9, posinf=1e9, neginf=-1e9))
