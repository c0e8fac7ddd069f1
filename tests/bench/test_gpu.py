"""The parts of the GPU benchmark that need no GPU: they run on fakes, and what they count is right."""

from typing import Any

import pytest
from click.testing import CliRunner
from fakes.gpu import Start, start

import ganrt
from ganrt.bench.gpu import rates, throughput
from ganrt.bundle import Bundle
from ganrt.feeds import draw_feeds

__all__ = ["start"]


def test_rates_are_images_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    time = [0]

    def act() -> int:
        time[0] += 500_000_000
        return 8

    monkeypatch.setattr(rates.clock, "now_ns", lambda: time[0])
    assert rates.measure_rates(act, rounds=3, seconds=2.0) == [16.0, 16.0, 16.0]


def test_samples_are_new_ones_and_the_engine_alone_replays_its_graph(start: Start, bundle: Bundle) -> None:
    machine = start()
    machine.engines.build(bundle, variant="fp32", options=machine.engines.EngineOptions(batches=(1, 2)))
    with ganrt.load(bundle.folder, "tensorrt", device="cuda", batches=(2,)) as generator:
        starts: list[int] = []
        sample = generator.sample

        def seen(n: int, start: int) -> Any:
            starts.append(start)
            return sample(n, start=start)

        generator.sample = seen  # type: ignore[method-assign, assignment]
        act = rates.make_sampler(generator, 2, None)
        assert [act(), act()] == [32, 32] and starts == [0, 32]
    before = machine.cuda.count_calls("graph.launch")
    alone = rates.make_replay(bundle, "tensorrt", "fp32", draw_feeds(bundle.spec, 0, 0, 2))
    assert alone() == 32 and machine.cuda.count_calls("graph.launch") - before == 14


def test_the_figures_that_are_asked_for() -> None:
    median = {
        "ganrt, everything included": 950.0,
        "engine alone": 1000.0,
        "torch eager fp32": 100.0,
        "torch compiled fp16": 500.0,
    }
    card = {"matrix operations per second": 1e5, "bytes moved per second": 1e6}
    found = throughput._summarize(
        median, 2, throughput.ImageCost(operations=10, tensor_bytes=60, weight_bytes=80), card
    )
    assert found["share of the engine alone"] == 0.95 and found["times torch eager fp32"] == 9.5
    assert found["times torch compiled fp16"] == 1.9 and found["share of the card's matrix rate"] == 0.095
    assert found["share of the card's memory rate"] == 0.095


def test_without_a_gpu_there_is_nothing_to_measure(tmp_path: Any) -> None:
    done = CliRunner().invoke(throughput.main, [str(tmp_path)])
    assert done.exit_code == 1 and "this machine has no NVIDIA GPU" in done.output
