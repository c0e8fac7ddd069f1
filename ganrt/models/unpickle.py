"""Read files of weights without executing code in them. PyTorch's error for a rejected pickle suggests switching the
protection off; the one here does not."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch

from ganrt.errors import CheckpointError
from ganrt.models.family import State
from ganrt.models.file_kinds import OTHERWISE, describe_foreign_file, starts_as_safetensors
from ganrt.models.network_pickle import is_plain_pickle, read_network_pickle
from ganrt.models.stand_ins import make_stand_in, read_class, read_module

WRAPPERS = ("params_ema", "params", "G_ema", "g_ema", "state_dict", "model_state_dict", "generator", "avgG", "netG")
"""Keys under which projects store the generator's state dict, averaged weights first."""

HEADER = "header."
"""Prefix of the empty tensors that `read_state` adds for what nunif writes beside its weights: `header.` + the name of
the class, and `header.kwargs.` + the name of each argument that is true."""

_FLAG = "pro"
"""A key by which Real-CUGAN marks its "pro" weights. Its value may be anything, also no tensor."""

_SHOWN = 8
"""Keys that messages list."""

_PREFIX = "module."
"""Prefix that DataParallel adds to every key."""

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
"""How PyTorch's error names the function or class that a pickle refers to."""


_MOST_CLASSES = 200
"""Classes that get a stand-in, in one file."""

_BESIDE = ("latent_avg",)
"""Keys of tensors that belong to the generator and lie beside its state dict."""


def unpickle(path: Path) -> object:
    """Load a file that torch.save wrote, on the CPU, without executing code in it.

    Raises CheckpointError when the file is missing, damaged, or contains anything but tensors and plain containers.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    stand_ins: list[Any] = []
    while True:
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
                warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            name = _read_name(error)
            stand_in = None if name in (known for _, known in stand_ins) else make_stand_in(name)
            if stand_in is None or len(stand_ins) == _MOST_CLASSES:
                raise CheckpointError(_refuse(path, name)) from error
            stand_ins.append((stand_in, name))
        except Exception as error:  # what torch raises for a damaged file has no common class
            raise CheckpointError(
                f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}): it is empty, damaged or of "
                "another kind; fetch it again"
            ) from error


def _read_name(error: pickle.UnpicklingError) -> str:
    """The function or class that the file must not name; empty where something else is wrong."""
    named = _GLOBAL.search(str(error))
    name = named[1] if named else ""
    return f"builtins.{name}" if name and "." not in name else name


def _refuse(path: Path, name: str) -> str:
    reason = f"it names {name}" if name else "it is not the plain kind that PyTorch writes"
    return (
        f"{path} was refused, and nothing in it was executed: a checkpoint holds tensors and settings only, and "
        f"{reason}. {OTHERWISE}"
    )


class Checkpoint(NamedTuple):
    """What a file tells of a network."""

    state: State
    attributes: Mapping[str, Any] = MappingProxyType({})
    """Plain attributes of the module, by their path: only network pickles hold them."""
    module: str = ""
    """Class of the module, as `module.Class`, where the file holds one as a whole."""


def read_state(path: Path) -> State:
    """The state dict of a file, as `read_checkpoint` reads it."""
    return read_checkpoint(path).state


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a .safetensors, .pth, .pt, .bin or .pkl file: a flat state dict on the CPU, and attributes if there are any.

    Raises CheckpointError when the file is missing, damaged, holds no state dict, or is a pickle with code in it, which
    is not executed.
    """
    try:
        foreign = describe_foreign_file(path)
        tensors_only = path.suffix == ".safetensors" or starts_as_safetensors(path)
        plain = is_plain_pickle(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if foreign:
        raise CheckpointError(f"{path} is {foreign}")
    if tensors_only:
        try:
            return Checkpoint(safetensors.torch.load_file(path))
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    if plain:
        found = read_network_pickle(path)
        return Checkpoint(_unwrap_state(found.content, path), found.attributes)
    content = unpickle(path)
    inner = [content.get(key) for key in WRAPPERS] if isinstance(content, Mapping) else []
    module = next(filter(None, map(read_class, (content, *inner))), "")
    return Checkpoint(_unwrap_state(_replace_modules(content, path), path), module=module)


def _replace_modules(content: object, path: Path) -> object:
    """The content with state dicts in the place of whole modules."""
    try:
        if isinstance(content, Mapping) and not read_class(content):
            return {key: _read_module(value) for key, value in content.items()}
        return _read_module(content)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _read_module(value: object) -> object:
    state = read_module(value)
    return value if state is None else state


def _unwrap_state(content: object, path: Path) -> State:
    """Unwrap the containers that training scripts write around a state dict."""
    if isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
        if _FLAG in inner:
            inner = {**inner, _FLAG: torch.ones(1)}
        state = {str(key): value for key, value in inner.items() if isinstance(value, torch.Tensor)}
        if state and len(state) == len(inner):
            bare = all(key.startswith(_PREFIX) for key in state)
            beside = {key: content[key] for key in _BESIDE if isinstance(content.get(key), torch.Tensor)}
            found = {key.removeprefix(_PREFIX) if bare else key: value for key, value in state.items()}
            return found | beside | _read_header(content)
    raise CheckpointError(
        f"{path} holds no state dict: a mapping of tensors, bare or under one of {', '.join(WRAPPERS)}, was expected, "
        f"and it holds {_describe_content(content)}. {OTHERWISE}"
    )


def _describe_content(content: object) -> str:
    if read_class(content):
        return f"an object of the class {read_class(content)}"
    if isinstance(content, Mapping):
        names = [str(key)[:40] for key in content]
        return f"{', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}" if names else "nothing"
    return f"a {type(content).__name__}"


def _read_header(content: Mapping[Any, Any]) -> State:
    """What nunif's files say about the class of their network, as keys of empty tensors; nothing for other files."""
    if "nunif_model" not in content:
        return {}
    arguments = content.get("kwargs")
    true = [name for name, value in arguments.items() if value is True] if isinstance(arguments, Mapping) else []
    names = [content.get("name"), *(f"kwargs.{name}" for name in true)]
    return {f"{HEADER}{name}": torch.empty(0) for name in names}
