"""The API that ganrt uses, checked against the real Python bindings of TensorRT for RTX, and against those of TensorRT
if they were downloaded: `make bindings`.

A wheel of bindings holds no TensorRT, which is gigabytes. Empty libraries with the same names are enough to import the
bindings and to read their API.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from gpu.test_api_contract import CUDA_CORE, MODULES, RTX_API, TENSORRT, describe_version, select_sources
from helpers import api_contract
from helpers.foreign_api import Api, Signature, read_versions

ROOT = Path(__file__).parents[2]
TAG = f"-cp{sys.version_info[0]}{sys.version_info[1]}-"
WHEELS = sorted(path for path in (ROOT / "out" / "bindings").glob("*.whl") if TAG in path.name)
PARAMS: list[Path | None] = [None, *WHEELS]


@pytest.fixture(scope="module", params=PARAMS, ids=lambda wheel: wheel.name if wheel else "rtx")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The API of TensorRT for RTX, as installed, or that of a wheel."""
    if request.param is None:
        return read_bindings([], {})
    if not (shutil.which("gcc") and shutil.which("nm") and shutil.which("readelf")):
        pytest.skip("gcc and binutils, which make the stand-in libraries, are not on this machine")
    folder = tmp_path_factory.mktemp("bindings")
    zipfile.ZipFile(request.param).extractall(folder)
    build_stand_ins(folder / "tensorrt_bindings" / "tensorrt.so", folder)
    return read_bindings([str(folder)], {"LD_LIBRARY_PATH": str(folder)})


def read_bindings(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "read_bindings.py"), *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    if not arguments:
        read["version"] = f"rtx-{read['version']}"
    return read


def build_stand_ins(extension: Path, folder: Path) -> None:
    """Build libraries with the names that the extension needs; the first one has all functions."""
    needed = subprocess.run(["readelf", "-d", extension], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"\[(libnv[^\]]+)\]", needed)
    undefined = subprocess.run(["nm", "-D", "--undefined-only", extension], capture_output=True, text=True, check=True)
    ours = re.compile(r"infer|parser|plugin", re.IGNORECASE)
    symbols = [s for line in undefined.stdout.splitlines() if ours.search(s := line.split()[-1].partition("@")[0])]
    for place, name in enumerate(names):
        source = folder / f"{place}.c"
        source.write_text("".join(f"void *{s}(void) {{ return 0; }}\n" for s in symbols) if place == 0 else "")
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, source]
        subprocess.run(command, check=True)


def to_api(read: dict[str, Any]) -> Api:
    def fact(value: Any) -> Any:
        return [parse_signature(text) for text in value] if isinstance(value, list) else value

    used = {name for recorded in TENSORRT.values() for name in recorded.classes}  # ganrt uses no others
    classes = {n: {m: fact(v) for m, v in read["classes"][n].items()} for n in sorted(used & read["classes"].keys())}
    enums = {name: tuple(members) for name, members in read["enums"].items()}
    return Api(read["version"], classes, enums, {name: fact(v) for name, v in read["functions"].items()})


def parse_signature(text: str) -> Signature:
    """Parse `name(self: X, a: T, b: T = 0) -> R`."""
    inside, _, returns = text.partition("(")[2].rpartition(") -> ")
    parts = [part for part in re.split(r", (?=\w+:)", inside) if part and not part.startswith("self")]
    names = tuple(part.partition(":")[0] for part in parts)
    required = frozenset(name for name, part in zip(names, parts, strict=True) if " = " not in part)
    return Signature(names, (), required, False, returns.rpartition(".")[2])


def test_every_name_that_ganrt_uses_is_in_the_real_bindings(found: dict[str, Any]) -> None:
    real = to_api(found)
    apis = {"trt": real, "core": CUDA_CORE["1.2.2"]}
    sources = select_sources(real)
    assert len(sources) > 8 and api_contract.find_problems(sources, apis, MODULES, describe_version(real)) == []


def test_the_recorded_api_of_a_version_is_that_of_its_bindings(found: dict[str, Any]) -> None:
    recorded = next((a for a in TENSORRT.values() if found["version"].startswith(a.version)), None)
    if recorded is None:
        pytest.skip(f"nothing is recorded of {found['version']}")
    real = to_api(found)
    for name, members in recorded.classes.items():
        for member, fact in members.items():
            assert member in real.classes[name], f"{name}.{member}"
            if isinstance(fact, list):
                names = [s.positional for s in fact]
                assert [s.positional for s in real.classes[name][member]] == names, f"{name}.{member}"  # type: ignore[union-attr]
    for name, known in recorded.enums.items():
        assert set(known) == set(real.enums[name]), name


def test_ganrts_modules_work_over_the_real_bindings(found: dict[str, Any]) -> None:
    """Enums work as keys and in shifts, TensorRT can call the log, and torch is not needed to build and run engines."""
    assert found["log"] == "a line" and found["lean"] is False and found["torch"] is False
    assert found["dtypes"] == (6 if found["version"].startswith("8.") else 7)
    assert tuple(found["api"]) == (RTX_API if found["version"].startswith("rtx-") else to_api(found).number[:2])


def test_signatures_and_versions_are_parsed() -> None:
    assert parse_signature("f(self: a.B, x: typing.SupportsInt = 0, y: b.C) -> a.B") == Signature(
        ("x", "y"), (), frozenset({"y"}), False, "B"
    )
    assert list(read_versions("tensorrt_api.json")) == list(TENSORRT)
