"""The batch: a module and its traced graph must agree at batch sizes that were not traced."""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import nn

from ganrt import feeds
from ganrt.agreement import compare
from ganrt.feeds import Feeds
from ganrt.golden import proof_sizes
from ganrt.spec import Spec

from ..tracing import EXAMPLES
from .batch import SINGLE
from .difference import find_first_difference, run_on_onnxruntime
from .findings import Finding
from .sizes import EXACT, FLOOR, is_comparable

_SEED = 6
_ROWS = 3
_TOLERANCE = 1e-5
"""Of the largest magnitude of a value: more than rounding changes where the whole graph is exact."""


def check_graph_batch(module: nn.Module, spec: Spec, model: ir.Model) -> list[Finding]:
    """Check that a graph which is right for as many samples as were traced is right for another number.

    Args:
        module: on the CPU, in evaluation mode.
        model: its graph, whose nodes are named after their modules.

    Where the batch size became a constant, a reshape to (2, ..., -1) takes any number of samples, and mixes them.
    """
    if spec.single or not is_comparable(model):
        return []
    drawn = feeds.draw_feeds(spec, _SEED, 0, _ROWS, size=proof_sizes(spec)[0])
    few = {name: rows[:EXAMPLES] for name, rows in drawn.items()}
    if _compare(module, spec, model, few) < EXACT or _compare(module, spec, model, drawn) >= FLOOR:
        return []
    where = find_first_difference(module, model, drawn, tolerance=_TOLERANCE, spec=spec)
    text = f"the traced graph makes other pictures of a batch of {_ROWS} than the module, {SINGLE}"
    return [Finding("frozen batch size", where, text, "rejected")]


def _compare(module: nn.Module, spec: Spec, model: ir.Model, given: Feeds) -> float:
    """The worst PSNR in dB; -inf if the graph cannot be computed."""
    with torch.no_grad():
        images = module(*(torch.from_numpy(rows) for rows in given.values())).numpy()
    try:
        made = run_on_onnxruntime(model, given)
    except Exception:  # of ONNX Runtime: the graph is wrong there, or the proof will say so
        return float("-inf")
    return float(compare(made, images, spec.output.range).psnr.min()) if made.shape == images.shape else float("-inf")
