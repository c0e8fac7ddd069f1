"""Engines that were built on this machine, and how one is found, checked and kept.

An engine is executable code: deserialising one from elsewhere is running it. So a plan is read only from a folder that
nobody else can write to, and only when its sha256 is the one noted at its build; both are checked before TensorRT sees
a byte. One engine is a plan and, written after it, a sidecar `DIGEST.json` with all that the engine depends on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganrt import atomic
from ganrt.cache import cache_folder
from ganrt.errors import ArtifactError, NoEngineError
from ganrt.json_reader import read_json

FORMAT = 1
_MAX_SIDECAR = 2**22
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """What an engine is made for."""

    gpu: str
    """Name of the model."""
    capability: str
    """Compute capability, such as `9.0`."""
    driver: str
    tensorrt: str
    """Version, all four numbers where the library tells them."""


@dataclass(frozen=True)
class Key:
    """Everything that an engine depends on."""

    graph: str
    """`Bundle.digest` of the variant: its graph, external data and weights."""
    options: Mapping[str, Any]
    """Every option of the build by its name."""
    machine: Machine

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Engine:
    """A plan on disk with its sidecar; nothing of the plan has been read yet."""

    path: Path
    sha256: str
    key: Key
    notes: Mapping[str, Any]
    """What was found after the build, such as the share of layers per precision."""


def folder() -> Path:
    """The cache, created if it is not there. Raises MachineError when others may write to it."""
    return cache_folder("engines", "tensorrt")


def store(key: Key, plan: bytes, notes: Mapping[str, Any]) -> Engine:
    """Keep a plan that was just built here, in place of one under the same key. Until its sidecar is written, last and
    in one step, nothing finds it. Raises MachineError."""
    digest, sha256 = key.digest(), hashlib.sha256(plan).hexdigest()
    name = f"{digest[:16]}-{sha256[:16]}.plan"
    sidecar = folder() / f"{digest}.json"
    atomic.write_file(folder() / name, plan)
    body = {"format": FORMAT, "key": asdict(key), "plan": name, "sha256": sha256, "notes": dict(notes)}
    atomic.write_file(sidecar, json.dumps(body, indent=1).encode())
    for old in folder().glob(f"{digest[:16]}-*.plan"):
        if old.name != name:
            old.unlink(missing_ok=True)
    return Engine(folder() / name, sha256, key, notes)


def find(graph: str, machine: Machine, wanted: Mapping[str, Any] | None = None) -> Engine:
    """The engine of a graph that runs on this machine, the one built last if there are several.

    Args:
        wanted: options that it must have been built with.

    Raises NoEngineError that says what there is instead, and how to build one.
    """
    reasons: list[str] = []
    fitting: list[Engine] = []
    for engine in engines(graph):
        reason = misfit(engine.key, machine) or _unwanted(engine.key, wanted or {})
        if reason is None:
            fitting.append(engine)
        else:
            reasons.append(reason)
    if fitting:
        return max(fitting, key=lambda engine: engine.path.stat().st_mtime_ns)
    found = f"there is one {'; one '.join(dict.fromkeys(reasons))}" if reasons else "none of this graph was built"
    raise NoEngineError(
        f"no engine for TensorRT {machine.tensorrt} on {machine.gpu} is in the cache ({found}): build it with "
        "`ganrt build BUNDLE --backend tensorrt`"
    )


def exact(key: Key) -> Engine | None:
    """The engine with this very key, or None."""
    return _read(folder() / f"{key.digest()}.json")


def engines(graph: str | None = None) -> Iterator[Engine]:
    """All engines, or all of one graph, whatever they were built for."""
    for path in sorted(folder().glob("*.json")):
        engine = _read(path)
        if engine is not None and graph in (None, engine.key.graph):
            yield engine


def misfit(key: Key, machine: Machine) -> str | None:
    """Why an engine does not run on a machine, or None. The rules are those of TensorRT: the version and the GPU of the
    build, unless it was built to be compatible with more."""
    built, options = key.machine, key.options
    portable = bool(options.get("version_compatible"))
    versions = [tuple(map(int, m.tensorrt.split("."))) for m in (built, machine)]
    newer = portable and versions[0] <= versions[1] and versions[1][0] - versions[0][0] <= 1
    if versions[0] != versions[1] and not newer:
        return f"for TensorRT {built.tensorrt}"
    level = options.get("hardware_compatible", "none")
    elsewhere = {
        "none": built.gpu == machine.gpu,
        "same-capability": built.capability == machine.capability,
        "ampere-plus": _number(machine.capability) >= (8, 0),
    }
    if not elsewhere[level]:
        return f"for {built.gpu} (compute capability {built.capability})"
    if built.driver != machine.driver and not portable:
        return f"for the driver {built.driver}, where {machine.driver} is here now"
    return None


def read(engine: Engine) -> bytes:
    """The plan, after its digest was compared with that of its build. Raises ArtifactError."""
    return vouched(engine.path, engine.sha256, "build it again with `ganrt build BUNDLE --backend tensorrt`")


def vouched(path: Path, sha256: str, advice: str = "fetch it again, or name the right digest") -> bytes:
    """A plan for which somebody vouches by its digest. Raises ArtifactError when it is another, or is not there."""
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"the engine {path} cannot be read ({error.strerror}): {advice}") from error
    found = hashlib.sha256(plan).hexdigest()
    if found != sha256:
        raise ArtifactError(
            f"the engine {path} has the sha256 {found[:16]}..., not {sha256[:16]}...; it is executable code and was "
            f"not touched: {advice}"
        )
    return plan


@contextmanager
def lock(key: Key) -> Iterator[None]:
    """Only one process at a time is inside for a key; the others wait. A killed process lets go of it."""
    path = folder() / f"{key.digest()}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("another process is building this engine; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unwanted(key: Key, wanted: Mapping[str, Any]) -> str | None:
    for name, value in wanted.items():
        if key.options.get(name) != value:
            return f"built with {name} = {key.options.get(name)!r}, not {value!r}"
    return None


def _read(sidecar: Path) -> Engine | None:
    """None for a sidecar that is not there, is damaged, or whose plan is gone: all mend themselves by a build."""
    try:
        raw: Any = read_json(sidecar, _MAX_SIDECAR)
        if raw["format"] != FORMAT:
            return None
        key = Key(raw["key"]["graph"], dict(raw["key"]["options"]), Machine(**raw["key"]["machine"]))
        path = sidecar.parent / Path(raw["plan"]).name
        engine = Engine(path, str(raw["sha256"]), key, dict(raw["notes"]))
    except FileNotFoundError:
        return None
    except (ArtifactError, KeyError, TypeError, ValueError) as error:
        _log.warning("%s is no record of an engine (%s) and is passed over", sidecar, error)
        return None
    return engine if key.digest() == sidecar.stem and path.is_file() else None


def _number(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
