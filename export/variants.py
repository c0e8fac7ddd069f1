"""The variants of a bundle beside the traced graph: faster forms of it, and these in lower precisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from ganrt.bundle import PRECISION_KEY, Bundle, Variant
from ganrt.errors import RequestError

from .passes import FORMS, PACKING, find_conv_after_nearest, optimize_graph
from .precision import PictureCrops, convert_to_int8, convert_with_fp32_islands, draw_samples

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
QUALITY = 35.0
"""Worst PSNR in dB that an int8 variant must reach by default."""
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


def save_graph(model: ir.Model, bundle: Bundle, file: str) -> list[str]:
    """Write a graph into the bundle's folder. Returns the names of the files."""
    large = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    data = f"{file}.data" if large > _LARGEST_SINGLE_FILE else None
    ir.save(model, bundle.folder / file, external_data=data)
    return [file, data] if data else [file]


def add_variants(
    bundle: Bundle,
    model: ir.Model,
    options: VariantOptions,
    crops: PictureCrops | None,
    progress: Callable[[str], None],
) -> Bundle:
    """Add the variant `<precision>-<form>` for every pair, where it differs from those that are there.

    Args:
        model: the traced graph.
        crops: of the pictures to calibrate on; None: they are made up.

    Returns the bundle with the files and variants, its manifest not yet written. Raises VerificationError when fp16 or
    int8 cannot reach the quality.
    """
    opset, nearest = model.opset_imports[""], any(map(find_conv_after_nearest, model.graph))
    samples = draw_samples(bundle.spec, _SAMPLES, crops)
    for form in options.forms:
        progress(f"optimizing the graph: {form}")
        graph, passes = optimize_graph(model, form)
        fewer_macs = nearest or PACKING.name in passes
        name, file = (form, f"model.fp32-{form}.onnx") if passes else (_TRACED, bundle.variants["fp32"].file)
        if passes:
            bundle = _add_variant(
                bundle,
                f"fp32-{form}",
                Variant(file, opset, "fp32", fewer_macs, passes),
                save_graph(graph, bundle, file),
            )
        if "bf16" in options.precisions and f"bf16-{name}" not in bundle.variants:
            bundle = _add_variant(bundle, f"bf16-{name}", Variant(file, opset, "bf16", fewer_macs, passes), [])
        for precision, lower in (("fp16", convert_with_fp32_islands), ("int8", convert_to_int8)):
            if precision not in options.precisions or f"{precision}-{name}" in bundle.variants:
                continue
            progress(f"converting to {precision}: {name}")
            lowered, notes = lower(graph, bundle.spec, samples, options.quality)
            lowered.metadata_props[PRECISION_KEY] = precision
            file = f"model.{precision}-{name}.onnx"
            variant = Variant(file, opset, precision, fewer_macs, (*passes, precision), notes=notes)
            bundle = _add_variant(bundle, f"{precision}-{name}", variant, save_graph(lowered, bundle, file))
    return bundle


def _add_variant(bundle: Bundle, name: str, variant: Variant, files: list[str]) -> Bundle:
    return replace(bundle.with_files(*files), variants={**bundle.variants, name: variant})
