"""int8 for a whole graph: choose the layers that must stay in float, quantize the others, and store the weights of the
rest in fewer bits."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from ganrt.errors import VerificationError
from ganrt.spec import Spec

from ..passes import read_constant
from .calibration import Samples
from .int8 import find_layers
from .judge import MARGIN, TEXTURE_IN_PLACE, Judge, format_share
from .preparation import prepare_graph
from .rectifiers import choose_rectifiers
from .runners import EVALUATOR
from .sensitivity import choose_kept_layers
from .stored_weights import choose_stored_bits
from .trials import Trials


def convert_to_int8(
    model: ir.Model,
    spec: Spec,
    samples: Samples,
    quality: float,
    backends: Sequence[str] = (EVALUATOR,),
    calibration: Samples | None = None,
) -> tuple[ir.Model, dict[str, object]]:
    """Convert a float32 graph to int8, except for the layers that cost the images more quality than they may.

    Args:
        quality: worst PSNR in dB to reach on the samples.
        backends: names of those that will run it; it must reach the quality on each.
        calibration: samples to measure ranges on; default: those that it is judged on.

    Returns the graph and notes on what was decided, for the record. Raises VerificationError when no layer can be
    converted.
    """
    layers = {layer.name: layer for layer in find_layers(model)}
    names = list(layers)
    if not names:
        raise VerificationError("int8 was asked for, but this graph has no convolutions with constant weights")
    judge = Judge(model, spec, samples, quality + MARGIN, backends, TEXTURE_IN_PLACE)
    calibrated = calibration or samples
    prepared = prepare_graph(model, names, calibrated, judge)
    trials = Trials(judge, prepared.quantize, frozenset(names), prepared.measured)

    def error(lowered: Collection[str]) -> float:
        return trials.measure(frozenset(lowered)).error

    def estimate(lowered: Collection[str]) -> float:
        return trials.estimate(frozenset(lowered))

    def count_macs(name: str) -> float:
        weights = [read_constant(node.inputs[1]) for node in layers[name].nodes]
        return float(prepared.ranges[name].pixels * sum(weight.size for weight in weights if weight is not None))

    kept, alone = choose_kept_layers(names, error, 1.0, count_macs, estimate)
    if len(kept) == len(names):
        raise VerificationError(
            f"int8 was asked for, but no layer of this model reaches {quality:g} dB in it without a texture on flat "
            "parts; ask for less with --quality"
        )
    lowered = frozenset(names) - set(kept)
    made, rectifiers = prepared.quantize(lowered), 0
    if tuple(backends) == (EVALUATOR,):
        made, rectifiers = choose_rectifiers(made, prepared.model, lowered, calibrated, judge)
    choice = choose_stored_bits(made, judge)
    measured = choice.measured or judge.measure(made)
    notes: dict[str, object] = {
        "calibrated on": calibrated.origin,
        **({"prepared": ", ".join(prepared.done)} if prepared.done else {}),
        **measured.describe(),
        "layers in int8": len(names) - len(kept),
        **({"rectifiers in int8": rectifiers} if rectifiers else {}),
        "convolutions kept in float": {name: f"{format_share(alone[name])} on its own" for name in kept},
        **choice.notes,
    }
    return choice.model, notes
