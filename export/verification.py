"""Compare a bundle with its golden samples on the backends of this machine, and write what was found into it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from ganrt import atomic
from ganrt.backend import backend_module, backend_names, open_session, runs
from ganrt.bundle import Bundle
from ganrt.errors import MachineError, MissingLibraryError, RequestError
from ganrt.images import encode_png
from ganrt.proof import Proof
from ganrt.proving import Comparison, prove
from ganrt.trust import proof_key

from .card import write_card
from .contact_sheet import contact_sheet, sheet_stem

Progress = Callable[[str], None]
"""Told what is being done, one line at a time."""


def usual_backends(bundle: Bundle, device: str) -> list[str]:
    """The backends to verify a bundle on: those whose library is here and that can run it on this kind of device. The
    slow reference is left out, because the PyTorch original is the oracle already."""
    names = []
    for name in backend_names(device):
        try:
            backend_module(name)
        except MissingLibraryError:
            continue
        names.append(name)
    left_out = {"reference"} if bundle.model is not None else {"reference", "pytorch"}
    return [name for name in names if name not in left_out]


def verify(
    bundle: Bundle, backends: Sequence[str] | None = None, device: str = "auto", progress: Progress = lambda _: None
) -> tuple[Bundle, list[Proof]]:
    """Prove every variant on every backend and keep the record, a contact sheet each, and the model card in the bundle.

    Args:
        backends: names, or None for `usual_backends`; each gets the variants that it runs. Of the usual ones, a variant
            that this machine cannot compute is left out, and said.

    Returns the bundle as it is now, and the proofs, passed or not: the caller decides what a failure means. Raises
    RequestError when there are no golden samples, MachineError when a backend that was named cannot run here.
    """
    golden = bundle.golden()
    if golden is None:
        raise RequestError(
            f"{bundle.folder} is a bare ONNX file without golden samples; verify the bundle it came from"
        )
    proofs = []
    for backend in usual_backends(bundle, device) if backends is None else backends:
        for variant in [name for name in bundle.variants if runs(backend, bundle, name)]:
            progress(f"verifying {variant} on {backend}")
            try:
                session = open_session(bundle, backend, device, variant)
            except MachineError as error:
                if backends is not None:
                    raise
                progress(f"left out: {error}")
                continue
            with session:
                comparison = prove(session, bundle.spec, golden, proof_key(bundle, variant, session))
            proofs.append(comparison.proof)
            bundle = _record(bundle, variant, comparison)
    return write_card(bundle), proofs


def _record(bundle: Bundle, variant: str, comparison: Comparison) -> Bundle:
    """Add the proof and its contact sheet. The sheet's name holds its digest, so an interrupted update leaves the old
    record whole: the new file is there before the manifest names it, the old one goes afterwards."""
    proof = comparison.proof
    png = encode_png(contact_sheet(comparison, bundle.spec.output))
    stem = sheet_stem(variant, proof)
    name = f"{stem}{hashlib.sha256(png).hexdigest()[:8]}.png"
    old = [file for file in bundle.files if file.startswith(stem) and file != name]
    atomic.write_file(bundle.folder / name, png)
    updated = bundle.with_proofs(variant, (proof,)).without_files(*old).with_files(name)
    updated.write_manifest()
    for file in old:
        (bundle.folder / file).unlink(missing_ok=True)
    return updated
