"""A server process, and clients that send it requests: as fast as it answers, or at a rate of their own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np

from .. import clock

_START_S = 300.0


@dataclass(frozen=True)
class Reply:
    """The answer to a request."""

    status: int
    """HTTP status; 0 if the connection was lost."""
    sent_s: float
    """When it was due, by the clock."""
    seconds: float
    """From then until its last byte was there."""


Send = Callable[[int], Awaitable[int]]
"""Sends a request of a number, and returns the HTTP status of its answer."""


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    url: str
    pid: int
    client: aiohttp.ClientSession

    def sample(self, number: int) -> Awaitable[int]:
        """Ask for the picture of a seed, as an array."""
        return self.post({"seed": number, "format": "npy"})

    async def post(self, body: dict[str, object]) -> int:
        """Ask for pictures. Returns the status."""
        async with self.client.post(f"{self.url}/v1/images", json=body) as answer:
            await answer.read()
            return answer.status


@asynccontextmanager
async def run_server(*arguments: str) -> AsyncIterator[Server]:
    """Start `ganrt serve` and yield it once it is ready; end it, which must succeed."""
    command = [sys.executable, "-m", "ganrt", "serve", *arguments, "--port", "0"]
    with tempfile.NamedTemporaryFile("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            url = await _wait_until_ready(process, Path(log.name))
            timeout = aiohttp.ClientTimeout(total=120)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
                yield Server(url, process.pid, client)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
    if process.returncode:
        raise RuntimeError(f"the server ended with {process.returncode}")


async def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = clock.now_ns() + _START_S * 1e9
    while clock.now_ns() < deadline:
        text = log.read_text(encoding="utf-8")
        if found := re.search(r"^ready: (\S+)", text, re.MULTILINE):
            return found[1]
        if process.poll() is not None:
            break
        await asyncio.sleep(0.1)
    raise RuntimeError(f"the server did not start: {text}")


async def send_steadily(send: Send, clients: int, seconds: float) -> list[Reply]:
    """Send requests from clients of which each waits for its answer before it sends the next (a closed loop)."""
    end = clock.now_ns() + seconds * 1e9
    replies: list[Reply] = []
    numbers = iter(range(2**62))

    async def work() -> None:
        while clock.now_ns() < end:
            replies.append(await _time(send, next(numbers), clock.now_ns() / 1e9))

    await asyncio.gather(*(work() for _ in range(clients)))
    return replies


async def send_at_rate(send: Send, rate: float, seconds: float, seed: int = 0) -> list[Reply]:
    """Send requests at the times of a Poisson process, whether the server keeps up or not (an open loop). The time of
    an answer counts from the moment at which its request was due."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, size=round(rate * seconds))
    start = clock.now_ns() / 1e9
    tasks = []
    for number, due in enumerate(np.cumsum(gaps) + start):
        await asyncio.sleep(max(0.0, due - clock.now_ns() / 1e9))
        tasks.append(asyncio.create_task(_time(send, number, float(due))))
    return list(await asyncio.gather(*tasks))


async def _time(send: Send, number: int, due: float) -> Reply:
    try:
        status = await send(number)
    except (aiohttp.ClientError, asyncio.TimeoutError):
        status = 0
    return Reply(status, due, clock.now_ns() / 1e9 - due)
