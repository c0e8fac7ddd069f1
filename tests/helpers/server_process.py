"""`ganrt serve` in a process of its own."""

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from typing_extensions import Self

START_S = 120.0
"""A server that is not ready by then has failed."""


class ServerProcess:
    """A server, and what it prints."""

    def __init__(self, *arguments: str | Path, command: tuple[str, ...] = ("-m", "ganrt", "serve")) -> None:
        port = () if "--port" in arguments else ("--port", "0")
        words = [sys.executable, *command, *port, *map(str, arguments)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.output: list[str] = []
        self.errors: list[str] = []
        """Lines."""
        pairs = ((self.process.stdout, self.output), (self.process.stderr, self.errors))
        self._readers = [threading.Thread(target=_collect, args=pair) for pair in pairs]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        """host:port, as soon as it is printed."""
        found = self.await_line(r"http://(\S+?:\d+)\b")
        return found[1]

    def await_line(self, pattern: str) -> re.Match[str]:
        """Wait until a line is printed."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            is_over = self.process.poll() is not None
            for line in list(self.output):
                if found := re.search(pattern, line):
                    return found
            assert not is_over, f"it ended with {self.process.returncode}: {self.errors}"
            time.sleep(0.02)
        raise AssertionError(f"it did not print {pattern}: {self.output}, {self.errors}")

    def await_ready(self) -> Self:
        """Wait until it answers requests."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.errors}"
            try:
                if self.get("/v2/health/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"it is not ready: {self.output}, {self.errors}")

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a request on a connection of its own."""
        return httpx.get(f"http://{self.address}{path}", timeout=60.0, **options)

    def post(self, body: dict[str, Any], **options: Any) -> httpx.Response:
        """Ask for pictures, likewise."""
        return httpx.post(f"http://{self.address}/v1/images", json=body, timeout=60.0, **options)

    def end(self, sig: int = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(sig)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = START_S) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(timeout_s)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def _collect(stream: Any, lines: list[str]) -> None:
    for line in iter(stream.readline, ""):
        lines.append(line.rstrip("\n"))
