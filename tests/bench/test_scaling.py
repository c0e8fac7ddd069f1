"""How the cost of a picture depends on the batch size and on its own size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers.reports import make_steady_report

import ganrt
from ganrt.bench import scaling
from ganrt.bench.scaling import Row, Scaling, choose_sizes, format_page, make_call, time_sizes
from ganrt.bundle import Bundle
from ganrt.errors import MachineError, RequestError

MS = 1_000_000


def make_scaling(times: dict[int, int], takes_pictures: bool = False) -> Scaling:
    """A measurement in which each size took so many milliseconds in most of seven rounds."""
    rounds = {size: (*(((ms * MS,),) * 4), *((((ms + 1) * MS,),) * 3)) for size, ms in times.items()}
    return Scaling(
        bundle="x.ganrt",
        digest="0" * 64,
        takes_pictures=takes_pictures,
        config="openvino fp32",
        reason="chosen so",
        date="2026-01-31T12:00:00+00:00",
        environment=make_steady_report().environment,
        rows=tuple(Row(size, found, 100.4 + size) for size, found in rounds.items()),
    )


class FakeClock:
    """Passes by as much as the calls say."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[tuple[int, int]] = []

    def make_call(self, size: int, nanoseconds: int) -> Callable[[int], object]:
        def call(number: int) -> None:
            self.calls.append((size, number))
            self.now += nanoseconds + number

        return call


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(scaling.clock, "now_ns", lambda: fake.now)
    return fake


def test_each_round_has_every_size_in_shuffled_order(fake_clock: FakeClock) -> None:
    sizes = [1, 2, 3, 4, 5, 6]
    found = time_sizes({size: fake_clock.make_call(size, 60 * MS * size) for size in sizes}, 4)
    assert list(found) == sizes and all(len(rounds) == 4 for rounds in found.values())
    turns = [[size for size, _ in fake_clock.calls[12 * k : 12 * (k + 1)]] for k in range(4)]
    for turn in turns:
        assert sorted(turn[::2]) == sizes and turn[::2] == turn[1::2]  # the first of both calls does not count
    assert len({tuple(turn) for turn in turns}) == 4
    numbers = [number for _, number in fake_clock.calls]
    assert numbers == list(range(48))
    counted = [number for size, number in fake_clock.calls if size == 3][1::2]
    assert found[3] == tuple((180 * MS + number,) for number in counted)


def test_short_calls_are_repeated_until_a_round_is_long_enough(fake_clock: FakeClock) -> None:
    found = time_sizes({1: fake_clock.make_call(1, 10 * MS), 2: fake_clock.make_call(2, 24 * MS)}, 1)
    assert [len(found[size][0]) for size in (1, 2)] == [5, 2]


def test_the_cost_is_that_of_a_picture_or_of_a_megapixel() -> None:
    sampled = make_scaling({1: 10, 4: 36})
    assert [sampled.cost(row).value for row in sampled.rows] == [10.0, 9.0]
    transformed = make_scaling({100: 10, 200: 60}, takes_pictures=True)
    assert [transformed.cost(row).value for row in transformed.rows] == pytest.approx([1000.0, 1500.0])
    assert transformed.cost(transformed.rows[0]).high == pytest.approx(1100.0)


def test_steps_are_changes_between_neighbours() -> None:
    steps = make_scaling({1: 10, 2: 16, 4: 40}).steps
    assert [(step.before, step.after) for step in steps] == [(1, 2), (2, 4)]
    assert [step.change for step in steps] == pytest.approx([-0.2, 0.25])
    assert make_scaling({3: 10}).steps == []


def test_a_round_that_is_slow_as_a_whole_makes_no_step() -> None:
    found = make_scaling({1: 10, 2: 20})
    slow, quick = (MS,), (MS // 10,)
    times = ((quick, slow, slow), (tuple(2 * ns for ns in quick),) * 2 + (tuple(2 * ns for ns in slow),))
    rows = tuple(replace(row, rounds=rounds) for row, rounds in zip(found.rows, times, strict=True))
    [step] = replace(found, rows=rows).steps
    assert step.change == pytest.approx(0.0)
    assert found.cost(found.rows[1]).value == 10.0


@pytest.mark.parametrize(
    ("times", "sentences"),
    [
        (
            {1: 10, 2: 14, 4: 35, 8: 72},
            ["-30.0% from 1 to 2, above 15%.", "Largest rise: +25.0% from 2 to 4, above 15%.",
             "All above 15%: -30.0% from 1 to 2, +25.0% from 2 to 4."],
        ),
        ({1: 10, 2: 23, 4: 45}, ["+15.0% from 1 to 2, not above 15%."]),
        (
            {1: 100, 2: 174, 4: 368},
            ["-13.0% from 1 to 2, not above 15%.", "Largest rise: +5.7% from 2 to 4, not above 15%."],
        ),
        ({1: 10, 2: 16}, ["-20.0% from 1 to 2, above 15%.", "All above 15%: -20.0% from 1 to 2."]),
        ({1: 10, 2: 14, 4: 24}, ["-30.0% from 1 to 2, above 15%.", "All above 15%: -30.0% from 1 to 2."]),
        ({1: 10}, []),
    ],
)  # fmt: skip
def test_the_page_names_the_largest_step(times: dict[int, int], sentences: list[str]) -> None:
    page = format_page(make_scaling(times))
    found = [line for line in page.splitlines() if line.startswith(("Largest", "All"))]
    assert found == [f"Largest step of the cost between neighbours: {s}" for s in sentences[:1]] + sentences[1:]


def test_the_page_has_a_line_for_each_size() -> None:
    page = format_page(make_scaling({1: 10, 2: 30}))
    assert page.startswith("# x.ganrt: cost over batch sizes\n")
    assert "`Generator.sample(batch)` on openvino fp32 (chosen so); A processor, " in page
    assert "Medians of 7 rounds" in page
    assert page.splitlines()[-4:] == [
        "| batch | ms a call | ms a picture | change | peak MiB |",
        "| ---: | ---: | ---: | ---: | ---: |",
        "| 1 | 10.0 (10.0-11.0) | 10.0 (10.0-11.0) |  | 101 |",
        "| 2 | 30.0 (30.0-31.0) | 15.0 (15.0-15.5) | +50.0% | 102 |",
    ]
    found = make_scaling({50: 1, 100: 4}, takes_pictures=True)
    rows = tuple(replace(row, rounds=row.rounds[:1], peak_mib=None) for row in found.rows)
    page = format_page(replace(found, rows=rows))
    assert page.startswith("# x.ganrt: cost over sides of the picture\n") and "`Generator.transform(picture)`" in page
    assert page.splitlines()[-4::3] == [
        "| side | ms a call | ms a megapixel of input | change | peak MiB |",
        "| 100 | 4.00 | 400 | +0.0% | - |",
    ]


def test_every_sample_has_a_new_seed_and_the_picture_is_drawn_once(
    bundle: Bundle, espcn: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ganrt.load(bundle.folder, "onnxruntime") as generator:
        asked: list[tuple[int, int]] = []
        monkeypatch.setattr(generator, "sample", lambda *arguments: asked.append(arguments))
        call = make_call(generator, 3)
        call(7), call(8)
    assert asked == [(3, 7), (3, 8)]
    with ganrt.load(espcn.folder, "onnxruntime") as generator:
        call = make_call(generator, 20)
        monkeypatch.setattr(scaling.calls, "draw_inputs", None)
        first, second = call(0), call(1)
    assert isinstance(first, np.ndarray) and first.shape == (1, 40, 40, 1)
    np.testing.assert_array_equal(first, second)


def test_pictures_are_cut_into_tiles_as_for_a_user(espcn: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with ganrt.load(espcn.folder, "onnxruntime") as generator:
        tiles = []
        monkeypatch.setattr(generator, "transform", lambda **given: tiles.append(given["tile"]))
        make_call(generator, 20)(0)
    assert tiles == [None]


def test_sizes_are_those_of_the_kind_of_generator(bundle: Bundle, espcn: Bundle) -> None:
    assert choose_sizes(bundle.spec, None, None) == [1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64]
    sides = choose_sizes(espcn.spec, None, None)
    assert (sides[:3], sides[-1], len(sides)) == ([64, 96, 128], 1024, 31)
    assert choose_sizes(bundle.spec, "8,1,8", None) == [1, 8]
    assert choose_sizes(espcn.spec, None, "96,64,96") == [64, 96]


@pytest.mark.parametrize(
    ("pictures", "batches", "sides", "message"),
    [
        (True, "1,2", None, "--batches was given, but this espcn model takes pictures, one at a time: leave it out"),
        (False, None, "64", "--sides was given, but this dcgan model takes a seed and no pictures: leave it out"),
        (False, "1,x", None, "'1,x' is not a list of whole numbers separated by commas"),
        (False, "1,,2", None, "'1,,2' is not a list of whole numbers"),
        (False, "", None, "'' is not a list of whole numbers"),
        (False, "1" * 10, None, "is not a list of whole numbers"),
        (False, "0,1", None, r"the batch sizes are \[0, 1\]"),
        (True, None, "64,0", "0x0 pictures were asked for; both sides must be positive"),
    ],
)
def test_wrong_sizes_are_rejected(
    pictures: bool, batches: str | None, sides: str | None, message: str, bundle: Bundle, espcn: Bundle
) -> None:
    with pytest.raises(RequestError, match=message):
        choose_sizes((espcn if pictures else bundle).spec, batches, sides)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(scaling.main, [str(argument) for argument in arguments])


def test_a_bundle_is_measured_in_fresh_processes(bundle: Bundle, tmp_path: Path) -> None:
    result = run(bundle.folder, "--out", tmp_path / "x.md", "--batches", "1,3", "--rounds", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'x.md'}\n"
    found = json.loads((tmp_path / "x.json").read_text())
    assert [(row["size"], len(row["rounds"])) for row in found["rows"]] == [(1, 2), (3, 2)]
    assert all(row["peak_mib"] is None or 10 < row["peak_mib"] < 10_000 for row in found["rows"])
    assert found["digest"] in {bundle.digest(name) for name in bundle.variants} and found["reason"].startswith(
        "not tuned"
    )
    assert found["takes_pictures"] is False and "| 3 | " in (tmp_path / "x.md").read_text()


def test_a_size_is_run_twice_before_its_memory_is_read(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(scaling, "make_call", lambda _, size: lambda number: done.append((size, number)))
    monkeypatch.setattr(scaling, "read_peak_mib", lambda: float(len(done)))
    assert scaling._read_peak(bundle.path, 5) == 2.0
    assert done == [(5, 0), (5, 1)]


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(MachineError, match="the process that ran the generator died, perhaps for want of memory"):
        scaling._run_fresh(os._exit, 3)


def test_errors_end_the_command_with_their_reason(bundle: Bundle, tmp_path: Path) -> None:
    result = run(bundle.folder, "--out", tmp_path / "x.json")
    assert result.exit_code == 2 and "x.json; let it end in .md, because the raw times go to the .json" in result.stderr
    result = run(tmp_path / "none.ganrt", "--out", tmp_path / "x.md")
    assert result.exit_code == 3 and "none.ganrt is not a bundle" in result.stderr
    assert run(bundle.folder, "--out", tmp_path / "x.md", "--rounds", "0").exit_code == 2
    assert list(tmp_path.iterdir()) == []
