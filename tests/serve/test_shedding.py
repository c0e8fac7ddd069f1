"""Requests that come while too many wait are rejected before they are read."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.sessions import SPEC
from helpers.gated_session import GatedSession
from helpers.http_server import Running, run_server

import ganrt
from ganrt.generator import Generator
from ganrt.serve.settings import ModelSettings, Settings

BROKEN: dict[str, Any] = {"content": b"{", "headers": {"Content-Type": "application/json"}}


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> dict[str, GatedSession]:
    """Name of a model -> its session."""
    sessions = {name: GatedSession() for name in ("first", "second")}
    monkeypatch.setattr(ganrt, "load", lambda path, **_: Generator(SPEC, sessions[path]))
    return sessions


@pytest.fixture
def small(sessions: dict[str, GatedSession]) -> Iterator[Running]:
    """A server of two models, each of which lets four rows wait."""
    models = tuple(ModelSettings(name, name, name) for name in sessions)
    with run_server(Settings(models, largest_batch=1, most_rows=4)) as running:
        yield running
        for session in sessions.values():
            session.open_gate()


def fill(server: Running, session: GatedSession, name: str) -> None:
    """Let four rows of a model wait, after one that is being computed, or waits for the turn of its model."""
    session.shut_gate()
    batcher = next(model.batcher for model in server.models if model.name == name)
    batcher.sample(1)
    while batcher.waiting_rows:
        threading.Event().wait(0.001)
    batcher.sample(4)


def test_a_full_server_does_not_read_what_it_rejects(small: Running, sessions: dict[str, GatedSession]) -> None:
    fill(small, sessions["first"], "first")
    assert small.client.post("/v1/images", **BROKEN).status_code == 400, "the other model has room"
    assert small.client.post("/v2/models/first/infer", **BROKEN).status_code == 429
    assert small.client.post("/v2/models/first/versions/1/infer", **BROKEN).status_code == 429
    assert small.client.post("/v2/models/second/infer", **BROKEN).status_code == 400
    named = small.post({"model": "first"})
    assert named.status_code == 429 and "4 pictures wait" in named.json()["error"]
    fill(small, sessions["second"], "second")
    answer = small.client.post("/v1/images", **BROKEN)
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) >= 1
    assert small.client.get("/v1/models").status_code == 200
    metrics = small.client.get("/metrics").text
    assert 'ganrt_rejected_total{model="first",reason="full",variant="fp32"} 4.0' in metrics
