"""A service that loads its model before gunicorn forks the workers (`--preload`): it answers, and stops at once.

`python tests/test_gunicorn.py BUNDLE` prints how long each backend's service takes to stop.
"""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import ganrt
from ganrt.backend import backend_names
from ganrt.bundle import Bundle

APP = """
import os
import ganrt

generator = ganrt.load({path!r}, {backend!r})
generator.sample(2)

def app(environ, start_response):
    picture = generator.sample(1, seed=int(environ["QUERY_STRING"])).tobytes()
    headers = [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(picture)))]
    start_response("200 OK", [*headers, ("X-Process", str(os.getpid()))])
    return [picture]
"""
WORKERS = 2
REQUESTS = 100


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket, so that no port has to be free."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(path: Path, seed: int) -> tuple[str, bytes]:
    connection = _Connection(path)
    connection.request("GET", f"/?{seed}")
    response = connection.getresponse()
    assert response.status == 200
    body = response.read()
    connection.close()
    return response.headers["X-Process"], body


def serve(bundle: Bundle, backend: str, folder: Path) -> tuple[dict[int, bytes], set[str], float]:
    """Answer REQUESTS requests, four at a time, and stop. Returns seed -> picture, the processes that answered, and the
    seconds until the service had ended."""
    (folder / "service.py").write_text(APP.format(path=str(bundle.store.resolve().path), backend=backend))
    listening = folder / "http"
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS), "--no-control-socket"]
    command += ["--bind", f"unix:{listening}", "service:app"]
    log = folder / "log"
    with log.open("w") as output, subprocess.Popen(command, cwd=folder, stdout=output, stderr=output) as service:
        try:
            while "Booting worker" not in log.read_text():
                assert service.poll() is None, log.read_text()
                time.sleep(0.05)
            with ThreadPoolExecutor(4) as clients:
                answers = list(clients.map(lambda seed: _ask(listening, seed), range(REQUESTS)))
        finally:
            started = time.perf_counter()
            service.send_signal(signal.SIGTERM)
            try:
                service.wait(60)
            except subprocess.TimeoutExpired:
                service.kill()
                raise
    seconds = time.perf_counter() - started
    assert service.returncode == 0, log.read_text()
    return {seed: body for seed, (_, body) in enumerate(answers)}, {process for process, _ in answers}, seconds


@pytest.mark.parametrize("backend", backend_names("cpu"))
def test_a_preloaded_service_answers_and_stops(backend: str, bundle: Bundle, tmp_path: Path) -> None:
    with ganrt.load(bundle, backend) as generator:
        right = {seed: generator.sample(1, seed=seed) for seed in range(REQUESTS)}
    pictures, processes, _ = serve(bundle, backend, Path(tempfile.mkdtemp(dir=tmp_path)))
    assert len(processes) == WORKERS
    for seed, body in pictures.items():
        np.testing.assert_array_equal(np.frombuffer(body, np.uint8).reshape(right[seed].shape), right[seed])


if __name__ == "__main__":
    for name in backend_names("cpu"):
        with tempfile.TemporaryDirectory() as temporary:
            stopped_in = serve(Bundle.read(sys.argv[1]), name, Path(temporary))[2]
        sys.stdout.write(f"{name}: {REQUESTS} requests answered, stopped in {stopped_in:.2f} s\n")
