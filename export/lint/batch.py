"""Whether a picture depends on its own inputs, and on nothing else that is in its batch."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from ganrt.feeds import Feeds
from ganrt.spec import Spec

from .findings import Finding, places
from .observer import Run, watch

_TOLERANCE = 1e-3
"""Of the output's range: rounding at another batch size stays far below, and the proof fails at such an error."""
_SAME = 1e-6
"""Of the largest value: what rounding may change."""


def company(module: nn.Module, spec: Spec, run: Run, given: Feeds) -> list[Finding]:
    """Whether the last sample alone gives the picture that it gave in company.

    Args:
        run: the module's run on `given`.
    """
    single = watch(module, last_of(given))
    if single.failed:
        path, error = single.failed
        text = f"takes {len(run.result)} samples, and fails with one: {said(error)}. Take the batch size from the input"
        return [Finding("frozen batch size", places([path]), text, "refused")]
    if single.result.shape != run.result[-1:].shape:
        return [frozen_result(_first_apart(module, given), 1, single.result)]
    grouped = [path for (path, many), (_, one) in zip(run.groups, single.groups, strict=False) if many != one]
    if grouped:
        text = (
            "a convolution with groups for each sample, as StyleGAN2's fused modulation has, fixes the batch size; "
            "scale the activations before and after a plain convolution instead (fused_modconv=False)"
        )
        return [Finding("frozen batch size", places(list(dict.fromkeys(grouped))), text, "refused")]
    low, high = spec.output.range
    tolerance = _TOLERANCE * (high - low)
    if _apart(run.result[-1:], single.result) <= tolerance:
        return []
    if _apart(watch(module, last_of(given)).result, single.result) > tolerance:
        text = "makes two pictures of one input, with random numbers that are not PyTorch's; take them as an input"
        return [Finding("random numbers", "forward", text, "refused")]
    text = (
        "makes the picture depend on the other samples of its batch, or on their number; take statistics over each "
        "sample, or running ones"
    )
    return [Finding("batch statistics", _first_apart(module, given), text, "refused")]


def _first_apart(module: nn.Module, given: Feeds) -> str:
    """Path of the first module that makes something else of a sample when it is alone."""
    rows = len(next(iter(given.values())))
    company, single = (watch(module, inputs, parts=True).parts for inputs in (given, last_of(given)))
    for among, alone in zip(company, single, strict=False):
        fixed = among.rows == alone.rows == rows
        tolerance = _TOLERANCE * float(alone.last.abs().max())
        # Not a number is apart from every number.
        if fixed or among.last.shape != alone.last.shape or not _apart(among.last, alone.last) <= tolerance:
            return places([among.path])
    return "forward"


def influence(spec: Spec, run: Run, given: Feeds) -> list[Finding]:
    """Whether another value of an input makes another picture: in row k, the input k - 1 is another one than in row 0.
    Inputs beyond the rows are not judged."""
    first = run.result[:1]
    rounding = _SAME * float(first.abs().max())
    varied = {k: spec.inputs[k - 1].name for k in range(1, len(run.result))}
    tried = {k: name for k, name in varied.items() if not np.array_equal(given[name][0], given[name][k])}
    idle = [name for k, name in tried.items() if _apart(run.result[k : k + 1], first) <= rounding]
    if not idle:
        return []
    if len(idle) == len(spec.inputs):
        text = (
            "the picture is the same whatever goes in; is this the trained generator, and does forward use its inputs?"
        )
        return [Finding("inputs without influence", places(idle), text, "refused")]
    text = "another value makes the same picture; leave it out of the Spec, or see that forward uses it"
    return [Finding("inputs without influence", places(idle), text, "named")]


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())


def last_of(given: Feeds) -> Feeds:
    """The inputs of the last sample alone. (What forgets that there are several takes the first.)"""
    return {name: array[-1:] for name, array in given.items()}


def frozen_result(where: str, rows: int, result: Tensor) -> Finding:
    """For a result that does not have a picture for each of `rows` samples."""
    text = f"makes {tuple(result.shape)} of a batch of {rows}; take the batch size from the input, x.shape[0] or -1"
    return Finding("frozen batch size", where, text, "refused")


def said(error: Exception) -> str:
    """Kind and first line of an error of the user's code."""
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first[:300]}"
