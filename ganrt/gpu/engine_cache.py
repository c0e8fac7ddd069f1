"""The cache of engines built on this machine, in a folder for each of NVIDIA's two libraries.

An engine is executable code, and deserializing a plan runs it. So a plan is read only from a folder that no other user
can write to, and only if its sha256 is the one recorded at its build; both are checked before TensorRT gets a byte. An
engine is a plan and a sidecar `DIGEST.json`, written after it, with everything that the engine depends on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganrt import atomic
from ganrt.cache import cache_folder
from ganrt.errors import ArtifactError, NoEngineError
from ganrt.json_reader import read_json

FORMAT = 2
"""Of sidecars."""
ANY_TARGET = "ampere+"
"""Target of TensorRT for RTX for which none is named, so that plans are for Ampere and all later GPUs."""
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
    version: str
    """Version of the library, all four numbers if it reports them."""
    backend: str = "tensorrt"
    """The backend that uses the library: `tensorrt` or `tensorrt-rtx`."""

    def __str__(self) -> str:
        return f"{format_library(self.backend)} {self.version} on {self.gpu or 'any GPU'}"


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


def format_library(backend: str) -> str:
    """Return the name of a backend's library."""
    return "TensorRT for RTX" if backend == "tensorrt-rtx" else "TensorRT"


def ensure_folder(backend: str = "tensorrt") -> Path:
    """Return the folder of a backend's cache, making it if necessary. Raises MachineError if other users can write to
    it."""
    return cache_folder("rtx-engines" if backend == "tensorrt-rtx" else "engines", backend)


def store(key: Key, plan: bytes, notes: Mapping[str, Any]) -> Engine:
    """Keep a plan that was just built here, replacing one with the same key. The sidecar is written last and in one
    step; until then the engine is not found. Raises MachineError."""
    digest, sha256 = key.digest(), hashlib.sha256(plan).hexdigest()
    name = f"{digest[:16]}-{sha256[:16]}.plan"
    folder = ensure_folder(key.machine.backend)
    atomic.write_file(folder / name, plan)
    engine = Engine(folder / name, sha256, key, notes)
    atomic.write_file(folder / f"{digest}.json", _encode_sidecar(engine))
    for old in folder.glob(f"{digest[:16]}-*.plan"):
        if old.name != name:
            old.unlink(missing_ok=True)
            for kernels in folder.glob(f"{old.stem.removeprefix(f'{digest[:16]}-')}-*.kernels"):
                kernels.unlink(missing_ok=True)
    return engine


def make_newest(engine: Engine) -> Engine:
    """Have `find_engine` prefer an engine to others that fit, as if it had just been built. Returns it."""
    os.utime(engine.path)
    return engine


def write_copy(engine: Engine, plan: bytes, path: Path) -> Path:
    """Write a plan to `path` and its sidecar beside it, for a machine that cannot build it. Returns the path of the
    sidecar, whose `sha256` is the plan's. Raises MachineError."""
    sidecar = path.with_name(f"{path.name}.json")
    atomic.write_file(path, plan)
    atomic.write_file(sidecar, _encode_sidecar(Engine(path, engine.sha256, engine.key, engine.notes)))
    return sidecar


def find_kernels(plan_sha256: str, machine: Machine) -> Path:
    """Return where the kernels are kept that TensorRT for RTX compiles of a plan on this machine. The file need not
    exist."""
    digest = hashlib.sha256(json.dumps([plan_sha256, asdict(machine)], sort_keys=True).encode()).hexdigest()
    return ensure_folder(machine.backend) / f"{plan_sha256[:16]}-{digest[:16]}.kernels"


def _encode_sidecar(engine: Engine) -> bytes:
    parts = {"key": asdict(engine.key), "plan": engine.path.name, "sha256": engine.sha256, "notes": dict(engine.notes)}
    return json.dumps({"format": FORMAT} | parts, indent=1).encode()


def find_engine(graph: str, machine: Machine, wanted: Mapping[str, Any] | None = None) -> Engine:
    """Return the engine of a graph that runs on this machine; of several, the one built last.

    Args:
        graph: `Bundle.digest` of the variant.
        wanted: options that it must have been built with.

    Raises NoEngineError, which lists the engines that do not fit and names the command that builds one.
    """
    reasons: list[str] = []
    fitting: list[Engine] = []
    for engine in iterate_engines(graph, machine.backend):
        reason = explain_misfit(engine.key, machine) or _explain_options(engine.key, wanted or {})
        if reason is None:
            fitting.append(engine)
        else:
            reasons.append(reason)
    if fitting:
        return max(fitting, key=lambda engine: engine.path.stat().st_mtime_ns)
    found = f"there is one {'; one '.join(dict.fromkeys(reasons))}" if reasons else "none of this graph was built"
    raise NoEngineError(
        f"no engine for {machine} is in the cache ({found}): build it with "
        f"`ganrt build BUNDLE --backend {machine.backend}`"
    )


def find_exact(key: Key) -> Engine | None:
    """Return the engine with exactly this key, or None."""
    return _read_sidecar(ensure_folder(key.machine.backend) / f"{key.digest()}.json")


def iterate_engines(graph: str | None = None, backend: str = "tensorrt") -> Iterator[Engine]:
    """Yield all engines of a backend, or all of one graph, no matter what they were built for."""
    for path in sorted(ensure_folder(backend).glob("*.json")):
        engine = _read_sidecar(path)
        if engine is not None and graph in (None, engine.key.graph):
            yield engine


def explain_misfit(key: Key, machine: Machine) -> str | None:
    """Return why an engine does not run on a machine, or None if it does. TensorRT requires the version and the GPU of
    the build, unless the engine was built to be compatible with others; TensorRT for RTX the version and one of the
    compute capabilities that it was built for."""
    built, options = key.machine, key.options
    portable = bool(options.get("version_compatible"))
    versions = [_parse_version(m.version) for m in (built, machine)]
    newer = portable and versions[0] <= versions[1] and versions[1][0] - versions[0][0] <= 1
    if versions[0] != versions[1] and not newer:
        return f"for {format_library(built.backend)} {built.version}"
    if machine.backend == "tensorrt-rtx":
        targets = options.get("targets") or ()
        listed = format_target(machine.capability) in targets
        later = ANY_TARGET in targets and _parse_version(machine.capability) >= (8, 0)
        if listed or later:
            return None
        return f"for {', '.join(targets)}, and this GPU is {format_target(machine.capability)}"
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


def format_target(capability: str) -> str:
    """Return the name of a compute capability as a target of TensorRT for RTX: `8.9` is `sm89`."""
    return f"sm{capability.replace('.', '')}"


def read_plan(engine: Engine) -> bytes:
    """Return the plan of an engine, checked against the digest of its build. Raises ArtifactError."""
    backend = engine.key.machine.backend
    return read_verified(engine.path, engine.sha256, f"build it again with `ganrt build BUNDLE --backend {backend}`")


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
    path = ensure_folder(key.machine.backend) / f"{key.digest()}.lock"
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
    if not sidecar.exists():
        return None
    try:
        raw: Any = read_json(sidecar, _MAX_SIDECAR)
        if raw["format"] != FORMAT:
            return None
        key = Key(raw["key"]["graph"], dict(raw["key"]["options"]), Machine(**raw["key"]["machine"]))
        path = sidecar.parent / Path(raw["plan"]).name
        engine = Engine(path, str(raw["sha256"]), key, dict(raw["notes"]))
    except (ArtifactError, KeyError, TypeError, ValueError) as error:
        _log.warning("%s is not the record of an engine (%s) and is skipped", sidecar, error)
        return None
    return engine if key.digest() == sidecar.stem and path.is_file() else None


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
