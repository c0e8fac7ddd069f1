"""The figure of a report: throughput with intervals, and the distribution of single calls."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from . import statistics, texts
from .results import Measurement, Report

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""One per batch size, from the palette of Okabe and Ito, which is safe for colour blindness."""
_MARKERS = "osD^vP"
_INK, _FAINT = "#1f2933", "#d5dbe1"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ganrt",
    "font.size": 10,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_BINS = 60
_LINEAR_RATIO = 10
"""The axis is linear while the largest value is less than this many times the smallest."""


def render_svg(report: Report) -> str:
    """Return the figure as an <svg> element. The report must have a measurement."""
    with matplotlib.rc_context(_STYLE):
        buffer = io.StringIO()
        draw_figure(report).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def draw_figure(report: Report) -> Figure:
    """Draw end-to-end images per second on the left, and the distribution of single calls on the right."""
    measured = [m for case in report.cases if (m := report.find(*case, report.end_to_end)) is not None]
    by_speed = sorted({m.backend for m in measured}, key=lambda name: _best_throughput(name, measured))
    figure = Figure(figsize=(11, 1.6 + 0.42 * max(len(measured), 2 * len(by_speed))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    batches = sorted({m.batch for m in measured})
    _draw_throughput(left, measured, by_speed, batches)
    _draw_distributions(right, measured[::-1], batches)
    for axes in (left, right):
        _set_scale(axes)
        axes.grid(axis="x", color=_FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _set_scale(axes: Axes) -> None:
    """A linear axis from zero where all values are similar, else a logarithmic one."""
    least, most = axes.dataLim.x0, axes.dataLim.x1
    if most < _LINEAR_RATIO * least:
        axes.set_xlim(0, 1.2 * most)
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if most > 100 * least else (1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")


def _best_throughput(name: str, measured: list[Measurement]) -> float:
    return max(m.images_per_second.value for m in measured if m.backend == name)


def _draw_throughput(axes: Axes, measured: list[Measurement], names: list[str], batches: list[int]) -> None:
    """One line per backend with one mark per batch size; the bar through the mark is the interval."""
    for k, batch in enumerate(batches):
        group = [m for m in measured if m.batch == batch]
        offset = 0.36 * (k - (len(batches) - 1) / 2) / max(1, len(batches) - 1)
        for m in group:
            y, rate = names.index(m.backend) - offset, m.images_per_second
            bounds = [rate.low or rate.value, rate.high or rate.value]
            colour, marker = _COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)]
            label = f"batch {batch}" if m is group[0] else None
            axes.plot(bounds, [y] * 2, color=colour, linewidth=2.5, alpha=0.55, solid_capstyle="round")
            axes.plot([rate.value], [y], marker, color=colour, markersize=7, label=label)
            text = texts.format_number(rate.value)
            axes.annotate(text, (bounds[1], y), (8, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.margins(x=0.18)
    axes.set_title("Images per second", loc="left", fontweight="bold")
    axes.set_xlabel("higher is better; the bar is the 95 % interval")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.0), borderaxespad=3.4, ncols=len(batches), frameon=False)


def _draw_distributions(axes: Axes, measured: list[Measurement], batches: list[int]) -> None:
    """One histogram per case over logarithmic bins of time; the tick is the median."""
    for y, m in enumerate(measured):
        colour = _COLOURS[batches.index(m.batch) % len(_COLOURS)]
        times = statistics.pool_calls(m.rounds) / 1e6
        edges = np.geomspace(times.min() / 1.02, times.max() * 1.02, _BINS + 1)
        counts, _ = np.histogram(times, edges)
        axes.stairs(y + 0.75 * counts / counts.max(), edges, baseline=y, fill=True, color=colour, alpha=0.55)
        axes.plot([m.latency.value] * 2, [y, y + 0.8], color=_INK, linewidth=1.6)
    axes.set_yticks([k + 0.25 for k in range(len(measured))], [f"{m.backend} · {m.batch}" for m in measured])
    axes.set_ylim(-0.15, len(measured))
    axes.set_title("Milliseconds of each call", loc="left", fontweight="bold")
    axes.set_xlabel("lower is better; the tick is the median, “· 1” means batch 1")
