"""Figures as text, the same in tables and on the page."""

from __future__ import annotations

from ganrt.agreement import PSNR_CAP

from .results import Report
from .statistics import Estimate, calls_needed

LEGEND = (
    f"A dash: too few calls or rounds (p90 needs {calls_needed(0.9)} calls, p99 {calls_needed(0.99)}). "
    "Speed: relative to pytorch, or else to the slowest backend, in rounds of the same sweep; a question mark where "
    "the interval contains 1 or is missing. PSNR: of the worst golden sample against the PyTorch original."
)
"""Explains the columns of a report's table."""


def format_number(value: float) -> str:
    """Format a number with three significant digits, or all integer digits of a larger one."""
    if value >= 99.95:
        return f"{value:,.0f}".replace(",", "\u2009") if value >= 9999.5 else f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"


def format_interval(estimate: Estimate) -> str:
    """Format an interval: `1.02-1.07`, or a dash where there is none."""
    if estimate.low is None or estimate.high is None:
        return "-"
    return f"{format_number(estimate.low)}-{format_number(estimate.high)}"


def format_tail(estimate: Estimate | None) -> str:
    """Format a high quantile, or a dash where there were too few calls."""
    return "-" if estimate is None else format_number(estimate.value)


def format_ratio(estimate: Estimate | None) -> str:
    """Format a ratio: `2.31x`, or `1.04x?` where the interval contains 1 or is missing."""
    if estimate is None:
        return "-"
    sure = estimate.low is not None and estimate.high is not None and not estimate.low <= 1 <= estimate.high
    return f"{estimate.value:.{1 if estimate.value >= 10 else 2}f}x" + ("" if sure or estimate.value == 1 else "?")


def format_overhead(estimate: Estimate | None) -> str:
    """Format a ratio as a difference: `+4.2 % (+3.1 to +5.0)`."""
    if estimate is None:
        return "-"
    value, *bounds = (None if x is None else 100 * (x - 1) for x in (estimate.value, estimate.low, estimate.high))
    interval = "" if None in bounds else f" ({bounds[0]:+.1f} to {bounds[1]:+.1f})"
    return f"{value:+.1f} %{interval}"


def format_psnr(value: float) -> str:
    """Format a PSNR in dB; `equal` where the images are identical."""
    return "equal" if value >= PSNR_CAP else format_number(value)


def describe_pictures(report: Report) -> list[str]:
    """Return a sentence on the pictures that an image-to-image model was given; none for a model that takes none."""
    if report.picture is None:
        return []
    height, width = report.picture
    return [f"Input pictures: {width} x {height}, synthetic blocks and grain; each becomes {report.image}."]
