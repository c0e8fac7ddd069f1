"""Tuned records: how they are written and read, the choices made from them, and untrusted input."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganrt import tuned
from ganrt.bundle import Bundle
from ganrt.errors import ArtifactError, MachineError, MissingLibraryError
from ganrt.session_config import SessionConfig
from ganrt.stores import FileDigest
from ganrt.tuned import Origin, Timing, Tuned, TunedConfig


def choice(name: str, times: dict[int, float], **changes: Any) -> TunedConfig:
    """A choice that takes `times` milliseconds, by batch size."""
    timings = {batch: Timing(t / 1000, t / 1010, t / 990) for batch, t in times.items()}
    return replace(TunedConfig(SessionConfig(name, "fp32", "cpu", {"threads": 1}), "fp32", 120.0, timings), **changes)


def record(*choices: TunedConfig, key: str = "k") -> Tuned:
    """The record that a measurement of these choices leaves."""
    sizes = choices[0].timings
    winners = {b: min(range(len(choices)), key=lambda k: choices[k].seconds[b]) for b in sizes}
    return Tuned(key, 60.0, "2026-11-25T22:00:00+00:00", {"ganrt": "0.1.0"}, choices, winners)


QUICK_ALONE = choice("alone", {1: 1, 8: 9, 32: 40})
QUICK_IN_CROWDS = choice("crowd", {1: 2, 8: 8, 32: 24})
BALANCED = choice("balanced", {1: 1.1, 8: 7, 32: 28})
ORIGIN = Origin({"fp32": "0" * 64}, "A processor", 2, {})
THREE = record(QUICK_ALONE, QUICK_IN_CROWDS, BALANCED)


@pytest.mark.parametrize(
    ("batch", "wanted", "reason"),
    [
        (1, "alone", "tuned on 2026-11-25 for 60 dB: the fastest at batch 1"),
        (2, "balanced", "the fastest at batch 8"),
        (8, "balanced", "the fastest at batch 8"),
        (9, "crowd", "the fastest at batch 32"),
        (500, "crowd", "the fastest at batch 32"),
        (None, "balanced", "the best overall, 1.09 times the best time on average over batch 1, 8, 32"),
    ],
)
def test_the_choice_depends_on_the_batch(batch: int | None, wanted: str, reason: str) -> None:
    picked = THREE.pick(batch)
    assert picked is not None
    assert picked[0].config.backend == wanted
    assert picked[1].endswith(reason)


def test_the_choice_is_among_those_that_fit() -> None:
    def fits(one: TunedConfig) -> bool:
        return one.config.backend != "balanced"

    found = [THREE.pick(batch, fits) for batch in (1, 8, None)]
    assert [(p[0].config.backend, p[1].partition(": ")[2]) for p in found if p] == [
        ("alone", "the fastest of those that fit the request at batch 1"),
        ("crowd", "the fastest of those that fit the request at batch 8"),
        (
            "alone",
            "the best overall of those that fit the request, 1.23 times the best time on average over batch 1, 8, 32",
        ),
    ]
    assert THREE.pick(None, lambda _: False) is None
    alone = record(QUICK_ALONE).pick(None)
    assert alone is not None and alone[1].endswith("the fastest at each of batch 1, 8, 32")


def test_a_choice_is_compared_only_at_its_measured_sizes() -> None:
    half = Tuned("k", 60.0, "2026", {}, (BALANCED, choice("half", {1: 0.5, 8: 1})), {1: 1, 8: 1, 32: 0})
    picks = [half.pick(batch) for batch in (None, 8, 32)]
    assert [p[0].config.backend for p in picks if p] == ["balanced", "half", "balanced"]


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({}, ""),
        (
            {"undecided": (1, 8)},
            "the time ran out at batch 1, 8: run `ganrt tune` again, with more --seconds",
        ),
        (
            {"disturbed": True},
            "other programs used the CPU: run `ganrt tune` again, while the machine is quiet",
        ),
        (
            {"undecided": (32,), "disturbed": True},
            "the time ran out at batch 32 and other programs used the CPU: run `ganrt tune` again, with more --seconds "
            "and while the machine is quiet",
        ),
    ],
)
def test_a_provisional_record_says_why_and_what_to_do(changes: dict[str, Any], doubt: str) -> None:
    picked = replace(THREE, **changes).pick(1)
    assert picked is not None
    assert picked[1].partition("batch 1")[2] == (doubt and f"; provisional until this machine restarts, as {doubt}")


def test_of_a_provisional_record_only_winners_are_picked() -> None:
    """The best of those that fit a request is another coin flip, where the rules of `load` are as good."""
    two = replace(THREE, winners={1: 1, 8: 1, 32: 1}, undecided=(1,))
    picks = [two.pick(batch) for batch in (1, None)]
    assert [picked[0].config.backend for picked in picks if picked] == ["crowd", "crowd"]
    assert two.pick(1, lambda one: one.config.backend == "alone") is None
    assert replace(two, undecided=()).pick(1, lambda one: one.config.backend == "alone") is not None


def test_it_is_read_as_it_was_written() -> None:
    one = replace(THREE, choices=(*THREE.choices, replace(BALANCED, timings={1: Timing(1.0, None, None)})))
    assert Tuned.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    two = replace(one, undecided=(8,), disturbed=True, boot="b", origin=ORIGIN, key=ORIGIN.make_key(one.versions))
    assert Tuned.from_dict(json.loads(two.to_json())) == two


def test_a_record_of_format_1_is_read() -> None:
    new = ("undecided", "disturbed", "boot", "origin")
    old = {name: value for name, value in THREE.to_dict().items() if name not in new} | {"format": 1}
    assert Tuned.from_dict(json.loads(json.dumps(old))) == THREE


def change_record(path: str, value: Any) -> dict[str, Any]:
    """A good record as JSON with one entry replaced; `path` as in `choices.0.device`."""
    raw = json.loads(json.dumps(THREE.to_dict()))
    *parents, last = path.split(".")
    inner = raw
    for name in parents:
        inner = inner[int(name) if isinstance(inner, list) else name]
    inner[last] = value
    return raw


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], r"tuned record is \[\]; this ganrt reads formats 1 to 2"),
        ({}, "tuned record has format None; this ganrt reads formats 1 to 2"),
        (change_record("format", 3), "tuned record has format 3; this ganrt reads formats 1 to 2"),
        (change_record("key", 5), "tuned record.key is 5, where str is expected"),
        (change_record("quality", "high"), "quality is 'high', where float is expected"),
        (change_record("quality", True), "quality is True, where float is expected"),
        (change_record("choices", {}), "choices is {}, where a list is expected"),
        (change_record("choices", [[]]), r"choices\[0\] is \[\], where an object is expected"),
        (change_record("choices.0.backend", None), r"choices\[0\].config.backend is None, where str is expected"),
        (change_record("choices.0.options", {"device": 1}), "an option is 'device' = 1"),
        (change_record("choices.0.options", {"threads": "rm"}), "an option is 'threads' = 'rm'"),
        (change_record("choices.0.options", {"threads": 1.5}), "an option is 'threads' = 1.5"),
        (change_record("choices.0.options", {"a b": 1}), "an option is 'a b' = 1"),
        (change_record("choices.0.worst_psnr", None), r"choices\[0\].worst_psnr is None, where float is expected"),
        (change_record("choices.0.worst_psnr", 10**400), r"worst_psnr is 10+, where float is expected"),
        (change_record("choices.0.timings", {"0": [1, 1, 1]}), "a batch size is 0"),
        (
            change_record("choices.0.timings", {"1e3": [1, 1, 1]}),
            "timings is '1e3', where a whole number is expected",
        ),
        (change_record("choices.0.timings", {"99999": [1, 1, 1]}), "a batch size is 99999"),
        (change_record("choices.0.timings", {"8": [0, 0, 0]}), r"the time of a batch of 8 is 0\.0"),
        (change_record("choices.0.timings", {"8": [1]}), r"timings.8 is \[1\], where a list of 3 is expected"),
        (change_record("choices.0.timings", {"8": 3}), "timings.8 is 3, where a list is expected"),
        (change_record("winners", {}), "it has no winner"),
        (change_record("winners", {"8": 3}), "its winner at batch 8 is 3"),
        (change_record("winners", {"8": -1}), "its winner at batch 8 is -1"),
        (change_record("winners", {"8": "0"}), "winners.8 is '0', where int is expected"),
        (change_record("winners", {"16": 0}), "its winner at batch 16 is 0"),
        (change_record("undecided", [2]), r"it is undecided at batch \(2,\), but has winners at others"),
        (change_record("undecided", ["8"]), r"undecided\[0\] is '8', where int is expected"),
        (change_record("disturbed", 1), "disturbed is 1, where bool is expected"),
        (change_record("boot", None), "boot is None, where str is expected"),
        (change_record("origin", []), r"origin is \[\], where an object is expected"),
        (change_record("origin", vars(ORIGIN)), "its key is not that of its origin and versions"),
    ],
)
def test_invalid_records(raw: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Tuned.from_dict(raw)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(_JSON, st.sampled_from(["choices", "winners", "choices.0.timings", "choices.0.options", "choices.0.device"]))
def test_an_untrusted_record_is_read_or_rejected(value: Any, path: str) -> None:
    for raw in (value, change_record(path, value)):
        try:
            read = Tuned.from_dict(raw)
        except ArtifactError:
            continue
        assert read.pick(None) is None or read.pick(1) is not None


def test_a_record_is_found_for_its_bundle(bundle: Bundle, bundles: dict[str, Bundle], cache: Path) -> None:
    assert tuned.find_record(bundle) is None
    kept = replace(THREE, key=tuned.tuned_key(bundle))
    path = tuned.save_record(kept)
    assert path.is_relative_to(cache)
    assert tuned.find_record(bundle) == kept
    assert tuned.find_record(bundles["mlp"]) is None


def test_a_provisional_record_holds_until_the_machine_restarts(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(tuned, "_BOOT_ID", boot)
    boot.write_text("first\n")
    record = replace(THREE, key=tuned.tuned_key(bundle), undecided=(8,), boot=tuned.read_boot_id())
    assert tuned.update_record(record) == record == tuned.find_record(bundle)
    later = replace(record, date="2026-11-26")
    assert tuned.update_record(later) == later == tuned.find_record(bundle), "as good as the one before"
    boot.write_text("second\n")
    assert tuned.find_record(bundle) is None
    decided = replace(record, undecided=(), boot="")
    assert tuned.update_record(decided) == decided == tuned.find_record(bundle)
    assert tuned.update_record(replace(record, boot="second")) == decided == tuned.find_record(bundle)


def test_where_no_restart_can_be_noticed_a_provisional_record_is_not_used(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuned, "_BOOT_ID", tmp_path / "missing")
    assert tuned.read_boot_id() == ""
    tuned.save_record(replace(THREE, key=tuned.tuned_key(bundle), disturbed=True))
    assert tuned.find_record(bundle) is None


def test_the_key_covers_everything_that_times_depend_on(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {tuned.tuned_key(bundle), tuned.tuned_key(bundle)}
    assert len(keys) == 1
    other = {**bundle.files, "model.onnx": FileDigest(1, "0" * 64)}
    keys.add(tuned.tuned_key(replace(bundle, files=other)))
    more = {**bundle.variants, "fp32-other": bundle.variants["fp32"]}
    keys.add(tuned.tuned_key(replace(bundle, variants=more)))
    here = tuned.installed_versions()
    assert {"ganrt", "onnxruntime", "openvino", "torch"} <= here.keys()
    for name, value in {
        "cpu_name": "another processor",
        "usable_cores": 99,
        "nvidia_details": {"driver": "570"},
        "installed_versions": here | {"onnxruntime": "0.9"},
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(tuned, name, lambda value=value: value)
            keys.add(tuned.tuned_key(bundle))
    assert len(keys) == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b'{"format": NaN}', "is damaged: NaN is not JSON"),
        (b"[" * 100_000, "is damaged"),
        (b"{}", "has format None"),
        (b" " * (2**20 + 1), "is larger than 1048576 bytes"),
        (json.dumps(THREE.to_dict()).encode(), "is a tuned record of another bundle or machine"),
    ],
)
def test_a_damaged_record_is_ignored_with_a_warning(
    content: bytes, message: str, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    path = tuned.save_record(replace(THREE, key=tuned.tuned_key(bundle)))
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert tuned.find_record(bundle) is None
    assert message in caplog.text
    assert "tune the bundle again" in caplog.text


def test_an_unreadable_record_is_ignored_with_a_warning(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    path = tuned.save_record(replace(THREE, key=tuned.tuned_key(bundle)))
    path.unlink()
    path.mkdir()
    assert tuned.find_record(bundle) is None
    assert "cannot be read: Is a directory; the tuned record is ignored: tune the bundle again" in caplog.text


def test_a_record_that_cannot_be_written_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    with pytest.raises(MachineError, match="the cache of tuned, cannot be created"):
        tuned.save_record(THREE)


def test_without_platformdirs_there_is_no_record(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert tuned.find_record(bundle) is None
    with pytest.raises(MissingLibraryError, match="the cache of tuned needs platformdirs"):
        tuned.save_record(THREE)
