"""Figures in words, the same on the terminal and in the page."""

from __future__ import annotations

from ganrt.agreement import PSNR_CAP

from .results import Report
from .statistics import Estimate, calls_needed


def number(value: float) -> str:
    """Three significant digits, all digits of larger numbers."""
    if value >= 99.95:
        return f"{value:,.0f}".replace(",", "\u2009") if value >= 9999.5 else f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"


def interval(estimate: Estimate) -> str:
    """`1.02-1.07`, or a dash where there is too little to tell."""
    if estimate.low is None or estimate.high is None:
        return "-"
    return f"{number(estimate.low)}-{number(estimate.high)}"


def tail(estimate: Estimate | None) -> str:
    """A high quantile, or a dash where there were too few calls for it."""
    return "-" if estimate is None else number(estimate.value)


def ratio(estimate: Estimate | None) -> str:
    """`2.31x`; `1.04x?` where the interval holds 1, so that no difference is shown."""
    if estimate is None:
        return "-"
    sure = estimate.low is not None and estimate.high is not None and not estimate.low <= 1 <= estimate.high
    return f"{estimate.value:.{1 if estimate.value >= 10 else 2}f}x" + ("" if sure or estimate.value == 1 else "?")


def overhead(estimate: Estimate | None) -> str:
    """`+4.2 % (+3.1 to +5.0)`"""
    if estimate is None:
        return "-"
    value, *bounds = (None if x is None else 100 * (x - 1) for x in (estimate.value, estimate.low, estimate.high))
    inside = "" if None in bounds else f" ({bounds[0]:+.1f} to {bounds[1]:+.1f})"
    return f"{value:+.1f} %{inside}"


def psnr(value: float) -> str:
    """Worst-sample PSNR in dB."""
    return "equal" if value >= PSNR_CAP else number(value)


def given(report: Report) -> list[str]:
    """What pictures an image-to-image model was given, as one sentence; nothing for one that takes none."""
    if report.picture is None:
        return []
    height, width = report.picture
    return [f"Pictures given: {width} x {height}, made up of blocks and grain; each becomes {report.image}."]


LEGEND = (
    f"A dash: too few calls or rounds to tell (p90 needs {calls_needed(0.9)} calls, p99 {calls_needed(0.99)}). "
    "Speed: against pytorch, or else the slowest backend, in rounds near in time; a question mark where the interval "
    "holds 1 or is missing. PSNR: the worst golden sample against the PyTorch original."
)
