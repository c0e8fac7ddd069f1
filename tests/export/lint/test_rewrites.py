"""The table of what to write instead: the page has it, and its rows are right."""

from pathlib import Path

import pytest

from ganrt.export.lint.rewrites import CALLS, SIZES, Rewrite, find_rewrite
from ganrt.export.source_lines import SourceLine

PAGE = Path(__file__).parents[3] / "docs" / "your-own-model.md"
LINES = {
    "index = torch.LongTensor(range(x.size(0)))": SIZES[0],
    "for i in range(int(n)):": SIZES[0],
    "for one in x.split(1):": SIZES[1],
    "a, b = x.chunk(2, dim=3)": SIZES[1],
    "y = x.view(len(x), -1)": SIZES[2],
    "rows = math.ceil(x.shape[2] / 8)": SIZES[3],
    "side = np.sqrt(x.shape[2])": SIZES[3],
    "half = int(x.shape[2] * 0.5)": SIZES[4],
    "s = torch.tensor([x.shape[2], x.shape[3]])": SIZES[5],
    "y = self.pool(x)": None,
    "y = F.adaptive_avg_pool2d(x, 7)": SIZES[6],
}


@pytest.mark.parametrize("row", [*SIZES, *CALLS], ids=lambda row: row.written)
def test_the_page_has_the_row(row: Rewrite) -> None:
    assert f"\n| {row.written} | {row.instead} |\n" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("code", LINES)
def test_a_line_gets_its_row(code: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(f"\n    {code}\n")
    row = LINES[code]
    assert find_rewrite(SIZES, SourceLine(str(file), 2)) == (row.instead if row else "")


def test_no_line_has_no_advice() -> None:
    assert find_rewrite(SIZES, None) == ""
