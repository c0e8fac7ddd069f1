"""The promises of a session that concern its process: forks, the environment, what is left behind.

They are checked in fresh processes (`ganrt.testing.life_cycle_worker`), which start with an empty home folder, an empty
current folder and an empty folder for temporary files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from ganrt.backend import BackendModule
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.checks import require_whole
from ganrt.errors import ContractError, RequestError

_HOME = ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
_CACHE = Path(".cache/ganrt")
_FOLDERS = ("home", "current", "temporary")
_START = "import sys; sys.path[:] = {path!r}; from ganrt.testing.life_cycle_worker import main; main({report!r})"


def check_life_cycle(
    backend: str | BackendModule,
    bundle: Bundle,
    *,
    variant: str = FAITHFUL,
    device: str = "cpu",
    deadline: int = 60,
    **options: Any,
) -> None:
    """Check how a backend's sessions behave in a process that forks, has no home folder, and runs for long.

    Args:
        backend: a name from the table of backends, or the backend's module (`my_package.backend`, or
            `my_package.backend:attribute` for an object in it), which a new process must be able to import.
        bundle: an exported bundle.
        variant: name of the variant to open.
        device: `cpu`, `cuda` or `cuda:N`.
        deadline: seconds after which a forked child counts as hanging; the worker process gets ten times as many.
        options: passed to `open`.

    Raises ContractError, naming the first broken promise; RequestError for a backend that cannot be imported by name.
    """
    request = {
        "backend": backend if isinstance(backend, str) else _name_module(backend),
        "bundle": str(bundle.store.resolve().path),
        "variant": variant,
        "device": device,
        "deadline": require_whole("deadline", deadline),
        "options": options,
    }
    for homeless in (False, True):
        with tempfile.TemporaryDirectory(prefix="ganrt-") as folder:
            _run_worker({**request, "homeless": homeless}, Path(folder))


def _name_module(backend: BackendModule) -> str:
    if not isinstance(backend, ModuleType):
        raise RequestError(
            f"{backend!r} is not a module, so a new process cannot import it; give its name, or pass life_cycle=False"
        )
    return backend.__name__


def _run_worker(request: dict[str, Any], folder: Path) -> None:
    """Run the checks in a process of its own; raise what it found."""
    for name in _FOLDERS:
        (folder / name).mkdir()
    report = folder / "report.json"
    environment = {name: value for name, value in os.environ.items() if name not in _HOME}
    environment["TMPDIR"] = str(folder / "temporary")
    if not request["homeless"]:
        environment["HOME"] = str(folder / "home")
    command = [
        sys.executable,
        "-c",
        _START.format(path=[str(Path(p).absolute()) for p in sys.path], report=str(report)),
    ]
    where = "without a home folder, " if request["homeless"] else ""
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            cwd=folder / "current",
            timeout=10 * request["deadline"],
        )
    except subprocess.TimeoutExpired as error:
        raise ContractError("a process with a session works and ends", f"{where}it did not end") from error
    found = json.loads(report.read_text()) if report.exists() else {}
    if "found" in found:
        raise ContractError(found["promise"], where + found["found"])
    if done.returncode != 0 or not found:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise ContractError(
            "a process with a session ends with the exit status that it chose",
            f"{where}it ended with {done.returncode}: {last}",
        )
    if done.stdout:
        raise ContractError("nothing is printed to standard output", f"{where}it printed {done.stdout[:200]!r}")
    if written := _list_written(folder):
        raise ContractError("nothing is written outside the cache", f"{where}it wrote {', '.join(written)}")


def _list_written(folder: Path) -> list[str]:
    """What the worker left behind, but for ganrt's cache."""
    paths = [path for name in _FOLDERS for path in sorted((folder / name).rglob("*"))]
    names = [path.relative_to(folder) for path in paths if not path.is_dir() or not any(path.iterdir())]
    return [str(name) for name in names if not name.is_relative_to(Path("home") / _CACHE)]
