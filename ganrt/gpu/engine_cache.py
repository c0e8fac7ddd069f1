"""The cache of engines built on this machine.

An engine is executable code, and deserializing a plan runs it. So a plan is read only from a folder that no other user
can write to, and only if its sha256 is the one recorded at its build; both are checked before TensorRT gets a byte. An
engine is a plan and a sidecar `DIGEST.json`, written after it, with everything that the engine depends on.
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
"""Of sidecars."""
_MAX_SIDECAR = 2**22
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """What an engine is built for."""

    gpu: str
    """Name of the model."""
    capability: str
    """Compute capability, such as `9.0`."""
    driver: str
    """Version of the driver."""
    tensorrt: str
    """Version of the library, all four numbers if it reports them."""


@dataclass(frozen=True)
class Key:
    """Everything that an engine depends on."""

    graph: str
    """`Bundle.digest` of the variant: its graph, external data and weights."""
    options: Mapping[str, Any]
    """Every option of the build by its name."""
    machine: Machine

    def digest(self) -> str:
        """Return the sha256 that names the engine's files."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Engine:
    """A plan on disk and what its sidecar records. The plan has not been read yet."""

    path: Path
    """The plan."""
    sha256: str
    """Of the plan."""
    key: Key
    notes: Mapping[str, Any]
    """Facts found after the build, such as the share of layers in each precision."""


def ensure_folder() -> Path:
    """Return the folder of the cache, making it if necessary. Raises MachineError if other users can write to it."""
    return cache_folder("engines", "tensorrt")


def store(key: Key, plan: bytes, notes: Mapping[str, Any]) -> Engine:
    """Keep a plan that was just built here, replacing one with the same key. The sidecar is written last and in one
    step; until then the engine is not found. Raises MachineError."""
    digest, sha256 = key.digest(), hashlib.sha256(plan).hexdigest()
    name = f"{digest[:16]}-{sha256[:16]}.plan"
    sidecar = ensure_folder() / f"{digest}.json"
    atomic.write_file(ensure_folder() / name, plan)
    body = {"format": FORMAT, "key": asdict(key), "plan": name, "sha256": sha256, "notes": dict(notes)}
    atomic.write_file(sidecar, json.dumps(body, indent=1).encode())
    for old in ensure_folder().glob(f"{digest[:16]}-*.plan"):
        if old.name != name:
            old.unlink(missing_ok=True)
    return Engine(ensure_folder() / name, sha256, key, notes)


def find_engine(graph: str, machine: Machine, wanted: Mapping[str, Any] | None = None) -> Engine:
    """Return the engine of a graph that runs on this machine; of several, the one built last.

    Args:
        graph: `Bundle.digest` of the variant.
        wanted: options that it must have been built with.

    Raises NoEngineError, which lists the engines that do not fit and names the command that builds one.
    """
    reasons: list[str] = []
    fitting: list[Engine] = []
    for engine in iterate_engines(graph):
        reason = explain_misfit(engine.key, machine) or _explain_options(engine.key, wanted or {})
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


def find_exact(key: Key) -> Engine | None:
    """Return the engine with exactly this key, or None."""
    return _read_sidecar(ensure_folder() / f"{key.digest()}.json")


def iterate_engines(graph: str | None = None) -> Iterator[Engine]:
    """Yield all engines, or all of one graph, no matter what they were built for."""
    for path in sorted(ensure_folder().glob("*.json")):
        engine = _read_sidecar(path)
        if engine is not None and graph in (None, engine.key.graph):
            yield engine


def explain_misfit(key: Key, machine: Machine) -> str | None:
    """Return why an engine does not run on a machine, or None if it does. TensorRT requires the version and the GPU of
    the build, unless the engine was built to be compatible with others."""
    built, options = key.machine, key.options
    portable = bool(options.get("version_compatible"))
    versions = [_parse_version(m.tensorrt) for m in (built, machine)]
    newer = portable and versions[0] <= versions[1] and versions[1][0] - versions[0][0] <= 1
    if versions[0] != versions[1] and not newer:
        return f"for TensorRT {built.tensorrt}"
    hardware = options.get("hardware_compatible", "none")
    runs = {
        "none": built.gpu == machine.gpu,
        "same-capability": built.capability == machine.capability,
        "ampere-plus": _parse_version(machine.capability) >= (8, 0),
    }
    if not runs[hardware]:
        return f"for {built.gpu} (compute capability {built.capability})"
    if built.driver != machine.driver and not portable:
        return f"for the driver {built.driver}, and this machine has {machine.driver}"
    return None


def read_plan(engine: Engine) -> bytes:
    """Return the plan of an engine, checked against the digest of its build. Raises ArtifactError."""
    return read_verified(engine.path, engine.sha256, "build it again with `ganrt build BUNDLE --backend tensorrt`")


def read_verified(path: Path, sha256: str, advice: str = "fetch it again, or name the right digest") -> bytes:
    """Return a plan whose digest the caller trusts. Raises ArtifactError, ending in `advice`, if the file is missing or
    has another digest."""
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"the engine {path} cannot be read ({error.strerror}): {advice}") from error
    found = hashlib.sha256(plan).hexdigest()
    if found != sha256:
        raise ArtifactError(
            f"the engine {path} has the sha256 {found[:16]}..., not {sha256[:16]}...; it is executable code and was "
            f"not loaded: {advice}"
        )
    return plan


@contextmanager
def lock(key: Key) -> Iterator[None]:
    """Hold a lock that one process at a time can have for a key. The system releases it when a process is killed."""
    path = ensure_folder() / f"{key.digest()}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("another process is building this engine; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _explain_options(key: Key, wanted: Mapping[str, Any]) -> str | None:
    """Return which option of an engine is not the wanted one, or None."""
    for name, value in wanted.items():
        if key.options.get(name) != value:
            return f"built with {name} = {key.options.get(name)!r}, not {value!r}"
    return None


def _read_sidecar(sidecar: Path) -> Engine | None:
    """Return None if the sidecar is missing or damaged, or its plan is missing; the next build replaces them."""
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
        _log.warning("%s is not the record of an engine (%s) and is skipped", sidecar, error)
        return None
    return engine if key.digest() == sidecar.stem and path.is_file() else None


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
