"""The table of a comparison, in Markdown, grouped by the quality that the engines reach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..results import BUSY
from ..statistics import Estimate
from .adapters import PLAIN
from .results import EngineReport, EngineResult, compare_speed

QUALITIES = (60.0, 40.0, 35.0)
"""Lower limits of the groups, in dB of the worst golden sample. What is below the last one is a group, too."""
FASTER = 1.03
"""An engine that is more than this many times as fast as ganrt's fastest is reported."""


def format_report(report: EngineReport) -> str:
    """Return the table: one for each group of quality, then the engines without figures and their reasons."""
    lines = [_format_title(report), ""]
    measured = [engine for engine in report.engines if not engine.failure]
    plain = next((engine for engine in measured if engine.name == PLAIN), None)
    limits = (math.inf, *QUALITIES, -math.inf)
    for above, limit in pairwise(limits):
        group = [engine for engine in measured if limit <= _psnr(engine) < above]
        title = f"below {above:.0f} dB" if limit == -math.inf else f"at least {limit:.0f} dB"
        if group:
            lines += [f"**{title}**", "", *_format_group(group, plain), ""]
            lines += [_judge([engine for engine in measured if _psnr(engine) >= limit], title), ""]
    failed = [engine for engine in report.engines if engine.failure]
    if failed:
        lines += ["**without figures**", "", "| engine | reason |", "| --- | --- |"]
        lines += [f"| {_format_name(engine)} | {_escape(engine.failure)} |" for engine in failed] + [""]
    lines += [f"Warning: {text}." for text in _find_warnings(report)]
    return "\n".join(lines).rstrip() + "\n"


def _psnr(engine: EngineResult) -> float:
    assert engine.worst_psnr is not None, "an engine with figures has a PSNR"
    return engine.worst_psnr


def _format_title(report: EngineReport) -> str:
    machine = report.environment
    size = "" if report.picture is None else f" of {report.picture[0]} x {report.picture[1]} pixels"
    return (
        f"`{report.bundle}`, batch {report.batch}{size}: medians of {len(report.orders)} rounds on {machine.cores} "
        f"cores of {machine.processor}. Speed is a multiple of plain ONNX Runtime's, with its 95 % interval; PSNR is "
        "that of the worst golden sample; ganrt's own are bold."
    )


def _format_group(group: Sequence[EngineResult], plain: EngineResult | None) -> Iterator[str]:
    yield "| engine | ms | speed | PSNR, dB | peak memory, MiB |"
    yield "| --- | --- | --- | --- | --- |"
    for engine in sorted(group, key=lambda engine: engine.milliseconds.value):
        speed = "" if plain is None else _format_estimate(compare_speed(engine, plain))
        memory = "" if engine.peak_mib is None else f"{engine.peak_mib:.0f}"
        time = (
            f"{engine.milliseconds.value:.3g}"
            if engine.milliseconds.value < 100
            else f"{engine.milliseconds.value:.0f}"
        )
        yield f"| {_format_name(engine)} | {time} | {speed} | {_psnr(engine):.1f} | {memory} |"


def _judge(engines: Sequence[EngineResult], title: str) -> str:
    """Say which configuration of ganrt is the fastest, and which other engines are faster.

    Args:
        engines: those that reach the group's limit, in higher groups too.
    """
    own = [engine for engine in engines if engine.own]
    if not own:
        return f"No configuration of ganrt was measured with {title}."
    best = min(own, key=lambda engine: engine.milliseconds.value)
    speeds = [(engine.name, compare_speed(engine, best)) for engine in engines if not engine.own]
    faster = [f"{name}, {_format_estimate(speed)} times as fast" for name, speed in speeds if speed.value > FASTER]
    margin = f"more than {100 * (FASTER - 1):.0f} % faster"
    found = f"{margin}: {'; '.join(faster)}" if faster else f"no other engine is {margin}"
    return f"ganrt's fastest: {_format_name(best)}; {found}."


def _format_name(engine: EngineResult) -> str:
    return f"**{engine.name}**" if engine.own else engine.name


def _format_estimate(estimate: Estimate) -> str:
    interval = "" if estimate.low is None else f" ({estimate.low:.2f}-{estimate.high:.2f})"
    return f"{estimate.value:.2f}{interval}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _find_warnings(report: EngineReport) -> Iterator[str]:
    share = report.environment.foreign_share
    if share > BUSY:
        yield f"other programs used {share:.0%} of the CPU"
    busy = [engine.name for engine in report.engines if not engine.idle]
    if busy:
        yield f"{', '.join(busy)} went on using the CPU after a round, while others were timed"
