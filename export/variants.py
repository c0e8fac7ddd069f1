"""The further variants of a bundle: the graph in faster forms, and these in lower precisions."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from ganrt.bundle import PRECISION_KEY, Bundle, Variant
from ganrt.errors import RequestError, VerificationError
from ganrt.spec import Spec

from .passes.graph import constant
from .passes.packing import PACKING
from .passes.phases import FORMS
from .passes.pipeline import optimise
from .passes.upsampling import find_nearest
from .precision import calibration, int8
from .precision.calibration import Samples
from .precision.fp32_islands import in_half
from .precision.judge import Judge
from .precision.sensitivity import to_keep

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
QUALITY = 35.0
"""dB that the worst picture of an int8 variant is to reach."""
_MARGIN = 0.5
"""dB more than that are asked for while it is made, because it is proven on other pictures."""
_SAMPLES = 8
_LARGEST_SINGLE_FILE = 2**30
"""Weights of more bytes than this go into a file beside the graph; protobuf ends at 2 GiB."""
_TRACED = "traced"
"""Form of the variants of a graph that no pass changes."""


@dataclass(frozen=True)
class VariantOptions:
    """Which variants to add to the traced graph. Raises RequestError for an unknown precision or form."""

    precisions: tuple[str, ...]
    """Some of PRECISIONS."""
    forms: tuple[str, ...]
    """Some of FORMS."""
    quality: float = QUALITY
    """Worst PSNR in dB that int8 variants must reach; fp16 too, where it is above `fp32_islands.QUALITY`."""
    pictures: Path | None = None
    """Folder of calibration pictures for image inputs; None: they are made up."""

    def __post_init__(self) -> None:
        for what, values, known in (("precision", self.precisions, PRECISIONS), ("form", self.forms, tuple(FORMS))):
            for value in values:
                if value not in known:
                    raise RequestError(f"{what} is {value!r}; choose some of {', '.join(known)}")


def save(model: ir.Model, bundle: Bundle, file: str) -> list[str]:
    """Write a graph into the bundle's folder. Returns the names of the files."""
    large = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    data = f"{file}.data" if large > _LARGEST_SINGLE_FILE else None
    ir.save(model, bundle.folder / file, external_data=data)
    return [file, data] if data else [file]


def add(bundle: Bundle, model: ir.Model, options: VariantOptions, progress: Callable[[str], None]) -> Bundle:
    """Add the variant `<precision>-<form>` for every pair, where it differs from those that are there.

    Args:
        model: the traced graph.

    Returns the bundle with the files and variants, its manifest not yet written. Raises VerificationError when fp16 or
    int8 cannot reach the quality.
    """
    opset, nearest = model.opset_imports[""], any(map(find_nearest, model.graph))
    samples = calibration.samples(bundle.spec, _SAMPLES, options.pictures)
    for form in options.forms:
        progress(f"optimising the graph: {form}")
        graph, passes = optimise(model, form)
        lighter = nearest or PACKING.name in passes
        name, file = (form, f"model.fp32-{form}.onnx") if passes else (_TRACED, bundle.variants["fp32"].file)
        if passes:
            bundle = _with(
                bundle, f"fp32-{form}", Variant(file, opset, "fp32", lighter, passes), save(graph, bundle, file)
            )
        if "bf16" in options.precisions and f"bf16-{name}" not in bundle.variants:
            bundle = _with(bundle, f"bf16-{name}", Variant(file, opset, "bf16", lighter, passes), [])
        for precision, lower in (("fp16", in_half), ("int8", _lowered)):
            if precision not in options.precisions or f"{precision}-{name}" in bundle.variants:
                continue
            progress(f"choosing what {precision} may compute: {name}")
            lowered, notes = lower(graph, bundle.spec, samples, options.quality)
            lowered.metadata_props[PRECISION_KEY] = precision
            file = f"model.{precision}-{name}.onnx"
            variant = Variant(file, opset, precision, lighter, (*passes, precision), notes=notes)
            bundle = _with(bundle, f"{precision}-{name}", variant, save(lowered, bundle, file))
    return bundle


def _with(bundle: Bundle, name: str, variant: Variant, files: list[str]) -> Bundle:
    return replace(bundle.with_files(*files), variants={**bundle.variants, name: variant})


def _lowered(model: ir.Model, spec: Spec, samples: Samples, quality: float) -> tuple[ir.Model, dict[str, object]]:
    """The graph in int8, but for the layers that the picture cannot do without, and what was decided."""
    layers = {layer.name: layer for layer in int8.layers(model)}
    names = list(layers)
    if not names:
        raise VerificationError("int8 was asked for, but this graph has no convolutions with constant weights")
    extents = calibration.extents(model, names, samples)
    judge = Judge(model, spec, samples)

    def error(lowered: Collection[str]) -> float:
        return judge.error(int8.quantise(model, extents, lowered))

    def multiplications(name: str) -> float:
        weights = [constant(node.inputs[1]) for node in layers[name].nodes]
        return float(extents[name].pixels * sum(weight.size for weight in weights if weight is not None))

    kept, alone = to_keep(names, error, judge.allowed(quality + _MARGIN), multiplications)
    if len(kept) == len(names):
        raise VerificationError(
            f"int8 was asked for, but no layer of this model can take it at {quality:g} dB; ask for less with --quality"
        )
    made = int8.quantise(model, extents, set(names) - set(kept))
    notes: dict[str, object] = {
        "calibrated on": samples.origin,
        "worst PSNR there": round(judge.decibels(judge.error(made)), 1),
        "layers in int8": len(names) - len(kept),
        "kept in float": {name: f"{judge.decibels(alone[name]):.1f} dB on its own" for name in kept},
    }
    return made, notes
