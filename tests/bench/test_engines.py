"""Engines are compared in shuffled rounds; one that fails is a row; the table is made of the report alone."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.reports import ENVIRONMENT, MS

from ganrt.bench.engines import comparison
from ganrt.bench.engines.__main__ import main
from ganrt.bench.engines.adapters import ENGINES, PLAIN, Job
from ganrt.bench.engines.comparison import EngineProcess, list_configs, list_jobs, run_engines, start_process
from ganrt.bench.engines.results import EngineReport, EngineResult, compare_speed
from ganrt.bench.engines.table import format_report
from ganrt.bench.engines.worker import Compared, EngineRound, Loaded, RoundRequest
from ganrt.bench.process import WorkerFailed
from ganrt.bench.worker import Failure
from ganrt.bundle import Bundle
from ganrt.errors import ArtifactError, RequestError

NAMES = ("one", "two", "three", "four")


def make_jobs(names: Sequence[str] = NAMES) -> list[Job]:
    return [Job(name, Path("no.ganrt"), Path("no"), 2) for name in names]


class FakeProcess:
    """Takes 2 ms a call, and fails at a given request: 0 is loading, 1 warming up, the last the golden samples."""

    def __init__(self, name: str, timed: list[tuple[str, RoundRequest]], fails_at: int | None, ms: float) -> None:
        self.name, self.timed, self.fails_at, self.ms = name, timed, fails_at, ms
        self.closed, self._requests = False, itertools.count()

    def receive(self, kind: type[Any]) -> Any:
        assert kind is Loaded
        return self._answer(Loaded(1.5, {"library": "1.0"}))

    def request(self, request: object, kind: type[Any]) -> Any:
        assert not self.closed
        if not isinstance(request, RoundRequest):
            return self._answer(Compared(99.0, 64))
        self.timed.append((self.name, request))
        return self._answer(EngineRound((round(self.ms * MS),) * request.calls, self.name != "two", 10.0))

    def _answer(self, answer: object) -> object:
        if next(self._requests) == self.fails_at:
            raise WorkerFailed(Failure("Died", f"{self.name} died"))
        return answer

    def close(self) -> None:
        self.closed = True


def start_fakes(
    timed: list[tuple[str, RoundRequest]], failing: dict[str, int] | None = None, ms: float = 2.0
) -> tuple[Callable[[Job], EngineProcess], list[FakeProcess]]:
    started: list[FakeProcess] = []

    def start(job: Job) -> EngineProcess:
        started.append(FakeProcess(job.name, timed, (failing or {}).get(job.name), ms))
        return started[-1]

    return start, started


def test_every_round_has_all_engines_in_an_order_of_its_own_that_can_be_repeated() -> None:
    timed: list[tuple[str, RoundRequest]] = []
    start, _ = start_fakes(timed)
    results, orders = run_engines(make_jobs(), 9, start, lambda line: None)
    assert [name for name, _ in timed[len(NAMES) :]] == [name for order in orders for name in order]
    assert all(sorted(order) == sorted(NAMES) for order in orders) and len(orders) == 9
    assert len(set(orders)) > 4 and len({order[0] for order in orders}) > 2
    assert run_engines(make_jobs(), 9, start_fakes([])[0], lambda line: None)[1] == orders
    assert run_engines(make_jobs(), 9, start_fakes([])[0], lambda line: None, seed=1)[1] != orders
    assert [result.name for result in results] == list(NAMES)
    assert {result.worst_psnr for result in results} == {99.0} and {len(result.rounds) for result in results} == {9}
    assert [result.idle for result in results] == [True, False, True, True]


def test_engines_get_the_same_inputs_in_a_round_and_new_ones_in_the_next() -> None:
    timed: list[tuple[str, RoundRequest]] = []
    run_engines(make_jobs(), 7, start_fakes(timed)[0], lambda line: None)
    firsts = Counter(request.first for _, request in timed[len(NAMES) :])
    assert set(firsts.values()) == {len(NAMES)} and len(firsts) == 7
    gaps = [b - a for a, b in itertools.pairwise(sorted(firsts))]
    assert min(gaps) >= 2 * (1 + timed[-1][1].calls)


@pytest.mark.parametrize(("ms", "calls"), [(1000.0, 1), (40.0, 10), (0.01, 50)])
def test_a_round_takes_a_fraction_of_a_second(ms: float, calls: int) -> None:
    timed: list[tuple[str, RoundRequest]] = []
    results, _ = run_engines(make_jobs(["one"]), 7, start_fakes(timed, ms=ms)[0], lambda line: None)
    assert {request.calls for _, request in timed[1:]} == {calls}
    assert all(len(times) == calls for times in results[0].rounds)


@pytest.mark.parametrize("step", [0, 1, 4, 9], ids=["loading", "warming up", "a round", "the golden samples"])
def test_an_engine_that_fails_is_a_row_with_its_reason(step: int) -> None:
    timed: list[tuple[str, RoundRequest]] = []
    start, started = start_fakes(timed, {"three": step})
    results, orders = run_engines(make_jobs(), 7, start, lambda line: None)
    assert results[2].failure == "three died" and results[2].worst_psnr is None
    assert [result.failure for result in results if result.name != "three"] == ["", "", ""]
    assert "three" not in orders[-1] or step == 9
    assert all(process.closed for process in started)


def test_an_engine_that_cannot_be_prepared_is_a_row_with_its_reason() -> None:
    def start(job: Job) -> EngineProcess:
        raise WorkerFailed(Failure("MachineError", "install it"))

    results, orders = run_engines(make_jobs(["one"]), 7, start, lambda line: None)
    assert results == [EngineResult("one", False, failure="install it")] and orders == [()] * 7


def make_engine(name: str, ms: Sequence[float], psnr: float = 130.0, own: bool = False, **others: Any) -> EngineResult:
    rounds = tuple((round(value * MS),) for value in ms)
    return EngineResult(name, own, rounds, psnr, 64, 100.0, 5.0, True, {"library": "1.0"}, **others)


def make_report(*engines: EngineResult, **others: Any) -> EngineReport:
    rounds = max(len(engine.rounds) for engine in engines)
    orders = tuple(tuple(engine.name for engine in engines) for _ in range(rounds))
    date = "2026-01-31T12:00:00+00:00"
    return replace(EngineReport("faces.ganrt", 8, None, date, orders, engines, ENVIRONMENT), **others)


PLAIN_ROW = make_engine(PLAIN, [20.0] * 7)


def test_engines_are_grouped_by_quality_and_faster_ones_are_reported(tmp_path: Path) -> None:
    report = make_report(
        PLAIN_ROW,
        make_engine("mnn", [9.0] * 7, 60.0),
        make_engine("nncf", [2.0] * 7, 39.9),
        make_engine("ort-int8", [1.0] * 7, 34.9),
        make_engine("ganrt openvino", [10.0] * 7, own=True),
        make_engine("ganrt openvino bf16", [5.0] * 7, 41.0, own=True),
        make_engine("ganrt openvino int8", [1.95] * 7, 36.0, own=True),
        EngineResult("ncnn", False, failure="a | b"),
        picture=(240, 320),
    )
    report.save(tmp_path / "faces.json")
    text = format_report(EngineReport.load(tmp_path / "faces.json"))
    assert text == format_report(report)
    title, *lines = text.splitlines()
    assert title.startswith(
        "`faces.ganrt`, batch 8 of 240 x 320 pixels: medians of 7 rounds on 2 cores of A processor."
    )
    assert [line for line in lines if line] == [
        "**at least 60 dB**",
        "| engine | ms | speed | PSNR, dB | peak memory, MiB |",
        "| --- | --- | --- | --- | --- |",
        "| mnn | 9 | 2.22 (2.22-2.22) | 60.0 | 100 |",
        "| **ganrt openvino** | 10 | 2.00 (2.00-2.00) | 130.0 | 100 |",
        "| onnxruntime | 20 | 1.00 (1.00-1.00) | 130.0 | 100 |",
        "ganrt's fastest: **ganrt openvino**; more than 3 % faster: mnn, 1.11 (1.11-1.11) times as fast.",
        "**at least 40 dB**",
        "| engine | ms | speed | PSNR, dB | peak memory, MiB |",
        "| --- | --- | --- | --- | --- |",
        "| **ganrt openvino bf16** | 5 | 4.00 (4.00-4.00) | 41.0 | 100 |",
        "ganrt's fastest: **ganrt openvino bf16**; no other engine is more than 3 % faster.",
        "**at least 35 dB**",
        "| engine | ms | speed | PSNR, dB | peak memory, MiB |",
        "| --- | --- | --- | --- | --- |",
        "| **ganrt openvino int8** | 1.95 | 10.26 (10.26-10.26) | 36.0 | 100 |",
        "| nncf | 2 | 10.00 (10.00-10.00) | 39.9 | 100 |",
        "ganrt's fastest: **ganrt openvino int8**; no other engine is more than 3 % faster.",
        "**below 35 dB**",
        "| engine | ms | speed | PSNR, dB | peak memory, MiB |",
        "| --- | --- | --- | --- | --- |",
        "| ort-int8 | 1 | 20.00 (20.00-20.00) | 34.9 | 100 |",
        "ganrt's fastest: **ganrt openvino int8**; more than 3 % faster: ort-int8, 1.95 (1.95-1.95) times as fast.",
        "**without figures**",
        "| engine | reason |",
        "| --- | --- |",
        "| ncnn | a \\| b |",
    ]


@pytest.mark.parametrize(("ms", "reported"), [(10.0, False), (9.71, False), (9.70, True)])
def test_only_more_than_three_percent_is_reported(ms: float, reported: bool) -> None:
    text = format_report(make_report(make_engine("ganrt openvino", [10.0] * 7, own=True), make_engine("mnn", [ms] * 7)))
    assert ("more than 3 % faster: mnn" in text) is reported


def test_speeds_are_compared_within_rounds() -> None:
    """The machine was ten times slower in the later rounds."""
    slowing = [1.0] * 4 + [10.0] * 3
    speed = compare_speed(make_engine("mnn", slowing), make_engine("ganrt ncnn", [2 * ms for ms in slowing], own=True))
    assert (speed.value, speed.low, speed.high) == (2.0, 2.0, 2.0)


def test_without_plain_or_own_engines_the_table_says_so() -> None:
    text = format_report(make_report(make_engine("mnn", [123.4] * 7)))
    assert "| mnn | 123 |  | 130.0 | 100 |" in text
    assert "No configuration of ganrt was measured with at least 60 dB." in text


def test_a_busy_machine_and_threads_that_do_not_rest_are_warned_of() -> None:
    busy = replace(PLAIN_ROW, idle=False, peak_mib=None)
    text = format_report(make_report(busy, environment=replace(ENVIRONMENT, foreign_share=0.2)))
    assert "Warning: other programs used 20% of the CPU." in text
    assert "Warning: onnxruntime went on using the CPU after a round, while others were timed." in text
    assert "| onnxruntime | 20 | 1.00 (1.00-1.00) | 130.0 |  |" in text
    assert "Warning" not in format_report(make_report(PLAIN_ROW))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rounds": [[1], []]}, "has a round without calls"),
        ({"rounds": [[0]]}, "a time below 1 ns"),
        ({"rounds": []}, "has no figures, and no reason why"),
        ({"worst_psnr": None}, "has no figures, and no reason why"),
        ({"rounds": [[1], [1]]}, "rounds; the report has 7"),
        ({"name": 3}, "name"),
    ],
)
def test_a_damaged_report_is_rejected(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    make_report(PLAIN_ROW).save(path)
    raw = json.loads(path.read_text())
    raw["engines"][0] |= changes
    path.write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match=reason):
        EngineReport.load(path)


def test_all_engines_and_configurations_of_ganrt_take_part(bundle: Bundle, tmp_path: Path) -> None:
    jobs = list_jobs(bundle, (), tmp_path, 8, None)
    names = [job.name for job in jobs]
    assert names[: len(ENGINES)] == list(ENGINES) and len({job.folder for job in jobs}) == len(jobs)
    assert {"ganrt onnxruntime", "ganrt onnxruntime spin=True", "ganrt mnn spin=True", "ganrt ncnn"} <= set(names)
    configs = list_configs(bundle, None)
    assert {config.backend for config in configs} == {"onnxruntime", "openvino", "ncnn", "mnn"}
    assert {config.variant for config in configs} == set(bundle.variants) and {c.device for c in configs} == {"cpu"}
    assert [job.config for job in jobs[len(ENGINES) :]] == configs


def test_plain_is_always_among_those_that_are_named(bundle: Bundle, tmp_path: Path) -> None:
    assert [job.name for job in list_jobs(bundle, ("mnn", "mnn"), tmp_path, 8, None)] == [PLAIN, "mnn"]
    with pytest.raises(RequestError, match=r"there is no engine 'iree'; choose from onnxruntime, eager, .*, ganrt$"):
        list_jobs(bundle, ("iree",), tmp_path, 8, None)


def test_the_command_measures_in_processes_and_prints_the_table(bundle: Bundle, tmp_path: Path) -> None:
    arguments = [str(bundle.folder), "--batch", "3", "--rounds", "7", "--engine", "openvino", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = EngineReport.load(tmp_path / f"{bundle.folder.stem}.json")
    assert result.stdout == format_report(report)
    assert [engine.name for engine in report.engines] == [PLAIN, "openvino"] and report.batch == 3
    for engine in report.engines:
        assert engine.failure == "" and engine.worst_psnr is not None and engine.worst_psnr > 100
        assert engine.samples == 64 and engine.load_ms is not None and set(engine.versions or ()) == {engine.name}
        assert len(engine.rounds) == 7 and (engine.peak_mib or 0) > 20


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["no.ganrt"], 3, "error: "),
        (["{}", "--size", "64"], 2, "error: a picture size was given"),
        (["{}", "--engine", "iree"], 2, "error: there is no engine 'iree'"),
        (["{}", "--rounds", "6"], 2, "Invalid value for '--rounds'"),
    ],
)
def test_a_wrong_request_is_one_line(
    arguments: list[str], code: int, message: str, bundle: Bundle, tmp_path: Path
) -> None:
    given = [argument.format(bundle.folder) for argument in arguments]
    result = CliRunner().invoke(main, [*given, "--out", str(tmp_path)])
    assert result.exit_code == code and message in result.stderr


def test_a_process_that_fails_sends_its_reason(tmp_path: Path) -> None:
    process = start_process(Job(PLAIN, tmp_path / "no.ganrt", tmp_path / "work", 1))
    try:
        with pytest.raises(WorkerFailed, match=r"no\.ganrt"):
            process.receive(Loaded)
    finally:
        process.close()


def test_a_preparation_that_fails_sends_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Any, ...]] = []

    class Recorder(comparison.WorkerProcess):
        def __init__(self, *arguments: Any) -> None:
            started.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(comparison, "WorkerProcess", Recorder)
    with pytest.raises(WorkerFailed, match=r"no\.ganrt"):
        start_process(Job("mnn", tmp_path / "no.ganrt", tmp_path / "work", 1))
    assert [name for _, _, name in started] == ["prepare mnn"]
