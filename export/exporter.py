"""Checkpoint -> proven bundle, written in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
import safetensors.torch

from ganrt import atomic
from ganrt._version import __version__
from ganrt.backend import library_version
from ganrt.bound_inputs import Fixed, rows, without
from ganrt.bound_inputs import check as check_fixed
from ganrt.bundle import FAITHFUL, MANIFEST, Bundle, Variant
from ganrt.errors import VerificationError
from ganrt.feeds import Feeds
from ganrt.golden import Golden
from ganrt.images import Floats

from . import variants
from .bind_inputs import specialise
from .lint.dry_run import rehearse
from .lint.findings import Finding, settle
from .lint.freezing import freezing_module
from .lint.graph import check_graph
from .lint.module import check_module
from .sources import Source, open_source
from .tracing import DEFAULT_OPSET, original, trace
from .verification import Progress, verify

_GRAPH = "model.onnx"
_LIBRARIES = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")


def export(
    source: str,
    out: Path,
    config: Mapping[str, str] | None = None,
    opset: int = DEFAULT_OPSET,
    overwrite: bool = False,
    progress: Progress = lambda _: None,
    precisions: Sequence[str] = ("fp32",),
    forms: Sequence[str] = ("phases",),
    quality: float = variants.QUALITY,
    fix: Fixed | None = None,
    pictures: Path | None = None,
) -> Bundle:
    """Export a RUN folder, a checkpoint or `package.module:factory` as a bundle and prove it on this machine's
    backends.

    Args:
        out: folder to make; by convention its name ends in `.ganrt`.
        config: settings that a checkpoint does not tell.
        overwrite: replace a bundle of that name.
        precisions: of `variants.PRECISIONS`; float32 is there in any case.
        forms: of up-sampling (`phases.FORMS`) that the graph is rewritten to, beside the graph as it was traced.
        quality: dB that the worst picture of an int8 variant is to reach; of an fp16 variant where it is above 45.
        pictures: folder to calibrate models on that take pictures; without one, they are made up.
        fix: labels and scalars that are given their value for good: they are no inputs of the bundle any more.

    What would ruin the export is mended where that is possible, and told by `progress` and in the provenance (`lint`).

    Raises RequestError, also when something cannot be mended, CheckpointError, and VerificationError when a backend
    does not make the original's images; then, as after any failure, nothing is left at `out`.
    """
    variants.check(precisions, forms)
    atomic.check_output(out, overwrite, is_bundle)
    progress(f"loading {source}")
    loaded, findings = _mended(open_source(source, config or {}), source, progress)
    check_fixed(loaded.spec, fix or {})
    with atomic.new_folder(out, overwrite, is_bundle) as draft:
        model, bundle = _write(loaded, draft, out.name, opset, fix or {}, findings, progress)
        bundle = variants.add(bundle, model, precisions, forms, quality, pictures, progress)
        bundle.write_manifest()
        bundle, proofs = verify(bundle, progress=progress)
        unproven = [name for name, variant in bundle.variants.items() if not variant.proofs]
        if unproven:
            raise VerificationError(f"{source} was not exported: nothing on this machine runs {', '.join(unproven)}")
        failed = [proof for proof in proofs if not proof.passed]
        if failed:
            raise VerificationError(
                f"{source} was not exported: in {failed[0].precision} on {failed[0].backend} it does not make the "
                f"original's images: {failed[0].failures[0]}"
            )
    return replace(bundle, folder=out)


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle, whole or damaged: what an export may replace."""
    return (folder / MANIFEST).is_file()


def _mended(loaded: Source, source: str, progress: Progress) -> tuple[Source, list[Finding]]:
    """The module without what can be mended before tracing, and what was found. Raises RequestError."""
    findings = check_module(loaded.module)
    if loaded.model is None:  # what the families of ganrt do when they run is known
        known = {finding.rule for finding in findings if finding.level == "refused"}
        module, spec, behaviour = rehearse(loaded.module, loaded.spec)
        findings += [finding for finding in behaviour if finding.rule not in known]
        loaded = replace(loaded, module=module, spec=spec)
    settle(findings, source, progress)
    return loaded, findings


def _write(
    loaded: Source, folder: Path, name: str, opset: int, fix: Fixed, findings: list[Finding], progress: Progress
) -> tuple[ir.Model, Bundle]:
    """The traced graph, and the bundle with it alone: everything but further variants, the manifest and the proofs.

    Args:
        findings: of the linter so far. Raises RequestError when the graph has something that is refused.
    """
    progress("tracing the module")
    in_graph: list[Finding] = []
    freezing = partial(freezing_module, loaded.module, loaded.spec)
    model = trace(
        loaded.module, loaded.spec, opset, lambda raw: in_graph.extend(check_graph(raw, loaded.spec, freezing))
    )
    settle(in_graph, loaded.origin["name"], progress)
    spec = without(loaded.spec, fix)
    if fix:
        model = specialise(model, rows(loaded.spec, fix, 1), spec)
    bundle = Bundle(folder, spec, {FAITHFUL: Variant(_GRAPH, opset, "fp32")}, {}, _rebuilt_by(loaded, fix))
    names = [*variants.save(model, bundle, _GRAPH), Bundle.GOLDEN]
    progress("making golden samples")
    Golden.make(spec, partial(_original, loaded, fix)).save(folder / Bundle.GOLDEN)
    if loaded.model is not None:
        weights = folder / Bundle.WEIGHTS
        safetensors.torch.save_file(loaded.module.state_dict(), weights)
        weights.chmod((folder / _GRAPH).stat().st_mode)  # the library lets only its owner read it
        names.append(Bundle.WEIGHTS)
    provenance = {
        "bundle": name,
        "source": dict(loaded.origin),
        "options": {"opset": opset, "fixed": dict(fix)},
        "lint": [asdict(finding) for finding in (*findings, *in_graph)],
        "versions": {"ganrt": __version__} | {library: library_version(library) for library in _LIBRARIES},
    }
    return model, replace(bundle, provenance=provenance).with_files(*names)


def _original(loaded: Source, fix: Fixed, given: Feeds) -> Floats:
    """What the whole module makes, the fixed inputs added in their places."""
    every = given | rows(loaded.spec, fix, len(next(iter(given.values()))))
    return original(loaded.module, {item.name: every[item.name] for item in loaded.spec.inputs})


def _rebuilt_by(loaded: Source, fix: Fixed) -> Mapping[str, Any] | None:
    return {**loaded.model, "fixed": dict(fix)} if loaded.model and fix else loaded.model
