"""What can be exported: RUN folders of `ganrt train`, checkpoints, networks for ncnn, ONNX files,
`package.module:factory`, and modules in memory."""

from __future__ import annotations

import copy
import hashlib
import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from ganrt.backend import library_version
from ganrt.errors import CheckpointError, RequestError
from ganrt.models import FAMILIES, AnyFamily, SkipRandomWeights, State, get_family, read_checkpoint, read_state
from ganrt.models.file_kinds import describe_foreign_folder
from ganrt.spec import Spec
from ganrt.training import read_run

from ..lint import RowByRow, list_training_parts
from .checkpoints import UnknownCheckpointError, recognize
from .ncnn_file import is_ncnn_file, read_pair
from .ncnn_networks import read_ncnn
from .onnx_file import GraphFile, GraphModule, choose_output, is_graph_file, read_graph_file
from .spandrel_models import has_spandrel, recognize_with_spandrel
from .spec_guess import guess_spec

_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".pkl", ".safetensors", ".onnx", ".param")
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
    """Where it came from, for the provenance: a name and a sha256 where there is one. No paths of the exporting
    machine."""
    name: str = ""
    """What messages call it."""
    in_training: tuple[str, ...] = ()
    """Paths of the parts of a user's module that came in training mode."""
    graph: tuple[GraphFile, str] | None = None
    """An ONNX file, which `module` runs, and the name of its output: it is not traced again."""
    remarks: tuple[str, ...] = ()
    """What the user should know of how it was read, a sentence each."""


def describe_source(source: str | Path | torch.nn.Module) -> str:
    """Name of a source for messages and the provenance: the path as given, or the class of a module in memory."""
    return f"{type(source).__name__} in memory" if isinstance(source, torch.nn.Module) else str(source)


def open_source(
    source: str | Path | torch.nn.Module,
    config: Mapping[str, Any] | None = None,
    spec: Spec | None = None,
    batch: int | None = None,
) -> Source:
    """Load what is to be exported.

    Args:
        source: path of a RUN folder, a checkpoint, a file of a network for ncnn or an ONNX file,
            `package.module:factory`, or a module in memory.
        config: settings that a checkpoint does not hold, or the factory's keyword arguments; `output` names the image
            of an ONNX file with several outputs.
        spec: of a module in memory, or of an ONNX file, where it is guessed by default.
        batch: 1 for a network whose batch size is fixed at 1 (`Spec.single`).

    Raises RequestError when there is nothing of that name or the arguments contradict each other, CheckpointError when
    a checkpoint or the weights cannot be used.
    """
    if batch not in (None, 1):
        raise RequestError(f"batch is {batch!r}; it is 1, or left out for any batch size")
    loaded = _open(source, config, spec, batch == 1)
    if loaded.model is not None:
        if batch == 1:
            raise RequestError(f"batch is 1, and {loaded.model['family']} takes any batch size: leave it out")
        return loaded
    if batch == 1 and not loaded.spec.single:
        loaded = replace(loaded, spec=replace(loaded.spec, single=True))
    return replace(loaded, module=RowByRow(loaded.module)) if loaded.spec.single else loaded


def _open(
    source: str | Path | torch.nn.Module, config: Mapping[str, Any] | None, spec: Spec | None, single: bool
) -> Source:
    if isinstance(source, torch.nn.Module):
        return _open_module(source, config, spec)
    if not isinstance(source, str | Path):
        raise RequestError(
            f"the source is a {type(source).__name__}; pass a path, 'package.module:factory' or a torch.nn.Module"
        )
    path, config = Path(source), config or {}
    if path.is_file() and is_graph_file(path):
        return _open_graph(path, config, spec, single)
    if spec is not None:
        raise RequestError(
            f"spec= describes a module in memory or an ONNX file; {source} brings its own Spec, so leave spec= out"
        )
    if path.is_dir():
        foreign = describe_foreign_folder(path)
        if foreign:
            raise RequestError(f"{path} is {foreign}")
        found = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _CHECKPOINTS)
        if found and not (path / "run.json").is_file():
            raise RequestError(
                f"{path} is no training run of ganrt; pass a file that is in it, such as {path / found[0]}"
            )
        return _open_run(path, config)
    if path.is_file() and is_ncnn_file(path):
        return _open_ncnn(path, config)
    if path.is_file():
        return _open_checkpoint(path, config)
    if _FACTORY.fullmatch(str(source)):
        return _call_factory(str(source), config)
    raise RequestError(
        f"{source} is neither a RUN folder, nor a checkpoint, an ncnn or an ONNX file, nor package.module:factory"
    )


def _open_graph(path: Path, config: Mapping[str, Any], spec: Spec | None, single: bool) -> Source:
    unknown = sorted(set(config) - {"output"})
    if unknown:
        raise RequestError(f"an ONNX file has no setting {unknown[0]!r}; it has output, the name of the image")
    file = read_graph_file(path)
    output = str(choose_output(file, config.get("output")).name)
    remarks: list[str] = []
    if spec is None:
        spec, guesses = guess_spec(file, output)
        remarks = [f"guessed: {guess}; --spec FILE.json says it otherwise" for guess in guesses]
    spec = replace(spec, single=spec.single or single)
    if len(spec.inputs) != len(file.model.graph.inputs):
        found = ", ".join(str(value.name) for value in file.model.graph.inputs)
        raise RequestError(
            f"{path} takes {found}; the Spec describes {len(spec.inputs)} inputs: one each, in this order"
        )
    runtime = f"ONNX Runtime {library_version('onnxruntime')}"
    origin = {"name": path.name, "sha256": file.sha256, "original": f"the ONNX file itself on {runtime}, in float32"}
    module = GraphModule(file, output, spec).eval()
    return Source(module, spec, None, origin, graph=(file, output), remarks=tuple(remarks))


def _open_module(module: torch.nn.Module, config: Mapping[str, Any] | None, spec: Spec | None) -> Source:
    """A copy of a module in memory; the caller's stays as it is, on its device and in its mode."""
    name = describe_source(module)
    if not isinstance(spec, Spec):
        found = "no spec" if spec is None else f"a {type(spec).__name__} as its spec"
        raise RequestError(f"{name} came with {found}; describe its inputs and its output: spec=ganrt.Spec(...)")
    if config:
        raise RequestError(f"config= is for checkpoints and factories; {name} has its settings already")
    inner = _unwrap(module)
    if inner is not module:
        return _open_module(inner, config, spec)
    _reject_traced(module, f"{name} is {{}}; pass the module that it was made of, or an ONNX file of it")
    copied = _prepare(_copy_to_cpu(module, name), name)
    origin = {"name": name, "sha256": _digest_state(module)}
    return Source(copied, spec, None, origin, in_training=list_training_parts(module))


def _unwrap(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside DataParallel, and of what torch.compile returns."""
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    inner = module.module if isinstance(module, parallel) else getattr(module, "_orig_mod", module)
    return module if inner is module else _unwrap(cast(torch.nn.Module, inner))


def _copy_to_cpu(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """A deep copy. Tensors that are plain attributes are copied apart from it: where a hook computed them, as spectral
    norm computes its weight, `copy.deepcopy` rejects them."""
    held = (value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor))
    memo: dict[int, Any] = {id(value): value.detach().to("cpu", copy=True) for value in held}
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:  # a module may hold anything: locks, open files, generators
        raise RequestError(
            f"{name} cannot be copied ({type(error).__name__}: {error}); pass 'package.module:factory' instead"
        ) from error


def _digest_state(module: torch.nn.Module) -> str:
    """sha256 over the names, dtypes, shapes and bytes of the parameters and buffers."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _open_run(path: Path, config: Mapping[str, Any]) -> Source:
    if config:
        raise RequestError("a RUN folder holds its own config; leave --config out")
    run = read_run(path)
    growth = run.options.growth
    if growth is not None and run.step < growth.full_size_step:
        raise CheckpointError(
            f"{path} has taken {run.step} steps, and its networks grow until step {growth.full_size_step}: "
            "train it further"
        )
    return _load_family(get_family(run.family), run.config, read_state(run.weights), run.weights)


def _open_checkpoint(path: Path, config: Mapping[str, Any]) -> Source:
    read = read_checkpoint(path)
    state, config, others = _merge_files(read.state, path, config)
    try:
        found = recognize(state, path)
    except UnknownCheckpointError as unknown:
        reason: CheckpointError = unknown
        if read.module:
            reason = CheckpointError(
                f"{path} holds a whole module of the class {read.module}, and no family of ganrt has its weights. Load "
                f"it in your own code and pass that: package.module:factory, a function that returns it with a "
                "ganrt.Spec, or an ONNX file of it"
            )
        return _open_with_spandrel(state, path, config, reason)
    settings = {**found.family.settings(found.config), **found.family.attributes(read.attributes), **config}
    loaded = _load_family(found.family, settings, found.state, path)
    remarks = (f"{path.name} holds several networks; the one under {found.part} is taken",) if found.part else ()
    return replace(loaded, origin={**loaded.origin, **others}, remarks=remarks)


def _open_ncnn(path: Path, config: Mapping[str, Any]) -> Source:
    """A network of a family in ncnn's two files, of which `path` is one."""
    pair = read_pair(path)
    found = read_ncnn(pair)
    module, spec, model = _build_family(found.family, {**found.settings, **config}, found.state, path)
    return Source(module, spec, model, pair.origin, remarks=found.remarks)


def _open_with_spandrel(state: State, path: Path, config: Mapping[str, Any], error: CheckpointError) -> Source:
    """A checkpoint that no family of ganrt knows. Raises `error` if spandrel does not know it either, or is not
    installed."""
    if not has_spandrel():
        raise CheckpointError(f'{error}; pip install "ganrt[spandrel]" adds some forty architectures') from error
    found = recognize_with_spandrel(state, path)
    if found is None:
        raise error
    if config:
        raise RequestError(f"{path} is {found.architecture}, which spandrel loads without settings: leave --config out")
    original = f"{found.architecture} of spandrel {library_version('spandrel')}"
    origin = {**_digest_file(path), "original": f"{original}, on PyTorch in float32"}
    remarks = (f"{path.name} is {original}",)
    return Source(_prepare(found.module, str(path)), found.spec, None, origin, remarks=remarks)


def _merge_files(
    state: State, path: Path, config: Mapping[str, Any]
) -> tuple[State, Mapping[str, Any], dict[str, Any]]:
    """Merge the state of a file with those of the further files that settings name (`Family.files`).

    Returns the state, the settings that are left, and the origin of each further file.
    """
    for files in (get_family(name).files for name in FAMILIES):
        named = {name: Path(value) for name, value in config.items() if name in files}
        own = [name for name in files if name not in named]
        if not named or len(own) != 1:
            continue
        missing = [str(file) for file in named.values() if not file.is_file()]
        if missing:
            raise RequestError(f"{missing[0]} was named as a part of {path.name}, but there is no such file")
        merged = {files[own[0]] + key: value for key, value in state.items()}
        for name, file in named.items():
            merged |= {files[name] + key: value for key, value in read_state(file).items()}
        left = {name: value for name, value in config.items() if name not in named}
        return merged, left, {name: _digest_file(file) for name, file in named.items()}
    return state, config, {}


def _digest_file(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _load_family(family: AnyFamily, settings: Mapping[str, Any], state: State, path: Path) -> Source:
    return Source(*_build_family(family, settings, state, path), _digest_file(path))


def _build_family(
    family: AnyFamily, settings: Mapping[str, Any], state: State, path: Path
) -> tuple[torch.nn.Module, Spec, Mapping[str, Any]]:
    """The module with its weights, its Spec, and what rebuilds it. Raises CheckpointError if they do not fit."""
    config = family.configure(settings)
    with SkipRandomWeights():
        module = family.generator(config)
    try:
        problems = module.load_state_dict(state, strict=False)
        missing = [key for key in problems.missing_keys if not key.endswith("num_batches_tracked")]
        if missing or problems.unexpected_keys:
            raise RuntimeError(f"{len(missing)} keys missing, {len(problems.unexpected_keys)} unexpected")
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {family.name} with {dict(settings)}: {error}") from error
    model = {"family": family.name, "config": family.settings(config)}
    return _prepare(module, str(path)), family.spec(config), model


def _call_factory(source: str, config: Mapping[str, Any]) -> Source:
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
    _reject_traced(made[0], f"{source} returned {{}}; return the module that it was made of, or make an ONNX file")
    module = _unwrap(made[0])
    in_training = list_training_parts(module)
    return Source(_prepare(module, source), made[1], None, {"name": source}, in_training=in_training)


def _reject_traced(module: torch.nn.Module, message: str) -> None:
    """What was traced cannot be traced again, for other sizes. Raises RequestError with a message in which {} is the
    kind of the module."""
    if isinstance(module, torch.jit.ScriptModule):
        raise RequestError(message.format("a TorchScript module"))
    if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):  # which then raises
        raise RequestError(message.format("a program of torch.export"))


def _prepare(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """Check the weights and put the module on the CPU, in evaluation mode, float32, without gradients: in place."""
    for key, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor):  # whatever get_extra_state returned
            continue
        if torch.nn.parameter.is_lazy(value):
            raise CheckpointError(
                f"{name}: {key} has no shape yet, as in LazyConv2d and its like before their first run; run the module "
                "once on a batch, then load its weights"
            )
        if (value.is_floating_point() or value.is_complex()) and not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{name}: {key} holds values that are not finite (did the training diverge?)")
    # With a dtype, Module.to discards the imaginary parts of complex weights.
    return module.to("cpu").float().eval().requires_grad_(False)
