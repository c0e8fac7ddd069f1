"""Reports: figures that follow from raw samples, and JSON of every schema and of unknown origin."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import reports as bench_reports
from helpers.optional import unwrap
from helpers.reports import make_measurement, make_report, make_steady_report

import ganrt
from ganrt.bench import Context, Report
from ganrt.bench.results import SCHEMA, BackendResult

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "bench" / "results", ROOT / "bench" / "results" / "cpu", ROOT / "tests" / "data" / "first_version")
COMMITTED = [path for folder in FOLDERS for path in sorted(folder.glob("*.json")) if "figures" in path.read_text()]


def test_a_report_is_the_same_after_json(tmp_path: Path) -> None:
    made = make_steady_report()
    assert Report.from_json(made.to_json()) == made
    made.save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == made
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_the_json_has_raw_samples_and_figures_and_the_psnr_beside_the_speed() -> None:
    raw = json.loads(make_steady_report().to_json())
    assert raw["measurements"][0]["rounds"][0] == [bench_reports.MS] * 10
    figures = next(f for f in raw["figures"] if (f["backend"], f["batch"], f["scope"]) == ("quick", 8, "session"))
    assert figures["images_per_second"]["value"] == pytest.approx(8 / 0.005)
    assert figures["median_ms"] == {"value": 5.0, "low": 5.0, "high": 5.0}
    assert figures["p90_ms"]["value"] == 5.0
    assert figures["p99_ms"] is None
    assert figures["worst_psnr_db"] == 123.456


def test_cases_come_fastest_first_and_are_compared_with_pytorch() -> None:
    made = make_steady_report()
    assert made.cases == [("quick", 1), ("pytorch", 1), ("quick", 8), ("pytorch", 8)]
    assert unwrap(made.speedup("quick", 8)).value == pytest.approx(3.0)
    assert unwrap(made.overhead("quick", 1)).value == pytest.approx(1.04)


def test_without_pytorch_the_slowest_is_the_baseline_unless_it_is_slow_by_design() -> None:
    rows = [make_measurement(name, 1, "sample", [[ms]] * 8) for name, ms in (("a", 1), ("b", 2), ("oracle", 500))]
    backends = [
        BackendResult("a", "measured", "", bench_reports.make_facts()),
        BackendResult("b", "measured", "", bench_reports.make_facts()),
        BackendResult("oracle", "measured", "", bench_reports.make_facts(slow=True)),
    ]
    made = make_report(rows, backends)
    assert unwrap(made.speedup("a", 1)).value == 2.0
    assert any(warning.startswith("oracle is slow by design") for warning in made.warnings)
    assert make_report(rows[:1], backends[:1]).speedup("a", 1) is None


def test_a_speedup_compares_rounds_of_the_same_sweeps() -> None:
    # the machine slows down fourfold; `pytorch` has no rounds in the fast half
    quick = make_measurement("quick", 1, "sample", [[1]] * 8 + [[4]] * 8)
    slow = make_measurement("pytorch", 1, "sample", [[8]] * 8, sweeps=list(range(8, 16)))
    assert unwrap(make_report([quick, slow]).speedup("quick", 1)).value == 2.0


def test_warnings_name_failed_and_busy_backends() -> None:
    failed = BackendResult("broken", "failed", "it does not make the original's images")
    noisy = BackendResult("noisy", "measured", "", bench_reports.make_facts(), None, quiet=False)
    made = make_report([make_measurement("noisy", 1, "sample", [[1]] * 3)], [failed, noisy])
    text = "\n".join(made.warnings)
    assert "broken failed: it does not make" in text
    assert "noisy kept the CPU busy" in text
    assert "noisy batch 1 (3)" in text
    assert "too few rounds" in text


def test_other_programs_cause_a_warning_only_when_they_use_much() -> None:
    quiet = make_steady_report()
    assert quiet.warnings == []
    busy = replace(quiet, environment=replace(quiet.environment, foreign_share=0.3))
    assert busy.warnings == ["other programs used 30% of the CPU: the figures are less reliable"]


def test_times_of_fp16_on_the_cpu_come_with_a_warning() -> None:
    low = replace(bench_reports.make_facts(), precision="fp16")
    made = make_report([make_measurement("low", 1, "sample", [[1]] * 8)], [BackendResult("low", "measured", "", low)])
    assert "low computes fp16 in float32 on the CPU: its times are not those of fp16" in made.warnings
    gpu = (BackendResult("low", "measured", "", replace(low, device="cuda:0")),)
    assert not any("fp16" in warning for warning in replace(made, backends=gpu).warnings)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_reports_are_read_with_the_same_figures(path: Path) -> None:
    read = json.loads(Report.load(path).to_json())
    assert read["figures"] == json.loads(path.read_bytes())["figures"]
    assert read["schema"] == SCHEMA


def test_reports_of_schema_1_are_read() -> None:
    raw = json.loads(make_steady_report().to_json())
    old = {key: value for key, value in raw.items() if key not in ("picture", "context")} | {"schema": 1}
    assert Report.from_json(json.dumps(old)) == make_steady_report()


def test_reports_of_schema_2_are_read() -> None:
    made = replace(make_steady_report(), context=Context("{}", 1.5, "int8: 20 dB", {"fp32": 7}, {}))
    raw = json.loads(made.to_json())
    context = {"recipe": "{}", "export_seconds": 1.5, "refused": "int8: 20 dB", "multiplications": {"fp32": 7}}
    old = raw | {"schema": 2, "context": context | {"products": {}}}
    assert Report.from_json(json.dumps(old)) == made
    with pytest.raises(ganrt.ArtifactError, match="lacks missing_precisions, macs"):
        Report.from_json(json.dumps(old | {"schema": 3}))


def edit_report(**changes: Any) -> str:
    return json.dumps(json.loads(make_steady_report().to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "an object is expected"),
        ('{"schema": NaN}', "NaN"),
        (edit_report(schema=99), "update ganrt"),
        (edit_report(schema="1"), "schema"),
        (edit_report(surprise=1), "surprise"),
        (edit_report(seconds=True), "seconds"),
        (edit_report(bundle=None), "bundle"),
        (edit_report(backends=[]), "but that backend is not in its backends"),
        (edit_report(measurements=[{}]), "measurements[0] lacks"),
        (edit_report(measurements=7), "measurements"),
        (edit_report(environment={}), "environment lacks"),
    ],
)
def test_json_that_is_not_a_report_is_rejected_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ganrt.ArtifactError) as caught:
        Report.from_json(text, "r.json")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": [], "sweeps": []},
        {"rounds": [[]], "sweeps": [0]},
        {"rounds": [[0]], "sweeps": [0]},
        {"batch": 0},
        {"scope": "x"},
        {"sweeps": [1]},
    ],
)
def test_impossible_measurements_are_rejected(change: dict[str, Any]) -> None:
    raw = json.loads(make_steady_report().to_json())
    raw["measurements"][0] |= change
    with pytest.raises(ganrt.ArtifactError):
        Report.from_json(json.dumps(raw))


def test_a_report_that_cannot_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ganrt.ArtifactError, match="cannot be read"):
        Report.load(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(ganrt.MachineError, match="cannot be written"):
        make_steady_report().save(tmp_path / "file" / "r.json")
