"""Summarize the suite's reports on one page of Markdown: what exporting gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ganrt.bundle import FAITHFUL
from ganrt.json_reader import parse_json

from . import texts
from .cases import METHOD
from .context import Context
from .results import BASELINE as EAGER
from .results import Report
from .statistics import Estimate

PLAIN = "onnxruntime"
"""Name of the setup that runs the graph as torch.onnx.export traced it, on ONNX Runtime with default options."""
_LEVELS = (40, 35)
"""PSNR in dB that the worst sample must reach."""

_TERMS = """\
Made by `python -m ganrt.bench.suite` from the reports in this folder. **Plain** is the graph that `torch.onnx.export`
traced, in float32 on ONNX Runtime with default options; **eager** is PyTorch in inference mode. *Best* is the fastest
of plain, all optimized variants on OpenVINO, and float32 on ncnn and MNN where they were measured, whose worst golden
sample reaches the quality, measured against the original. Ratios are ratios of medians from rounds of the same sweep,
with their 95 % interval. A question mark means that the interval contains 1, or that there were too few rounds for an
interval. Memory is the peak of a setup's process over all batch sizes, libraries included, as a multiple of plain's."""
_ARITHMETIC = """\
GMAC/s: billions of multiply-accumulates per second (two operations each). They are counted for the convolutions and
matrix products of the graph that runs, and divided by the time of the bare session. Peak: the fastest product of two
square matrices in torch on all cores, in the same precision and the same run. Algorithms that need fewer
multiplications than are counted, such as Winograd's, can exceed it. In an int8 variant, layers that stay in float count
as int8."""


class FastestVariant(NamedTuple):
    """A line of a generator's table."""

    title: str
    """`eager`, `plain`, or the group that the setup is the fastest of, such as `best ≥ 40 dB`."""
    setup: str
    """Name of the setup."""


def find_fastest(report: Report, batch: int) -> list[FastestVariant]:
    """Return eager, plain, and the fastest setup of each quality at a batch size, as far as they were measured.

    The measured quality counts, not the name of the variant. Eager is never among the fastest: it is the original.
    """
    measured = [setup for setup, size in report.cases if size == batch]  # fastest first
    exported = [setup for setup in measured if setup != EAGER and not report.facts(setup).slow]
    found = [FastestVariant("eager", EAGER)] if EAGER in measured else []
    found += [FastestVariant("plain", PLAIN)] if PLAIN in measured else []
    float32 = [setup for setup in exported if report.facts(setup).precision == "fp32"]
    found += [FastestVariant("best float32", setup) for setup in float32[:1]]
    for level in _LEVELS:
        good = [setup for setup in exported if report.facts(setup).worst_psnr >= level]
        found += [FastestVariant(f"best ≥ {level} dB", setup) for setup in good[:1]]
    return found


def memory_ratio(report: Report, setup: str) -> float | None:
    """Return the peak memory of a setup's process as a multiple of plain's."""
    peaks = {b.name: b.peak_mib for b in report.backends}
    ours, plain = peaks.get(setup), peaks.get(PLAIN)
    return None if ours is None or plain is None else ours / plain


def macs_per_second(report: Report, setup: str, batch: int) -> float | None:
    """Return the multiply-accumulates per second of the bare session, counted for the graph that it runs."""
    session = report.find(setup, batch, "session")
    macs = report.context and report.context.macs.get(_variant_of(setup))
    return macs * batch / (session.latency.value * 1e-3) if macs and session else None


def share_of_peak(report: Report, setup: str, batch: int) -> float | None:
    """Return `macs_per_second` as a share of the machine's roofline peak in the same precision."""
    product = report.context and report.context.products.get(report.facts(setup).precision)
    rate = macs_per_second(report, setup, batch)
    return rate / product.peak if product and rate else None


def _variant_of(setup: str) -> str:
    """The variant in a setup's name."""
    return setup.partition(" ")[2] or FAITHFUL


def format_summary(reports: Mapping[str, Report]) -> str:
    """Return the page.

    Args:
        reports: name of the generator -> its report, in the order of the page.
    """
    batches = sorted({batch for report in reports.values() for _, batch in report.cases})
    lines = ["# What exporting gains", "", *_list_introduction(reports), ""]
    for batch in reversed(batches):
        lines += [f"## All generators, batch {batch}", "", *_list_overview(reports, batch), ""]
    for name, report in reports.items():
        lines += [f"## {name}", "", *_list_heading(report), ""]
        for batch in batches:
            lines += [*_list_table(report, batch), ""] if find_fastest(report, batch) else []
        lines += _list_warnings(report)
    return "\n".join(lines).rstrip() + "\n"


def _list_introduction(reports: Mapping[str, Report]) -> Iterator[str]:
    yield _TERMS
    for words in dict.fromkeys(map(_describe_time, reports.values())):
        yield from ("", words)
    yield from ("", METHOD, "", _ARITHMETIC)


def _describe_time(report: Report) -> str:
    inputs = "a seed" if report.end_to_end == "sample" else "pictures"
    return f"Time of generators that take {inputs}: from {report.scopes[report.end_to_end]}."


def _list_overview(reports: Mapping[str, Report], batch: int) -> Iterator[str]:
    quality_columns = (title for level in _LEVELS for title in (f"≥ {level} dB: vs. plain", "vs. eager"))
    yield _format_row("", "plain ms", "eager ms", "float32: vs. plain", "vs. eager", *quality_columns, "export s")
    yield _format_row("---", *["---:"] * (5 + 2 * len(_LEVELS)))
    for name, report in reports.items():
        fastest = dict(find_fastest(report, batch))
        if not fastest:
            continue
        cells = [_format_milliseconds(report, setup, batch) for setup in (PLAIN, EAGER)]
        for title in ("best float32", *(f"best ≥ {level} dB" for level in _LEVELS)):
            setup = fastest.get(title)
            cells += [_format_ratio(report.speedup(setup, batch, base)) if setup else "-" for base in (PLAIN, EAGER)]
        yield _format_row(name, *cells, _format_export_seconds(report))


def _list_heading(report: Report) -> Iterator[str]:
    e = report.environment
    yield (
        f"{report.family}, {report.image}; {e.processor}, {e.cores} cores; {report.date[:10]}, {report.seconds:.0f} s, "
        f"other programs used {e.foreign_share:.0%} of the CPU."
    )
    yield from texts.describe_pictures(report)
    if report.context is None:
        return
    yield from _describe_weights(report.context)
    macs = ", ".join(f"{name} {count / 1e9:.3g}" for name, count in report.context.macs.items())
    peaks = (f"{name} {product.peak / 1e9:.0f}" for name, product in report.context.products.items())
    yield f"GMAC per image: {macs}. Peak in GMAC/s: {', '.join(peaks)}. Export: {_format_export_seconds(report)} s."
    if report.context.missing_precisions:
        yield f"Not exported in all precisions. {report.context.missing_precisions}"


def _describe_weights(context: Context) -> Iterator[str]:
    """A sentence on trained weights; none for random ones. Raises ArtifactError when the recipe is not JSON."""
    recipe = parse_json(context.recipe.encode(), "the recipe of a report")
    if isinstance(recipe, dict) and "weights" in recipe:
        yield f"Trained weights: `{recipe['weights']}`."


def _list_table(report: Report, batch: int) -> Iterator[str]:
    titles = ("ms", "vs. plain", "vs. eager", "worst PSNR dB", "memory", "session ms", "GMAC/s", "of peak")
    yield _format_row(f"batch {batch}", "setup", *titles)
    yield _format_row("---", "---", *["---:"] * len(titles))
    for title, setup in find_fastest(report, batch):
        session = report.find(setup, batch, "session")
        memory, share = memory_ratio(report, setup), share_of_peak(report, setup, batch)
        rate = macs_per_second(report, setup, batch)
        yield _format_row(
            title,
            setup,
            _format_milliseconds(report, setup, batch),
            _format_ratio(report.speedup(setup, batch, PLAIN)),
            _format_ratio(report.speedup(setup, batch, EAGER)),
            texts.format_psnr(report.facts(setup).worst_psnr),
            "-" if memory is None else f"{memory:.2f}",
            "-" if session is None else texts.format_number(session.latency.value),
            "-" if rate is None else texts.format_number(rate / 1e9),
            "-" if share is None else f"{share:.0%}",
        )


def _list_warnings(report: Report) -> list[str]:
    if not report.warnings:
        return []
    lines = (f"- {warning}" for warning in report.warnings)
    return ["<details><summary>Warnings</summary>", "", *lines, "", "</details>", ""]


def _format_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _format_milliseconds(report: Report, setup: str, batch: int) -> str:
    found = report.find(setup, batch, report.end_to_end)
    return "-" if found is None else texts.format_number(found.latency.value)


def _format_ratio(estimate: Estimate | None) -> str:
    """`2.31x (2.25-2.40)`"""
    interval = "" if estimate is None or estimate.low is None else f" ({texts.format_interval(estimate)})"
    return texts.format_ratio(estimate) + interval


def _format_export_seconds(report: Report) -> str:
    return "-" if report.context is None else f"{report.context.export_seconds:.0f}"
