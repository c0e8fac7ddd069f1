"""Tuned records that travel: what another device takes, and what it says of one that does not hold there."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ganrt import tuned
from ganrt.bundle import Bundle
from ganrt.errors import ArtifactError, MachineError, VerificationError
from ganrt.fleet import export_record, import_record
from ganrt.session_config import SessionConfig
from ganrt.tuned import Origin, Timing, Tuned, TunedConfig


@pytest.fixture
def several(bundle: Bundle) -> Bundle:
    """The bundle with two further variants, one of other weights; no test loads them."""
    plain = bundle.variants["fp32"]
    variants = {"fp32": plain, "fp32-phases": plain, "int8-phases": replace(plain, precision="int8")}
    return replace(bundle, variants=variants)


def choice(variant: str, first: float, eight: float, **options: int) -> TunedConfig:
    timings = {1: Timing(first, None, None), 8: Timing(eight, None, None)}
    return TunedConfig(SessionConfig("onnxruntime", variant, "cpu", options), "fp32", 99.0, timings)


def measure(bundle: Bundle, *choices: TunedConfig, **changes: Any) -> Tuned:
    """The decided record that `tune` makes of these choices on this machine."""
    choices = choices or (choice("fp32", 5, 5), choice("fp32-phases", 3, 4), choice("int8-phases", 1, 2, threads=1))
    origin, versions = Origin.of(bundle), tuned.installed_versions()
    winners = {b: min(range(len(choices)), key=lambda k: choices[k].seconds[b]) for b in (1, 8)}
    record = Tuned(origin.make_key(versions), 30.0, "2026-11-25", versions, choices, winners, origin=origin)
    return replace(record, **changes)


def write(record: Tuned, path: Path) -> Path:
    export_record(record, path)
    return path


def test_an_equal_device_takes_the_record(several: Bundle, tmp_path: Path) -> None:
    record = measure(several)
    file = write(record, tmp_path / "record.json")
    assert tuned.find_record(several) is None
    assert import_record(file, several) == record == tuned.find_record(several)


def test_a_packed_bundle_takes_what_it_can_run(several: Bundle, tmp_path: Path) -> None:
    """It has fewer variants than the bundle that was measured, but the winners."""
    file = write(measure(several), tmp_path / "record.json")
    packed = replace(several, variants={n: several.variants[n] for n in ("fp32-phases", "int8-phases")})
    taken = import_record(file, packed)
    assert [str(one) for one in taken.choices] == [
        "onnxruntime fp32-phases",
        "onnxruntime int8-phases threads=1",
    ]
    assert taken.winners == {1: 1, 8: 1} and taken.key == tuned.tuned_key(packed)
    assert tuned.find_record(packed) == taken and tuned.find_record(several) is None
    again = write(taken, tmp_path / "again.json")
    assert import_record(again, packed) == taken, "a device may hand it on"


def test_a_packed_bundle_without_a_winner_says_which(several: Bundle, tmp_path: Path) -> None:
    record = measure(several, choice("fp32-phases", 3, 2), choice("int8-phases", 1, 4))
    file = write(record, tmp_path / "record.json")
    packed = replace(several, variants={"int8-phases": several.variants["int8-phases"]})
    with pytest.raises(ArtifactError, match=r"at batch 8 is the variant fp32-phases, which this bundle does not"):
        import_record(file, packed)
    assert tuned.find_record(packed) is None


def test_a_bundle_with_more_than_was_measured_does_not_take_it(several: Bundle, bundle: Bundle, tmp_path: Path) -> None:
    file = write(measure(bundle, choice("fp32", 1, 1)), tmp_path / "record.json")
    with pytest.raises(ArtifactError, match="has the variant int8-phases, which was not there to be measured"):
        import_record(file, several)


def test_another_checkpoint_does_not_take_it(bundle: Bundle, bundles: dict[str, Bundle], tmp_path: Path) -> None:
    file = write(measure(bundle, choice("fp32", 1, 1)), tmp_path / "record.json")
    with pytest.raises(ArtifactError, match="the variant fp32 has other weights or another graph"):
        import_record(file, replace(bundles["mlp"], variants={"fp32": bundles["mlp"].variants["fp32"]}))


@pytest.mark.parametrize(
    ("name", "change", "lines"),
    [
        ("cpu_name", lambda old: "Cortex-A78AE", ["measured on the processor Cortex-A78AE, this machine has "]),
        ("usable_cores", lambda old: 99, ["measured with 99 cores, this process may use "]),
        (
            "nvidia_details",
            lambda old: {"driver": "570", "gpu 0": "Orin\x1b[2J"},
            ["measured with the driver 570, this machine has none", "measured with the gpu 0 Orin?[2J, this machine"],
        ),
        (
            "installed_versions",
            lambda old: old | {"onnxruntime": "1.31.0"},
            ["measured with onnxruntime 1.31.0, this machine has "],
        ),
        ("installed_versions", lambda old: old | {"abacus": "1"}, ["measured with abacus 1, this machine has none"]),
        (
            "installed_versions",
            lambda old: {name: version for name, version in old.items() if name != "openvino"},
            ["measured with openvino no version, this machine has "],
        ),
    ],
)
def test_each_difference_is_named(
    name: str,
    change: Callable[[Any], Any],
    lines: list[str],
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        there = change(getattr(tuned, name)())
        patch.setattr(tuned, name, lambda: there)
        file = write(measure(bundle, choice("fp32", 1, 1)), tmp_path / "record.json")
    with pytest.raises(ArtifactError, match=r"does not hold for .* on this machine, so tune here") as raised:
        import_record(file, bundle)
    found = str(raised.value).splitlines()[1:]
    assert len(found) == len(lines)
    assert all(line.startswith(f"- {wanted}") for line, wanted in zip(found, lines, strict=True)), found
    assert tuned.find_record(bundle) is None


@pytest.mark.parametrize("changes", [{"disturbed": True}, {"undecided": (8,)}])
def test_a_provisional_record_does_not_travel(changes: dict[str, Any], bundle: Bundle, tmp_path: Path) -> None:
    record = measure(bundle, choice("fp32", 1, 1), **changes)
    with pytest.raises(VerificationError, match=r"not written, as the result is provisional: .*run `ganrt tune` again"):
        export_record(record, tmp_path / "record.json")
    (tmp_path / "forged.json").write_bytes(record.to_json())
    with pytest.raises(ArtifactError, match="is not imported: its record is provisional; tune that device again"):
        import_record(tmp_path / "forged.json", bundle)


def test_a_record_without_its_origin_does_not_travel(bundle: Bundle, tmp_path: Path) -> None:
    record = measure(bundle, choice("fp32", 1, 1), origin=None)
    with pytest.raises(ArtifactError, match="an older ganrt measured the record and did not note on what; tune again"):
        export_record(record, tmp_path / "record.json")
    (tmp_path / "old.json").write_bytes(record.to_json())
    with pytest.raises(ArtifactError, match="its record is of an older ganrt"):
        import_record(tmp_path / "old.json", bundle)


@pytest.mark.parametrize("threads", [10**6, "MANY"])
def test_more_threads_than_cores_were_not_measured(threads: Any, bundle: Bundle, tmp_path: Path) -> None:
    file = write(measure(bundle, choice("fp32", 1, 1, threads=threads)), tmp_path / "record.json")
    with pytest.raises(ArtifactError, match=f"a choice uses {threads} threads on"):
        import_record(file, bundle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is damaged"),
        (b"[]", r"tuned record is \[\]; this ganrt reads formats 1 to 2"),
        (b" " * (2**20 + 1), "is larger than 1048576 bytes"),
        (json.dumps({"format": 2}).encode(), "tuned record lacks key"),
    ],
)
def test_what_is_no_record(content: bytes, message: str, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        import_record(tmp_path / "record.json", bundle)
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        import_record(tmp_path / "none.json", bundle)


def test_a_forged_key_is_noticed(bundle: Bundle, tmp_path: Path) -> None:
    raw = measure(bundle, choice("fp32", 1, 1)).to_dict()
    (tmp_path / "record.json").write_text(json.dumps(raw | {"key": "../../x"}))
    with pytest.raises(ArtifactError, match="its key is not that of its origin and versions"):
        import_record(tmp_path / "record.json", bundle)


def test_a_file_that_cannot_be_written_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(MachineError, match="cannot be written"):
        export_record(measure(bundle, choice("fp32", 1, 1)), Path("/proc/x.json"))
