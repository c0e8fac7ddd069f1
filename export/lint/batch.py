"""Batch independence: an image depends on its own inputs, and on nothing else in its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from ganrt.feeds import Feeds
from ganrt.proving import measure_distance
from ganrt.spec import Spec

from ..source_lines import quote_error_line, quote_line
from .findings import Finding, join_paths
from .noise import find_foreign_draw, read_foreign_generators
from .observer import PartOutput, Run, run_with_hooks

SINGLE = "or export it for one image at a time: --batch 1"
"""What else can be done about a frozen batch size."""
_KEEP_APART = (
    "keep the samples apart there: the batch comes first in every view, reshape and permute, and statistics are those "
    "of each sample"
)
_REPEATS = 6
"""Runs with one input where random numbers are drawn that are not PyTorch's: a few values may be drawn again."""
_TOLERANCE = 1e-3
"""Of the output's range: rounding at another batch size stays far below, and the proof fails at such an error."""
_SAME = 1e-6
"""Of the largest value: what rounding may change."""


def check_batch_independence(module: nn.Module, spec: Spec, run: Run, given: Feeds) -> list[Finding]:
    """Check that the last sample alone gives the image that it gives in a batch.

    Args:
        run: the module's run on `given`.
    """
    if run.kept and _remembers(module, run, given):
        text = (
            "changes what forward makes in the next call: no two pictures of one input are alike. Take it as an input, "
            "or set it in __init__ alone"
        )
        return [Finding("state", join_paths(run.kept), text, "rejected")]
    before = read_foreign_generators()
    single = run_with_hooks(module, take_last_row(given))
    draws = read_foreign_generators() != before
    if single.failure:
        path, error = single.failure
        text = f"fails with one sample: {describe_error(error)}. Take the batch size from the input"
        return [Finding("frozen batch size", join_paths([path]), text, "rejected", quote_error_line(error))]
    if _drop_ones(single.result.shape) == _drop_ones(run.result.shape[1:]) and single.result.ndim < run.result.ndim:
        text = (
            f"makes {tuple(single.result.shape)} of a batch of 1, and {tuple(run.result.shape)} of {len(run.result)}: "
            "squeeze() takes the batch away, too; leave it out, or name the dimension, as in squeeze(1)"
        )
        return [Finding("frozen batch size", _find_first_difference(module, given), text, "rejected")]
    if single.result.shape != run.result[-1:].shape:
        return [make_frozen_finding(_find_first_difference(module, given), 1, single.result)]
    pairs = zip(run.convolutions, single.convolutions, strict=False)
    grouped = [many for many, one in pairs if many.groups != one.groups]
    if grouped:
        text = (
            "a convolution with groups for each sample, as StyleGAN2's fused modulation has, fixes the batch size; "
            f"scale the activations before and after a plain convolution instead (fused_modconv=False), {SINGLE}"
        )
        paths = list(dict.fromkeys(call.path for call in grouped))
        return [Finding("frozen batch size", join_paths(paths), text, "rejected", quote_line(grouped[0].line))]
    low, high = spec.output.range
    tolerance, alone = _TOLERANCE * (high - low), single.result.numpy()
    close = measure_distance(spec, run.result[-1:].numpy(), alone) <= tolerance
    repeats = _REPEATS if draws else int(not close)
    made = (run_with_hooks(module, take_last_row(given)).result.numpy() for _ in range(repeats))
    if any(measure_distance(spec, other, alone) > tolerance for other in made):
        return [_make_random_finding(module, given)]
    if close:
        return []
    where = _find_first_difference(module, given)
    instead = _KEEP_APART if " before " in where else "take statistics over each sample, or running ones"
    text = f"makes the picture depend on the other samples of its batch, or on their number; {instead}"
    return [Finding("batch statistics", where, text, "rejected")]


def _make_random_finding(module: nn.Module, given: Feeds) -> Finding:
    text = (
        "makes two pictures of one input, with random numbers that are not PyTorch's; take them as an input, with "
        "a ganrt.Latent in the Spec, or draw them once, in __init__"
    )
    line = find_foreign_draw(module, take_last_row(given))
    return Finding("random numbers", "forward", text, "rejected", quote_line(line))


def _remembers(module: nn.Module, run: Run, given: Feeds) -> bool:
    """Whether a module that writes to its attributes makes something else of the same inputs after that."""
    again, sole = run_with_hooks(module, given), run_with_hooks(module, take_last_row(given))
    fails = bool(again.failure or sole.failure)
    return fails or _differ(again.result, run.result) or _differ(sole.result, run.result[-1:])


def _find_first_difference(module: nn.Module, given: Feeds) -> str:
    """The first module whose output for a sample changes when the sample is alone in its batch; or the code before it,
    where what it takes changes already."""
    rows = len(next(iter(given.values())))
    batched, single = (run_with_hooks(module, inputs, parts=True).parts for inputs in (given, take_last_row(given)))
    for among, alone in zip(batched, single, strict=False):
        fixed = among.rows == alone.rows == rows
        if fixed or _differ(among.last, alone.last):
            return _name_code_before(among.path, batched, single) or join_paths([among.path])
    return "forward"


def _name_code_before(path: str, batched: Sequence[PartOutput], single: Sequence[PartOutput]) -> str:
    """The code before a module whose input for a sample changes when the sample is alone in its batch; empty where the
    input stays as it is."""
    changed = {
        among.path
        for among, alone in zip(batched, single, strict=False)
        if among.taken is not None and alone.taken is not None and _differ(among.taken, alone.taken)
    }
    if path not in changed:
        return ""
    while (parent := path.rpartition(".")[0]) in changed:
        path = parent
    return f"forward of {join_paths([parent])} before {join_paths([path])}"


def _drop_ones(shape: Sequence[int]) -> list[int]:
    return [side for side in shape if side != 1]


def _differ(among: Tensor, alone: Tensor) -> bool:
    tolerance = _TOLERANCE * float(alone.abs().max())
    return among.shape != alone.shape or not _max_difference(among, alone) <= tolerance  # not a number always differs


def check_input_influence(spec: Spec, run: Run, given: Feeds) -> list[Finding]:
    """Check that each input changes the image: in row k, the value of input k - 1 differs from that in row 0. Inputs
    beyond the rows are not checked."""
    first = run.result[:1]
    rounding = _SAME * float(first.abs().max())
    varied = {k: spec.inputs[k - 1].name for k in range(1, len(run.result))}
    tried = {k: name for k, name in varied.items() if not np.array_equal(given[name][0], given[name][k])}
    idle = [name for k, name in tried.items() if _max_difference(run.result[k : k + 1], first) <= rounding]
    if not idle:
        return []
    if len(idle) == len(spec.inputs):
        text = "different inputs make the same picture; is this the trained generator, and does forward use its inputs?"
        return [Finding("inputs without influence", join_paths(idle), text, "rejected")]
    text = (
        "the two values tried make the same picture; if all values do, leave it out of the Spec, or use it in forward"
    )
    return [Finding("inputs without influence", join_paths(idle), text, "warning")]


def _max_difference(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())


def take_last_row(given: Feeds) -> Feeds:
    """The inputs of the last sample alone: code that ignores the batch would take the first."""
    return {name: array[-1:] for name, array in given.items()}


def make_frozen_finding(where: str, rows: int, result: Tensor, single: bool = False) -> Finding:
    """The finding for a result that does not have an image for each of `rows` samples.

    Args:
        single: whether the samples were computed one at a time already.
    """
    if single:
        text = (
            f"makes {tuple(result.shape)} of {rows} samples that are computed one at a time; return (1, C, H, W) for "
            "each, without squeeze() and with its batch first"
        )
        return Finding("frozen batch size", where, text, "rejected")
    text = (
        f"makes {tuple(result.shape)} of a batch of {rows}; take the batch size from the input, x.shape[0] or -1, "
        f"{SINGLE}"
    )
    return Finding("frozen batch size", where, text, "rejected")


def describe_error(error: Exception) -> str:
    """Kind and first line of an error of the user's code."""
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first[:300].rstrip('.')}"
