"""What a long time of mixed traffic leaves behind in a server: memory, files, threads."""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import PIL.Image

from .. import clock
from .traffic import Server, run_server

_CLIENTS = 16
_PERIOD_S = 2.0
_IMPATIENT_S = 0.02
"""After this time some clients hang up."""


class Footprint(NamedTuple):
    """What a process holds."""

    second: float
    """Since the traffic began."""
    rss: int
    """Bytes of memory."""
    files: int
    """Open file descriptors."""
    threads: int
    """Threads."""


async def measure_soak(bundles: Sequence[str], seconds: float) -> str:
    """Send mixed traffic, and watch the process of the server. Returns lines of text."""
    counts: Counter[str] = Counter()
    async with run_server(*bundles) as server:
        models = await _list_models(server)
        end = clock.now_ns() + seconds * 1e9
        clients = [_send_until(server, models, random.Random(number), end, counts) for number in range(_CLIENTS)]
        watching = asyncio.create_task(_watch(server, end))
        await asyncio.gather(*clients)
        footprints = await watching
        await asyncio.sleep(_PERIOD_S)
        rest = read_footprint(server.pid, seconds)
    steady = footprints[len(footprints) // 3 :]
    times = np.array([item.second for item in steady])
    slope, _ = np.polyfit(times, [item.rss for item in steady], 1)
    growth, usual = slope * (times[-1] - times[0]), float(np.median([item.rss for item in steady]))
    lines = [
        f"{', '.join(Path(bundle).stem for bundle in bundles)}; {_CLIENTS} clients, {seconds:.0f} s",
        "requests: " + ", ".join(f"{count} x {what}" for what, count in sorted(counts.items())),
        f"memory after a third of the time: {usual / 2**20:.0f} MiB; a line through it grows by "
        f"{growth / 2**20:+.1f} MiB ({growth / usual:+.1%}) to the end",
        f"open files: {_describe([item.files for item in steady])}; {rest.files} afterwards",
        f"threads: {_describe([item.threads for item in steady])}; {rest.threads} afterwards",
    ]
    return "\n".join(lines)


def read_footprint(pid: int, second: float) -> Footprint:
    """Read what a process holds; Linux only."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in status.splitlines())}
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Footprint(second, int(fields["VmRSS"][0]) * 1024, files, int(fields["Threads"][0]))


def _describe(values: Sequence[int]) -> str:
    return f"{min(values)} to {max(values)}"


async def _list_models(server: Server) -> list[dict[str, Any]]:
    async with server.client.get(f"{server.url}/v1/models") as answer:
        models: list[dict[str, Any]] = (await answer.json())["models"]
    return models


async def _watch(server: Server, end_ns: float) -> list[Footprint]:
    start, found = clock.now_ns(), []
    while clock.now_ns() < end_ns:
        found.append(read_footprint(server.pid, (clock.now_ns() - start) / 1e9))
        await asyncio.sleep(_PERIOD_S)
    return found


async def _send_until(
    server: Server, models: list[dict[str, Any]], dice: random.Random, end_ns: float, counts: Counter[str]
) -> None:
    """Send requests of all kinds, one after the other."""
    while clock.now_ns() < end_ns:
        kind, options = _draw_request(models, dice)
        timeout = aiohttp.ClientTimeout(total=_IMPATIENT_S if kind == "hung up" else 120)
        try:
            async with server.client.request(
                url=f"{server.url}{options.pop('path')}", timeout=timeout, **options
            ) as got:
                await got.read()
                counts[f"{kind}: {got.status}"] += 1
        except (aiohttp.ClientError, asyncio.TimeoutError):
            counts[f"{kind}: no answer"] += 1


def _draw_request(models: list[dict[str, Any]], dice: random.Random) -> tuple[str, dict[str, Any]]:
    """Return a kind of request, and the arguments of aiohttp's request."""
    model = dice.choice(models)
    what = dice.random()
    if what < 0.05:
        return "scrape", {"method": "GET", "path": "/metrics"}
    if what < 0.10:
        return "mistake", {"method": "POST", "path": "/v1/images", "json": {"seed": -1}}
    if what < 0.13:
        return "mistake", {"method": "POST", "path": "/v2/models/nothing/infer", "data": b"{" * dice.randrange(999)}
    kind = "hung up" if what < 0.20 else model["kind"]
    form = dice.choice(("png", "webp", "npy"))
    if model["kind"] == "transform":
        sides = dice.randrange(16, 120), dice.randrange(16, 120)
        path = f"/v1/images?model={model['name']}&format={form}"
        sent = {"Content-Type": "image/png"}
        return kind, {"method": "POST", "path": path, "data": _draw_picture(sides, dice), "headers": sent}
    body = {"model": model["name"], "n": dice.choice((1, 1, 1, 4, 40)), "seed": dice.getrandbits(32), "format": form}
    return kind, {"method": "POST", "path": "/v1/images", "json": body}


def _draw_picture(sides: tuple[int, int], dice: random.Random) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(dice.getrandbits(32)).integers(0, 256, (*sides, 3), np.uint8)
    PIL.Image.fromarray(noise).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
