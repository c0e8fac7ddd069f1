"""`ganrt serve` as a process: how it starts, stops and fails, alone and with workers."""

import io
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result
from fakes.sessions import SPEC
from helpers.faulty_server import BATCH_S, show_process
from helpers.gated_session import GatedSession
from helpers.http_server import run_server
from helpers.raw_http import make_post, open_socket, reset
from helpers.server_process import ServerProcess

import ganrt
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.errors import DeviceLostError
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.serve.settings import ModelSettings, Settings

FAULTY = (str(Path(__file__).parents[1] / "helpers" / "faulty_server.py"),)
SOON_S = 30.0
"""The machine may be busy."""


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ServerProcess]]:
    """Start a server of fake models. Args: a fault, and arguments."""
    started: list[ServerProcess] = []

    def run(fault: str, *arguments: str) -> ServerProcess:
        monkeypatch.setenv("FAULT", fault)
        started.append(ServerProcess("A=a", *arguments, command=FAULTY))
        return started[-1]

    yield run
    for server in started:
        with server:
            pass


def await_true(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def list_workers(server: ServerProcess) -> dict[int, psutil.Process]:
    """Return the worker processes by their ids, without Python's own helper processes."""
    children = psutil.Process(server.pid).children()
    return {child.pid: child for child in children if is_alive(child) and "spawn_main" in " ".join(child.cmdline())}


def is_alive(process: psutil.Process) -> bool:
    """Whether a process has not ended."""
    return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE


def read_metric(server: ServerProcess, name: str, **labels: str) -> float:
    """Return the sum of a metric over the labels that are not given."""
    text = server.get("/metrics").text
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = re.findall(rf"^{name}({{.*}}) (\S+)$", text, re.MULTILINE)
    return sum(float(value) for found, value in lines if all(label in found for label in wanted))


def ask(server: ServerProcess, count: int) -> list[Future[httpx.Response]]:
    """Send requests at once, and wait until all of them are in the queue."""
    threads = ThreadPoolExecutor(count)
    answers = [threads.submit(server.post, {"seed": seed}) for seed in range(count)]
    threads.shutdown(wait=False)
    await_true(lambda: read_metric(server, "ganrt_queue_rows") == count, "the requests are not in the queue")
    return answers


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops(start: Callable[..., ServerProcess], sig: int) -> None:
    server = start("", "--max-batch", "1").await_ready()
    idle = open_socket(server.address)
    assert server.post({}).status_code == 200
    began = time.monotonic()
    assert server.end(sig) == 0 and time.monotonic() - began < SOON_S / 3
    assert server.errors == [] and idle.recv(1) == b""
    idle.close()


def test_requests_in_flight_are_answered(start: Callable[..., ServerProcess]) -> None:
    server = start("slow", "--max-batch", "1").await_ready()
    answers = ask(server, 3)
    assert server.end() == 0
    assert [answer.result().status_code for answer in answers] == [200] * 3
    assert server.errors == []
    with pytest.raises(ConnectionRefusedError):
        open_socket(server.address)


def test_a_second_signal_ends_it_at_once(start: Callable[..., ServerProcess]) -> None:
    server = start("slow", "--max-batch", "1").await_ready()
    answers = ask(server, 8)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    assert server.end() == -signal.SIGTERM and time.monotonic() - began < 4 * BATCH_S
    assert any(answer.exception() for answer in answers)


def test_it_stops_while_it_loads(start: Callable[..., ServerProcess]) -> None:
    server = start("loading")
    await_true(lambda: answers(server), "it does not answer while it loads")
    assert server.get("/v2/health/live").status_code == 200
    for path in ("/v2/health/ready", "/v1/models", "/v2/models/A"):
        assert server.get(path).status_code == 503
    assert "still being loaded" in server.post({}).json()["error"]
    assert server.end(timeout_s=SOON_S) == 0 and server.errors == []


def answers(server: ServerProcess) -> bool:
    try:
        return server.get("/v2/health/live").status_code == 200
    except httpx.TransportError:
        return False


def test_a_port_in_use(start: Callable[..., ServerProcess]) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start("", "--port", str(port))
        assert server.wait() == 2
    assert server.errors == [
        f"error: cannot listen on port {port} of 127.0.0.1: Address already in use; choose another --port or --host"
    ]


def test_a_warm_up_that_fails(start: Callable[..., ServerProcess]) -> None:
    server = start("warm-up")
    assert server.wait() == 3
    message = "A failed on a batch of 4 while it was warmed up: an operator failed"
    assert [line for line in server.errors if message in line] and "Traceback" not in "".join(server.errors)


def test_a_lost_device_ends_it(start: Callable[..., ServerProcess]) -> None:
    server = start("lost", "--max-batch", "1").await_ready()
    answer = server.post({})
    assert answer.status_code == 503 and answer.json()["error"]
    assert server.wait() == 3
    assert server.errors[-1] == "error: the device failed"


def lose_device(feeds: Feeds) -> Array | None:
    raise DeviceLostError("the device failed")


@pytest.mark.parametrize("waits", [True, False])
def test_a_server_with_a_lost_device_is_not_alive(monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    """Also if nobody waits for the batch that lost it: the next request tells."""
    session = GatedSession(SPEC)
    monkeypatch.setattr(ganrt, "load", lambda path, **_: Generator(SPEC, session))
    with run_server(Settings((ModelSettings("a", "a", "."),), largest_batch=1)) as server:
        assert server.client.get("/v2/health/live").status_code == 200
        monkeypatch.setattr(session, "_fault", lose_device)
        if not waits:
            session.shut_gate()
            client = open_socket(server.address)
            client.sendall(make_post())
            session.await_batch()
            reset(client)
            await_true(lambda: 'status="499"' in server.client.get("/metrics").text, "the client is not missed")
            session.open_gate()
            await_true(lambda: next(iter(server.models)).batcher._lost, "the device is not lost")
        assert server.post({}).status_code == 503
        for path in ("/v2/health/live", "/v2/health/ready", "/v1/models"):
            assert server.client.get(path).status_code == 503
        assert "the server's log says why" in server.post({}).json()["error"]


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "model.ganrt") as server:
        assert server.wait() == 3
        assert len(server.errors) == 1 and "model.ganrt is not a bundle" in server.errors[0]


@pytest.mark.parametrize("damage", ["empty", "json", "graphs"])
def test_a_damaged_bundle(bundle: Bundle, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model.ganrt"
    folder.mkdir()
    if damage != "empty":
        shutil.copytree(bundle.path, folder, dirs_exist_ok=True)
        for file in folder.glob({"json": "ganrt.json", "graphs": "*.onnx"}[damage]):
            file.write_bytes(file.read_bytes()[:-100])
    result = invoke(str(folder), "--port", "0", "--backend", "onnxruntime")
    assert result.exit_code == 3
    assert result.stderr.startswith("error: ") and "model.ganrt" in result.stderr and "Traceback" not in result.output
    assert damage == "graphs" or result.stderr.count("\n") == 1  # the graphs are named with their faults, one a line


def invoke(*arguments: str) -> Result:
    """Run `ganrt serve` in this process."""
    return CliRunner().invoke(main, ["serve", *arguments])


def test_a_bundle_on_two_backends(bundle: Bundle) -> None:
    with ServerProcess(f"toy={bundle.path}", "--backend", "onnxruntime", "--backend", "openvino") as server:
        models = server.await_ready().get("/v1/models").json()["models"]
        assert [(model["name"], model["bundle"], model["backend"]) for model in models] == [
            ("toy", "toy", "onnxruntime"),
            ("toy.openvino", "toy", "openvino"),
        ]
        made = [server.post({"model": model["name"], "format": "npy"}) for model in models]
        first, second = (np.load(io.BytesIO(answer.content)).astype(int) for answer in made)
        assert np.abs(first - second).max() <= 1
        assert server.end() == 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What `ganrt serve` would start, in place of doing so."""
    collected: list[Settings] = []

    def run(settings: Settings, listening: socket.socket, *_: Any) -> None:
        listening.close()
        collected.append(settings)

    monkeypatch.setattr("ganrt.serve.server.run_server", run)
    return collected


def test_names_of_models(started: list[Settings]) -> None:
    options = ("--backend", "x", "--backend", "y", "--precision", "fp32", "--precision", "int8", "--port", "0")
    assert invoke("folder/b.ganrt", "C.1=folder/c", *options).exit_code == 0
    ways = {"": ("x", "fp32"), ".x.int8": ("x", "int8"), ".y.fp32": ("y", "fp32"), ".y.int8": ("y", "int8")}
    found = [(model.name, model.bundle, model.path, dict(model.loading)) for model in started[0].models]
    shared = {"device": "auto", "unproven": False}
    assert found == [
        (bundle + way, bundle, path, {"backend": backend, "precision": precision, **shared})
        for bundle, path in (("b", "folder/b.ganrt"), ("C.1", "folder/c"))
        for way, (backend, precision) in ways.items()
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x/A.ganrt",), "two models would have the name A; rename one as in NAME=BUNDLE"),
        (("A.x=b", "--backend", "y", "--backend", "x"), "two models would have the name A.x"),
        (("a b",), "'a b' cannot name a model"),
        (("-x=b",), "No such option"),
        (("../..",), "'..' cannot name a model"),
        (("--variant", "a", "--precision", "fp32"), "--variant and --precision were given"),
        (("--port", "65536"), "65536 is not in the range"),
        (("--host", "192.0.2.1"), "cannot listen on port 0 of 192.0.2.1"),
        (("--host", "no.such.host.invalid"), "cannot listen on port 0 of no.such.host.invalid"),
    ],
)
def test_wrong_arguments(started: list[Settings], arguments: tuple[str, ...], message: str) -> None:
    port = () if "--port" in arguments else ("--port", "0")
    result = invoke("A=a", *port, *arguments)
    assert result.exit_code == 2 and message in result.stderr and not started


@pytest.mark.parametrize("content", [b"", b"  \n", b"a b", b"\xff", b"a\nb", "ключ".encode(), b"a" * 5000])
def test_tokens_that_are_none(started: list[Settings], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    result = invoke("A=a", "--port", "0", "--token-file", str(tmp_path / "token"))
    assert result.exit_code == 3 and result.stderr.count("\n") == 1 and not started


def test_the_loopback_of_ipv6(started: list[Settings]) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert re.search(r"; http://\[::1\]:[0-9]+ answers", invoke("A=a", "--host", "::1", "--port", "0").stdout)


def test_a_token_and_other_origins(start: Callable[..., ServerProcess], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    origin = "https://page.example"
    server = start("", "--token-file", str(token), "--cors", origin, "--max-batch", "1").await_ready()
    bearer = {"Authorization": "Bearer s3cret"}
    assert server.post({}).status_code == 401 and server.post({}, headers=bearer).status_code == 200

    def preflight(origin: str, method: str = "POST", headers: str = "authorization,content-type") -> httpx.Response:
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
        return httpx.options(f"http://{server.address}/v1/images", headers={"Origin": origin, **asked})

    allowed = preflight(origin)
    assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == origin
    assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in allowed.headers
    for refused in (preflight("https://other.example"), preflight(origin, "DELETE"), preflight(origin, headers="x-a")):
        assert refused.status_code == 400
    assert "access-control-allow-origin" not in preflight("https://page.example.other").headers
    answer = server.post({}, headers={**bearer, "Origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    ours = {name for name in answer.headers if name.startswith("x-ganrt-")}
    assert ours | {"x-ganrt-label", "server-timing", "retry-after"} == exposed
    for headers in ({"Origin": "https://other.example"}, {"Origin": "null"}, {}):
        assert "access-control-allow-origin" not in server.post({}, headers={**bearer, **headers}).headers
    assert server.end() == 0


WORKERS = ("--workers", "2", "--max-batch", "1")


def find_process(answer: httpx.Response, processes: dict[int, Any]) -> int:
    """Return the process that made a picture."""
    shown = int(np.load(io.BytesIO(answer.content)).flat[0])
    return next(pid for pid in processes if abs(show_process(pid) - shown) <= 1)


def use_all(server: ServerProcess, workers: dict[int, psutil.Process]) -> int:
    """Send requests until each worker has made a picture; return their number."""
    seen: set[int] = set()
    sent = 0
    until = time.monotonic() + SOON_S
    with ThreadPoolExecutor(8) as threads:
        while seen < workers.keys():
            assert time.monotonic() < until, f"only {seen} of {workers} answer"
            made = list(threads.map(lambda _: server.post({"format": "npy"}), range(8)))
            sent += len(made)
            assert {answer.status_code for answer in made} == {200}
            seen |= {find_process(answer, workers) for answer in made}
    return sent


def test_workers(start: Callable[..., ServerProcess]) -> None:
    server = start("", *WORKERS).await_ready()
    await_true(lambda: len(list_workers(server)) == 2, "there are no two workers")
    workers = list_workers(server)
    sent = use_all(server, workers)
    for _ in range(4):  # whichever worker answers
        assert read_metric(server, "ganrt_requests_total", status="200") == sent
        assert read_metric(server, "ganrt_rows_total") == sent
        assert read_metric(server, "ganrt_queue_rows") == 0
    killed, left = workers.values()
    killed.kill()
    for _ in range(20):  # also while the new worker loads its models
        assert server.post({}).status_code == 200
    await_true(lambda: len(list_workers(server).keys() - {killed.pid}) == 2, "the worker is not replaced")
    workers = list_workers(server)
    assert left.pid in workers
    assert use_all(server, workers)
    assert server.end() == 0 and not any(is_alive(worker) for worker in workers.values())


def test_workers_answer_what_they_have(start: Callable[..., ServerProcess]) -> None:
    server = start("slow", *WORKERS).await_ready()
    answers, workers = ask(server, 4), list_workers(server)
    assert server.end() == 0
    assert [answer.result().status_code for answer in answers] == [200] * 4
    assert not any(is_alive(worker) for worker in workers.values())


def test_a_second_signal_ends_the_workers_at_once(start: Callable[..., ServerProcess]) -> None:
    server = start("slow", *WORKERS).await_ready()
    answers, workers = ask(server, 16), list_workers(server)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(1.5)  # the supervisor looks for signals twice a second
    began = time.monotonic()
    assert server.end() == -signal.SIGTERM and time.monotonic() - began < 4 * BATCH_S
    assert any(answer.exception() for answer in answers)
    assert not any(is_alive(worker) for worker in workers.values())


def test_workers_end_with_their_supervisor(start: Callable[..., ServerProcess]) -> None:
    server = start("", *WORKERS).await_ready()
    await_true(lambda: len(list_workers(server)) == 2, "there are no two workers")
    workers = list_workers(server)
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    await_true(lambda: not any(is_alive(worker) for worker in workers.values()), "workers are left")


def test_workers_that_cannot_load(start: Callable[..., ServerProcess]) -> None:
    server = start("warm-up", "--workers", "2")
    assert server.wait() == 3
    text = "\n".join(server.errors)
    assert "A failed on a batch of 4" in text and "Traceback" not in text
    assert server.errors[-1] == "error: a worker could not load the models; its message is above"


def test_a_worker_that_loses_its_device_is_replaced(start: Callable[..., ServerProcess]) -> None:
    server = start("lost", *WORKERS).await_ready()
    await_true(lambda: len(list_workers(server)) == 2, "there are no two workers")
    before = list_workers(server).keys()
    with suppress(httpx.TransportError):  # the worker may be faster
        assert server.post({}).status_code == 503
    await_true(lambda: len(list_workers(server)) == 2 and list_workers(server).keys() != before, "it is not replaced")
    assert server.await_ready().end() == 0
