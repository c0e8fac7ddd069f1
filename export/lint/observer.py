"""Tracing hooks around a forward pass: random numbers, writes to state, convolutions, outputs of submodules."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ganrt.feeds import Feeds

from ..source_lines import SourceLine, find_running_line
from .noise import RandomCall, RandomCallRecorder
from .norm_calls import InputStatistics


class PartOutput(NamedTuple):
    """What one module returned."""

    path: str
    rows: int
    last: Tensor
    """The last row."""
    taken: Tensor | None
    """The last row of the first tensor that it took."""


class Convolution(NamedTuple):
    """A convolution that was computed."""

    path: str
    """Of the module."""
    groups: int
    line: SourceLine | None
    """Of the user's code."""


@dataclass
class Run:
    """What the hooks recorded of a forward pass."""

    result: Any
    """Whatever the module returned; None if it raised."""
    failure: tuple[str, Exception] | None = None
    """What it raised, and the path of the module that did."""
    random_calls: list[RandomCall] = field(default_factory=list)
    """Random numbers, in the order in which they were drawn."""
    convolutions: list[Convolution] = field(default_factory=list)
    """In the order of execution."""
    low_precision: dict[str, torch.dtype] = field(default_factory=dict)
    """Paths of the modules that computed in 16 bits, and in which."""
    training_norms: list[str] = field(default_factory=list)
    """Paths of the modules that called norms with running statistics in training mode. They were computed from their
    input, without writing these statistics."""
    python_reads: list[str] = field(default_factory=list)
    """Paths of the modules that made Python numbers of tensors."""
    lines: dict[str, SourceLine | None] = field(default_factory=dict)
    """Lines of the user's code: `low_precision` and `python_reads`, each that of the first."""
    state_writes: list[str] = field(default_factory=list)
    """Parameters and buffers that the pass wrote to."""
    kept: list[str] = field(default_factory=list)
    """Attributes that the pass replaced, and that are neither parameters nor buffers."""
    parts: list[PartOutput] = field(default_factory=list)
    """What the modules returned, in the order in which they finished; only where asked for."""


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operator below autograd."""

    def __init__(self, run: Run, path: Sequence[str], line: Callable[[], SourceLine | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._run, self._path, self._line = run, path, line
        self._aside = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        draws = torch.Tag.nondeterministic_seeded in func.tags and not self._aside
        before = torch.get_rng_state() if draws else None
        result = func(*args, **kwargs)
        # Attention bears the tag for the dropout that it is seldom asked for.
        if before is not None and (kwargs.get("generator") or not torch.equal(before, torch.get_rng_state())):
            call = RandomCall(self._path[-1], func.overloadpacket.__name__, (), False, self._line())
            self._run.random_calls.append(call)
        if isinstance(result, Tensor) and result.dtype in (torch.float16, torch.bfloat16):
            self._run.low_precision.setdefault(self._path[-1], result.dtype)
            self._note_line("low_precision")
        if func is torch.ops.aten._local_scalar_dense.default:
            self._run.python_reads.append(self._path[-1])
            self._note_line("python_reads")
        if func is torch.ops.aten.convolution.default:
            self._run.convolutions.append(Convolution(self._path[-1], args[8], self._line()))
        return result

    def _note_line(self, kind: str) -> None:
        if kind not in self._run.lines:
            self._run.lines[kind] = self._line()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing inside the context."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False


def run_with_hooks(module: nn.Module, given: Feeds, parts: bool = False) -> Run:
    """Run a module on some inputs.

    Args:
        parts: whether to keep what each part takes and returns.
    """
    run, path = Run(None), [""]
    taken: dict[str, Tensor | None] = {}
    handles = []
    for name, part in module.named_modules():

        def enter(part: nn.Module, args: Any, name: str = name) -> None:
            path.append(name)
            if parts:  # before a part that works in place changes it
                tensors = (value for value in args if isinstance(value, Tensor) and value.ndim)
                taken[name] = next((value[-1:].clone() for value in tensors), None)

        def leave(part: nn.Module, args: Any, result: Any, name: str = name) -> None:
            path.pop()
            if parts and isinstance(result, Tensor) and result.ndim:
                run.parts.append(PartOutput(name, len(result), result[-1:].clone(), taken.pop(name, None)))

        handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    outside = sys._getframe()

    def find_line() -> SourceLine | None:
        return find_running_line(outside)

    operators = _Operators(run, path, find_line)
    recorder = RandomCallRecorder(lambda: path[-1], operators.paused, find_line)
    norms = InputStatistics(lambda: run.training_norms.append(path[-1]))
    before, attributes = _read_versions(module), _read_attributes(module)
    try:
        with torch.no_grad(), operators, recorder, norms:
            run.result = module(*(torch.from_numpy(array) for array in given.values()))
    except Exception as error:  # it is the user's code, and may raise anything
        run.failure = path[-1], error
    finally:
        for handle in handles:
            handle.remove()
    run.random_calls = [*recorder.random_calls, *run.random_calls]
    run.kept = [name for name, value in _read_attributes(module).items() if attributes.get(name, run) is not value]
    run.state_writes = [name for name, mark in _read_versions(module).items() if before.get(name, mark) != mark]
    return run


def _read_attributes(module: nn.Module) -> dict[str, object]:
    """Plain attributes of all parts: what forward may keep from one call to the next."""
    return {
        f"{path}.{name}".lstrip("."): value
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if not name.startswith("_") and name != "training"
    }


def _read_versions(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Marks of all parameters and buffers, which change when one is written to or replaced."""
    held = [*module.named_parameters(), *module.named_buffers()]
    return {name: (value.data_ptr(), 0 if value.is_inference() else value._version) for name, value in held}
