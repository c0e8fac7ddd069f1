"""Picture sizes: a module and its traced graph must agree at sizes that were not traced."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import onnx_ir as ir
import torch
from torch import nn

from ganrt import feeds
from ganrt.agreement import THRESHOLDS, compare
from ganrt.feeds import Feeds, Size
from ganrt.golden import output_size, proof_sizes
from ganrt.levels import find_levels
from ganrt.spec import Image, Spec

from ..source_lines import quote_line
from ..tracing import Sizes, count_macs
from .batch import describe_error
from .difference import find_first_difference, run_on_onnxruntime
from .findings import Finding, join_paths
from .guards import Guard, find_guards
from .observer import run_with_hooks

RULE = "picture size"
_SEED = 5
_BATCH = 3
"""Not the batch size that a module is traced with, unless that is fixed."""
_MULTIPLES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 28, 32, 48, 64, 96, 128)
"""What the sides may have to be multiples of, as multiples of what the Spec says."""
_SIDES = (24, 33, 48, 57, 64, 81, 96, 128, 161, 256, 384, 512, 768, 1024, 2048)
"""Sides, in pixels, of pictures that may break a guard."""
EXACT, FLOOR = 110.0, 85.0
"""In dB: a graph that differs from its module by rounding alone at the traced size must reach FLOOR at others."""
_MOST_TRIED = 8
"""Sizes that are tried because they break a guard."""
_MOST_MACS = 5e11
"""Of such a size: about ten seconds."""
_LARGEST = 2**30
"""Graphs with more bytes of weights are compared only by their proof."""


class _Trial(NamedTuple):
    """What is wrong at a picture size."""

    sizes: Sizes
    found: str
    """What happens there, as a sentence."""
    in_graph: bool = False
    """True if the module is right and its graph is not."""
    where: str = "forward"
    """Path of the module that fails."""


class _Checked(NamedTuple):
    """A module and its graph under test."""

    module: nn.Module
    spec: Spec
    model: ir.Model | None
    """None: the module alone is checked."""
    floor: float = THRESHOLDS["fp32"]
    """PSNR in dB from which images of the graph and of the module are the same."""
    traced: Sizes | None = None
    """The sizes that the graph was traced with; None: the first of a proof."""

    @property
    def rows(self) -> int:
        """Batch size of the comparison: not that of the trace, if it is free."""
        return 1 if self.spec.single else _BATCH

    def try_size(self, sizes: Sizes) -> _Trial | None:
        """What is wrong at a size, if anything."""
        given = self.draw_feeds(sizes)
        try:
            with torch.no_grad():
                images = self.module(*(torch.from_numpy(array) for array in given.values())).numpy()
        except Exception as error:  # it is the user's code, and may raise anything
            failure = run_with_hooks(self.module, given).failure
            where = join_paths([failure[0]]) if failure else "forward"
            return _Trial(sizes, f"the module fails: {describe_error(error)}", where=where)
        wanted = output_size(self.spec, sizes)
        if images.shape[2:] != wanted:
            found = f"the module makes {_format(images.shape[2:])} pixels, and the Spec says {_format(wanted)}"
            return _Trial(sizes, found)
        if self.model is None:
            return None
        try:
            made = run_on_onnxruntime(self.model, given)
            worst = float(compare(made, images, find_levels(self.spec.output)).psnr.min())
        except Exception as error:  # of ONNX Runtime, or images of another shape
            return _Trial(sizes, f"the traced graph fails: {describe_error(error)}", True)
        if worst >= self.floor:
            return None
        return _Trial(sizes, f"the traced graph makes other pictures than the module ({worst:.1f} dB)", True)

    def draw_feeds(self, sizes: Sizes) -> Feeds:
        """Inputs with images of some sizes."""
        return feeds.draw_feeds(self.spec, _SEED, 0, self.rows, size=sizes)


def check_picture_sizes(module: nn.Module, spec: Spec, model: ir.Model, traced: Sizes | None = None) -> list[Finding]:
    """Check a module with image inputs of free size, and its graph, at sizes that were not traced: those of the proof,
    and those that break a guard of torch.export.

    Args:
        module: on the CPU, in evaluation mode.
        model: its graph, whose nodes are named after their modules.
        traced: the sizes that it was traced with. Default: the first of a proof.

    Returns a rejected finding; or none, or a warning for a guard that only very large pictures break.
    """
    if all(item.size is not None for item in spec.images):
        return []
    traced = traced or proof_sizes(spec)[0]
    others = [sizes for sizes in proof_sizes(spec) if sizes != traced]
    checked = _Checked(module, spec, model if is_comparable(model) else None, traced=traced)
    trial = checked._replace(floor=EXACT).try_size(traced)
    if trial is None:
        checked = checked._replace(floor=FLOOR)
    elif trial.in_graph and (trial := checked.try_size(traced)):  # not a matter of size: the proof compares again
        checked, trial = checked._replace(model=None), None
    trial = trial or next(filter(None, map(checked.try_size, others)), None)
    guards = find_guards(module, spec, traced) if checked.model else []
    if trial:
        return [_describe(checked, trial, guards)]
    guards = [guard for guard in guards if all(guard.holds(sizes, checked.rows) for sizes in (traced, *others))]
    return list(_try_guards(checked, guards))


def _try_guards(checked: _Checked, guards: Sequence[Guard]) -> Iterator[Finding]:
    """What is wrong at sizes that break guards: one rejected finding at most. Sizes that are too much work give a
    warning."""
    broken = [
        (guard, sizes)
        for guard in guards
        if (sizes := next((found for found in _list_sizes(checked.spec) if not guard.holds(found, checked.rows)), None))
    ]
    if not broken:
        return
    is_affordable = _plan_work(checked)
    tried: list[Sizes] = []
    for guard, sizes in broken:
        if not is_affordable(sizes):
            yield _warn_of_guard(guard, sizes)
        elif sizes not in tried and len(tried) < _MOST_TRIED:
            tried.append(sizes)
            trial = checked.try_size(sizes)
            if trial and trial.in_graph:
                yield _describe(checked, trial, guards)
                return


def _plan_work(checked: _Checked) -> Callable[[Sizes], bool]:
    """Return whether a size is little enough work to be tried, going by how the work grows between two sizes of the
    proof. Attention needs memory for every pair of pixels, so less of it is affordable."""
    small, large = proof_sizes(checked.spec)[:2]
    work = [_count_macs(checked, sizes) for sizes in (small, large)]
    pixels = [_count_pixels(sizes) for sizes in (small, large)]
    growth = max(1.0, math.log(max(1, work[1]) / max(1, work[0])) / math.log(pixels[1] / pixels[0]))
    limit = _MOST_MACS if growth < 1.2 else _MOST_MACS / 30
    return lambda sizes: bool(work[1] * (_count_pixels(sizes) / pixels[1]) ** growth * checked.rows <= limit)


def _count_macs(checked: _Checked, sizes: Sizes) -> int:
    return count_macs(checked.module, tuple(torch.from_numpy(rows) for rows in checked.draw_feeds(sizes).values()))


def is_comparable(model: ir.Model) -> bool:
    """Whether a graph is small enough to be compared with its module by the linter."""
    weights = (value.const_value for value in model.graph.initializers.values())
    return sum(weight.nbytes for weight in weights if weight is not None) < _LARGEST


def _list_sizes(spec: Spec) -> Iterator[dict[str, Size]]:
    """Picture sizes that the Spec allows, small ones first; inputs that may differ in size have the same size, then
    different ones."""
    rule = math.lcm(*(item.multiple_of for item in spec.images))
    sides = sorted({-(-side // rule) * rule for side in _SIDES})
    pairs = sorted(product(sides, sides), key=lambda pair: (pair[0] * pair[1], pair))
    for height, width in pairs:
        found: list[dict[str, Size]] = []
        for style in ((height, width), (width, height), (sides[0], sides[1])):
            sizes: dict[str, Size] = {}
            for place, item in enumerate(spec.images):
                leading = (height, width) if place == 0 else style
                sizes[item.name] = item.size or (sizes[item.like] if item.like else leading)
            if sizes not in found:
                found.append(sizes)
        yield from found


def _count_pixels(sizes: Sizes) -> int:
    return sum(height * width for height, width in sizes.values())


def _warn_of_guard(guard: Guard, sizes: Sizes) -> Finding:
    text = (
        f"its traced graph may rely on: {guard}. Pictures of {_list(sizes)} break that; they were not tried, because "
        "they are too much work"
    )
    return Finding(RULE, "forward", text, "warning")


def _describe(checked: _Checked, trial: _Trial, guards: Sequence[Guard]) -> Finding:
    """The finding for a size at which something is wrong: where, why, and what to do."""
    where, reason, line = trial.where, "", ""
    if trial.in_graph:
        assert checked.model is not None
        given = checked.draw_feeds(trial.sizes)
        where = find_first_difference(checked.module, checked.model, given)
        broken = [guard for guard in guards if not guard.holds(trial.sizes, checked.rows)]
        if broken:
            shortest = min(broken, key=lambda guard: len(str(guard)))
            found = find_guards(checked.module, checked.spec, checked.traced, with_lines=True)
            lines = [guard.line for guard in found if str(guard) == str(shortest)]
            reason, line = f"; tracing assumed that {shortest}", quote_line(lines[0] if lines else None)
    text = f"with pictures of {_list(trial.sizes)}, {trial.found}{reason}. {_advise(checked, trial, guards)}"
    return Finding(RULE, where, text, "rejected", line)


def _advise(checked: _Checked, trial: _Trial, guards: Sequence[Guard]) -> str:
    spec = checked.spec
    names = [item.name for item in spec.images if item.size is None]
    if not trial.in_graph and (scale := _find_scale(checked)):
        return f"Give the output scale={scale} in the Spec"
    multiple = _find_multiple(checked, trial, guards)
    if multiple:
        return f"Give {' and '.join(names)} multiple_of={multiple} in the Spec; `transform` then pads pictures to it"
    if not trial.in_graph:
        return f"Give {' and '.join(names)} a size in the Spec, or make the module work at any size"
    return (
        f"Give {' and '.join(names)} a size in the Spec; or write forward without conditions on "
        "x.shape, without sizes as Python numbers (int, float, range), and without adaptive pooling to several pixels"
    )


def _find_multiple(checked: _Checked, trial: _Trial, guards: Sequence[Guard]) -> int | None:
    """The smallest multiple that both sides of the images must be of, for all to be right; None if none helps."""
    broken = [guard for guard in guards if trial.in_graph and not guard.holds(trial.sizes, checked.rows)]
    if trial.in_graph and not any(guard.divides for guard in broken):
        return None
    for factor in _MULTIPLES:
        images = [item for item in checked.spec.images if item.size is None]
        rule = math.lcm(*(item.multiple_of for item in images)) * factor
        inputs = tuple(
            replace(item, multiple_of=rule) if isinstance(item, Image) and item.size is None else item
            for item in checked.spec.inputs
        )
        stricter = checked._replace(spec=replace(checked.spec, inputs=inputs))
        if all(
            guard.holds(sizes, checked.rows) for guard in broken for sizes in _list_sizes(stricter.spec)
        ) and not any(map(stricter.try_size, proof_sizes(stricter.spec)[1:])):
            return rule
    return None


def _find_scale(checked: _Checked) -> int | None:
    """The whole number of output pixels per input pixel that the module has at every size; None if there is none."""
    scales = set()
    for sizes in proof_sizes(checked.spec):
        try:
            with torch.no_grad():
                images = checked.module(*(torch.from_numpy(rows) for rows in checked.draw_feeds(sizes).values()))
        except Exception:  # the user's code
            return None
        size = sizes[checked.spec.images[0].name]
        scales |= {made / side for made, side in zip(images.shape[2:], size, strict=True)}
    scale = scales.pop()
    return int(scale) if not scales and scale >= 1 and scale == int(scale) else None


def _list(sizes: Sizes) -> str:
    shapes = list(dict.fromkeys(sizes.values()))
    if len(shapes) == 1:
        return f"{_format(shapes[0])} pixels"
    return ", ".join(f"{_format(size)} ({name})" for name, size in sizes.items()) + " pixels"


def _format(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]}"
