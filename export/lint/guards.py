"""What torch.export assumed about the sizes of the inputs while it traced a module: its guards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import sympy
import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from ganrt.feeds import Size
from ganrt.golden import proof_sizes
from ganrt.spec import Spec

from ..source_lines import SourceLine, watch_lines
from ..tracing import EXAMPLES, Sizes, export_program, silence_exporter


class Side(NamedTuple):
    """An axis of an input."""

    name: str
    """Name of the input."""
    axis: int
    """0 is the batch, 2 the height and 3 the width of an image."""

    def __str__(self) -> str:
        return f"{self.name} {({0: 'batch size', 2: 'height', 3: 'width'}).get(self.axis, self.axis)}"


@dataclass(frozen=True)
class Guard:
    """A condition on sizes that was true while a module was traced. The graph may rely on it."""

    expression: sympy.Basic
    """The condition."""
    symbols: Mapping[sympy.Symbol, Side]
    """What its symbols stand for."""
    line: SourceLine | None = None
    """What it is for, in the user's code."""

    def holds(self, sizes: Mapping[str, Size], batch: int) -> bool:
        """Whether the condition is true for other sizes of the images and of the batch; True if it has no value."""
        sides = {
            symbol: sizes[side.name][side.axis - 2] if side.axis else batch for symbol, side in self.symbols.items()
        }
        try:
            return bool(self.expression.xreplace({symbol: sympy.Integer(side) for symbol, side in sides.items()}))
        except (ArithmeticError, TypeError, ValueError):  # such as a division by zero
            return True

    @property
    def divides(self) -> bool:
        """Whether the condition is about remainders or quotients, so that sides may keep it by being multiples."""
        return any(mark in str(self.expression) for mark in ("Mod", "//"))

    def __str__(self) -> str:
        """The condition with the names of the sides."""
        relation, text = self.expression, str(self.expression)
        if isinstance(relation, sympy.Eq | sympy.Ne):
            text = f"{relation.lhs} {'==' if isinstance(relation, sympy.Eq) else '!='} {relation.rhs}"
        for symbol, side in self.symbols.items():
            text = text.replace(str(symbol), str(side))
        return text


def find_guards(module: nn.Module, spec: Spec, sizes: Sizes | None = None, with_lines: bool = False) -> list[Guard]:
    """Trace a module once more, with every condition on sizes recorded. Takes about a second. Returns none if that
    fails; the error of the trace itself then gives the reason.

    Args:
        sizes: of the images that it is traced with. Default: the first sizes of a proof.
        with_lines: whether to find the lines of the user's code, which takes twice as long.
    """
    environments: list[Any] = []
    lines: dict[sympy.Basic, SourceLine | None] = {}

    def enter_whole(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        environments[:] = [map_symbols(spec, inputs)[1]]

    def note_new_guards(line: SourceLine | None) -> None:
        for guard in environments[0].guards[len(lines) :] if any(environments) else ():
            lines.setdefault(guard.expr, line)

    handle = module.register_forward_pre_hook(enter_whole)
    try:
        with silence_exporter(), torch.no_grad():
            with watch_lines(note_new_guards) if with_lines else nullcontext():
                program = export_program(module, spec, sizes, prefer_deferred_runtime_asserts_over_guards=False)
            program.run_decompositions()
    except Exception:  # of torch, or of the module
        return []
    finally:
        handle.remove()
    return list(_collect_guards(program, spec, lines))


def find_general_sizes(module: nn.Module, spec: Spec) -> Sizes | None:
    """Sizes at which code runs that a module skips for even sizes, such as `if pad: x = F.pad(x, ...)`: a graph traced
    there holds for all sizes. None if no size of a proof breaks a guard on remainders."""
    guards = [guard for guard in find_guards(module, spec) if guard.divides]

    def count_broken(sizes: Sizes) -> int:
        return sum(not guard.holds(sizes, EXAMPLES) for guard in guards)

    best = max(proof_sizes(spec)[1:], key=count_broken, default=None)
    return best if best is not None and count_broken(best) else None


def fixes_batch(module: nn.Module, spec: Spec) -> bool:
    """Whether the batch size becomes a constant when a module is traced. False if it cannot be traced; the error of the
    trace itself then gives the reason."""
    try:
        with silence_exporter(), torch.no_grad():
            program = export_program(module, spec, prefer_deferred_runtime_asserts_over_guards=False)
            program.run_decompositions()
    except Exception:  # of torch, or of the module
        return False
    return any(is_concrete_int(value.shape[0]) for value in _list_inputs(program))


def _collect_guards(
    program: torch.export.ExportedProgram, spec: Spec, lines: Mapping[sympy.Basic, SourceLine | None]
) -> Iterator[Guard]:
    symbols, environment = map_symbols(spec, _list_inputs(program))
    for expression in dict.fromkeys(guard.expr for guard in (environment.guards if environment else ())):
        own = {symbol: side for symbol, side in symbols.items() if symbol in expression.free_symbols}
        if own and set(own) == expression.free_symbols:
            yield Guard(expression, own, lines.get(expression))


def map_symbols(spec: Spec, inputs: Sequence[Tensor]) -> tuple[dict[sympy.Symbol, Side], Any]:
    """What the symbols of traced inputs stand for, and the object that keeps the guards; None where all sides are
    constants."""
    symbols: dict[sympy.Symbol, Side] = {}
    environment: Any = None
    for item, value in zip(spec.inputs, inputs, strict=True):
        sides: list[Any] = list(value.shape)
        for axis, side in enumerate(sides):
            if isinstance(side, torch.SymInt) and isinstance(side.node.expr, sympy.Symbol):
                symbols.setdefault(side.node.expr, Side(item.name, axis))
                environment = side.node.shape_env
    return symbols, environment


def _list_inputs(program: torch.export.ExportedProgram) -> list[Any]:
    """The inputs as the trace saw them, with sides that are numbers or symbols."""
    given = set(program.graph_signature.user_inputs)
    return [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in given]
