"""ganrt in a bare container: a user without a name and a home folder, hardly a variable, and a watched name server."""

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.container import USER, ContainerRun, run_in_container

from ganrt.bundle import Bundle

BACKENDS = ("onnxruntime", "openvino", "ncnn", "mnn", "pytorch", "reference")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

SETUP = """
import logging, sys
logging.basicConfig(format="%(levelname)s: %(message)s")
import ganrt
path, *rest = sys.argv[1:]
"""
LOAD = f"""{SETUP}
for backend in rest:
    for _ in range(2):
        with ganrt.load(path, backend, device="cpu") as generator:
            print(generator.sample(2, seed=7).shape)
"""
CHECK = f"""{LOAD}
from ganrt.testing import check_backend
check_backend(rest[0], ganrt.Bundle.read(path))
"""
LOADED = "(2, 16, 16, 1)\n"


@pytest.fixture(scope="module")
def unproven(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without proofs, so that a load proves it."""
    folder = Path(shutil.copytree(bundles["mlp"].folder, tmp_path_factory.mktemp("unproven") / "mlp.ganrt"))
    bundle = Bundle.read(folder)
    replace(bundle, variants={name: replace(v, proofs=()) for name, v in bundle.variants.items()}).write_manifest()
    return folder


def skip_unless_isolated(run: ContainerRun) -> None:
    if not run.isolated:
        pytest.skip(run.why)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_needs_no_user_no_home_and_no_network(backend: str, unproven: Path, tmp_path: Path) -> None:
    run = run_in_container(CHECK, tmp_path, str(unproven), backend, environment=ONE_THREAD)
    assert run.exit_code == 0, run.errors
    assert run.output == 2 * LOADED
    assert run.hosts == () and run.files == ()
    skip_unless_isolated(run)
    assert run.errors.splitlines() == [
        f"WARNING: the user {USER} has no home folder, so there is no folder for the cache: set GANRT_CACHE to one. "
        "ganrt works without it: it proves a variant at every load and uses no tuned record"
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_writes_to_the_cache_alone(backend: str, unproven: Path, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home")}
    run = run_in_container(LOAD, tmp_path, str(unproven), backend, environment=ONE_THREAD | home)
    assert run.exit_code == 0, run.errors
    assert run.hosts == () and run.errors == ""
    folders, proof = run.files[:-1], run.files[-1]
    assert folders == ("home/.cache", "home/.cache/ganrt", "home/.cache/ganrt/proofs")
    assert proof.startswith("home/.cache/ganrt/proofs/") and proof.endswith(".json")


EMPTY = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "GANRT_CACHE", "LC_ALL", "PATH", "TMPDIR", "USER"), "")
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
HOSTILE = {
    "empty": ("", EMPTY),
    "in ASCII, without a folder": ("os.rmdir(os.getcwd())", ASCII | {"TMPDIR": "/nonexistent", "HOME": "/dev/null"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_are_made_in_an_environment_that_is(name: str, unproven: Path, tmp_path: Path) -> None:
    before, environment = HOSTILE[name]
    backends = BACKENDS[:3]
    code = f"import os\n{before}\n{LOAD}"
    run = run_in_container(code, tmp_path, str(unproven), *backends, environment=ONE_THREAD | environment)
    assert run.exit_code == 0, run.errors
    assert run.output == 2 * len(backends) * LOADED
    assert run.files == ()
    skip_unless_isolated(run)
    assert run.errors.count("WARNING") == 1 == len(run.errors.splitlines()), run.errors


CACHES = f"""{SETUP}
import os
from pathlib import Path
from ganrt import cache

def make(name, mode):
    path = Path("../home", name).resolve()
    path.mkdir(parents=True)
    path.chmod(mode)
    return str(path)

homes = {{
    "a file": "/dev/null",
    "read-only": make("read-only", 0o500),
    "of another user": "/proc/sys",
    "not to be entered": make("closed", 0),
    "relative": "work",
}}
for text, home in homes.items():
    cache._has_warned = False
    os.environ["HOME"] = home
    ganrt.load(path, "onnxruntime", device="cpu").close()
os.chmod(homes["not to be entered"], 0o700)
"""


def test_a_home_that_cannot_be_used_is_one_warning(unproven: Path, tmp_path: Path) -> None:
    run = run_in_container(CACHES, tmp_path, str(unproven))
    assert run.exit_code == 0, run.errors
    skip_unless_isolated(run)  # the superuser may write to all of them
    lines = run.errors.splitlines()
    reasons = ("Not a directory", "Permission denied", "", "Permission denied", "has no home folder")
    assert len(lines) == len(reasons)
    for line, reason in zip(lines, reasons, strict=True):
        assert line.startswith("WARNING") and reason in line
    assert run.files == ("home/closed", "home/read-only")


COMMANDS = """
import sys
from ganrt.cli.main import main
for command in (["doctor"], ["doctor", "--json"], ["info", sys.argv[1]], ["sample", sys.argv[1], "--out", "grid.png"]):
    main(command, standalone_mode=False)
"""


def test_commands(unproven: Path, tmp_path: Path) -> None:
    run = run_in_container(COMMANDS, tmp_path, str(unproven), environment=ONE_THREAD | {"LC_ALL": "C"})
    assert run.exit_code == 0, run.errors
    assert "pictures by openvino (cpu) in grid.png" in run.output
    assert run.hosts == () and run.files == ("work/grid.png",)
    skip_unless_isolated(run)
    assert run.output.count(f"the user {USER} has no home folder") == 2  # of both doctors
    assert run.errors.count("WARNING") == 1


def test_the_watch_sees_what_python_and_what_native_code_looks_up(tmp_path: Path) -> None:
    code = """
import ctypes, os, socket
from pathlib import Path
for host in ("python.example.com", "192.0.2.1"):
    try:
        socket.create_connection((host, 9), timeout=1)
    except OSError:
        pass
ctypes.CDLL(None).gethostbyname(b"native.example.com")
Path("file").touch()
Path(os.environ["TMPDIR"], "file").touch()
print(os.getuid(), len(os.environ))
"""
    run = run_in_container(code, tmp_path)
    assert {"python.example.com", "192.0.2.1"} <= {*run.hosts}
    assert run.files == ("tmp/file", "work/file")
    skip_unless_isolated(run)
    assert run.hosts == ("192.0.2.1", "native.example.com", "python.example.com")
    assert run.output.split()[0] == str(USER)


@pytest.mark.skipif(find_spec("openvino_telemetry") is None, reason="needs openvino_telemetry")
def test_the_watch_sees_the_telemetry_of_a_plain_import(tmp_path: Path) -> None:
    """Unlike the tests above, so they can fail."""
    run = run_in_container("import openvino", tmp_path, environment={"HOME": str(tmp_path / "home")})
    assert "home/intel" in run.files and "www.google-analytics.com" in run.hosts
