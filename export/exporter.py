"""Checkpoint -> proven bundle, written in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx_ir as ir
import safetensors.torch

import ganrt
from ganrt import atomic
from ganrt.backend import library_version
from ganrt.bundle import FAITHFUL, MANIFEST, Bundle, Variant
from ganrt.errors import VerificationError
from ganrt.golden import Golden

from .sources import Source, open_source
from .tracing import DEFAULT_OPSET, original, trace
from .verification import Progress, verify

_GRAPH = "model.onnx"
_LARGEST_SINGLE_FILE = 2**30
"""Weights of more bytes than this go into a file beside the graph; protobuf ends at 2 GiB."""
_LIBRARIES = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")


def export(
    source: str,
    out: Path,
    config: Mapping[str, str] | None = None,
    opset: int = DEFAULT_OPSET,
    overwrite: bool = False,
    progress: Progress = lambda _: None,
) -> Bundle:
    """Export a RUN folder, a checkpoint or `package.module:factory` as a bundle and prove it on this machine's
    backends.

    Args:
        out: folder to make; by convention its name ends in `.ganrt`.
        config: settings that a checkpoint does not tell.
        overwrite: replace a bundle of that name.

    Raises RequestError, CheckpointError, and VerificationError when a backend does not make the original's images;
    then, as after any failure, nothing is left at `out`.
    """
    atomic.check_output(out, overwrite, is_bundle)
    progress(f"loading {source}")
    loaded = open_source(source, config or {})
    with atomic.new_folder(out, overwrite, is_bundle) as draft:
        bundle = _write(loaded, draft, out.name, opset, progress)
        bundle, proofs = verify(bundle, progress=progress)
        failed = [proof for proof in proofs if not proof.passed]
        if failed:
            raise VerificationError(
                f"{source} was not exported: on {failed[0].backend} it does not make the original's images: "
                f"{failed[0].failures[0]}"
            )
    return replace(bundle, folder=out)


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle, whole or damaged: what an export may replace."""
    return (folder / MANIFEST).is_file()


def _write(loaded: Source, folder: Path, name: str, opset: int, progress: Progress) -> Bundle:
    """Everything but the proofs."""
    progress("tracing the module")
    model = trace(loaded.module, loaded.spec, opset)
    large = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    data = f"{_GRAPH}.data" if large > _LARGEST_SINGLE_FILE else None
    ir.save(model, folder / _GRAPH, external_data=data)
    progress("making golden samples")
    Golden.make(loaded.spec, partial(original, loaded.module)).save(folder / Bundle.GOLDEN)
    names = [_GRAPH, Bundle.GOLDEN] + ([data] if data else [])
    if loaded.model is not None:
        weights = folder / Bundle.WEIGHTS
        safetensors.torch.save_file(loaded.module.state_dict(), weights)
        weights.chmod((folder / _GRAPH).stat().st_mode)  # the library lets only its owner read it
        names.append(Bundle.WEIGHTS)
    provenance = {
        "bundle": name,
        "source": dict(loaded.origin),
        "options": {"opset": opset},
        "versions": {"ganrt": ganrt.__version__} | {library: library_version(library) for library in _LIBRARIES},
    }
    variants = {FAITHFUL: Variant(_GRAPH, opset, "fp32")}
    bundle = Bundle(folder, loaded.spec, variants, {}, loaded.model, provenance).with_files(*names)
    bundle.write_manifest()
    return bundle
