"""Prometheus metrics of a server."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ganrt.info import Info
from ganrt.serve.jobs import Answer
from ganrt.serve.monitor import Monitor

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32)
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus_client: the folder in which worker processes keep their values."""


class Metrics:
    """The metrics of one server; worker processes of it add theirs together."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        names = ("model", "variant")
        self.requests = Counter(
            "ganrt_requests", "Requests for pictures, by HTTP status.", (*names, "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "ganrt_request_seconds",
            "Time from the head of a request to its answer.",
            names,
            buckets=_SECONDS,
            registry=registry,
        )
        self.rows = Counter("ganrt_rows", "Rows (images) that were computed.", names, registry=registry)
        self.rejected = Counter("ganrt_rejected", "Rows that were not computed.", (*names, "reason"), registry=registry)
        self.queue_rows = Gauge(
            "ganrt_queue_rows",
            "Rows that wait or are being computed.",
            names,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.batch_rows = Histogram("ganrt_batch_rows", "Rows of a batch.", names, buckets=_ROWS, registry=registry)
        self.queue_seconds = Histogram(
            "ganrt_queue_seconds",
            "Time until the first batch of a request.",
            names,
            buckets=_SECONDS,
            registry=registry,
        )
        self.compute_seconds = Histogram(
            "ganrt_compute_seconds", "Time of a batch.", names, buckets=_SECONDS, registry=registry
        )
        self._info = Gauge(
            "ganrt_model_info",
            "The models; always 1.",
            ("model", "bundle", "backend", "variant", "device", "precision"),
            registry=registry,
            multiprocess_mode="livemax",
        )

    def watch(self, name: str, info: Info, bundle: str) -> Monitor:
        """Return a monitor that counts what the batcher of a model does."""
        config = info.config
        self._info.labels(name, bundle, config.backend, config.variant, config.device, info.precision).set(1)
        return _Counting(self, name, config.variant)

    def count_request(self, labels: tuple[str, str], status: int, seconds: float) -> None:
        """Count the answer to a request for pictures; `labels` are the model and its variant, empty if there is none of
        that name."""
        self.requests.labels(*labels, str(status)).inc()
        self.request_seconds.labels(*labels).observe(seconds)

    def write(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        if MULTIPROCESS not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def forget_dead_processes(folder: Path) -> None:
    """Delete the gauges of worker processes that are gone, such as the length of their queues.

    Args:
        folder: the one of MULTIPROCESS.
    """
    for file in folder.glob("gauge_live*_*.db"):
        process = file.stem.rpartition("_")[2]
        if not Path("/proc", process).exists():
            mark_process_dead(int(process))  # type: ignore[no-untyped-call]


class _Counting(Monitor):
    def __init__(self, metrics: Metrics, name: str, variant: str) -> None:
        self._rows = metrics.rows.labels(name, variant)
        self._batch_rows = metrics.batch_rows.labels(name, variant)
        self._queue_seconds = metrics.queue_seconds.labels(name, variant)
        self._compute_seconds = metrics.compute_seconds.labels(name, variant)
        self._queue_rows = metrics.queue_rows.labels(name, variant)
        self._rejected, self._labels = metrics.rejected, (name, variant)

    def rows_accepted(self, rows: int) -> None:
        self._queue_rows.inc(rows)

    def rows_finished(self, rows: int) -> None:
        self._queue_rows.dec(rows)

    def batch_computed(self, rows: int, requests: int, seconds: float) -> None:
        self._rows.inc(rows)
        self._batch_rows.observe(rows)
        self._compute_seconds.observe(seconds)

    def request_answered(self, answer: Answer) -> None:
        self._queue_seconds.observe(answer.queue_s)

    def rows_dropped(self, reason: str, rows: int) -> None:
        self._rejected.labels(*self._labels, reason).inc(rows)
