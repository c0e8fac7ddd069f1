"""A proof: one session compared with the golden samples of its bundle (DESIGN: seeded samples, worst first, and
invariances)."""

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
class Comparison:
    """A proof with the images it was made from, for a contact sheet."""

    proof: Proof
    agreement: Agreement
    found: Array
    expected: Array


def prove(session: Session, spec: Spec, golden: Golden, key: str) -> Comparison:
    """Run the golden samples through a session and judge it by the threshold of its precision. Never raises for a bad
    picture: the proof says so."""
    if session.slow:
        golden = golden.subset(1)
    inputs = golden.feeds(spec)
    found = run_all(session, spec.output, inputs, BATCH)
    agreement = compare(found, golden.images, spec.output.range)
    failures = agreement.failures(THRESHOLDS[session.precision])
    moved = None
    if not failures:
        movements = _movements(session, spec, inputs, found)
        most = float(np.max(list(movements.values())))
        moved = most if np.isfinite(most) else None
        failures = tuple(_too_far(movements, drift(spec, session.precision, found)))
    proof = Proof(
        key=key,
        backend=session.backend,
        device=session.device,
        precision=session.precision,
        details=dict(session.details),
        samples=len(found),
        worst_psnr=_plain(agreement.psnr.min()),
        median_psnr=_plain(np.median(agreement.psnr)),
        max_abs=_plain(agreement.max_abs.max()),
        failures=failures,
        moved=moved,
    )
    return Comparison(proof, agreement, found, golden.images)


def variances(session: Session, spec: Spec, inputs: Feeds, found: Array) -> Iterator[str]:
    """Where a row depends on more than its own inputs: on its place, its neighbours, its batch size or an earlier run.

    Args:
        inputs: rows to try; the first BATCH of them are used.
        found: the images that the session made of them.
    """
    yield from _too_far(_movements(session, spec, inputs, found), drift(spec, session.precision, found))


def _movements(session: Session, spec: Spec, inputs: Feeds, found: Array) -> dict[str, float]:
    """What may not change an image -> by how much it does, at most."""
    count = min(BATCH, len(found))
    turned = np.roll(np.arange(count), 1)

    def images(places: Array) -> Array:
        return run_all(session, spec.output, pick(inputs, places), BATCH)

    copies = images(np.zeros(count, int))
    trials = {
        "a second run differs from the first": (images(np.arange(count)), found[:count]),
        "permuting the rows of a batch does not permute the images": (images(turned), found[turned]),
        "identical rows of a batch give different images": (copies, copies[:1]),
        "an image depends on the neighbours of its row": (copies[:1], found[:1]),
        "a row alone gives another image than in a batch": (images(np.zeros(1, int)), found[:1]),
    }
    return {failure: float(np.abs(one - other).max()) for failure, (one, other) in trials.items()}


def _too_far(movements: Mapping[str, float], allowed: float) -> Iterator[str]:
    for failure, moved in movements.items():
        if not moved <= allowed:
            yield f"{failure}: by {moved:.3g}, where {allowed:.3g} is allowed"


def drift(spec: Spec, precision: str, images: Array) -> float:
    """How far the values of images may move, in their own units, when only their batch changes. Rounding goes with the
    size of the values, which may be beyond the range of the output."""
    low, high = spec.output.range
    return max(high - low, float(np.ptp(images))) * _DRIFT.get(precision, _REDUCED_DRIFT)


def pick(feeds: Feeds, places: Array) -> Feeds:
    """Some rows of the feeds, in the order of `places`."""
    return {name: np.ascontiguousarray(array[places]) for name, array in feeds.items()}


def _plain(value: Any) -> float:
    """A finite Python float: JSON has no infinity."""
    return float(np.nan_to_num(value, nan=-1e9, posinf=1e9, neginf=-1e9))
