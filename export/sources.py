"""What can be exported: a RUN folder of `ganrt train`, a checkpoint file, or `package.module:factory`."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ganrt.errors import CheckpointError, RequestError
from ganrt.models import FAMILIES, get_family
from ganrt.models.family import AnyFamily, State
from ganrt.models.unpickle import read_state
from ganrt.spec import Spec
from ganrt.training.run import read_run

from .checkpoints import recognise

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Source:
    """A generator ready to be traced."""

    module: torch.nn.Module
    """On the CPU, in eval mode, float32, without gradients."""
    spec: Spec
    model: Mapping[str, Any] | None
    """`family` and `config` that rebuild the module; None for a module of the user's own."""
    origin: Mapping[str, Any]
    """Where it came from, for the provenance: a name and, for files, a sha256. No paths of the exporting machine."""


def open_source(source: str, config: Mapping[str, str]) -> Source:
    """Find out what `source` is and load it.

    Args:
        config: settings that a checkpoint does not tell, or the factory's keyword arguments.

    Raises RequestError when there is nothing of that name, CheckpointError when it cannot be used.
    """
    path = Path(source)
    if path.is_dir():
        if config:
            raise RequestError("a RUN folder knows its own config; leave --config out")
        run = read_run(path)
        growth = run.options.growth
        if growth is not None and run.step < growth.grown:
            raise CheckpointError(
                f"{path} has taken {run.step} steps, and its networks grow until step {growth.grown}: train it further"
            )
        return _of_family(get_family(run.family), run.config, read_state(run.weights), run.weights)
    if path.is_file():
        state, config, others = _joined(path, config)
        found = recognise(state, path)
        settings = {**found.family.settings(found.config), **config}
        loaded = _of_family(found.family, settings, found.state, path)
        return replace(loaded, origin={**loaded.origin, **others})
    if _FACTORY.fullmatch(source):
        return _of_factory(source, config)
    raise RequestError(f"{source} is neither a RUN folder, nor a checkpoint file, nor package.module:factory")


def _joined(path: Path, config: Mapping[str, str]) -> tuple[State, Mapping[str, str], dict[str, Any]]:
    """The state of a file, joined with those of the further files that settings name (`Family.files`).

    Returns also the settings that are left, and the origin of each further file.
    """
    state = read_state(path)
    for files in (get_family(name).files for name in FAMILIES):
        named = {name: Path(value) for name, value in config.items() if name in files}
        own = [name for name in files if name not in named]
        if not named or len(own) != 1:
            continue
        missing = [str(file) for file in named.values() if not file.is_file()]
        if missing:
            raise RequestError(f"{missing[0]} was named as a part of {path.name}, but there is no such file")
        joined = {files[own[0]] + key: value for key, value in state.items()}
        for name, file in named.items():
            joined |= {files[name] + key: value for key, value in read_state(file).items()}
        left = {name: value for name, value in config.items() if name not in named}
        return joined, left, {name: _origin(file) for name, file in named.items()}
    return state, config, {}


def _origin(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _of_family(family: AnyFamily, settings: Mapping[str, Any], state: State, path: Path) -> Source:
    config = family.configure(settings)
    module = family.generator(config)
    try:
        problems = module.load_state_dict(state, strict=False)
        missing = [key for key in problems.missing_keys if not key.endswith("num_batches_tracked")]
        if missing or problems.unexpected_keys:
            raise RuntimeError(f"{len(missing)} keys missing, {len(problems.unexpected_keys)} unexpected")
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {family.name} with {dict(settings)}: {error}") from error
    model = {"family": family.name, "config": family.settings(config)}
    return Source(_ready(module, str(path)), family.spec(config), model, _origin(path))


def _of_factory(source: str, config: Mapping[str, str]) -> Source:
    """Import and call code that the user names: their own, run because they asked for it."""
    package, _, name = source.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        made = getattr(importlib.import_module(package), name)(**config)
    except Exception as error:  # it is the user's code: whatever it raises is theirs to know
        raise RequestError(f"{source} cannot be called: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], torch.nn.Module)) or not isinstance(
        made[1], Spec
    ):
        raise RequestError(f"{source} returned {type(made).__name__}; it must return (torch.nn.Module, ganrt.Spec)")
    if isinstance(made[0], torch.jit.ScriptModule):
        raise RequestError(
            f"{source} returned a TorchScript module, which is not traced again; return what it was made of"
        )
    return Source(_ready(made[0], source), made[1], None, {"name": source})


def _ready(module: torch.nn.Module, name: str) -> torch.nn.Module:
    for key, value in module.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{name}: {key} holds values that are not finite (did the training diverge?)")
    return module.to("cpu", torch.float32).eval().requires_grad_(False)
