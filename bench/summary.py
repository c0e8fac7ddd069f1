"""What exporting gains, as one page of Markdown made of the suite's reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ganrt.bundle import FAITHFUL

from . import texts
from .cases import METHOD
from .results import BASELINE as EAGER
from .results import Report
from .statistics import Estimate

PLAIN = "onnxruntime"
"""The graph as torch.onnx.export traced it, on ONNX Runtime as it comes."""
_LEVELS = (40, 35)
"""dB that the worst sample must reach."""

_TERMS = """\
Made by `python -m ganrt.bench.suite` of the reports beside this page. **Plain** is the graph that `torch.onnx.export`
traced, in float32 on ONNX Runtime as it comes; **eager** is PyTorch in inference mode. *Best* is the fastest of these
and of all optimised variants on OpenVINO whose worst golden sample reaches the quality against the original.
Ratios of medians from rounds near in time, with their 95 % interval; a question mark where that holds 1, or where there
were too few rounds to have one. Memory is the peak of a setup's process over all batch sizes, libraries included, as a
multiple of plain's."""
_ARITHMETIC = """\
GMAC/s: thousand million multiply-accumulates a second (two operations each), counted for the convolutions and matrix
products of the graph that is run, over the time of the bare session. Limit: that as a share of the fastest product of
two square matrices in torch with all cores, in the same precision and the same run. Algorithms that multiply less than
is counted, as Winograd's, can exceed it; an int8 variant's layers that stayed in float count as int8."""


class Choice(NamedTuple):
    """A line of a generator's table: what it stands for, and the setup that it is."""

    title: str
    setup: str


def choices(report: Report, batch: int) -> list[Choice]:
    """Eager, plain, and the fastest setups of each quality at a batch size, as far as they were measured. The quality
    that counts is what was measured, whatever the variant is called; eager is no choice, since it is the original."""
    measured = [setup for setup, size in report.cases if size == batch]  # fastest first
    exported = [setup for setup in measured if setup != EAGER and not report.facts(setup).slow]
    found = [Choice("eager", EAGER)] if EAGER in measured else []
    found += [Choice("plain", PLAIN)] if PLAIN in measured else []
    float32 = [setup for setup in exported if report.facts(setup).precision == "fp32"]
    found += [Choice("best float32", setup) for setup in float32[:1]]
    for level in _LEVELS:
        good = [setup for setup in exported if report.facts(setup).worst_psnr >= level]
        found += [Choice(f"best ≥ {level} dB", setup) for setup in good[:1]]
    return found


def memory_ratio(report: Report, setup: str) -> float | None:
    """Peak memory of a setup's process, as a multiple of plain's."""
    peaks = {b.name: b.peak_mib for b in report.backends}
    ours, plain = peaks.get(setup), peaks.get(PLAIN)
    return None if ours is None or plain is None else ours / plain


def arithmetic_rate(report: Report, setup: str, batch: int) -> float | None:
    """Multiply-accumulates per second of the bare session, of the graph that it runs."""
    session = report.find(setup, batch, "session")
    counted = report.context and report.context.multiplications.get(_variant(setup))
    return counted * batch / (session.latency.value * 1e-3) if counted and session else None


def share_of_limit(report: Report, setup: str, batch: int) -> float | None:
    """The same as a share of what the machine reaches in matrix products of that precision."""
    product = report.context and report.context.products.get(report.facts(setup).precision)
    rate = arithmetic_rate(report, setup, batch)
    return rate / product.rate if product and rate else None


def _variant(setup: str) -> str:
    """Of a `Setup.name`."""
    return setup.partition(" ")[2] or FAITHFUL


def summary(reports: Mapping[str, Report]) -> str:
    """The page. `reports`: name of the generator -> its report, in the order of the page."""
    batches = sorted({batch for report in reports.values() for _, batch in report.cases})
    lines = ["# What exporting gains", "", *_introduction(reports), ""]
    for batch in reversed(batches):
        lines += [f"## All generators, batch {batch}", "", *_overview(reports, batch), ""]
    for name, report in reports.items():
        lines += [f"## {name}", "", *_heading(report), ""]
        for batch in batches:
            lines += [*_table(report, batch), ""] if choices(report, batch) else []
        lines += _doubts(report)
    return "\n".join(lines).rstrip() + "\n"


def _introduction(reports: Mapping[str, Report]) -> Iterator[str]:
    yield _TERMS
    for words in dict.fromkeys(map(_time, reports.values())):
        yield from ("", words)
    yield from ("", METHOD, "", _ARITHMETIC)


def _time(report: Report) -> str:
    takes = "a seed" if report.whole == "sample" else "pictures"
    return f"Time of generators that take {takes}: from {report.scopes[report.whole]}."


def _overview(reports: Mapping[str, Report], batch: int) -> Iterator[str]:
    yield _line("", "plain ms", "eager ms", "float32: of plain", "of eager", *_quality_columns(), "export s")
    yield _line("---", *["---:"] * (5 + 2 * len(_LEVELS)))
    for name, report in reports.items():
        chosen = dict(choices(report, batch))
        if not chosen:
            continue
        cells = [_milliseconds(report, setup, batch) for setup in (PLAIN, EAGER)]
        for title in ("best float32", *(f"best ≥ {level} dB" for level in _LEVELS)):
            setup = chosen.get(title)
            cells += [_ratio(report.speedup(setup, batch, base)) if setup else "-" for base in (PLAIN, EAGER)]
        yield _line(name, *cells, _export_seconds(report))


def _quality_columns() -> Iterator[str]:
    for level in _LEVELS:
        yield from (f"≥ {level} dB: of plain", "of eager")


def _heading(report: Report) -> Iterator[str]:
    e = report.environment
    yield (
        f"{report.family}, {report.image}; {e.processor}, {e.cores} cores; {report.date[:10]}, {report.seconds:.0f} s, "
        f"others used {e.foreign_share:.0%} of the processor meanwhile."
    )
    yield from texts.given(report)
    if report.context is None:
        return
    counted = ", ".join(f"{name} {count / 1e9:.3g}" for name, count in report.context.multiplications.items())
    products = (f"{name} {product.rate / 1e9:.0f}" for name, product in report.context.products.items())
    yield f"GMAC an image: {counted}. Limit in GMAC/s: {', '.join(products)}. Export: {_export_seconds(report)} s."
    if report.context.refused:
        yield f"Not exported in all precisions. {report.context.refused}"


def _table(report: Report, batch: int) -> Iterator[str]:
    titles = ("ms", "of plain", "of eager", "worst PSNR dB", "memory", "session ms", "GMAC/s", "limit")
    yield _line(f"batch {batch}", "setup", *titles)
    yield _line("---", "---", *["---:"] * len(titles))
    for title, setup in choices(report, batch):
        session = report.find(setup, batch, "session")
        memory, share = memory_ratio(report, setup), share_of_limit(report, setup, batch)
        rate = arithmetic_rate(report, setup, batch)
        yield _line(
            title,
            setup,
            _milliseconds(report, setup, batch),
            _ratio(report.speedup(setup, batch, PLAIN)),
            _ratio(report.speedup(setup, batch, EAGER)),
            texts.psnr(report.facts(setup).worst_psnr),
            "-" if memory is None else f"{memory:.2f}",
            "-" if session is None else texts.number(session.latency.value),
            "-" if rate is None else texts.number(rate / 1e9),
            "-" if share is None else f"{share:.0%}",
        )


def _doubts(report: Report) -> list[str]:
    if not report.warnings:
        return []
    return [
        "<details><summary>Reasons to doubt</summary>",
        "",
        *(f"- {line}" for line in report.warnings),
        "",
        "</details>",
        "",
    ]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _milliseconds(report: Report, setup: str, batch: int) -> str:
    found = report.find(setup, batch, report.whole)
    return "-" if found is None else texts.number(found.latency.value)


def _ratio(estimate: Estimate | None) -> str:
    """`2.31x (2.25-2.40)`"""
    bounds = "" if estimate is None or estimate.low is None else f" ({texts.interval(estimate)})"
    return texts.ratio(estimate) + bounds


def _export_seconds(report: Report) -> str:
    return "-" if report.context is None else f"{report.context.export_seconds:.0f}"
