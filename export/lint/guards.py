"""What torch.export assumed about the sizes of the inputs while it traced a module: its guards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sympy
import torch
from torch import nn
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from ganrt.feeds import Size
from ganrt.golden import proof_sizes
from ganrt.spec import Spec

from ..tracing import EXAMPLES, Sizes, find_dynamic_sides, group_varargs, make_example_inputs, silence_exporter


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


def find_guards(module: nn.Module, spec: Spec, sizes: Sizes | None = None) -> list[Guard]:
    """Trace a module once more, with images of some sizes (default: the first of a proof) and every condition on sizes
    recorded. Takes about a second. Returns none if that fails; the error of the trace itself then gives the reason."""
    program = _trace_freely(module, spec, sizes)
    return [] if program is None else list(_collect_guards(program, spec))


def _trace_freely(module: nn.Module, spec: Spec, sizes: Sizes | None = None) -> torch.export.ExportedProgram | None:
    """A trace in which sides may become constants; None if there is none."""
    free = tuple(dict.fromkeys(sides, Dim.AUTO) for sides in find_dynamic_sides(spec))
    try:
        with silence_exporter(), torch.no_grad():
            program = torch.export.export(
                module,
                make_example_inputs(spec, sizes),
                dynamic_shapes=group_varargs(module, free),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=False,
            )
            program.run_decompositions()
    except Exception:  # of torch, or of the module
        return None
    return program


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
    program = _trace_freely(module, spec)
    return program is not None and any(is_concrete_int(value.shape[0]) for value in _list_inputs(program))


def _collect_guards(program: torch.export.ExportedProgram, spec: Spec) -> Iterator[Guard]:
    symbols: dict[sympy.Symbol, Side] = {}
    environment: Any = None
    for item, value in zip(spec.inputs, _list_inputs(program), strict=True):
        for axis, side in enumerate(value.shape):
            if isinstance(side, torch.SymInt) and isinstance(side.node.expr, sympy.Symbol):
                symbols.setdefault(side.node.expr, Side(item.name, axis))
                environment = side.node.shape_env
    for expression in dict.fromkeys(guard.expr for guard in (environment.guards if environment else ())):
        own = {symbol: side for symbol, side in symbols.items() if symbol in expression.free_symbols}
        if own and set(own) == expression.free_symbols:
            yield Guard(expression, own)


def _list_inputs(program: torch.export.ExportedProgram) -> list[Any]:
    """The inputs as the trace saw them, with sides that are numbers or symbols."""
    given = set(program.graph_signature.user_inputs)
    return [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in given]
