"""What batching gains."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path

import ganrt

from .. import clock
from .traffic import run_server, send_steadily

_CLIENTS = 48
_BATCH = 16
_PATIENT = ("--max-queue", "60")
"""No request is rejected, however slow the machine is."""
_RUNS = 12
"""Batches that are timed in a round of the model itself."""


async def measure_gain(bundle: str, seconds: float, rounds: int) -> str:
    """Measure a server without batches and one with, and the model alone at batch 1 and 16, in alternating rounds.

    Returns a table row: medians of the rounds.
    """
    alone: dict[int, list[float]] = {1: [], _BATCH: []}
    served: dict[str, list[float]] = {"single": [], "batched": []}
    with ganrt.load(bundle, device="cpu") as generator:
        async with (
            run_server(bundle, *_PATIENT, "--max-batch", "1") as single,
            run_server(bundle, *_PATIENT) as batched,
        ):
            for _ in range(rounds):
                for rows, rates in alone.items():
                    rates.append(_time_model(generator, rows))
                for (_, rates), server in zip(served.items(), (single, batched), strict=True):
                    replies = await send_steadily(server.sample, _CLIENTS, seconds)
                    if any(reply.status != 200 for reply in replies):
                        raise RuntimeError(f"requests failed: {Counter(reply.status for reply in replies)}")
                    last = max(reply.sent_s + reply.seconds for reply in replies)
                    rates.append(len(replies) / (last - replies[0].sent_s))
    one, many = (statistics.median(rates) for rates in alone.values())
    before, after = (statistics.median(rates) for rates in served.values())
    return (
        f"| `{Path(bundle).stem}` | {one:.0f} | {many:.0f} | {many / one:.2f} x | {before:.0f} | {after:.0f} | "
        f"{after / before:.2f} x |"
    )


def _time_model(generator: ganrt.Generator, rows: int) -> float:
    """Return pictures per second of the generator itself."""
    generator.sample(rows)
    times = []
    for run in range(_RUNS):
        started = clock.now_ns()
        generator.sample(rows, seed=run)
        times.append(clock.now_ns() - started)
    return rows * 1e9 / statistics.median(times)
