"""A proof records whether a session makes the images of the original, and why not."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.sessions import SPEC, FakeSession, images

from ganrt.errors import BundleError
from ganrt.feeds import Array, Feeds
from ganrt.golden import Golden, GoldenGroup
from ganrt.proof import Proof
from ganrt.proving import allowed_drift, count_proof_samples, prove

GOLDEN = Golden.make(SPEC, lambda given: images(SPEC, given))
SAMPLES = GOLDEN.groups[0]


class Changed(FakeSession):
    """The fake model with changed images."""

    def __init__(self, change: Any, precision: str = "fp32") -> None:
        super().__init__()
        self.change, self.precision = change, precision

    def run(self, feeds: Feeds) -> Array:
        return np.asarray(self.change(super().run(feeds)), np.float32)


def one_bad(made: Array) -> Array:
    made[-1] = np.nan
    return made


FAULTS: dict[str, tuple[Any, str]] = {
    "slightly off": (lambda made: made * 0.99, r"64 of 64 samples are below 60 dB; the worst is sample \d+ with \d+"),
    "black": (lambda made: made * 0 - 1, "sample 0 is flat where the original is not"),
    "overflow": (one_bad, "sample 7 is not finite"),
    "saturated": (np.sign, "sample 0 is saturated where the original is not"),
    "rows mixed up": (lambda made: made[::-1], "samples are below 60 dB"),
    "depends on the batch size": (
        lambda made: made + (0.0005 if len(made) == 1 else 0),
        "an image depends on the size of its batch: by 0.0005; 0.0001 is allowed",
    ),
    "not a number alone": (
        lambda made: made if len(made) > 1 else made * np.nan,
        "an image depends on the size of its batch: by nan; 0.0001 is allowed",
    ),
    "depends on its place": (
        lambda made: made + 0.0002 * np.arange(len(made))[:, None, None, None],
        "permuting the rows of a batch does not permute the images: .*identical rows of a batch give different images",
    ),
    "depends on its neighbours": (
        lambda made: made - 0.001 * made.mean(axis=0),
        "an image depends on the other rows of its batch",
    ),
}


@pytest.mark.parametrize(("change", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_broken_session_fails_for_the_right_reason(change: Any, reason: str) -> None:
    proof = prove(Changed(change), SPEC, GOLDEN, "key").proof
    assert not proof.passed
    assert proof.batch_drift is None or proof.batch_drift > 0
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError("; ".join(proof.failures))
    assert Proof.from_dict(json.loads(json.dumps(proof.to_dict(), allow_nan=False))) == proof


def test_a_nonfinite_image_gets_finite_figures_for_json() -> None:
    proof = prove(Changed(one_bad), SPEC, GOLDEN, "key").proof
    assert (proof.worst_psnr, proof.max_abs) == (-1e9, 1e9)


def test_a_slow_session_is_proven_on_one_sample_of_each_run() -> None:
    class Slow(FakeSession):
        slow = True

    session = Slow()
    comparison = prove(session, SPEC, GOLDEN, "key")
    assert comparison.proof.passed and comparison.proof.samples == len(SAMPLES.seeds)
    found = comparison.compared.found[0]
    np.testing.assert_array_equal(found, SAMPLES.images[:: len(SAMPLES.images) // len(SAMPLES.seeds)])


@pytest.mark.parametrize(
    ("precision", "spread", "allowed"),
    [("fp32", 0.5, 1e-4), ("fp32", 8.0, 4e-4), ("fp16", 0.5, 2e-2), ("bf16", 0.5, 2e-2), ("int8", 0.5, 6e-2)],
)
def test_the_allowed_drift_is_relative_to_the_range_or_the_values(
    precision: str, spread: float, allowed: float
) -> None:
    found = np.array([[0.0, spread]], np.float32)
    assert allowed_drift(SPEC, precision, found) == pytest.approx(allowed)


def test_a_session_that_changes_between_runs_fails() -> None:
    class Moody(FakeSession):
        def run(self, feeds: Feeds) -> Array:
            return super().run(feeds) + np.float32(0.0002 * (len(self.batches) % 2))

    proof = prove(Moody(), SPEC, GOLDEN, "key").proof
    assert "a second run differs from the first" in proof.failures[0]
    assert proof.batch_drift == pytest.approx(0.0002, rel=0.01)


class Shifted(FakeSession):
    """The fake model with images that are shifted by a rule of the golden samples in a batch (their indices)."""

    def __init__(self, rule: Any) -> None:
        super().__init__()
        self.rule = rule

    def run(self, feeds: Feeds) -> Array:
        rows = np.argmax((feeds["z"][:, None] == GIVEN["z"]).all(axis=2), axis=1)
        shifts = 1e-4 * np.asarray(self.rule(rows, len(self.batches)), np.float32)
        return super().run(feeds) + shifts[:, None, None, None]


GIVEN = SAMPLES.draw_feeds(SPEC)
RULES: dict[str, Any] = {  # shifts of 1 are allowed, those of 1.5 and opposite ones of 0.75 are not
    "a second run differs from the first": lambda rows, run: (
        [1.5 * (run % 2) - 0.75 if len(rows) == 1 else 0] * len(rows)
    ),
    "permuting the rows of a batch does not permute the images": lambda rows, run: (
        1.5 * (rows % 8 > 0) * (rows % 8 != np.arange(len(rows)))
    ),
    "identical rows of a batch give different images": lambda rows, run: (
        (np.count_nonzero(rows == 0) > 1) * (rows == 0) * np.where(np.arange(len(rows)), 0.75, -0.75)
    ),
    "an image depends on the other rows of its batch": lambda rows, run: (
        (np.count_nonzero(rows == 0) > 1) * (rows == 0) * np.where(np.arange(len(rows)), 0.75, 1.5)
    ),
    "an image depends on the size of its batch": lambda rows, run: [1.5 * (len(rows) == 1)] * len(rows),
}


@pytest.mark.parametrize("check", RULES)
def test_each_check_of_batch_independence_finds_what_no_other_does(check: str) -> None:
    proof = prove(Shifted(RULES[check]), SPEC, GOLDEN, "key").proof
    assert len(proof.failures) == 1 and proof.failures[0].startswith(f"{check}: by 0.00015")
    assert proof.batch_drift == pytest.approx(1.5e-4, rel=0.01)


def test_what_differs_in_a_batch_of_identical_and_moved_rows_alone_is_found() -> None:
    both = Shifted(lambda rows, run: 2.0 * (np.count_nonzero(rows == 0) == 4) * (rows % 8 == 4))
    failures = prove(both, SPEC, GOLDEN, "key").proof.failures
    assert failures == (f"{list(RULES)[1]}: by 0.0002; 0.0001 is allowed",)


@pytest.mark.parametrize(("samples", "mixed"), [(1, 4), (2, 4), (3, 4), (5, 5), (64, 8)])
def test_a_good_session_runs_one_batch_of_several_rows_and_one_of_a_single_row_twice(samples: int, mixed: int) -> None:
    golden = Golden((GoldenGroup.make(SPEC, lambda given: images(SPEC, given), [(3, 0)], samples, {}),))
    session = FakeSession()
    assert prove(session, SPEC, golden, "key").proof.passed
    assert session.batches[-3:] == [mixed, 1, 1] and sum(session.batches[:-3]) == samples
    assert sum(session.batches) == count_proof_samples(golden)


def test_between_the_identical_rows_of_a_batch_every_row_has_moved() -> None:
    batches: list[Array] = []

    def note(rows: Array, run: int) -> list[int]:
        batches.append(rows)
        return [0] * len(rows)

    assert prove(Shifted(note), SPEC, GOLDEN, "key").proof.passed
    assert batches[-3].tolist() == [0, 4, 0, 1, 0, 2, 0, 3]


def test_few_samples_are_moved_too() -> None:
    golden = Golden((GoldenGroup.make(SPEC, lambda given: images(SPEC, given), [(3, 0)], 2, {}),))
    moved = golden.groups[0].draw_feeds(SPEC)["z"][1]

    class Sticky(FakeSession):
        def run(self, feeds: Feeds) -> Array:
            beyond = (feeds["z"] == moved).all(axis=1) & (np.arange(len(feeds["z"])) > 1)
            return super().run(feeds) + np.float32(0.001) * beyond[:, None, None, None]

    failures = prove(Sticky(), SPEC, golden, "key").proof.failures
    assert failures[0].startswith("permuting the rows of a batch does not permute the images: by 0.001;")


@pytest.mark.parametrize("batch_sizes", [(), (1,), (4,), (3, 16)])
def test_a_good_session_passes(batch_sizes: tuple[int, ...]) -> None:
    comparison = prove(FakeSession(SPEC, batch_sizes), SPEC, GOLDEN, "key")
    proof = comparison.proof
    assert proof.passed
    assert (proof.key, proof.backend, proof.device, proof.precision) == ("key", "fake", "cpu", "fp32")
    assert proof.samples == len(SAMPLES.images) == len(comparison.compared.found[0])
    assert proof.worst_psnr == comparison.compared.agreement.psnr.min() >= 60
    assert proof.batch_drift == 0.0
    assert Proof.from_dict(json.loads(json.dumps(proof.to_dict()))) == proof


@pytest.mark.parametrize(("precision", "passes"), [("fp32", False), ("fp16", True), ("bf16", True), ("int8", True)])
def test_each_precision_has_its_own_threshold(precision: str, passes: bool) -> None:
    noise = np.random.default_rng(0).normal(0, 0.005, (3, 4, 5))
    assert prove(Changed(lambda made: made + noise, precision), SPEC, GOLDEN, "key").proof.passed is passes


GOOD = prove(FakeSession(), SPEC, GOLDEN, "key").proof.to_dict()


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "proof",
        {},
        GOOD | {"failures": None},
        GOOD | {"failures": "none"},
        GOOD | {"key": 3},
        GOOD | {"colour": "red"},
        GOOD | {"batch_drift": "far"},
        GOOD | {"batch_drift": True},
        {key: value for key, value in GOOD.items() if key != "device"},
    ],
    ids=repr,
)
def test_an_invalid_record_is_rejected(raw: object) -> None:
    with pytest.raises(BundleError, match=r"^proof(\.\w+)? (is|lacks|has the unknown keys) "):
        Proof.from_dict(raw)


def test_a_record_without_batch_drift_is_read() -> None:
    assert Proof.from_dict({name: value for name, value in GOOD.items() if name != "batch_drift"}).batch_drift is None


def test_a_failure_is_never_read_as_a_pass() -> None:
    failed = replace(Proof.from_dict(GOOD), failures=("flat",))
    assert not Proof.from_dict(failed.to_dict()).passed
