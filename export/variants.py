"""The variants of a bundle beside the traced graph: faster forms of it, and these in lower precisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path

import onnx_ir as ir

from ganrt.backend import backend_table
from ganrt.bundle import FAITHFUL, PRECISION_KEY, Bundle, Variant
from ganrt.errors import RequestError, VerificationError
from ganrt.spec import Spec

from .passes import FORMS, TRACED, find_conv_after_nearest, optimize_graph
from .precision import (
    HalfGraph,
    HalfQuantizer,
    PictureCrops,
    Samples,
    convert_to_int8,
    convert_with_fp32_islands,
    describe_storage,
    draw_samples,
    find_half_layers,
    run_samples,
)
from .verification import installed_backends

PRECISIONS = ("fp32", "bf16", "fp16", "int8", "fp8")
QUALITY = 35.0
"""Worst PSNR in dB that a variant in 8 bits must reach by default."""
_SAMPLES = 8
"""That reduced precisions are judged on."""
_CALIBRATION = 32
"""Others, that int8 is calibrated on. With 8, ranges of channels that are rarely large are too small, and a range that
fits the samples it is judged on looks better than it is."""
_LARGEST_SINGLE_FILE = 2**30
"""Weights of more bytes than this go into a file beside the graph; protobuf ends at 2 GiB."""


@dataclass(frozen=True)
class VariantOptions:
    """Which variants to add to the traced graph. Raises RequestError for an unknown precision or form."""

    precisions: tuple[str, ...]
    """Some of PRECISIONS."""
    forms: tuple[str, ...]
    """Some of FORMS."""
    quality: float = QUALITY
    """Worst PSNR in dB that variants in 8 bits must reach; fp16 too, where it is above `fp32_islands.QUALITY`."""
    pictures: Path | None = None
    """Folder of calibration pictures for image inputs; None: they are made up."""
    for_gpu: bool = True
    """Whether fp16 and int8 also get variants for NVIDIA GPUs."""
    backends: tuple[str, ...] = ()
    """Those that int8 must reach the quality on; (): all that are installed and run it on the CPU."""

    def __post_init__(self) -> None:
        for what, values, known in (("precision", self.precisions, PRECISIONS), ("form", self.forms, tuple(FORMS))):
            for value in values:
                if value not in known:
                    raise RequestError(f"{what} is {value!r}; choose some of {', '.join(known)}")


def list_judging_backends(named: Sequence[str]) -> tuple[str, ...]:
    """The backends that int8 for CPUs is judged on: of those that were named, or that are installed, the ones that run
    its graph on the CPU and are not slow by design."""
    rows = {name: backend_table()[name] for name in named or installed_backends("cpu")}
    return tuple(n for n, row in rows.items() if "int8" in row.precisions and row.graphs and row.cpu and not row.slow)


def draw_calibration(spec: Spec, judged: Samples, crops: PictureCrops | None) -> Samples:
    """The samples that int8 is calibrated on: others than it is judged on, but with the user's pictures all there
    are."""
    return judged if crops is not None else draw_samples(spec, _CALIBRATION, start=_SAMPLES)


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
    """Add the variant `<precision>-<form>` for every pair, where it differs from those that are there; with fp16 also
    the fp16 of the graph whose up-sampling is left as traced, and with int8 and fp8 one variant for NVIDIA GPUs.

    Args:
        model: the traced graph.
        crops: of the pictures to calibrate on; None: they are made up.

    Returns the bundle with the files and variants, its manifest not yet written. Raises VerificationError when fp16,
    fp8, or int8 for CPUs cannot reach the quality.
    """
    samples = draw_samples(bundle.spec, _SAMPLES, crops)
    writer = _Writer(bundle, model, options, samples, crops, progress)
    for form in options.forms:
        writer.add_form(form)
    if "fp16" in options.precisions:
        writer.add_fp16()
    if "int8" in options.precisions and options.for_gpu:
        writer.add_8_bits_for_gpu("int8")
    if "fp8" in options.precisions:
        writer.add_8_bits_for_gpu("fp8")
    return writer.bundle


def convert_again(
    bundle: Bundle,
    model: ir.Model,
    options: VariantOptions,
    crops: PictureCrops | None,
    qualities: Mapping[str, float],
    progress: Callable[[str], None],
) -> Bundle:
    """Replace variants in int8 for CPUs that miss the quality on the golden samples.

    Args:
        model, options, crops: as for `add_variants`, which made the bundle.
        qualities: name of each of them -> dB that it must reach on the calibration samples.

    Returns and raises what `add_variants` does.
    """
    kept = {name: variant for name, variant in bundle.variants.items() if name not in qualities}
    samples = draw_samples(bundle.spec, _SAMPLES, crops)
    writer = _Writer(replace(bundle, variants=kept), model, options, samples, crops, progress, qualities)
    for form in options.forms:
        writer.add_form(form)
    return replace(writer.bundle, variants={name: writer.bundle.variants[name] for name in bundle.variants})


class _Writer:
    """Makes variants and adds them to `bundle`."""

    def __init__(
        self,
        bundle: Bundle,
        model: ir.Model,
        options: VariantOptions,
        samples: Samples,
        crops: PictureCrops | None,
        progress: Callable[[str], None],
        qualities: Mapping[str, float] | None = None,
    ) -> None:
        self.bundle = bundle
        self._qualities = qualities or {}
        self._model, self._options, self._drawn, self._progress = model, options, samples, progress
        self._fewer_macs = any(map(find_conv_after_nearest, model.graph))
        """Whether forms save multiplications: of up-sampling by nearest neighbours. A transposed convolution only
        becomes several others."""
        self._optimize_for_gpu = cache(partial(optimize_graph, model, gpu=True))
        self._half_graphs: dict[str, HalfGraph] = {}
        self._draw_calibration = cache(partial(draw_calibration, bundle.spec, samples, crops))

    @cached_property
    def _samples(self) -> Samples:
        """With the images of the traced graph, which every conversion is judged by."""
        return self._drawn._replace(images=run_samples(self._model, self._drawn.given))

    def add_form(self, form: str) -> None:
        """Add fp32, bf16 and int8 of a form, for CPUs."""
        self._progress(f"optimizing the graph: {form}")
        graph, passes = optimize_graph(self._model, form)
        name, file = (form, f"model.fp32-{form}.onnx") if passes else (TRACED, self.bundle.variants[FAITHFUL].file)
        single = Variant(file, graph.opset_imports[""], "fp32", self._fewer_macs, passes)
        if passes and f"fp32-{form}" not in self.bundle.variants:
            self._add(f"fp32-{form}", single, save_graph(graph, self.bundle, file))
        if self._lacks("bf16", name):
            self._add(f"bf16-{name}", replace(single, precision="bf16"), [])
        if self._lacks("int8", name):
            self._progress(f"converting to int8: {name}")
            quality = self._qualities.get(f"int8-{name}", self._options.quality)
            backends = list_judging_backends(self._options.backends)
            lowered, notes = convert_to_int8(
                graph, self.bundle.spec, self._samples, quality, backends, self._draw_calibration()
            )
            self._save(f"int8-{name}", lowered, "int8", self._fewer_macs, passes, notes)

    def _lacks(self, precision: str, name: str) -> bool:
        return precision in self._options.precisions and f"{precision}-{name}" not in self.bundle.variants

    def add_fp16(self) -> None:
        """Add fp16 of every form, and beside them, for GPUs, of the graph whose up-sampling is left as traced."""
        beside = (TRACED,) if self._options.for_gpu else ()
        forms = dict.fromkeys((*map(self._find_form_for_gpu, self._options.forms), *beside))
        for form in forms:
            for_gpu = form == TRACED and len(forms) > 1
            try:
                half = self._convert_to_half(form)
            except VerificationError as error:
                if not for_gpu:
                    raise
                self._progress(f"skipped: fp16-{form}, for NVIDIA GPUs: {error}")
                continue
            self._save_for_gpu(f"fp16-{form}", half.model, "fp16", form, half.notes, for_gpu)

    def add_8_bits_for_gpu(self, precision: str) -> None:
        """Add convolutions in 8 bits between float16. Without int8 of this kind a GPU can still run that for CPUs."""
        try:
            form = self._choose_form_for_8_bits()
            name = f"int8-half-{form}" if precision == "int8" else f"{precision}-{form}"
            half = self._convert_to_half(form)
            self._progress(f"converting to {precision} for NVIDIA GPUs: {form}")
            quantizer = HalfQuantizer(half, self.bundle.spec, self._samples, self._options.quality)
            lowered, notes = quantizer.convert(precision)
        except VerificationError as error:
            if precision == "fp8":
                raise
            self._progress(f"skipped: int8 between float16, for NVIDIA GPUs: {error}")
            return
        self._save_for_gpu(name, lowered, precision, form, notes, True)

    def _choose_form_for_8_bits(self) -> str:
        """The form that is tried first on a GPU, but one with convolutions to quantize."""
        form = self._find_form_for_gpu(self._options.forms[0])
        if self._fewer_macs or form == TRACED:
            return form
        return TRACED if find_half_layers(self._convert_to_half(TRACED)) else form

    def _find_form_for_gpu(self, form: str) -> str:
        """The form, or TRACED if this graph has no up-sampling that it changes."""
        return form if FORMS[form].name in self._optimize_for_gpu(form)[1] else TRACED

    def _convert_to_half(self, form: str) -> HalfGraph:
        if form not in self._half_graphs:
            self._progress(f"converting to fp16: {form}")
            graph, _ = self._optimize_for_gpu(form)
            half = convert_with_fp32_islands(graph, self.bundle.spec, self._samples, self._options.quality)
            self._half_graphs[form] = half
        return self._half_graphs[form]

    def _save_for_gpu(
        self, name: str, model: ir.Model, precision: str, form: str, notes: Mapping[str, object], for_gpu: bool
    ) -> None:
        fewer, passes = self._fewer_macs and form != TRACED, self._optimize_for_gpu(form)[1]
        self._save(name, model, precision, fewer, passes, notes, for_gpu)

    def _save(
        self,
        name: str,
        model: ir.Model,
        precision: str,
        fewer_macs: bool,
        passes: tuple[str, ...],
        notes: Mapping[str, object],
        for_gpu: bool = False,
    ) -> None:
        model.metadata_props[PRECISION_KEY] = precision
        file = f"model.{name}.onnx"
        notes = {**notes, "weights stored as": describe_storage(model)}
        variant = Variant(
            file, model.opset_imports[""], precision, fewer_macs, (*passes, precision), notes=notes, for_gpu=for_gpu
        )
        self._add(name, variant, save_graph(model, self.bundle, file))

    def _add(self, name: str, variant: Variant, files: list[str]) -> None:
        added = {**self.bundle.variants, name: variant}
        self.bundle = replace(self.bundle.with_files(*files), variants=added)
