"""PyTorch module -> the faithful float32 ONNX graph, through torch.export, with a dynamic batch and the Spec inside."""

from __future__ import annotations

import inspect
import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import Any, TypeAlias, cast

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch.export import Dim
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ganrt import feeds
from ganrt._version import __version__
from ganrt.bundle import METADATA_KEY, PRECISION_KEY
from ganrt.errors import RequestError, VerificationError
from ganrt.feeds import Feeds, Size
from ganrt.golden import proof_picture_size
from ganrt.images import Floats
from ganrt.spec import Image, Spec

from .passes import drop_empty_updates, hide_small_constants, name_nodes_by_module

Sizes: TypeAlias = Mapping[str, Size]
"""Name of an image input -> height and width."""

DEFAULT_OPSET = 20
OLDEST_OPSET = 18
"""The exporter's operators are written for this one; older ones need a conversion, which fails without an error."""
_NOISY = ("onnx._internal.exporter._registration", "fx.experimental.symbolic_shapes")
EXAMPLES = 2
"""Batch size while tracing: with 1, torch.export takes the batch for a constant, as it is for a `Spec.single`."""


def trace(
    module: torch.nn.Module,
    spec: Spec,
    opset: int = DEFAULT_OPSET,
    inspect_raw: Callable[[ir.Model], None] = lambda _: None,
    describe_failure: Callable[[Exception], tuple[str, str]] = lambda error: ("", ""),
    sizes: Sizes | None = None,
) -> ir.Model:
    """Trace a module (on the CPU, eval mode) whose forward takes the Spec's inputs in order.

    Args:
        inspect_raw: called with the graph as the exporter wrote it, its nodes named after their modules; may change it
            or raise.
        describe_failure: called with the error where tracing fails; says where that is and what to do about it, as
            parts of a sentence.
        sizes: of the images that it is traced with, by input name. Default: the first sizes of a proof.

    Raises RequestError when the opset cannot be reached or the module cannot be traced, VerificationError when the
    graph does not have the names, dtypes and shapes of the Spec.
    """
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise RequestError(f"opset {opset} was asked for; this exporter writes {OLDEST_OPSET} to {newest}")
    try:
        with silence_exporter(), LinspaceBySize():
            program = torch.onnx.export(
                module,
                make_example_inputs(spec, sizes),
                dynamo=True,
                input_names=[item.name for item in spec.inputs],
                output_names=[spec.output.name],
                dynamic_shapes=group_varargs(module, find_dynamic_sides(spec)),
                opset_version=opset,
                optimize=False,
                verbose=False,
            )
            assert program is not None
            with hide_small_constants(program.model):
                program.optimize()
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        where, advice = describe_failure(error)
        raise RequestError(
            f"torch.onnx.export cannot trace this {spec.family} model{where}: {_find_root_cause(error)}{advice}"
        ) from error
    model = program.model
    reached = model.opset_imports[""]
    if reached != opset:
        raise RequestError(
            f"opset {opset} was asked for; the exporter reaches {reached} for this model: use --opset {reached}"
        )
    name_nodes_by_module(model)
    finish_graph(model, spec, inspect_raw)
    return model


def finish_graph(model: ir.Model, spec: Spec, inspect_raw: Callable[[ir.Model], None]) -> None:
    """Check inputs and output against the Spec, and write it into the metadata, in place of all that was there; drop
    updates of nothing, which OpenVINO rejects.

    Args:
        inspect_raw: as for `trace`.

    Raises VerificationError when the graph does not have the names, dtypes and shapes of the Spec.
    """
    _check_interface(model, spec)
    inspect_raw(model)
    drop_empty_updates(model)
    # Paths of the exporting machine's source files must not leave it.
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props[METADATA_KEY] = json.dumps(spec.to_dict(), sort_keys=True)
    model.metadata_props[PRECISION_KEY] = "fp32"
    model.metadata_props["ganrt.version"] = __version__


def make_example_inputs(spec: Spec, sizes: Sizes | None = None) -> tuple[torch.Tensor, ...]:
    """The inputs that a module is traced with, with images of some sizes."""
    drawn = feeds.draw_feeds(spec, 0, 0, 1 if spec.single else EXAMPLES, size=sizes or _plan_traced_size(spec))
    return tuple(torch.from_numpy(array) for array in drawn.values())


def _plan_traced_size(spec: Spec) -> Size:
    """Height and width of the pictures that a module is traced with: those of a proof, but two steps of `multiple_of`
    at least, because torch.export takes a side of one step for a constant."""
    step = math.lcm(*(item.multiple_of for item in spec.images))
    height, width = proof_picture_size(spec)
    return max(height, 2 * step), max(width, 2 * step)


def run_original(module: torch.nn.Module, given: Feeds) -> Floats:
    """What the PyTorch module makes of some inputs: float32 NCHW."""
    with torch.inference_mode():
        images = module(*(torch.from_numpy(array) for array in given.values()))
    return cast(Floats, np.ascontiguousarray(images.numpy(), np.float32))


def count_macs(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Multiply-accumulate operations of convolutions and matrix products for one row of some inputs."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(*(rows[:1] for rows in inputs))
    return int(counter.get_total_flops() // 2)


def _find_root_cause(error: BaseException) -> str:
    """First line of the innermost cause: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def export_program(
    module: torch.nn.Module, spec: Spec, sizes: Sizes | None = None, **options: Any
) -> torch.export.ExportedProgram:
    """Trace a module with PyTorch alone, where sides that the Spec leaves free may turn out to be constants."""
    free = tuple(dict.fromkeys(sides, Dim.AUTO) for sides in find_dynamic_sides(spec))
    given = make_example_inputs(spec, sizes)
    with LinspaceBySize():
        return torch.export.export(module, given, dynamic_shapes=group_varargs(module, free), strict=False, **options)


class LinspaceBySize(TorchFunctionMode):
    """Computes torch.linspace with a number of steps that depends on an input, which torch.export would fix: its
    schema takes whole numbers only. The values are those of PyTorch, to rounding."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(zip(("start", "end", "steps"), args, strict=False)) | (kwargs or {})
        if func is not torch.linspace or not isinstance(given["steps"], torch.SymInt) or given.keys() - _LINSPACE:
            return func(*args, **(kwargs or {}))
        return _space_evenly(**given)


_LINSPACE = {"start", "end", "steps", "dtype", "device"}
"""Arguments of `_space_evenly`."""


def _space_evenly(
    start: Any, end: Any, steps: torch.SymInt, dtype: torch.dtype | None = None, device: Any = None
) -> torch.Tensor:
    """The first half counted from the start and the second one from the end, as PyTorch does."""
    index: Any = torch.arange(cast(int, steps), device=device)
    gaps = torch.sym_max(steps - 1, 1)  # type: ignore[no-untyped-call]
    step = (torch.zeros((), device=device) + (end - start)) / gaps
    values: torch.Tensor = torch.where(index < (steps + 1) // 2, start + step * index, end - step * (steps - 1 - index))
    return values.to(dtype or torch.float32)


def find_dynamic_sides(spec: Spec) -> tuple[dict[int, Dim], ...]:
    """Which sides of each input are free: the batch, and height and width of images without a fixed size."""
    batch = Dim("batch")
    free: dict[str, dict[int, Dim]] = {}
    shapes = []
    for item in spec.inputs:
        sides: dict[int, Dim] = {}
        if isinstance(item, Image) and item.like is not None:
            sides = free.get(item.like, {})
        elif isinstance(item, Image) and item.size is None:
            steps = {2: Dim(f"{item.name}_height"), 3: Dim(f"{item.name}_width")}
            sides = {axis: item.multiple_of * step if item.multiple_of > 1 else step for axis, step in steps.items()}
        free[item.name] = sides
        shapes.append(sides if spec.single else {0: batch, **sides})
    return tuple(shapes)


def group_varargs(module: torch.nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs as torch.export counts them: those that a forward takes as `*name` are one."""
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    single = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:single], shapes[single:]) if len(shapes) > single else shapes


def _check_interface(model: ir.Model, spec: Spec) -> None:
    found = [value.name for value in model.graph.inputs], [value.name for value in model.graph.outputs]
    wanted = [item.name for item in spec.inputs], [spec.output.name]
    if found != wanted:
        raise VerificationError(f"the traced graph has the inputs and outputs {found}; the spec has {wanted}")
    output = model.graph.outputs[0]
    shape = list(output.shape or [])
    sides = [spec.output.channels, *(spec.output.size or shape[2:])]
    if output.dtype != ir.DataType.FLOAT or len(shape) != 4 or shape[1:] != sides:
        sides = [spec.output.channels, *(spec.output.size or ("H", "W"))]
        returned, wanted_shape = (", ".join(map(str, sizes)) for sizes in (shape, ("N", *sides)))
        kind = "of unknown type" if output.dtype is None else str(output.dtype).lower()
        hint = ""
        if len(shape) == 4 and shape[3] == spec.output.channels != shape[1]:
            hint = "; its channels are last: return images.permute(0, 3, 1, 2)"
        elif output.dtype is not None and not output.dtype.is_floating_point():
            hint = "; return the values before they become whole numbers: ganrt makes bytes of them"
        raise VerificationError(f"the model returns {kind} ({returned}); the spec says float ({wanted_shape}){hint}")


@contextmanager
def silence_exporter() -> Iterator[None]:
    """Silence the exporter: a deprecation inside torch, operators of torchvision, a warning that inputs share the batch
    dimension, one that attributes are tensors, and half a graph when it fails. The error has the reason."""
    noisy = [logging.getLogger(f"torch.{name}") for name in _NOISY]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export", UserWarning)
            yield
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)
