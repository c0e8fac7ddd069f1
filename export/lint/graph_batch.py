"""The batch: a module and its traced graph must agree at batch sizes that were not traced."""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import nn

from ganrt import feeds
from ganrt.agreement import compare
from ganrt.feeds import Feeds
from ganrt.golden import proof_sizes
from ganrt.levels import find_levels
from ganrt.spec import Spec

from ..source_lines import quote_line
from ..tracing import EXAMPLES
from .batch import SINGLE
from .difference import run_on_onnxruntime
from .findings import Finding
from .freezing import find_freezing_place
from .rewrites import SIZES, find_rewrite
from .sizes import EXACT, FLOOR, is_comparable

_SEED = 6
_ROWS = 3
"""Not the batch size that a module is traced with."""


def check_graph_batch(module: nn.Module, spec: Spec, model: ir.Model) -> list[Finding]:
    """Check that a graph which is right for as many samples as were traced is right for another number.

    Args:
        module: on the CPU, in evaluation mode.
        model: its graph.

    Where the batch size became a constant, a reshape to (2, ..., -1) takes any number of samples, and mixes them.
    """
    if spec.single or not is_comparable(model):
        return []
    drawn = feeds.draw_feeds(spec, _SEED, 0, _ROWS, size=proof_sizes(spec)[0])
    traced = {name: rows[:EXAMPLES] for name, rows in drawn.items()}
    if _compare(module, spec, model, drawn) >= FLOOR or _compare(module, spec, model, traced) < EXACT:
        return []
    found = find_freezing_place(module, spec, 0, 0)
    instead = find_rewrite(SIZES, found.line) or "take the batch size from the input, x.shape[0] or -1"
    text = f"its traced graph makes wrong pictures of a batch of {_ROWS}: {instead}, {SINGLE}"
    return [Finding("frozen batch size", found.where, text, "rejected", quote_line(found.line))]


def _compare(module: nn.Module, spec: Spec, model: ir.Model, given: Feeds) -> float:
    """The worst PSNR in dB; -inf if the graph cannot be computed."""
    with torch.no_grad():
        images = module(*(torch.from_numpy(rows) for rows in given.values())).numpy()
    try:
        made = run_on_onnxruntime(model, given)
    except Exception:  # of ONNX Runtime: the graph is wrong there, or the proof will say so
        return float("-inf")
    if made.shape != images.shape:
        return float("-inf")
    return float(compare(made, images, find_levels(spec.output)).psnr.min())
