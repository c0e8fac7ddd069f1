"""What the server reports to Prometheus."""

from pathlib import Path

import pytest
from fakes.sessions import SPEC, FakeSession
from helpers.http_server import Running
from prometheus_client.parser import text_string_to_metric_families

from ganrt.generator import Generator
from ganrt.serve.batcher import Batcher
from ganrt.serve.metrics import Metrics, forget_dead_processes


def read(text: str) -> dict[tuple[str, ...], float]:
    """(name, values of the labels, sorted by their names) -> value, without the buckets."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *dict(sorted(sample.labels.items())).values()): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def test_a_batcher_is_counted_by_model_and_variant() -> None:
    metrics, generator = Metrics(), Generator(SPEC, FakeSession())
    with Batcher(generator, largest_batch=4, monitor=metrics.watch("faces", generator.info, "faces")) as batcher:
        for seed in range(3):
            batcher.sample(6, seed=seed).result()
        cancelled = batcher.sample(50)
        cancelled.cancel()
    found = read(metrics.write().decode())
    assert found["ganrt_model_info", "fake", "faces", "cpu", "faces", "fp32", "fp32"] == 1
    assert found["ganrt_queue_rows", "faces", "fp32"] == 0
    computed, dropped = (
        found["ganrt_rows_total", "faces", "fp32"],
        found["ganrt_rejected_total", "faces", "cancelled", "fp32"],
    )
    assert computed >= 18 and computed + dropped == 68
    assert found["ganrt_batch_rows_sum", "faces", "fp32"] == computed
    assert found["ganrt_queue_seconds_count", "faces", "fp32"] == 3
    assert found["ganrt_compute_seconds_count", "faces", "fp32"] == found["ganrt_batch_rows_count", "faces", "fp32"]


def test_requests_are_counted_by_status(server: Running) -> None:
    before = read(server.client.get("/metrics").text)
    server.post({"seed": 1})
    server.post({"seed": -1})
    server.post({"model": "nothing"})
    server.client.get("/v1/models")
    after = read(server.client.get("/metrics").text)
    keys = [("dcgan", "200", "fp32-phases"), ("", "400", ""), ("", "404", "")]
    names = [("ganrt_requests_total", *key) for key in keys]
    assert [after[name] - before.get(name, 0) for name in names] == [1, 1, 1]
    seconds = [("ganrt_request_seconds_count", "dcgan", "fp32-phases"), ("ganrt_request_seconds_count", "", "")]
    assert [after[key] - before.get(key, 0) for key in seconds] == [1, 2]


def test_gauges_of_dead_processes_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    names = ["gauge_livesum_1.db", "gauge_livesum_4194999.db", "counter_4194999.db"]
    for name in names:
        (tmp_path / name).touch()
    forget_dead_processes(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_4194999.db", "gauge_livesum_1.db"]
