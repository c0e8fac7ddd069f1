"""What ruins exports and shows when a module runs: on a few samples at once, and on one of them alone."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ganrt import feeds
from ganrt.feeds import Array, Feeds
from ganrt.golden import picture_size
from ganrt.spec import Input, Label, Scalar, Spec

from . import noise
from .batch import company, frozen_result, influence, last_of, said
from .findings import Finding, Wrapper, places
from .noise import Draw
from .observer import Run, watch

_DROPPING = {"bernoulli_", "native_dropout"}
"""What dropout draws with."""


class Rehearsed(NamedTuple):
    """A module that may go on to be traced, unless a finding is refused."""

    module: nn.Module
    spec: Spec
    findings: list[Finding]


def rehearse(module: nn.Module, spec: Spec) -> Rehearsed:
    """Run a module (on the CPU, in evaluation mode) on samples of its Spec, and judge what it does.

    Random numbers that can be inputs become inputs, and of several results the picture alone is returned: the module
    and the Spec that are returned are like that.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        given = _variations(spec)
        rows = len(given[spec.inputs[0].name])
        run = watch(module, given)
        if run.failed:
            return Rehearsed(module, spec, [_cannot_run(module, given, *run.failed)])
        findings = [*_state(run), *_precision(run), *_read(run)]
        place = _place(run.result, rows, spec)
        if place is not None:
            module, run.result = Item(module, place), run.result[place]
            findings.append(Finding("forward", "forward", f"returns several things; item {place} is taken", "mended"))
        findings += _result(run, rows)
        if run.draws:
            module, run, spec, drawn = _with_inputs(module, run, spec, given)
            findings += drawn
        if all(finding.level != "refused" for finding in findings):
            findings += [*company(module, spec, run, given), *influence(spec, run, given)]
    return Rehearsed(module, spec, findings)


def _with_inputs(module: nn.Module, run: Run, spec: Spec, given: Feeds) -> tuple[nn.Module, Run, Spec, list[Finding]]:
    """The module with its random numbers as inputs, its run on them, which are added to `given`, and its Spec. All as
    they were, and findings that refuse, where that is not possible."""
    rows = len(given[spec.inputs[0].name])
    unfit = noise.cannot_be_inputs(run.draws, rows, spec)
    if unfit:
        return module, run, spec, _refused(unfit, spec)
    taking, wider = noise.with_inputs(module, spec, run.draws)
    added = [item.name for item in wider.inputs[len(spec.inputs) :]]
    numbers = {name: _standard(rows, draw.shape[1:]) for name, draw in zip(added, run.draws, strict=True)}
    again = watch(taking, given | numbers)
    if again.failed:  # the module counts on numbers of another shape than those of a batch
        return module, run, spec, _refused(run.draws, spec)
    given |= numbers
    return taking, again, wider, [_inputs_now(run.draws, added)]


class Item(Wrapper):
    """One of the results of a module that returns several."""

    def __init__(self, module: nn.Module, place: int) -> None:
        super().__init__(module)
        self.place = place

    def forward(self, *inputs: Tensor) -> Tensor:
        return cast(Tensor, self.wrapped_by_ganrt(*inputs)[self.place])


def _place(result: object, rows: int, spec: Spec) -> int | None:
    """Where in a tuple or list the one item is that can be the pictures of the Spec."""
    if not isinstance(result, tuple | list):
        return None
    pictures = [
        place
        for place, item in enumerate(result)
        if isinstance(item, Tensor)
        and item.ndim == 4
        and item.shape[:2] == (rows, spec.output.channels)
        and spec.output.size in (None, tuple(item.shape[2:]))
    ]
    return pictures[0] if len(pictures) == 1 else None


def _variations(spec: Spec) -> Feeds:
    """Row 0 is a sample; in row k the input k - 1 is another one. Scalars are in the middle of their range, and at its
    lower end instead."""
    drawn = feeds.draw(spec, 0, 0, 2, size=picture_size(spec))
    rows = {}
    for k, item in enumerate(spec.inputs, start=1):
        usual, other = _pair(item, drawn[item.name])
        rows[item.name] = np.stack([other if row == k else usual for row in range(len(spec.inputs) + 1)])
    return rows


def _pair(item: Input, drawn: Array) -> tuple[Array, Array]:
    if isinstance(item, Scalar):
        return np.array(sum(item.range) / 2, np.float32), np.array(item.range[0], np.float32)
    if isinstance(item, Label):
        shifted = np.roll(drawn[0], 1) if drawn.ndim == 2 else (drawn[0] + 1) % item.classes
        return drawn[0], shifted
    return drawn[0], drawn[1]


def _standard(rows: int, shape: tuple[int, ...]) -> Array:
    """Random numbers from 0 to 1, the same in every row."""
    return np.repeat(torch.rand(1, *shape).numpy(), rows, axis=0)


def _cannot_run(module: nn.Module, given: Feeds, path: str, error: Exception) -> Finding:
    rows = len(next(iter(given.values())))
    if watch(module, last_of(given)).failed:  # then the batch size is not the reason
        inputs = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in given.items())
        text = f"fails with the inputs of the Spec, {inputs}: {said(error)}"
        return Finding("forward", places([path]), text, "refused")
    text = f"takes a single sample, and fails with {rows}: {said(error)}. Take the batch size from the input"
    return Finding("frozen batch size", places([path]), text, "refused")


def _result(run: Run, rows: int) -> list[Finding]:
    """One tensor, with a picture for every sample."""
    if not isinstance(run.result, Tensor):
        text = f"returns a {type(run.result).__name__}; wrap the module in one that returns the pictures alone"
        return [Finding("forward", "forward", text, "refused")]
    if run.result.ndim == 0 or len(run.result) != rows:
        return [frozen_result("forward", rows, run.result)]
    if not bool(torch.isfinite(run.result).all()):
        return [Finding("forward", "forward", "makes values that are not finite of ordinary inputs", "refused")]
    return []


def _state(run: Run) -> list[Finding]:
    if not run.written:
        return []
    text = "forward writes to it in evaluation mode, so no two pictures are made alike; write only where self.training"
    return [Finding("state", places(run.written), text, "refused")]


def _precision(run: Run) -> list[Finding]:
    """The graph that is traced is float32; lower precisions are made of it, and proven."""
    if not run.halved:
        return []
    names = ", ".join(sorted({str(dtype).removeprefix("torch.") for dtype in run.halved.values()}))
    text = (
        f"computes in {names}; leave autocast and casts out of forward, --precision makes and proves lower precisions"
    )
    return [Finding("precision", places(list(run.halved)), text, "refused")]


def _read(run: Run) -> list[Finding]:
    """Numbers that Python sees and a graph does not."""
    if not run.read:
        return []
    text = (
        "makes a Python number or a condition of a tensor, which tracing cannot follow where it depends on the inputs; "
        "stay with tensors (torch.where, torch.clamp)"
    )
    return [Finding("values read in Python", places(list(dict.fromkeys(run.read))), text, "named")]


def _refused(draws: list[Draw], spec: Spec) -> list[Finding]:
    dropping = [draw for draw in draws if draw.function in _DROPPING]
    others = [draw for draw in draws if draw.function not in _DROPPING]
    named = f"draws random numbers ({', '.join(sorted({draw.function for draw in others}))})"
    text = (
        f"{named}, which a graph cannot draw from the seed of a sample. Take them as an input, with a ganrt.Latent in "
        "the Spec; or draw them once, in __init__, and keep them with register_buffer"
    )
    if any(item.size is None for item in spec.images):
        text = (
            f"{named} for pictures of any size, which a graph cannot draw from the seed of a sample. Take them as an "
            "image input, or give the image inputs of the Spec a size"
        )
    drops = "drops values at random in evaluation mode; call F.dropout with training=self.training"
    groups = ((dropping, drops), (others, text))
    return [Finding("random numbers", places(_unique(group)), text, "refused") for group, text in groups if group]


def _inputs_now(draws: list[Draw], names: list[str]) -> Finding:
    shown = f"input {names[0]}" if len(names) == 1 else f"inputs {names[0]} to {names[-1]}"
    text = (
        f"the random numbers that forward draws became the {shown} of the Spec, drawn from the seed of each sample; "
        "for the same ones in all pictures, draw them once, in __init__, and keep them with register_buffer"
    )
    return Finding("random numbers", places(_unique(draws)), text, "mended")


def _unique(draws: list[Draw]) -> list[str]:
    return list(dict.fromkeys(draw.where for draw in draws))
