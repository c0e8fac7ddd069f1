"""`export`: a generator becomes a proven bundle, which is written in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import onnx_ir as ir
import torch

from ganrt import atomic
from ganrt.backend import BACKENDS, import_backend, proves_gpu_variants
from ganrt.bound_inputs import BoundInputs, check_bound_inputs
from ganrt.bundle import Bundle
from ganrt.errors import MachineError, RequestError, VerificationError
from ganrt.golden import proof_sizes
from ganrt.machine import has_nvidia_gpu
from ganrt.proving import BATCH, GoldenComparison
from ganrt.session_config import SessionConfig
from ganrt.spec import Spec
from ganrt.stores import FolderStore, is_bundle

from . import variants
from .card import write_card
from .faithful import Faithful, add_bound_inputs
from .lint import (
    Finding,
    check_dry_run,
    check_module,
    find_first_difference,
    make_backend_runner,
    report_findings,
)
from .precision import PictureCrops, read_crops
from .sources import Source, describe_source, open_source, read_batch
from .tracing import DEFAULT_OPSET
from .variants import QUALITY, VariantOptions
from .verification import Progress, Verification, prove_bundle

if TYPE_CHECKING:
    from .engines import EngineOptions

_Convert: TypeAlias = Callable[[Bundle, Mapping[str, float]], Bundle]
_Prove: TypeAlias = Callable[[Bundle, str], Verification]

_CONVERSIONS = 3
"""How often a variant in int8 is converted again that golden samples show to be worse than the calibration samples."""
_FLAT_STEP = 1.0
"""How many dB better than before it is converted where it changes flat parts too much."""


def export(
    source: str | Path | torch.nn.Module,
    out: str | Path,
    *,
    spec: Spec | None = None,
    config: Mapping[str, Any] | None = None,
    precisions: str | Sequence[str] = "fp32",
    forms: str | Sequence[str] = "phases",
    quality: float = QUALITY,
    pictures: str | Path | None = None,
    bind: BoundInputs | None = None,
    batch: int | None = None,
    opset: int = DEFAULT_OPSET,
    engine: bool | EngineOptions = False,
    backends: str | Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _: None,
) -> Bundle:
    """Export a generator as a bundle and prove it on the backends of this machine.

        export("runs/digits", "digits.ganrt")
        export(module, "faces.ganrt", spec=ganrt.Spec(...), precisions=("fp32", "fp16"))

    Args:
        source: path of a RUN folder, a checkpoint or an ONNX file in float32, "package.module:factory" (the factory
            returns a module and its Spec), or a module in memory, which is copied and stays as it is.
        out: folder to make; by convention its name ends in ".ganrt".
        spec: inputs and output of a module in memory, in the order of its forward; of an ONNX file, where they are
            guessed by default.
        config: settings that a checkpoint does not hold, or keyword arguments of the factory.
        precisions: of "fp32", "bf16", "fp16", "int8", "fp8". The traced float32 graph is always part of the bundle.
        forms: of up-sampling, of "phases", "subpixel", "transposed"; each adds a variant to the graph as traced.
        quality: worst PSNR in dB that int8 and fp8 must reach; fp16 too, where it is above 45.
        pictures: folder of pictures for image-to-image models: half of the files to calibrate on, the others to be
            golden samples; default: synthetic ones.
        bind: labels and scalars that get a constant value, and are no inputs of the bundle any more.
        batch: 1 for a network whose batch size is fixed: one image is computed at a time. Default: any batch size.
        opset: ONNX operator set.
        engine: also build a TensorRT engine for each precision on the GPU of this machine: True, or its options.
        backends: a name or several: prove on these alone, and fail if one of them fails. Default: all that are
            installed; what one of them cannot load, fails to run or makes differently is recorded as its refusal.
        overwrite: replace a bundle at `out`.
        progress: called with a line of text before each step, and for each finding of the linter.

    Raises RequestError for arguments that do not fit and for a module that cannot be exported, CheckpointError for
    weights that cannot be used, MachineError where an engine cannot be built or a backend that was named cannot run,
    and VerificationError when no backend makes the original's images with a variant, or one that was named does not.
    After an error nothing is left at `out`.
    """
    named, folder = _list_names(backends or ()), None if pictures is None else Path(pictures)
    for_gpu = not named or any(map(proves_gpu_variants, named))
    options = VariantOptions(_list_names(precisions), _list_names(forms), quality, folder, for_gpu, named)
    plan = _Plan(options, dict(bind or {}), opset, engine, named, progress)
    out = Path(out)
    atomic.check_output(out, overwrite, is_bundle)
    loaded, findings = _load(source, config, spec, batch, progress)
    check_bound_inputs(loaded.spec, plan.bind)
    with atomic.new_folder(out, overwrite, is_bundle) as draft:
        bundle = _make_bundle(loaded, draft, out.name, plan, findings)
    return replace(bundle, store=FolderStore(out))


@dataclass(frozen=True)
class _Plan:
    """What to make of a generator. Raises RequestError and MachineError for an engine that cannot be built here, and
    for a backend that there is not."""

    variants: VariantOptions
    bind: BoundInputs
    opset: int
    engine: bool | EngineOptions
    backends: tuple[str, ...]
    progress: Progress

    def __post_init__(self) -> None:
        for backend in self.backends:
            import_backend(backend)
        if not self.engine:
            return
        import_backend("tensorrt")
        if not has_nvidia_gpu():
            raise MachineError("an engine was asked for, and this machine has no NVIDIA GPU; leave engine= out")
        if not self.engine_precisions:
            raise RequestError(f"engines have no {', '.join(self.variants.precisions)}; choose fp32, fp16 or int8")

    @property
    def engine_precisions(self) -> list[str]:
        return [name for name in self.variants.precisions if name in BACKENDS["tensorrt"].precisions]


def _list_names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _load(
    source: str | Path | torch.nn.Module,
    config: Mapping[str, Any] | None,
    spec: Spec | None,
    batch: int | None,
    progress: Progress,
) -> tuple[Source, list[Finding]]:
    """The generator, without the faults that can be fixed before tracing, and all that were found. Raises
    RequestError for faults that cannot."""
    name = describe_source(source)
    progress(f"loading {name}")
    loaded = open_source(source, config, spec, batch)
    for remark in loaded.remarks:
        progress(remark)
    findings = check_module(loaded.module)
    if loaded.model is None:  # the families of ganrt need no dry run
        known = {finding.rule for finding in findings if finding.severity == "rejected"}
        module, spec, behaviour = check_dry_run(loaded.module, loaded.spec, loaded.in_training)
        findings += [finding for finding in behaviour if finding.rule not in known]
        loaded = replace(loaded, module=module, spec=spec)
    report_findings(findings, name, progress)
    return replace(loaded, name=name), findings


def _make_bundle(loaded: Source, draft: Path, name: str, plan: _Plan, findings: list[Finding]) -> Bundle:
    """Write the bundle into `draft` and prove it. Raises VerificationError."""
    crops = _read_crops(loaded.spec, plan)
    faithful = Faithful(plan.opset, plan.bind, plan.progress)
    model, bundle = faithful.write(loaded, draft, name, findings, crops.held_out if crops else ())
    bundle = variants.add_variants(bundle, model, plan.variants, crops, plan.progress)
    bundle.write_manifest()
    if plan.engine:
        _build_engines(bundle, plan)
    find_difference = None if loaded.graph else partial(_find_difference, loaded, plan.bind)
    found = prove_bundle(bundle, plan.backends, "auto", plan.progress, find_difference)
    found = _reach_quality(
        loaded,
        found,
        plan,
        lambda bundle, targets: variants.convert_again(bundle, model, plan.variants, crops, targets, plan.progress),
        lambda bundle, name: prove_bundle(bundle, plan.backends, "auto", plan.progress, find_difference, (name,)),
    )
    for name in [name for name in bundle.variants if _is_left_out(found, name)]:
        reasons = "; ".join(f"{proof.backend} {proof.refusal}" for proof in found.proofs[name])
        plan.progress(f"{name}, made for NVIDIA GPUs, is left out: {reasons}")
        found = _leave_out(found, name)
        bundle = found.bundle
    if not found.passed:
        advice = "; `--backend reference` evaluates the graph without a library, which is slow"
        if plan.backends or "cannot load" not in found.failures[0]:
            advice = ""
        if loaded.graph and not loaded.spec.single and read_batch(loaded.graph[0]) == 1:
            advice += "; the file is for a batch of 1: where it cannot take others, export it with --batch 1"
        raise VerificationError(f"{loaded.name} was not exported: {found.failures[0]}{advice}")
    unproven = [variant for variant in bundle.variants if not found.is_proven(variant)]
    if unproven:
        tried = f"none of the backends {', '.join(plan.backends)}" if plan.backends else "nothing on this machine"
        raise VerificationError(f"{loaded.name} was not exported: {tried} runs {', '.join(unproven)}")
    return found.bundle


def _reach_quality(loaded: Source, found: Verification, plan: _Plan, convert: _Convert, prove: _Prove) -> Verification:
    """Convert variants to int8 again that golden samples refuse: for as many dB more on the calibration samples as are
    lacking, so that more layers stay in float. Then prove them. Raises VerificationError where that does not help.

    Args:
        convert: replaces variants of a bundle (name -> dB to convert for).
        prove: proves one variant of a bundle.
    """
    for left in range(_CONVERSIONS, -1, -1):
        lacking = _find_lacking(found, plan.variants.quality)
        if lacking is None:
            break
        name, lack, text, advice = lacking
        failure = f"{loaded.name} was not exported: {text}{advice}"
        if not left:
            raise VerificationError(failure)
        plan.progress(f"{text}: converting it again")
        reached = float(found.bundle.variant(name).notes["worst PSNR there"])
        try:
            bundle = convert(found.bundle, {name: reached + lack})
        except VerificationError as error:
            raise VerificationError(failure) from error
        again = prove(bundle, name)
        found = replace(again, proofs={**found.proofs, **again.proofs}, named=found.named)
    return found


class _Lacking(NamedTuple):
    """A variant in int8 for CPUs that golden samples refuse."""

    name: str
    decibels: float
    """How much better it should be on the calibration samples."""
    text: str
    """What it lacks, on the worst of the backends that it was judged on."""
    advice: str


def _find_lacking(found: Verification, quality: float) -> _Lacking | None:
    """The first one that misses the quality on a backend, or changes flat parts more than is allowed on all of them."""
    for name, proofs in found.proofs.items():
        variant = found.bundle.variant(name)
        if variant.precision == "int8" and not variant.for_gpu:
            judged = [proof for proof in proofs if proof.backend in variant.notes["judged on"] and proof.samples]
            worst = min(judged, key=lambda proof: proof.worst_psnr, default=None)
            if worst is not None and worst.worst_psnr < quality:
                lack = quality - worst.worst_psnr
                text = f"{name} is {lack:.2f} dB short of {quality:g} dB on the golden samples on {worst.backend}"
                return _Lacking(name, lack, text, "; ask for less with --quality")
            if judged and all(proof.failures and proof.batch_drift is None for proof in judged):
                text = f"{name} on {judged[0].backend} {judged[0].refusal}"
                return _Lacking(name, _FLAT_STEP, text, "")
    return None


def _is_left_out(found: Verification, name: str) -> bool:
    """Whether a variant that was added for NVIDIA GPUs, without its precision being named for it, does not make the
    original's images."""
    variant = found.bundle.variant(name)
    return variant.for_gpu and variant.precision != "fp8" and name in found.proofs and not found.is_proven(name)


def _leave_out(found: Verification, name: str) -> Verification:
    """The bundle, its files and its proofs without a variant."""
    kept = {other: variant for other, variant in found.bundle.variants.items() if other != name}
    starts = (found.bundle.variant(name).file, f"worst-{name}-")
    files = [file for file in found.bundle.files if file.startswith(starts)]
    bundle = write_card(replace(found.bundle.without_files(*files), variants=kept))
    for file in files:
        (bundle.folder / file).unlink()
    return replace(found, bundle=bundle, proofs={other: p for other, p in found.proofs.items() if other != name})


def _read_crops(spec: Spec, plan: _Plan) -> PictureCrops | None:
    """The user's pictures, if there are any: crops of the size that is traced, and held-out crops of a larger one."""
    if plan.variants.pictures is None:
        return None
    sizes = [dict.fromkeys(each, next(iter(each.values()), (1, 1))) for each in proof_sizes(spec)[:2]]
    return read_crops(plan.variants.pictures, spec, sizes, plan.progress)


def _find_difference(
    loaded: Source, bind: BoundInputs, bundle: Bundle, config: SessionConfig, compared: GoldenComparison
) -> str:
    """The first module whose values a session computes differently, for the batch of the worst golden sample."""
    worst = compared.agreement.worst
    for group in compared.golden.groups:
        if worst < len(group.images):
            break
        worst -= len(group.images)
    first = worst // BATCH * BATCH
    given = {name: rows[first : first + BATCH] for name, rows in group.draw_feeds(bundle.spec).items()}
    tolerance = 1e-3 if bundle.variant(config.variant).precision == "fp32" else 0.1
    model, run = ir.load(bundle.onnx(config.variant)), make_backend_runner(bundle.spec, config)
    given = add_bound_inputs(loaded, bind, given)
    return find_first_difference(loaded.module, model, given, run, tolerance, loaded.spec)


def _build_engines(bundle: Bundle, plan: _Plan) -> None:
    """One for each precision, in this machine's cache; `verify` then proves them with the other backends."""
    from .engines import EngineOptions, build

    options = plan.engine if isinstance(plan.engine, EngineOptions) else EngineOptions()
    for precision in plan.engine_precisions:
        variant = bundle.in_precision(precision, gpu=True)[0]
        plan.progress(f"building an engine of {variant}; this takes minutes")
        build(bundle, variant=variant, options=options)
