"""Reports: figures that follow from raw samples, and JSON from anybody."""

import json
from dataclasses import replace

import pytest
from helpers import reports as bench_reports
from helpers.reports import measurement, report, steady_report

import ganrt
from ganrt.bench import Report
from ganrt.bench.results import Backend


def test_a_report_survives_json(tmp_path):
    made = steady_report()
    assert Report.from_json(made.to_json()) == made
    made.save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == made
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_the_json_holds_raw_samples_and_figures_with_the_agreement_beside_the_speed():
    raw = json.loads(steady_report().to_json())
    assert raw["measurements"][0]["rounds"][0] == [bench_reports.MS] * 10
    figures = next(f for f in raw["figures"] if (f["backend"], f["batch"], f["scope"]) == ("quick", 8, "session"))
    assert figures["images_per_second"]["value"] == pytest.approx(8 / 0.005)
    assert figures["median_ms"] == {"value": 5.0, "low": 5.0, "high": 5.0}
    assert figures["p90_ms"]["value"] == 5.0
    assert figures["p99_ms"] is None
    assert figures["worst_psnr_db"] == 123.456


def test_cases_come_fastest_first_and_are_compared_with_pytorch():
    made = steady_report()
    assert made.cases == [("quick", 1), ("pytorch", 1), ("quick", 8), ("pytorch", 8)]
    assert made.speedup("quick", 8).value == pytest.approx(3.0)
    assert made.overhead("quick", 1).value == pytest.approx(1.04)


def test_without_pytorch_the_slowest_is_the_measure_but_never_one_that_is_slow_by_design():
    rows = [measurement(name, 1, "sample", [[ms]] * 8) for name, ms in (("a", 1), ("b", 2), ("oracle", 500))]
    backends = [
        Backend("a", "measured", "", bench_reports.facts()),
        Backend("b", "measured", "", bench_reports.facts()),
        Backend("oracle", "measured", "", bench_reports.facts(slow=True)),
    ]
    made = report(rows, backends)
    assert made.speedup("a", 1).value == 2.0
    assert any(warning.startswith("oracle is slow by design") for warning in made.warnings)
    assert report(rows[:1], backends[:1]).speedup("a", 1) is None


def test_a_speedup_compares_rounds_of_the_same_sweeps():
    # the machine slows down fourfold; `pytorch` has no rounds in the fast half
    quick = measurement("quick", 1, "sample", [[1]] * 8 + [[4]] * 8)
    slow = measurement("pytorch", 1, "sample", [[8]] * 8, sweeps=list(range(8, 16)))
    assert report([quick, slow]).speedup("quick", 1).value == 2.0


def test_warnings_name_the_failed_the_noisy_and_the_busy():
    failed = Backend("broken", "failed", "it does not make the original's images")
    noisy = Backend("noisy", "measured", "", bench_reports.facts(), None, quiet=False)
    made = report([measurement("noisy", 1, "sample", [[1]] * 3)], [failed, noisy])
    text = "\n".join(made.warnings)
    assert "broken failed: it does not make" in text
    assert "noisy kept the processor busy" in text
    assert "too few rounds" in text


def test_times_of_fp16_on_the_cpu_come_with_a_warning():
    low = replace(bench_reports.facts(), precision="fp16")
    made = report([measurement("low", 1, "sample", [[1]] * 8)], [Backend("low", "measured", "", low)])
    assert "low spells float16 out in float32 on the CPU: its times say nothing about fp16" in made.warnings
    gpu = [Backend("low", "measured", "", replace(low, device="cuda:0"))]
    assert not any("float16" in warning for warning in replace(made, backends=gpu).warnings)


def _edited(**changes) -> str:
    return json.dumps(json.loads(steady_report().to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "not an object"),
        ('{"schema": NaN}', "NaN"),
        (_edited(schema=99), "update ganrt"),
        (_edited(schema="1"), "schema"),
        (_edited(surprise=1), "surprise"),
        (_edited(seconds=True), "seconds"),
        (_edited(bundle=None), "bundle"),
        (_edited(backends=[]), "nothing about that backend"),
        (_edited(measurements=[{}]), "measurements[0] lacks"),
        (_edited(measurements=7), "measurements"),
        (_edited(environment={}), "environment lacks"),
    ],
)
def test_json_that_is_no_report_is_refused_in_a_sentence(text, words):
    with pytest.raises(ganrt.ArtifactError) as caught:
        Report.from_json(text, "r.json")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "change", [{"rounds": []}, {"rounds": [[]]}, {"rounds": [[0]]}, {"batch": 0}, {"scope": "x"}, {"sweeps": [1]}]
)
def test_impossible_measurements_are_refused(change):
    raw = json.loads(steady_report().to_json())
    raw["measurements"][0] |= change
    with pytest.raises(ganrt.ArtifactError):
        Report.from_json(json.dumps(raw))


def test_a_report_that_cannot_be_read_or_written_is_one_sentence(tmp_path):
    with pytest.raises(ganrt.ArtifactError, match="cannot be read"):
        Report.load(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(ganrt.MachineError, match="cannot be written"):
        steady_report().save(tmp_path / "file" / "r.json")
