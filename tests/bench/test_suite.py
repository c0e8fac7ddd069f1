"""The suite: what is compared, which reports are kept, and what happens when something fails."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers import reports as bench_reports
from helpers.reports import make_measurement

from ganrt.bench import Report, generators, roofline, suite
from ganrt.bench.context import Context, MatrixProduct
from ganrt.bench.generators import GeneratorRecipe, TrainedRecipe, all_recipes, write_checkpoint
from ganrt.bench.results import BackendResult
from ganrt.bench.suite import Plan, export_checkpoint, is_current, write_summary
from ganrt.bench.summary import find_fastest, format_summary, macs_per_second, memory_ratio, share_of_peak
from ganrt.bundle import Bundle
from ganrt.errors import ArtifactError, MachineError, RequestError, VerificationError
from ganrt.weights import find_weights

RECIPE = GeneratorRecipe("dcgan", {"size": 16, "channels": 3, "latent": 8, "width": 4})
CONTEXT = Context(
    recipe=json.dumps(RECIPE._asdict(), sort_keys=True),
    export_seconds=12.3,
    missing_precisions="",
    macs={"fp32": 8_000_000, "fp32-phases": 4_000_000, "bf16-phases": 4_000_000, "int8-phases": 4_000_000},
    products={"fp32": MatrixProduct(1000, (10_000_000, 12_000_000)), "int8": MatrixProduct(1000, (2_000_000,))},
)
SETUPS = {  # precision, worst PSNR, peak MiB, end-to-end milliseconds at batch 8
    "pytorch": ("fp32", 200.0, 300.0, 20.0),
    "onnxruntime": ("fp32", 130.0, 200.0, 10.0),
    "onnxruntime fp32-phases": ("fp32", 125.0, 210.0, 6.0),
    "openvino bf16-phases": ("bf16", 43.0, 190.0, 4.0),
    "openvino int8-phases": ("int8", 36.0, 180.0, 2.0),
    "onnxruntime int8-phases": ("int8", 33.0, 180.0, 1.0),
    "reference": ("fp32", 200.0, 100.0, 0.5),
}


def make_suite_report(left_out: tuple[str, ...] = ()) -> Report:
    """Every setup at batch 8; the session takes 0.8 of the end-to-end time."""
    setups = {name: values for name, values in SETUPS.items() if name not in left_out}
    backends, measured = [], []
    for name, (precision, psnr, peak, ms) in setups.items():
        facts = replace(bench_reports.make_facts(slow=name == "reference"), precision=precision, worst_psnr=psnr)
        backends.append(BackendResult(name, "measured", "", facts, peak))
        measured.append(make_measurement(name, 8, "sample", [[ms]] * 8))
        measured.append(make_measurement(name, 8, "session", [[ms * 0.8]] * 8))
    return replace(bench_reports.make_report(measured, backends), context=CONTEXT)


def test_the_fastest_of_each_quality_follows_from_the_measured_psnr() -> None:
    assert dict(find_fastest(make_suite_report(), 8)) == {
        "eager": "pytorch",
        "plain": "onnxruntime",
        "best float32": "onnxruntime fp32-phases",
        "best ≥ 40 dB": "openvino bf16-phases",
        "best ≥ 35 dB": "openvino int8-phases",
    }
    assert find_fastest(make_suite_report(), 1) == []


def test_without_lower_precisions_float32_is_the_best() -> None:
    found = dict(
        find_fastest(make_suite_report(left_out=("openvino bf16-phases", "openvino int8-phases", "pytorch")), 8)
    )
    assert found["best ≥ 35 dB"] == found["best ≥ 40 dB"] == "onnxruntime fp32-phases"
    assert "eager" not in found


def test_ratios_memory_and_the_share_of_the_peak() -> None:
    made = make_suite_report()
    found = made.speedup("openvino int8-phases", 8, "onnxruntime")
    assert found is not None and (found.value, found.low, found.high) == (5.0, 5.0, 5.0)
    assert memory_ratio(made, "openvino int8-phases") == 0.9
    # 8 images of 4 million in 0.8 of 2 ms: 20 billion per second; the machine does 1000^3 in 2 ms
    assert macs_per_second(made, "openvino int8-phases", 8) == pytest.approx(20e9)
    assert share_of_peak(made, "openvino int8-phases", 8) == pytest.approx(0.04)
    assert macs_per_second(made, "pytorch", 8) == pytest.approx(4e9)  # eager runs the original
    assert share_of_peak(made, "openvino bf16-phases", 8) is None  # that peak was not measured


def test_the_page_has_every_figure() -> None:
    slow = replace(make_suite_report(), context=replace(CONTEXT, missing_precisions="fp32,bf16,int8: it fell short."))
    page = format_summary({"quick": make_suite_report(), "slow": slow})
    [row] = [line for line in page.splitlines() if line.startswith("| quick |")]
    assert row == (
        "| quick | 10.0 | 20.0 | 1.67x (1.67-1.67) | 3.33x (3.33-3.33) | 2.50x (2.50-2.50) | 5.00x (5.00-5.00) | "
        "5.00x (5.00-5.00) | 10.0x (10.0-10.0) | 12 |"
    )
    ratios = "5.00x (5.00-5.00) | 10.0x (10.0-10.0)"
    assert f"| best ≥ 35 dB | openvino int8-phases | 2.00 | {ratios} | 36.0 | 0.90 | 1.60 | 20.0 | 4% |" in page
    for words in ("GMAC per image: fp32 0.008", "fp32 100, int8 500", "Export: 12 s", "it fell short", "A processor"):
        assert words in page
    assert page.count("reference is slow by design") == 2
    [titles] = [line for line in page.splitlines() if "plain ms" in line]
    assert titles.count("|") == row.count("|")


def test_reports_without_context_are_summarized_too() -> None:
    page = format_summary({"alone": bench_reports.make_steady_report()})
    assert "## alone" in page and "GMAC per image" not in page
    assert format_summary({}).startswith("# What exporting gains")


def test_a_report_with_context_is_the_same_after_json(tmp_path: Path) -> None:
    make_suite_report().save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == make_suite_report()


def test_the_page_names_trained_weights_and_no_random_ones() -> None:
    recipe = json.dumps(TrainedRecipe("some-weights", picture=128)._asdict())
    trained = replace(make_suite_report(), context=replace(CONTEXT, recipe=recipe))
    page = format_summary({"random": make_suite_report(), "trained": trained})
    before, _, after = page.partition("\n## trained\n")
    assert "Trained weights" not in before and "\nTrained weights: `some-weights`.\n" in after
    with pytest.raises(ArtifactError, match="the recipe of a report"):
        format_summary({"wrong": replace(trained, context=replace(CONTEXT, recipe="{"))})


def test_the_tables_are_joined_and_trained_weights_are_copied(tmp_path: Path) -> None:
    assert list(all_recipes()) == [*generators.GENERATORS, "realesr-128", "realesr-256"]
    assert {name: recipe.picture for name, recipe in generators.TRAINED.items()} == {
        "realesr-128": 128,
        "realesr-256": 256,
    }
    written = write_checkpoint("realesr-256", tmp_path)
    assert written == tmp_path / "realesr-256.safetensors"
    assert written.read_bytes() == find_weights("realesr-animevideov3-fp16").read_bytes()


@pytest.mark.usefixtures("tiny_generators")
def test_the_command_writes_random_and_trained_checkpoints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generators, "TRAINED", {"trained": TrainedRecipe("realesr-animevideov3-fp16")})
    result = CliRunner().invoke(generators.main, [str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["dcgan-64", "style", "trained"]
    assert (tmp_path / "style.safetensors").read_bytes() == (tmp_path / "dcgan-64.safetensors").read_bytes()


@pytest.fixture
def tiny_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the generators by tiny ones."""
    monkeypatch.setattr(generators, "GENERATORS", dict.fromkeys(("dcgan-64", "style"), RECIPE))
    monkeypatch.setattr(generators, "TRAINED", {})


def fake_command(*ends: tuple[int, str]) -> Callable[..., tuple[int, str]]:
    """A fake command line: exit codes and last lines in turn. It appends the precisions to `asked`."""
    left = list(ends)

    def command(*arguments: str) -> tuple[int, str]:
        asked.append(arguments[arguments.index("--precision") + 1])
        return left.pop(0)

    asked: list[str] = []
    command.asked = asked  # type: ignore[attr-defined]
    return command


def test_precisions_that_cannot_be_proven_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = fake_command((1, f"error: {tmp_path}/x.safetensors was not exported: int8 reached 19 dB"), (0, ""))
    monkeypatch.setattr(suite, "_run_ganrt", command)
    seconds, missing = export_checkpoint(tmp_path / "x.safetensors", tmp_path / "x.ganrt")
    assert seconds >= 0
    assert missing == "fp32,bf16,int8: x.safetensors was not exported: int8 reached 19 dB."
    assert command.asked == ["fp32,bf16,int8", "fp32,bf16"]  # type: ignore[attr-defined]


def test_an_export_that_fails_in_every_precision_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(suite, "_run_ganrt", fake_command(*[(1, "error: no")] * 3, (1, "error: never")))
    message = r"x.pth could not be exported in any precision. fp32,bf16,int8: no\. fp32: never\."
    with pytest.raises(VerificationError, match=message):
        export_checkpoint(tmp_path / "x.pth", tmp_path / "x.ganrt")
    monkeypatch.setattr(suite, "_run_ganrt", fake_command((3, "error: it is damaged")))
    with pytest.raises(MachineError, match=r"x.pth could not be exported \(exit code 3\): it is damaged"):
        export_checkpoint(tmp_path / "x.pth", tmp_path / "x.ganrt")


def test_the_command_line_runs_and_its_last_line_is_returned(tmp_path: Path) -> None:
    code, last = suite._run_ganrt("info", str(tmp_path / "none.ganrt"))
    assert code == 3 and last.startswith("error: ") and "none.ganrt is not a bundle" in last


def test_a_report_is_current_while_its_recipe_and_picture_size_are_the_same(tmp_path: Path) -> None:
    path, plan = tmp_path / "x.json", Plan(tmp_path, (1,), 1.0)
    assert not is_current(path, RECIPE, plan)
    make_suite_report().save(path)
    assert is_current(path, RECIPE, plan)
    assert not is_current(path, RECIPE._replace(config={"size": 32}), plan)
    assert not is_current(path, RECIPE._replace(picture=64), plan)
    replace(make_suite_report(), context=None).save(path)
    assert not is_current(path, RECIPE, plan)


def test_a_report_of_trained_weights_is_current_for_them_and_their_size_alone(tmp_path: Path) -> None:
    recipe, path, plan = TrainedRecipe("some-weights", picture=128), tmp_path / "x.json", Plan(tmp_path, (1,), 1.0)
    context = replace(CONTEXT, recipe=json.dumps(recipe._asdict(), sort_keys=True))
    replace(make_suite_report(), context=context, picture=(128, 128), measurements=()).save(path)
    assert is_current(path, recipe, plan)
    assert is_current(path, recipe, replace(plan, size=(128, 128)))
    assert not is_current(path, recipe, replace(plan, size=(64, 64)))
    assert not is_current(path, recipe._replace(picture=256), plan)
    assert not is_current(path, recipe._replace(weights="others"), plan)
    assert not is_current(path, RECIPE._replace(picture=128), plan)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(suite.main, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("tiny_generators")
def test_a_generator_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = []

    def fake_measurement(name: str, plan: Plan) -> Report:
        done.append((name, plan.seconds, plan.size))
        if name == "dcgan-64":
            raise RequestError("it failed")
        return make_suite_report()

    monkeypatch.setattr(suite, "measure_generator", fake_measurement)
    result = run(tmp_path / "out", "--seconds", 7)
    assert result.exit_code == MachineError.exit_code
    assert "dcgan-64 failed: it failed" in result.stderr
    assert "error: dcgan-64 could not be measured" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["style.json", "summary.md"]
    assert run(tmp_path / "out", "style").exit_code == 0
    assert run(tmp_path / "out", "style", "--anew", "--size", "64").exit_code == 0
    assert done == [("dcgan-64", 7.0, None), ("style", 7.0, None), ("style", 240.0, (64, 64))]


@pytest.mark.usefixtures("tiny_generators")
def test_the_summary_depends_on_the_reports_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(suite, "measure_generator", None)
    make_suite_report().save(tmp_path / "style.json")
    assert run(tmp_path, "--summary-only").exit_code == 0
    assert (tmp_path / "summary.md").read_text() == format_summary({"style": make_suite_report()})
    (tmp_path / "style.json").write_text("[]")
    result = run(tmp_path, "--summary-only")
    assert result.exit_code == 3 and "style.json is [], where an object is expected" in result.stderr
    assert run(tmp_path, "--size", "big").exit_code == 2


def test_the_committed_summary_is_made_from_the_committed_reports(tmp_path: Path) -> None:
    committed = Path(__file__).parents[2] / "bench" / "results" / "cpu"
    folder = tmp_path / "cpu"
    shutil.copytree(committed, folder)
    write_summary(folder)
    assert (folder / suite.SUMMARY).read_text() == (committed / suite.SUMMARY).read_text()


@pytest.mark.usefixtures("tiny_generators")
def test_a_generator_is_built_exported_and_measured(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fake_export(checkpoint: Path, out: Path) -> tuple[float, str]:
        assert checkpoint.is_file()
        out.symlink_to(bundle.folder)
        return 1.5, ""

    monkeypatch.setattr(suite, "export_checkpoint", fake_export)
    monkeypatch.setattr(roofline, "_SIDE", 16)
    made = suite.measure_generator("style", Plan(tmp_path, (2,), 1.0))
    assert made.context is not None and made.context.export_seconds == 1.5
    assert set(made.context.macs) == set(bundle.variants)
    assert set(made.context.products) == {"fp32", "bf16", "int8"}
    assert {"eager", "plain", "best float32"} <= set(dict(find_fastest(made, 2)))
    assert [b.name for b in made.backends] == [
        *("onnxruntime", "pytorch", "openvino fp32-phases"),
        *("ncnn", "ncnn fp32-phases", "mnn", "mnn fp32-phases"),
    ]
