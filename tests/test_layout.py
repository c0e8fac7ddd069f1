"""The shape of the repository: who imports whom, how large things may grow, and tables that agree with folders."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ganrt.backend import BACKENDS
from ganrt.models import FAMILIES

ROOT = Path(__file__).parent.parent
FOLDERS = {"ganrt": "ganrt", "export": "ganrt.export", "bench": "ganrt.bench"}
"""Folder of the checkout -> the name it is installed under."""
MODULES = {
    ".".join([name, *path.relative_to(ROOT / folder).with_suffix("").parts]).removesuffix(".__init__"): path
    for folder, name in FOLDERS.items()
    for path in sorted((ROOT / folder).rglob("*.py"))
}
"""Module name -> file."""
CLOCKS = {"ganrt.bench.clock", "ganrt.serve.clock"}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
MOST_ENTRIES = 15
"""Files and folders at the top of export/."""

EXPORT, BENCH = "ganrt.export", "ganrt.bench"
EVIDENCE = "ganrt.training.evidence"
ARROWS = {
    "ganrt": {"ganrt.photos"},
    "ganrt.photos": {"ganrt"},
    "ganrt.gpu": {"ganrt"},
    "ganrt.models": {"ganrt"},
    "ganrt.ncnn_format": {"ganrt"},
    "ganrt.backends": {"ganrt", "ganrt.gpu", "ganrt.models", "ganrt.ncnn_format"},
    "ganrt.training": {"ganrt", "ganrt.models"},
    "ganrt.serve": {"ganrt", "ganrt.photos"},
    "ganrt.shards": {"ganrt"},
    "ganrt.video": {"ganrt", "ganrt.photos"},
    "ganrt.weights": {"ganrt"},
    EVIDENCE: {"ganrt", "ganrt.models", "ganrt.training"},
    "ganrt.export": {"ganrt", "ganrt.models", "ganrt.training", "ganrt.export.lint", "ganrt.export.passes"}
    | {"ganrt.export.precision", "ganrt.export.engines", "ganrt.export.sources"},
    "ganrt.export.lint": {"ganrt", "ganrt.models", "ganrt.export", "ganrt.export.passes"},
    "ganrt.export.precision": {"ganrt", "ganrt.export.passes"},
    "ganrt.export.sources": {"ganrt", "ganrt.models", "ganrt.training", "ganrt.export", "ganrt.export.lint"}
    | {"ganrt.export.passes", "ganrt.ncnn_format"},
    "ganrt.export.passes": {"ganrt"},
    "ganrt.export.engines": {"ganrt", "ganrt.gpu"},
    "ganrt.bench": {"ganrt", "ganrt.gpu", "ganrt.models", "ganrt.weights"},
    "ganrt.bench.engines": {"ganrt", "ganrt.models", "ganrt.bench"},
    "ganrt.bench.gpu": {"ganrt", "ganrt.gpu", "ganrt.models", "ganrt.bench"},
    "ganrt.bench.jobs": {"ganrt", "ganrt.bench", "ganrt.photos", "ganrt.shards", "ganrt.video"},
    "ganrt.bench.serving": {"ganrt", "ganrt.bench"},
    "ganrt.cli": {"ganrt", "ganrt.gpu", "ganrt.models", "ganrt.photos", "ganrt.shards", "ganrt.weights"},
}
"""Package -> the other packages that it may import, at import time or later. The command line also imports training,
export and bench, lazily."""
CLOSED = {
    *("ganrt.gpu", "ganrt.bench", "ganrt.ncnn_format", "ganrt.photos", "ganrt.shards", "ganrt.training", "ganrt.video"),
    *(f"ganrt.export.{name}" for name in ("lint", "passes", "precision", "engines", "sources")),
}
"""Others import these packages through what their `__init__` hands out, never from a module inside."""
COMPOSED = {"ganrt.ncnn_format", "ganrt.serve", "ganrt.training", "ganrt.video"}
COMPOSED |= {"ganrt.export", "ganrt.export.engines", "ganrt.bench"}
"""What the command line puts together, inside its commands."""


def package_of(module: str) -> str:
    """The package that a module belongs to: the longest name that it begins with. `python -m ganrt` is the command
    line."""
    if module == "ganrt.__main__":
        return "ganrt.cli"
    return max((name for name in ARROWS if f"{module}.".startswith(f"{name}.")), key=len, default="")


def imports(module: str, source: str, is_package: bool) -> Iterator[tuple[str, bool, bool]]:
    """(module imported, whether by a relative import, whether at import time) of every import statement."""
    tree = ast.parse(source)
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            node.parent = parent  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False, at_import_time(node)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{target}.{alias.name}"
                yield inner if inner in MODULES else target, node.level > 0, at_import_time(node)


def at_import_time(node: ast.AST) -> bool:
    """Whether a statement runs when its module is imported: not inside a function, not for type checkers alone."""
    while parent := getattr(node, "parent", None):
        lazily = isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if lazily or (isinstance(parent, ast.If) and ast.unparse(parent.test) == "TYPE_CHECKING"):
            return False
        node = parent
    return True


@cache
def handed_out(package: str) -> tuple[str, ...]:
    """The modules of a package that are in its `__all__`."""
    tree = ast.parse(MODULES[package].read_text())
    assigned = [n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    names = ast.literal_eval(assigned[0].value) if assigned else []
    return tuple(inner for name in names if (inner := f"{package}.{name}") in MODULES)


def broken_arrows(module: str, source: str, is_package: bool = False) -> list[str]:
    """The imports of a module that go the wrong way, each with the rule it breaks."""
    here = package_of(module)
    found = []
    for target, relative, now in imports(module, source, is_package):
        there = package_of(target)
        if target.partition(".")[0] in ("export", "bench"):
            found.append(f"{target}: outside its folder the name is ganrt.{target}")
        elif target.partition(".")[0] in ("time", "timeit") and module not in CLOCKS:
            found.append(f"{target}: only bench/clock.py and ganrt/serve/clock.py read a clock")
        elif there and (rule := _broken_rule(module, target, relative, now)):
            found.append(f"{target}: {rule}")
        elif here == "ganrt.backends" and target in ("ganrt", "ganrt.generator", "ganrt.testing", "ganrt.trust"):
            found.append(f"{target}: backends know nothing above the session")
    return found


def _broken_rule(module: str, target: str, relative: bool, now: bool) -> str:
    """The rule between two modules of ganrt that an import breaks; empty where it breaks none."""
    here, there = package_of(module), package_of(target)
    folder = next((name for name in (EXPORT, BENCH) if f"{here}.".startswith(f"{name}.")), "")
    same_folder = bool(folder) and f"{there}.".startswith(f"{folder}.")
    if relative != same_folder:
        return "relative imports are for export and bench, among themselves"
    if here == there == "ganrt.backends" and target not in (here, module):
        return "backends do not import each other"
    if here == "ganrt.cli" and there in COMPOSED:
        if now:
            return "the command line imports it lazily, inside functions"
    elif here != there and there not in ARROWS[here]:
        return f"{here} does not import {there}"
    inside = here.startswith(there) or (here == EVIDENCE and there == "ganrt.training")
    if there in CLOSED and not inside and target not in (there, *handed_out(there)):
        return f"{there} is imported through its __init__"
    return ""


@pytest.mark.parametrize("module", MODULES)
def test_the_arrows_of_the_design(module: str) -> None:
    path = MODULES[module]
    assert broken_arrows(module, path.read_text(), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("package", "other"), [(a, b) for a in ARROWS for b in ARROWS if a != b and b not in ARROWS[a]]
)
def test_every_arrow_that_the_table_lacks_is_found(package: str, other: str) -> None:
    """Among them each arrow of the table, turned round."""
    folder = next((name for name in (EXPORT, BENCH) if f"{package}.".startswith(f"{name}.")), "")
    inside = bool(folder) and f"{other}.".startswith(f"{folder}.")
    source = f"from {other} import x"
    if inside:
        dots = "." * (1 + package.count(".") - folder.count("."))
        source = f"from {dots}{other.removeprefix(folder).removeprefix('.')} import x"
    found = broken_arrows(f"{package}.a_module", source)
    lazily = package == "ganrt.cli" and other in COMPOSED
    rule = "lazily" if lazily else f"{package} does not import {other}"
    assert len(found) == 1 and rule in found[0]


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        ("ganrt.generator", "def f():\n    from ganrt.export import export", "ganrt does not import ganrt.export"),
        ("ganrt.generator", "from ganrt import bench", "ganrt does not import ganrt.bench"),
        ("ganrt.bench.harness", "from ganrt.bench.clock import now", "relative imports are for"),
        ("ganrt.export.lint.graph", "from ganrt.export.tracing import trace", "relative imports are for"),
        ("ganrt.export.exporter", "import export.tracing", "outside its folder the name is ganrt.export"),
        ("ganrt.cli.main", "from ganrt.export import export", "lazily"),
        ("ganrt.cli.main", "try:\n    import ganrt.bench\nexcept ImportError:\n    pass", "lazily"),
        ("ganrt.feeds", "from . import spec", "relative imports are for"),
        ("ganrt.export.exporter", "from .. import spec", "relative imports are for"),
        ("ganrt.export.passes.base", "from ..precision.int8 import quantize", "does not import ganrt.export.precision"),
        ("ganrt.backends.openvino", "from ganrt.backends import onnxruntime", "do not import each other"),
        ("ganrt.backends.openvino", "from ganrt.generator import load", "nothing above the session"),
        ("ganrt.backends.openvino", "import ganrt", "nothing above the session"),
        (
            "ganrt.batching",
            "from time import perf_counter",
            "only bench/clock.py and ganrt/serve/clock.py read a clock",
        ),
        ("ganrt.bench.harness", "import time", "only bench/clock.py and ganrt/serve/clock.py read a clock"),
    ],
)
def test_an_arrow_that_is_turned_round_is_found(module: str, source: str, rule: str) -> None:
    found = broken_arrows(module, source)
    assert len(found) == 1 and rule in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ganrt.export.exporter", "import ganrt\nfrom ganrt.bundle import Bundle\nfrom .tracing import trace"),
        ("ganrt.export", "from .exporter import export"),
        ("ganrt.export.variants", "from .passes import Patch"),
        ("ganrt.export.lint.graph", "from ..passes import Patch"),
        ("ganrt.export.passes.base", "from .graph import Patch"),
        ("ganrt.backends.tensorrt", "from ganrt.gpu import engine_cache"),
        ("ganrt.gpu.session", "from ganrt.gpu.device import Gpu"),
        ("ganrt.cli.main", "def f():\n    from ganrt.export import export"),
        ("ganrt.cli.main", "if TYPE_CHECKING:\n    from ganrt.bench import Case"),
        ("ganrt.backends.pytorch", "import torch\nfrom ganrt.models import build_generator"),
        ("ganrt.bench.clock", "import time"),
    ],
)
def test_good_arrows_are_left_alone(module: str, source: str) -> None:
    assert broken_arrows(module, source, is_package=module == "ganrt.export") == []


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("module", MODULES)
def test_nothing_grows_beyond_its_cap(module: str) -> None:
    source = MODULES[module].read_text()
    assert len(source.splitlines()) <= LONGEST_FILE
    lengths = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions(ast.parse(source))}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_export_stays_easy_to_survey() -> None:
    entries = [path for path in (ROOT / "export").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    assert len(entries) <= MOST_ENTRIES


def test_every_package_is_in_the_wheel_but_the_evidence() -> None:
    """A package that pyproject.toml does not list is missing from the wheel."""
    listed = (ROOT / "pyproject.toml").read_text().partition("\npackages = [")[2].partition("]")[0]
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert set(re.findall(r'"([\w.]+)"', listed)) == packages - {EVIDENCE}


def test_every_folder_of_code_is_a_package_that_says_what_it_is_for() -> None:
    folders = {path.parent for path in MODULES.values()}
    assert all(ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) for folder in folders)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_is_named_like_a_framework(folder: str) -> None:
    """Run by its path, such a file would hide the framework from its neighbours."""
    frameworks = {"onnx", "torch", "tensorrt", "numpy", "json", "time"}
    assert {path.stem for path in (ROOT / folder).glob("*.py")} & frameworks == set()


def test_the_table_of_backends_agrees_with_its_folder() -> None:
    files = {path.stem for path in (ROOT / "ganrt" / "backends").glob("[!_]*.py")}
    assert files == {name.replace("-", "_") for name in BACKENDS}
    assert all(entry.module == f"ganrt.backends.{name.replace('-', '_')}" for name, entry in BACKENDS.items())


def test_every_backend_names_an_extra_that_there_is() -> None:
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    assert all(f"\n{entry.extra} = [" in extras for entry in BACKENDS.values())


def test_the_table_of_families_agrees_with_its_folder() -> None:
    files = {path.stem for path in (ROOT / "ganrt" / "models").glob("[!_]*.py")}
    others = {"family", "parametrize", "unpickle", "vgg", "features", "residual", "upscaling", "uninitialized"}
    others |= {"translation"}
    others |= {"stylegan2_network", "stylegan2_layouts", "network_pickle", "pickle_reader", "file_kinds", "stand_ins"}
    others |= {"stylegan3_network"}
    assert files - others == set(FAMILIES)
