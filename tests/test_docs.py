"""The README and the pages of docs/: their code blocks work, their links lead somewhere."""

import contextlib
import io
import linecache
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from test_layout import ARROWS, COMPOSED, EVIDENCE

from ganrt.cli.main import main
from ganrt.export.passes import FORMS
from ganrt.export.passes.pipeline import list_passes

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *```([^\n]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SHORT = {
    "train": ["--steps", "2", "--batch", "8"],
    "bench": ["--seconds", "1", "--backend", "onnxruntime"],
    "tune": ["--seconds", "2", "--backend", "onnxruntime", "--batch", "1"],
    "verify": ["--backend", "onnxruntime"],
}
"""Added to commands that take minutes as written."""


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    """`python` and `sh` are run. `python error` raises, and `python output` prints, what the next `text` block shows. A
    `python` block whose first line is a comment with a file name is written to that file instead. `text` and `mermaid`
    are only shown, and tests/test_recipes.py runs `python recipe`."""
    text: str


def read_blocks(page: Path) -> list[Block]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [Block(language, textwrap.dedent(text)) for language, text in found]


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page in order, in the current folder; the Python blocks share their names."""
    names: dict[str, Any] = {"__name__": "page"}
    blocks = read_blocks(page)
    for number, block in enumerate(blocks):
        if block.language == "sh":
            for line in block.text.splitlines():
                run_command(line)
        elif file := re.match(r"# (\w+\.py)\n", block.text):
            (folder / file[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            run_python(block.text, names)
        elif block.language == "python error":
            with pytest.raises(Exception) as raised:
                run_python(block.text, names)
            check_shown(f"{raised.type.__name__}: {raised.value}", blocks[number + 1])
        elif block.language == "python output":
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                run_python(block.text, names)
            check_shown(f"...{printed.getvalue()}", blocks[number + 1])


def check_shown(found: str, block: Block) -> None:
    """Compare words; `...` in the block, and at the start of what was found, stands for any others."""
    assert block.language == "text"
    inside = found.startswith("...")
    pattern = re.escape(" ".join(block.text.split())).replace(r"\.\.\.", ".*")
    words = " ".join(found.split())
    assert re.search(pattern, words) if inside else re.fullmatch(pattern, words), words


def run_command(line: str) -> None:
    """Run `ganrt ...`, cut short where it takes minutes, or `ganrt ... > FILE`."""
    line, _, file = line.partition(" > ")
    program, *words = shlex.split(line)
    assert program == "ganrt"
    done = CliRunner().invoke(main, [*words, *SHORT.get(words[0], [])])
    assert done.exit_code == 0, f"{line}\n{done.stderr}"
    if file:
        Path(file).write_text(done.stdout, encoding="utf-8")


def run_python(text: str, names: dict[str, Any]) -> None:
    """Run a block so that `inspect` finds its source, as in a script."""
    file = f"<block {hash(text)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), names)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's blocks have run, so that the other pages find its bundle."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        run_page(PAGES[0], folder)
    return folder


def test_the_readme_leaves_its_results(workplace: Path) -> None:
    for name in ("digits.ganrt/ganrt.json", "grid.png", "arrays.npz", "report.json", "report.html"):
        assert (workplace / name).is_file()


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")  # inside torch.onnx.export
@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    run_page(page, workplace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_has_a_language(page: Path) -> None:
    assert {block.language for block in read_blocks(page)} <= {
        "python",
        "python error",
        "python output",
        "python recipe",
        "sh",
        "text",
        "mermaid",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "gpu"], ids=lambda page: page.stem)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    paths = re.findall(r"`((?:ganrt|export|bench|tests|docs|examples)/[\w/.-]+)`", page.read_text())
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []


def test_the_diagram_has_the_arrows_of_the_layout() -> None:
    """But for those to the core, which every package may import."""
    shown = re.findall(r"^  ([\w.]+) (-->|-\.->) ([\w.]+)$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    solid = {(start, end) for start, arrow, end in shown if arrow == "-->"}
    dotted = {(start, end) for start, arrow, end in shown if arrow == "-.->"}
    assert solid == {(start, end) for start in ARROWS for end in ARROWS[start] - {"ganrt"} if start != EVIDENCE}
    assert dotted == {("ganrt.cli", end) for end in COMPOSED}


def test_every_pass_is_described() -> None:
    table = (ROOT / "docs/export.md").read_text().partition("## Graph passes")[2].partition("\n## ")[0]
    shown = {
        name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`([\w-]+)`", row)
    }
    assert shown == {step.name for form in FORMS for step in list_passes(form)}


def test_a_wrong_block_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python error\n1 / 0\n```\n\n```text\nZeroDivisionError: division by one\n```\n")
    with pytest.raises(AssertionError):
        run_page(page, tmp_path)
    page.write_text("```sh\nganrt info nowhere.ganrt\n```\n")
    with pytest.raises(AssertionError, match="is not a bundle"):
        run_page(page, tmp_path)
