"""Clients that send slowly, read slowly or vanish: they are thrown out, and others are answered meanwhile."""

import asyncio
import logging
import os
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import psutil
import pytest
import uvicorn
from fakes.sessions import SPEC
from helpers.gated_session import GatedSession
from helpers.http_server import Running, run_server
from helpers.raw_http import (
    JSON,
    exchange,
    make_get,
    make_post,
    open_socket,
    parse_reply,
    read_all,
    read_reply,
    reset,
)
from uvicorn.server import ServerState

import ganrt
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.serve.connections import TimedProtocol
from ganrt.serve.settings import ModelSettings, Settings
from ganrt.spec import Latent, Output, Spec

TIMEOUT_S = 1.0
"""In which a client must send a request, and take an answer."""
PATIENCE_S = 10 * TIMEOUT_S
"""The machine may be busy."""
HEAD = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = Spec("big", (Latent("z", (2,)),), Output(3, (-1.0, 1.0), (1024, 1024)))
"""A picture of 3 MB."""


def make_big(feeds: Feeds) -> Array:
    return np.zeros((len(feeds["z"]), 3, 1024, 1024), np.float32)


@pytest.fixture(scope="module")
def sessions() -> dict[str, GatedSession]:
    """Name of a model -> its session, whose gate is open."""
    return {"small": GatedSession(SPEC), "big": GatedSession(BIG, batch_sizes=(1, 2, 4), fault=make_big)}


@pytest.fixture(scope="module")
def server(sessions: dict[str, GatedSession]) -> Iterator[Running]:
    """A server with a short timeout. Each request is in a batch of its own."""
    specs = {"small": SPEC, "big": BIG}
    models = tuple(ModelSettings(name, name, name) for name in sessions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ganrt, "load", lambda path, **_: Generator(specs[path], sessions[path]))
        settings = Settings(models, largest_batch=1, longest_wait_s=0.0, read_timeout_s=TIMEOUT_S)
        with run_server(settings) as running:
            yield running


@pytest.fixture(autouse=True)
def open_gates(sessions: dict[str, GatedSession]) -> Iterator[None]:
    """Let the requests of a test that failed go on."""
    yield
    for session in sessions.values():
        session.open_gate()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def await_true(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def count_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def await_end(connection: socket.socket) -> float:
    """Wait until the server ends a connection; return the seconds that it took."""
    started = time.monotonic()
    connection.settimeout(PATIENCE_S)
    read_all(connection)
    return time.monotonic() - started


def trickle(connection: socket.socket, data: bytes, pause_s: float = TIMEOUT_S / 10) -> float:
    """Send a byte at a time until the server answers or ends the connection; return the seconds that it took."""
    started = time.monotonic()
    connection.settimeout(pause_s)
    for k in range(len(data)):
        try:
            connection.sendall(data[k : k + 1])
            connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        except ConnectionError:
            pass
        return time.monotonic() - started
    raise AssertionError("the server took everything")


def check_time(seconds: float, least: float = TIMEOUT_S) -> None:
    """Check that a connection was ended by the timeout, and not before it."""
    assert least - 0.1 <= seconds < PATIENCE_S


def test_a_client_that_says_nothing(server: Running) -> None:
    with open_socket(server.address) as connection:
        check_time(await_end(connection))


def test_a_head_that_trickles(server: Running) -> None:
    with open_socket(server.address) as connection:
        check_time(trickle(connection, b"GET / HTTP/1.1\r\nA: " + b"a" * 1000))


def test_a_head_that_trickles_after_an_answer(server: Running) -> None:
    with open_socket(server.address) as connection:
        connection.sendall(HEAD)
        assert read_reply(connection).status == 200
        check_time(trickle(connection, b"GET / HTTP/1.1\r\nA: " + b"a" * 1000))


def test_a_head_whose_beginning_came_with_another_request(server: Running) -> None:
    with open_socket(server.address) as connection:
        connection.sendall(HEAD + b"GET /")
        assert read_reply(connection).status == 200
        check_time(trickle(connection, b" HTTP/1.1\r\nA: " + b"a" * 1000))


def test_empty_lines_are_no_head(server: Running) -> None:
    with open_socket(server.address) as connection:
        assert trickle(connection, b"\r\n" * 1000) < PATIENCE_S


def test_a_body_that_trickles(server: Running) -> None:
    with open_socket(server.address) as connection:
        connection.sendall(make_post(b"", length=b"Content-Length: 1000\r\n", close=False))
        started = time.monotonic()
        trickle(connection, b" " * 1000)
        connection.settimeout(PATIENCE_S)
        assert read_reply(connection).status == 408
        await_end(connection)
        check_time(time.monotonic() - started, 2 * TIMEOUT_S)  # the rest of the body is taken for another TIMEOUT_S


def test_a_body_that_does_not_come_after_continue(server: Running) -> None:
    with open_socket(server.address) as connection:
        headers = JSON + b"Expect: 100-continue\r\n"
        connection.sendall(make_post(b"", headers=headers, length=b"Content-Length: 10\r\n"))
        assert b" 408 " in read_all(connection)


def test_a_body_that_nobody_reads(server: Running) -> None:
    """The answer does not wait for it; the connection ends some time later, whether it still comes or not."""
    for send in (trickle, lambda connection, _: await_end(connection)):
        with open_socket(server.address) as connection:
            head = make_post(b"", path="/v2/models/x/infer", length=b"Content-Length: 100000\r\n", close=False)
            connection.sendall(head)
            assert read_reply(connection).status == 404
            check_time(send(connection, b" " * 1000))


def test_a_connection_is_used_again_after_a_body_that_nobody_read(server: Running) -> None:
    with open_socket(server.address) as connection:
        connection.sendall(make_post(b"", path="/v2/models/x/infer", length=b"Content-Length: 1000\r\n", close=False))
        assert read_reply(connection).status == 404
        connection.sendall(b" " * 1000 + HEAD)
        assert read_reply(connection).status == 200


def test_the_time_of_the_head_does_not_end_the_body(server: Running) -> None:
    request = make_post(b'{"seed":1}', close=False)
    cut = request.index(b"{")
    with open_socket(server.address) as connection:
        for part in (request[:cut], request[cut:]):
            time.sleep(0.6 * TIMEOUT_S)
            connection.sendall(part)
        assert read_reply(connection).status == 200
        connection.sendall(make_get())
        assert parse_reply(read_all(connection)).status == 200


def test_a_long_computation_is_not_cut_off(server: Running, sessions: dict[str, GatedSession]) -> None:
    with open_socket(server.address) as connection:
        connection.sendall(ask_for_big(close=False))
        time.sleep(0.5 * TIMEOUT_S)  # the server waits for this client to read
        assert len(read_reply(connection).body) > 12 * 2**20
        sessions["small"].shut_gate()
        connection.sendall(make_post(b"{}", close=False) + HEAD[:10])
        sessions["small"].await_batch()
        time.sleep(2.5 * TIMEOUT_S)
        sessions["small"].open_gate()
        assert read_reply(connection).status == 200
        connection.sendall(HEAD[10:])
        assert read_reply(connection).status == 200


def ask_for_big(close: bool = True) -> bytes:
    """Return a request for 12 MB."""
    return make_post(b'{"model":"big","n":4,"format":"npy"}', close=close)


def open_deaf_socket(server: Running) -> socket.socket:
    """Return a connection that holds little that is not read."""
    host, _, port = server.address.partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    return connection


@pytest.mark.parametrize("close", [True, False])
def test_an_answer_that_is_not_read(server: Running, close: bool) -> None:
    with open_deaf_socket(server) as connection:
        connection.sendall(ask_for_big(close))
        await_true(lambda: has_other_end(connection), "the server does not accept a connection")
        await_true(lambda: not has_other_end(connection), "the server keeps a connection that takes nothing")
        assert len(read_all(connection)) < 12 * 2**20


def has_other_end(connection: socket.socket) -> bool:
    """Whether the server, which is in this process, still holds its end of a connection."""
    ends = psutil.Process().net_connections("tcp")
    return any(tuple(end.raddr) == connection.getsockname() and end.fd != -1 for end in ends)


def test_an_answer_that_is_read_slowly(server: Running) -> None:
    """In more time than the timeout, but never without progress."""
    with open_socket(server.address) as connection:
        connection.sendall(ask_for_big())
        received, started = 0, time.monotonic()
        while chunk := connection.recv(2**18):
            received += len(chunk)
            time.sleep(0.04)
        assert received > 12 * 2**20 and time.monotonic() - started > 1.5 * TIMEOUT_S


class StuckTransport(asyncio.Transport):
    """Takes a few bytes and sends none of them: closing it does not end it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.closed = False
        self.aborted = asyncio.Event()

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted.set()

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


START = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("sent", [b"garbage\r\n\r\n", START + b"zz\r\n"])
def test_bytes_that_are_not_http_from_a_client_that_reads_nothing(sent: bytes) -> None:
    """The answer to them cannot be sent; the connection is ended all the same, and the server can be stopped before."""
    messages = []

    async def read_body(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            messages.append(await receive())
            messages.append(await receive())

    async def run() -> None:
        protocol = TimedProtocol(
            0.05,
            config=uvicorn.Config(read_body, lifespan="off", log_config=None),
            server_state=ServerState(),
            app_state={},
        )
        transport = StuckTransport()
        protocol.connection_made(transport)
        for part in (sent[: len(START)], sent[len(START) :]) if sent.startswith(START) else (sent,):
            protocol.data_received(part)
        await asyncio.sleep(0)
        assert transport.closed and transport.written.startswith(b"HTTP/1.1 400 ")
        protocol.shutdown()
        await asyncio.wait_for(transport.aborted.wait(), PATIENCE_S)
        protocol.connection_lost(None)

    asyncio.run(run())
    assert [message["type"] for message in messages] == (["http.disconnect"] * 2 if sent.startswith(START) else [])


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    requests = [make_post(b'{"seed":%d}' % seed, close=seed == 19) for seed in range(20)]
    with open_socket(server.address) as connection:
        connection.sendall(b"".join(requests))
        seeds = re.findall(rb"x-ganrt-seed: (\d+)", read_all(connection))
    assert [int(seed) for seed in seeds] == list(range(20))


def read_metric(server: Running, name: str) -> float:
    with open_socket(server.address) as connection:
        connection.sendall(make_get(b"/metrics"))
        text = parse_reply(read_all(connection)).body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


CANCELLED = 'ganrt_rejected_total{model="small",reason="cancelled",variant="fp32"}'
GONE = 'ganrt_requests_total{model="small",status="499",variant="fp32"}'
WAITING = 'ganrt_queue_rows{model="small",variant="fp32"}'


def test_clients_that_vanish(server: Running, sessions: dict[str, GatedSession]) -> None:
    """Ten requests wait behind one that is computed, whose client vanishes as well; another client stays."""
    session = sessions["small"]
    cancelled, gone, batches = read_metric(server, CANCELLED), read_metric(server, GONE), len(session.batches)
    session.shut_gate()
    clients = [open_socket(server.address) for _ in range(11)]
    clients[0].sendall(make_post(b'{"seed":0}'))
    session.await_batch()
    for client in clients[1:]:
        client.sendall(make_post(b'{"n":2}'))
    await_true(lambda: read_metric(server, WAITING) == 21, "the requests are not in the queue")
    for client in clients:
        reset(client)
    await_true(lambda: read_metric(server, GONE) == gone + 11, "the clients are not missed")
    with open_socket(server.address) as other:
        other.sendall(make_post(b"{}"))
        await_true(lambda: read_metric(server, WAITING) >= 1, "the request is not in the queue")
        session.open_gate()
        assert parse_reply(read_all(other)).status == 200
    assert read_metric(server, CANCELLED) - cancelled in (20, 21)  # one may be computed before it is missed
    assert len(session.batches) == batches + 2
    await_true(lambda: read_metric(server, WAITING) == 0, "rows of nobody wait")


def test_clients_that_vanish_while_they_send(server: Running) -> None:
    for cut in (1, 20, 60, -5):
        client = open_socket(server.address)
        client.sendall(make_post()[:cut])
        time.sleep(0.02)
        reset(client)
    assert exchange(server.address, make_post()).status == 200


def test_others_are_answered_while_a_thousand_are_slow(server: Running, many_files: None) -> None:
    server.client.close()
    files = count_files()
    with ExitStack() as stack:
        for kind in range(1000):
            connection = stack.enter_context(open_socket(server.address))
            if kind % 4 == 0:
                connection.sendall(make_post()[: 30 + kind % 100])
        for _ in range(10):
            deaf = stack.enter_context(open_deaf_socket(server))
            deaf.sendall(ask_for_big())
        times = []
        for seed in range(20):
            started = time.monotonic()
            assert exchange(server.address, make_post(b'{"seed":%d}' % seed)).status == 200
            times.append(time.monotonic() - started)
        assert sorted(times)[10] < 0.5
        await_true(lambda: count_files() <= files + 1010, "slow clients are still there")
    await_true(lambda: count_files() <= files, "files are still open")


def test_a_server_stops_in_spite_of_slow_clients(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ganrt, "load", lambda path, **_: Generator(SPEC, GatedSession(SPEC)))
    settings = Settings((ModelSettings("small", "small", "."),), read_timeout_s=TIMEOUT_S, drain_s=PATIENCE_S)
    with ExitStack() as stack, run_server(settings) as running:
        deaf = make_get(b"/page/index.html", b"Host: x\r\n") * 200 + b"garbage\r\n\r\n"
        for sent in (b"", HEAD[:10], make_post()[:-5], make_post(close=False), deaf):
            connection = stack.enter_context(open_deaf_socket(running))
            connection.sendall(sent)
        time.sleep(0.3)
        started = time.monotonic()
    assert time.monotonic() - started < PATIENCE_S
    errors = {record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING}
    assert errors <= {"Invalid HTTP request received."}
