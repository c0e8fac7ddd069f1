"""What happens to a server that gets more requests than it can answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import numpy as np

from .. import clock
from .traffic import Reply, Server, run_server, send_at_rate, send_steadily

_CLIENTS = 24
_CAPACITY_S = 20.0
_PAUSE_S = 0.1
_CALM_S = 5.0
"""How long the rate of single requests is watched afterwards."""


async def measure_overload(bundle: str, seconds: float, times: float, max_queue_s: float) -> str:
    """Measure the capacity, offer a multiple of it, and watch the recovery. Returns lines of text."""
    async with run_server(bundle, "--max-queue", str(max_queue_s)) as server:
        before = await _probe(server)
        capacity = await _measure_capacity(server)
        overloaded = await send_at_rate(server.sample, times * capacity, seconds)
        ended = clock.now_ns() / 1e9
        recovered_s = await _await_recovery(server, before, ended)
        again = await _measure_capacity(server)
        rejected = await _read_rejections(server)
    good = [reply for reply in overloaded if reply.status == 200]
    span = max(reply.sent_s + reply.seconds for reply in good) - overloaded[0].sent_s
    latencies = np.array([reply.seconds for reply in good])
    counts = Counter(reply.status for reply in overloaded)
    lines = [
        f"{Path(bundle).stem}, --max-queue {max_queue_s:g}",
        f"capacity: {capacity:.1f} pictures/s ({_CLIENTS} clients in a closed loop for {_CAPACITY_S:.0f} s)",
        f"offered: {len(overloaded) / seconds:.1f} requests/s for {seconds:.0f} s, {times:g} times the capacity",
        f"answers: {', '.join(f'{count} x {status}' for status, count in sorted(counts.items()))}",
        f"goodput: {len(good) / span:.1f} pictures/s, {len(good) / span / capacity:.0%} of the capacity",
        "latency of answers: " + ", ".join(f"p{q} {np.percentile(latencies, q):.2f} s" for q in (50, 95, 99, 100)),
        "latency of rejections: " + _describe_rejections(overloaded),
        f"rejections that the server counted: {rejected}",
        f"recovery: single requests are as fast as before after {recovered_s:.1f} s ({before * 1e3:.0f} ms)",
        f"capacity afterwards: {again:.1f} pictures/s, {again / capacity:.0%}",
    ]
    return "\n".join(lines)


async def _measure_capacity(server: Server) -> float:
    async def ask(number: int) -> int:
        while (status := await server.sample(number)) == 429:
            await asyncio.sleep(_PAUSE_S)
        return status

    replies = await send_steadily(ask, _CLIENTS, _CAPACITY_S)
    last = max(reply.sent_s + reply.seconds for reply in replies)
    return sum(reply.status == 200 for reply in replies) / (last - replies[0].sent_s)


async def _probe(server: Server) -> float:
    """Return the median latency of single requests."""
    replies = await send_steadily(server.sample, 1, _CALM_S)
    return float(np.median([reply.seconds for reply in replies]))


async def _await_recovery(server: Server, usual_s: float, ended_s: float) -> float:
    """Return the seconds until single requests take at most twice the usual time."""
    while True:
        started = clock.now_ns() / 1e9
        if await server.sample(0) == 200 and clock.now_ns() / 1e9 - started < 2 * usual_s:
            return started - ended_s
        await asyncio.sleep(0.05)


def _describe_rejections(replies: list[Reply]) -> str:
    seconds = [reply.seconds for reply in replies if reply.status == 429]
    return ", ".join(f"p{q} {np.percentile(seconds, q) * 1e3:.0f} ms" for q in (50, 99)) if seconds else "none"


async def _read_rejections(server: Server) -> str:
    async with server.client.get(f"{server.url}/metrics") as answer:
        text = await answer.text()
    found = [line.partition(" ")[2] for line in text.splitlines() if line.startswith("ganrt_rejected_total")]
    return f"{sum(map(float, found)):.0f}"
