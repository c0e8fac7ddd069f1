"""The shape of the repository: who imports whom, how large things may grow, and tables that agree with folders."""

import ast
from collections.abc import Iterator
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
CLOCKS = {"ganrt.bench.clock"}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def area(module: str) -> str:
    """The part of the product that a module belongs to."""
    for name in ("ganrt.export", "ganrt.bench", "ganrt.backends", "ganrt.models", "ganrt.training"):
        if module == name or module.startswith(name + "."):
            return name
    return module if module == "ganrt.cli" else "ganrt"


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


def broken_arrows(module: str, source: str, is_package: bool = False) -> list[str]:
    """The imports of a module that go the wrong way, each with the rule it breaks."""
    here = area(module)
    found = []
    for target, relative, now in imports(module, source, is_package):
        there = area(target)
        outer = there in ("ganrt.export", "ganrt.bench")
        if target.partition(".")[0] in ("export", "bench"):
            found.append(f"{target}: outside its folder the name is ganrt.{target}")
        elif outer and here not in (there, "ganrt.cli"):
            found.append(f"{target}: arrows point inward, export -> ganrt <- bench")
        elif outer and here == "ganrt.cli" and now:
            found.append(f"{target}: the command line names export and bench lazily, inside functions")
        elif here == there and outer and not relative:
            found.append(f"{target}: siblings are imported relatively inside export and bench")
        elif relative and not (here == there and outer):
            found.append(f"{target}: relative imports are for export and bench")
        elif here == "ganrt.backends" and there == here and target != here and target != module:
            found.append(f"{target}: backends do not import each other")
        elif here == "ganrt.backends" and target in ("ganrt", "ganrt.generator", "ganrt.testing", "ganrt.trust"):
            found.append(f"{target}: backends know nothing above the session")
        elif here == "ganrt" and there == "ganrt.training":
            found.append(f"{target}: the core does not know about training")
        elif here == "ganrt" and there == "ganrt.backends":
            found.append(f"{target}: backends are imported by name, when they are asked for")
        elif target.partition(".")[0] in ("time", "timeit") and module not in CLOCKS:
            found.append(f"{target}: only bench/clock.py reads a clock")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_the_arrows_of_the_design(module: str) -> None:
    path = MODULES[module]
    assert broken_arrows(module, path.read_text(), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        ("ganrt.generator", "import ganrt.export", "arrows point inward"),
        ("ganrt.generator", "def f():\n    from ganrt.export import export", "arrows point inward"),
        ("ganrt.generator", "from ganrt import bench", "arrows point inward"),
        ("ganrt.training.loop", "from ganrt.export.tracing import trace", "arrows point inward"),
        ("ganrt.export.exporter", "from ganrt.bench import harness", "arrows point inward"),
        ("ganrt.bench.harness", "import ganrt.export.exporter as exporter", "arrows point inward"),
        ("ganrt.bench.harness", "from ganrt.bench.clock import now", "siblings are imported relatively"),
        ("ganrt.export.exporter", "import export.tracing", "outside its folder the name is ganrt.export"),
        ("ganrt.cli", "from ganrt.export import export", "lazily"),
        ("ganrt.cli", "try:\n    import ganrt.bench\nexcept ImportError:\n    pass", "lazily"),
        ("ganrt.feeds", "from . import spec", "relative imports are for export and bench"),
        ("ganrt.export.exporter", "from .. import spec", "relative imports are for export and bench"),
        ("ganrt.backends.openvino", "from ganrt.backends import onnxruntime", "do not import each other"),
        ("ganrt.backends.openvino", "from ganrt.generator import load", "nothing above the session"),
        ("ganrt.backends.openvino", "import ganrt", "nothing above the session"),
        ("ganrt.proof", "from ganrt.training import losses", "does not know about training"),
        ("ganrt.proof", "from ganrt.backends import pytorch", "imported by name"),
        ("ganrt.batching", "from time import perf_counter", "only bench/clock.py reads a clock"),
        ("ganrt.bench.harness", "import time", "only bench/clock.py reads a clock"),
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
        ("ganrt.cli", "def f():\n    from ganrt.export import export"),
        ("ganrt.cli", "if TYPE_CHECKING:\n    from ganrt.bench import Case"),
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


@pytest.mark.parametrize("folder", ["export", "bench"])
def test_export_and_bench_stay_flat(folder: str) -> None:
    """A subfolder that pyproject.toml does not list would be missing from the wheel."""
    assert [path for path in (ROOT / folder).rglob("*.py") if path.parent != ROOT / folder] == []


def test_every_package_is_in_the_wheel() -> None:
    listed = (ROOT / "pyproject.toml").read_text().partition("\npackages = [")[2].partition("]")[0]
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert {name.strip(' "') for name in listed.split(",")} == packages


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_is_named_like_a_framework(folder: str) -> None:
    """Run by its path, such a file would hide the framework from its neighbours."""
    frameworks = {"onnx", "torch", "tensorrt", "numpy", "json", "time"}
    assert {path.stem for path in (ROOT / folder).glob("*.py")} & frameworks == set()


def test_the_table_of_backends_agrees_with_its_folder() -> None:
    files = {path.stem for path in (ROOT / "ganrt" / "backends").glob("[!_]*.py")}
    assert files == set(BACKENDS)
    assert all(entry.module == f"ganrt.backends.{name}" for name, entry in BACKENDS.items())


def test_every_backend_names_an_extra_that_there_is() -> None:
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    assert all(f"\n{entry.extra} = [" in extras for entry in BACKENDS.values())


def test_the_table_of_families_agrees_with_its_folder() -> None:
    files = {path.stem for path in (ROOT / "ganrt" / "models").glob("[!_]*.py")}
    assert files - {"family", "parametrize", "unpickle", "vgg", "features", "residual", "upscaling"} == set(FAMILIES)
