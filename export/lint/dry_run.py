"""A dry run: faults that show when a module runs on a few samples at once, and on one of them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ganrt import feeds
from ganrt.feeds import Array, Feeds
from ganrt.golden import proof_picture_size
from ganrt.spec import Input, Label, Latent, Scalar, Spec

from ..source_lines import find_error_line, quote_error_line, quote_line
from . import noise
from .batch import (
    SINGLE,
    check_batch_independence,
    check_input_influence,
    describe_error,
    make_frozen_finding,
    take_last_row,
)
from .class_count import check_class_counts
from .findings import Finding, Wrapper, join_paths
from .named_outputs import take_named_output
from .noise import RandomCall
from .norm_calls import compute_norms_of_input
from .observer import Run, run_with_hooks
from .rewrites import CALLS, find_rewrite
from .training_mode import check_training_mode

_DROPPING = {"bernoulli_", "native_dropout"}
"""What dropout draws with."""
_INDICES = {"randperm", "randint", "multinomial", "random_"}
"""What draws whole numbers, which are no input of a Spec."""

_DROPS = "drops values at random in evaluation mode; call F.dropout with training=self.training"
_FIXED_NUMBERS = (
    "draws random numbers ({}), which a graph cannot draw from the seed of a sample. Take them as an input, with a "
    "ganrt.Latent in the Spec; or draw them once, in __init__, and keep them with register_buffer"
)
_FREE_NUMBERS = (
    "draws random numbers ({}) for pictures of any size, which a graph cannot draw from the seed of a sample. Take "
    "them as an image input, or give the image inputs of the Spec a size"
)
_FIXED_INDICES = (
    "draws random whole numbers ({}), which a graph cannot draw from the seed of a sample, and which are no input of a "
    "Spec. Draw them once, in __init__, and keep them with register_buffer"
)
_FREE_INDICES = (
    "draws random whole numbers ({}) for pictures of any size, which a graph cannot draw from the seed of a sample, "
    "and which are no input of a Spec. Draw k numbers once, in __init__: "
    'register_buffer("part", torch.rand(k)), and write (self.part * n).long() for the indices below n'
)


class DryRun(NamedTuple):
    """A module that is ready to be traced, unless a finding is rejected."""

    module: nn.Module
    spec: Spec
    findings: list[Finding]


def check_dry_run(module: nn.Module, spec: Spec, in_training: Sequence[str] = ()) -> DryRun:
    """Run a module (on the CPU, in evaluation mode) on samples of its Spec and check its behaviour.

    Args:
        in_training: paths of the modules that came in training mode.

    Returns a module and its Spec in which random numbers that the module drew are inputs, where that is possible, and
    which returns the image alone where the module returned several things; and the findings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        given = _vary_inputs(spec)
        rows = len(given[spec.inputs[0].name])
        counts = check_class_counts(module, spec, given)
        if any(finding.severity == "rejected" for finding in counts):
            return DryRun(module, spec, counts)
        run = run_with_hooks(module, given)
        if run.failure:
            return DryRun(module, spec, [_explain_failure(module, spec, given, *run.failure)])
        findings = counts
        if run.training_norms:
            module, repaired = compute_norms_of_input(module, list(dict.fromkeys(run.training_norms)))
            run, findings = run_with_hooks(module, given), [*counts, repaired]
        findings += [*_check_state(run), *_check_precision(run), *_check_python_reads(run)]
        module, named = take_named_output(module, run, spec)
        findings += named
        place = _find_image_output(run.result, rows, spec)
        if place is not None:
            module, run.result = SelectOutput(module, place), run.result[place]
            findings.append(Finding("forward", "forward", f"returns several things; item {place} is taken", "fixed"))
        findings += (
            [] if any(part.severity == "rejected" for part in named) else _check_result(module, run, spec, given)
        )
        if run.random_calls:
            module, run, spec, drawn = _turn_draws_into_inputs(module, run, spec, given)
            findings += drawn
        if all(finding.severity != "rejected" for finding in findings):
            findings += [*check_batch_independence(module, spec, run, given), *check_input_influence(spec, run, given)]
        if all(finding.severity != "rejected" for finding in findings):
            findings += check_training_mode(module, spec, run.result, given, in_training)
    return DryRun(module, spec, findings)


def _turn_draws_into_inputs(
    module: nn.Module, run: Run, spec: Spec, given: Feeds
) -> tuple[nn.Module, Run, Spec, list[Finding]]:
    """Returns the module with its random numbers as inputs, its run on them, its Spec, and the findings; the numbers
    are added to `given`. Where that is not possible, nothing changes and the findings are rejected."""
    rows = len(given[spec.inputs[0].name])
    unfit = noise.find_irreplaceable(run.random_calls, rows, spec)
    if unfit:
        return module, run, spec, _reject_random_calls(unfit, spec)
    taking, wider = noise.add_noise_inputs(module, spec, run.random_calls)
    added = [item.name for item in wider.inputs[len(spec.inputs) :]]
    numbers = {name: _draw_uniform(rows, draw.shape[1:]) for name, draw in zip(added, run.random_calls, strict=True)}
    again = run_with_hooks(taking, given | numbers)
    if again.failure:  # the module counts on numbers of another shape than those of a batch
        return module, run, spec, _reject_random_calls(run.random_calls, spec)
    given |= numbers
    return taking, again, wider, [_describe_new_inputs(run.random_calls, added)]


class SelectOutput(Wrapper):
    """One of the results of a module that returns several."""

    def __init__(self, module: nn.Module, place: int) -> None:
        super().__init__(module)
        self.place = place

    def forward(self, *inputs: Tensor) -> Tensor:
        return cast(Tensor, self.wrapped_by_ganrt(*inputs)[self.place])


def _find_image_output(result: object, rows: int, spec: Spec) -> int | None:
    """Index of the only item of a tuple or list that can be the images of the Spec."""
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


def _vary_inputs(spec: Spec) -> Feeds:
    """Row 0 is a sample; in row k, input k - 1 has another value. Scalars are in the middle of their range, or at its
    lower end."""
    drawn = feeds.draw_feeds(spec, 0, 0, 2, size=proof_picture_size(spec))
    rows = {}
    for k, item in enumerate(spec.inputs, start=1):
        usual, other = _draw_pair(item, drawn[item.name])
        rows[item.name] = np.stack([other if row == k else usual for row in range(len(spec.inputs) + 1)])
    return rows


def _draw_pair(item: Input, drawn: Array) -> tuple[Array, Array]:
    if isinstance(item, Scalar):
        return np.array(sum(item.range) / 2, np.float32), np.array(item.range[0], np.float32)
    if isinstance(item, Label):
        shifted = np.roll(drawn[0], 1) if drawn.ndim == 2 else (drawn[0] + 1) % item.classes
        return drawn[0], shifted
    return drawn[0], drawn[1]


def _draw_uniform(rows: int, shape: tuple[int, ...]) -> Array:
    """Random numbers from 0 to 1, the same in every row."""
    return np.repeat(torch.rand(1, *shape).numpy(), rows, axis=0)


def _explain_failure(module: nn.Module, spec: Spec, given: Feeds, path: str, error: Exception) -> Finding:
    rows = len(next(iter(given.values())))
    if run_with_hooks(module, take_last_row(given)).failure:  # then the batch size is not the reason
        inputs = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in given.items())
        text = f"fails with the inputs of the Spec, {inputs}: {describe_error(error)}"
        if not run_with_hooks(_TakesList(module), given).failure:
            return _name_list(given)
        instead = _find_fitting_input(module, spec, given) or find_rewrite(CALLS, find_error_line(error))
        text += f"; {instead}" if instead else ""
        return Finding("forward", join_paths([path]), text, "rejected", quote_error_line(error))
    instead = "Write reshape for view" if "Use .reshape" in str(error) else "Take the batch size from the input"
    text = f"fails with {rows} samples, and not with one: {describe_error(error)}. {instead}, {SINGLE}"
    return Finding("frozen batch size", join_paths([path]), text, "rejected", quote_error_line(error))


def _find_fitting_input(module: nn.Module, spec: Spec, given: Feeds) -> str:
    """What to write in the Spec for the first input with which a module runs in another encoding or shape; empty if
    there is none."""
    for item in spec.inputs:
        other = _write_otherwise(item, given[item.name])
        if other and not run_with_hooks(module, given | {item.name: other[0]}).failure:
            return f"it runs with {other[1]} in the Spec"
    return ""


def _write_otherwise(item: Input, array: Array) -> tuple[Array, str] | None:
    """The values of a label in its other encoding, or of a latent as vectors or as maps of one pixel; and what the Spec
    says then."""
    if isinstance(item, Label) and item.encoding == "index":
        text = f'Label("{item.name}", classes={item.classes}, encoding="one_hot")'
        return np.eye(item.classes, dtype=np.float32)[array], text
    if isinstance(item, Label):
        return array.argmax(1), f'Label("{item.name}", classes={item.classes})'
    if isinstance(item, Latent) and item.shape[1:] in ((), (1, 1)):
        shape = item.shape[:1] if item.shape[1:] else (*item.shape, 1, 1)
        return array.reshape(len(array), *shape), f'Latent("{item.name}", shape={shape})'
    return None


def _name_list(given: Feeds) -> Finding:
    names = ", ".join(given)
    text = f"takes a list: wrap the module in one whose forward takes {names} and calls it with [{names}]"
    return Finding("forward", "forward", text, "rejected")


def _runs_on_lists(module: nn.Module, given: Feeds) -> bool:
    """Whether a module makes a picture of each sample when it gets its inputs in a list."""
    run = run_with_hooks(_TakesList(module), given)
    return (
        isinstance(run.result, Tensor) and run.result.ndim == 4 and len(run.result) == len(next(iter(given.values())))
    )


class _TakesList(Wrapper):
    """Calls a module with all its inputs in one list."""

    def forward(self, *inputs: Tensor) -> Any:
        return self.wrapped_by_ganrt(list(inputs))


def _check_result(module: nn.Module, run: Run, spec: Spec, given: Feeds) -> list[Finding]:
    """One tensor, with a picture for every sample."""
    rows = len(next(iter(given.values())))
    if isinstance(run.result, np.ndarray):
        text = "returns an array of NumPy; return the tensor, without numpy()"
        return [Finding("forward", "forward", text, "rejected")]
    if not isinstance(run.result, Tensor):
        text = f"returns {_describe_result(run.result)}; wrap the module in one that returns the pictures alone"
        return [Finding("forward", "forward", text, "rejected")]
    if (run.result.ndim == 0 or len(run.result) != rows) and _runs_on_lists(module, given):
        return [_name_list(given)]
    if run.result.ndim == 0 or len(run.result) != rows:
        return [make_frozen_finding("forward", rows, run.result, spec.single)]
    if not bool(torch.isfinite(run.result).all()):
        return [Finding("forward", "forward", "makes values that are not finite of ordinary inputs", "rejected")]
    return []


def _describe_result(result: object) -> str:
    """A result that is no tensor: its class, and what is in it."""
    name = type(result).__name__
    if isinstance(result, Mapping):
        return f"a {name} with {', '.join(map(str, result))}"
    if isinstance(result, tuple | list):
        return f"a {name} of {len(result)}"
    return f"a {name}"


def _check_state(run: Run) -> list[Finding]:
    if not run.state_writes:
        return []
    text = "forward writes to it in evaluation mode, so no two pictures are made alike; write only where self.training"
    return [Finding("state", join_paths(run.state_writes), text, "rejected")]


def _check_precision(run: Run) -> list[Finding]:
    """The traced graph must be float32; lower precisions are made from it, and proven."""
    if not run.low_precision:
        return []
    names = ", ".join(sorted({str(dtype).removeprefix("torch.") for dtype in run.low_precision.values()}))
    text = (
        f"computes in {names}; leave autocast and casts out of forward, --precision makes and proves lower precisions"
    )
    line = quote_line(run.lines.get("low_precision"))
    return [Finding("precision", join_paths(list(run.low_precision)), text, "rejected", line)]


def _check_python_reads(run: Run) -> list[Finding]:
    """Numbers that Python reads from tensors; a graph keeps the values of the tracing run."""
    if not run.python_reads:
        return []
    text = (
        "makes a Python number or a condition of a tensor, which tracing cannot follow where it depends on the inputs; "
        "stay with tensors (torch.where, torch.clamp)"
    )
    line = run.lines.get("python_reads")
    paths = list(dict.fromkeys(run.python_reads))
    return [Finding("values read in Python", join_paths(paths), text, "warning", str(line or ""))]


def _reject_random_calls(draws: list[RandomCall], spec: Spec) -> list[Finding]:
    free = any(item.size is None for item in spec.images)
    groups: dict[str, list[RandomCall]] = {}
    for draw in draws:
        kind = "drops" if draw.function in _DROPPING else "indices" if draw.function in _INDICES else "numbers"
        groups.setdefault(kind, []).append(draw)
    texts = {
        "drops": _DROPS,
        "indices": _FREE_INDICES if free else _FIXED_INDICES,
        "numbers": _FREE_NUMBERS if free else _FIXED_NUMBERS,
    }
    found = []
    for kind, calls in groups.items():
        text = texts[kind].format(", ".join(sorted({draw.function for draw in calls})))
        line = quote_line(calls[0].line)
        found.append(Finding("random numbers", join_paths(_unique_paths(calls)), text, "rejected", line))
    return found


def _describe_new_inputs(draws: list[RandomCall], names: list[str]) -> Finding:
    shown = f"input {names[0]}" if len(names) == 1 else f"inputs {names[0]} to {names[-1]}"
    text = (
        f"the random numbers that forward draws became the {shown} of the Spec, drawn from the seed of each sample; "
        "for the same ones in all pictures, draw them once, in __init__, and keep them with register_buffer"
    )
    return Finding("random numbers", join_paths(_unique_paths(draws)), text, "fixed")


def _unique_paths(draws: list[RandomCall]) -> list[str]:
    return list(dict.fromkeys(draw.where for draw in draws))
