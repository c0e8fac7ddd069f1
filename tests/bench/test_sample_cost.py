"""What `sample(1)` costs, stage by stage."""

import itertools

import pytest

from ganrt.bench import sample_cost
from ganrt.bundle import Bundle


def test_every_stage_is_measured(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    sample_cost.main([str(bundle.folder), "onnxruntime", "threads=1", "spin=0"], rounds=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{bundle.folder.name} on onnxruntime threads=1 spin=False, medians of 2 x 32 calls"
    assert lines[2:4] == ["| µs a call | in order | new seed |", "| --- | --- | --- |"]
    stages = [line.split(" | ")[0].removeprefix("| ") for line in lines[4:]]
    assert stages == [
        "check the arguments",
        "draw the inputs",
        "session",
        "convert to uint8",
        "turns, batches and the result",
        "`sample(1)`",
        "over the session",
    ]


def test_calls_take_turns_and_have_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    times = itertools.count(0, 64_000)
    monkeypatch.setattr(sample_cost.clock, "cpu_time_ns", lambda: next(times))
    seen: list[tuple[str, int]] = []
    calls = {name: lambda number, name=name: seen.append((name, number)) for name in "ab"}
    assert sample_cost.measure_calls(calls, 2) == {"a": 2.0, "b": 2.0}
    assert seen == [(name, 32 * turn + k) for turn in range(2) for name in "ab" for k in range(32)]


def test_the_rest_and_the_share_over_the_session_are_differences() -> None:
    found = {"sample(1)": 100.0, "draw the inputs": 20.4, "session": 50.0}
    assert sample_cost.format_table({"in order": found, "new seed": found | {"sample(1)": 200.0}}).splitlines()[2:] == [
        "| draw the inputs | 20 | 20 |",
        "| session | 50 | 50 |",
        "| turns, batches and the result | 30 | 130 |",
        "| `sample(1)` | 100 | 200 |",
        "| over the session | 50 | 150 |",
    ]


def test_the_two_kinds_differ_in_seed_and_start(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    import ganrt

    with ganrt.load(bundle.folder, "onnxruntime") as generator:
        asked: list[tuple[int, int, int]] = []
        monkeypatch.setattr(generator, "sample", lambda *call: asked.append(call))
        for calls in sample_cost.make_stages(generator).values():
            for number in (3, 4):
                calls["sample(1)"](number)
    assert asked == [(1, 7, 3), (1, 7, 4), (1, 3, 0), (1, 4, 0)]
