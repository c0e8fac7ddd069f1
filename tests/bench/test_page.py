"""What users see: the page and the table."""

import base64
import html.parser
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import reports as bench_reports
from helpers.optional import unwrap
from helpers.reports import make_report, make_steady_report
from rich.console import Console

import ganrt
import ganrt.bench
from ganrt.bench import Report, print_table, write_page
from ganrt.bench.results import BackendResult
from ganrt.bundle import Bundle
from ganrt.images import read_picture


class _Reader(html.parser.HTMLParser):
    """Collects the addresses that a browser would fetch, the tags and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")
        ]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


Write = Callable[[Report], str]
"""Writes the page of a report and returns its HTML."""


@pytest.fixture
def page(bundle: Bundle, tmp_path: Path) -> Write:
    def write(made: Report) -> str:
        write_page(made, bundle.folder, tmp_path / "page.html")
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    return write


def test_the_page_is_self_contained(page: Write) -> None:
    text = page(make_steady_report())
    reader = _Reader(text)
    assert all(address.startswith(("data:", "#")) for address in reader.addresses)
    assert "url(http" not in text
    assert "@import" not in text
    assert "link" not in reader.tags
    assert "svg" in reader.tags


def test_the_page_shows_the_figures_the_machine_and_what_the_times_include(page: Write) -> None:
    text = " ".join(" ".join(_Reader(page(make_steady_report())).text).split())
    for words in ("quick", "1.04", "5.20", "1538", "3.00x", "+4.0 % (+4.0 to +4.0)", "123", "A processor", "numpy 2.0"):
        assert words in text
    assert "Generator.sample(batch)" in text
    assert "Images per second" in text
    assert "batch 8" in text


def test_the_page_carries_the_raw_report(page: Write) -> None:
    made = make_steady_report()
    embedded = unwrap(re.search(r'<script type="application/json" id="report">(.*)</script>', page(made))).group(1)
    assert ganrt.bench.Report.from_json(embedded) == made


def test_the_originals_pictures_come_first(page: Write, bundle: Bundle) -> None:
    pictures = [a for a in _Reader(page(make_steady_report())).addresses if a.startswith("data:image/png;base64,")]
    assert len(pictures) == 3  # the original, quick, pytorch
    sheet = read_picture(base64.b64decode(pictures[0].partition(",")[2]), bundle.spec.output.channels)
    assert sheet.shape == (16 + 4, 8 * 18 + 2, 3)
    assert sheet[2:18, 2:18].std() > 5


def test_names_are_escaped_on_the_page(page: Write) -> None:
    text = page(make_steady_report(name="</script><script>alert(1)</script>.ganrt"))
    assert "<script>alert" not in text
    assert json.loads(unwrap(re.search(r'id="report">(.*)</script>', text)).group(1))["bundle"].startswith("</script>")


def test_failed_and_absent_backends_are_shown_with_their_reasons(page: Write) -> None:
    made = make_report(
        [bench_reports.make_measurement("quick", 1, scope, [[1.0]] * 3) for scope in ("session", "sample")],
        [
            BackendResult("quick", "measured", "", bench_reports.make_facts()),
            BackendResult("broken", "failed", "out of [device] memory"),
            BackendResult("absent", "not installed", 'pip install "ganrt[cpu]"'),
        ],
    )
    written = " ".join(_Reader(page(made)).text)
    printed = print_text(made, 200)
    for text in (written, printed):
        assert "out of [device] memory" in text
        assert 'pip install "ganrt[cpu]"' in text
        assert "too few rounds" in text


def test_a_report_without_measurements_can_be_shown(page: Write) -> None:
    made = make_report([], [BackendResult("broken", "failed", "it fell")])
    assert "it fell" in page(made)
    assert "it fell" in print_text(made, 80)


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_and_shows_every_case(width: int) -> None:
    text = print_text(make_steady_report(), width)
    assert max(map(len, text.splitlines())) <= width
    for words in ("pytorch", "1.04-1.04", "1538", "3.00x", "+4.0 %", "uint8 pictures on the host", "95 %"):
        assert words in text
    assert "…" not in text


def print_text(made: Report, width: int) -> str:
    buffer = io.StringIO()
    print_table(made, Console(file=buffer, width=width))
    return buffer.getvalue()


def test_a_missing_plotting_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "ganrt.bench.page")
    with pytest.raises(ganrt.MissingLibraryError, match=r'the benchmark needs jinja2.*"ganrt\[bench\]"'):
        _ = ganrt.bench.write_page


def test_the_package_has_its_public_names_and_no_others() -> None:
    assert all(getattr(ganrt.bench, name) is not None for name in ganrt.bench.__all__)
    with pytest.raises(AttributeError):
        _ = ganrt.bench.nothing
