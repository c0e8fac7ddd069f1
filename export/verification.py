"""`verify`: compare a bundle with its golden samples on the backends of this machine, and record the proofs in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ganrt import atomic
from ganrt.backend import backend_names, import_backend, open_session, supports_variant
from ganrt.bundle import Bundle
from ganrt.errors import MachineError, MissingLibraryError, RequestError
from ganrt.images import encode_png
from ganrt.proof import Proof
from ganrt.proving import Comparison, prove
from ganrt.session_config import SessionConfig
from ganrt.trust import proof_key

from .card import write_card
from .contact_sheet import draw_contact_sheet, sheet_stem

Progress = Callable[[str], None]
"""Called with a line of text before each step."""


def installed_backends(bundle: Bundle, device: str) -> list[str]:
    """The backends to verify a bundle on by default: those whose library is installed and that run on this kind of
    device. The slow `reference` is not among them, because the golden samples are PyTorch's already."""
    names = []
    for name in backend_names(device):
        try:
            import_backend(name)
        except MissingLibraryError:
            continue
        names.append(name)
    left_out = {"reference"} if bundle.model is not None else {"reference", "pytorch"}
    return [name for name in names if name not in left_out]


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    bundle: Bundle
    """The bundle with the new proofs in its record."""
    proofs: Mapping[str, tuple[Proof, ...]]
    """Name of a variant -> its proofs of this run, passed or failed, one for each backend."""

    @property
    def passed(self) -> bool:
        """True if no variant failed on any backend, and at least one was compared."""
        return bool(self.proofs) and not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each failed proof."""
        return tuple(
            f"{name} on {proof.backend} does not make the original's images: {'; '.join(proof.failures)}"
            for name, proofs in self.proofs.items()
            for proof in proofs
            if not proof.passed
        )


def verify(
    bundle: Bundle | str | Path,
    *,
    backends: str | Sequence[str] | None = None,
    device: str = "auto",
    progress: Progress = lambda _: None,
) -> Verification:
    """Compare every variant with the golden samples on every backend, and write proofs, contact sheets and the model
    card into the bundle.

        verify("faces.ganrt", backends="onnxruntime").passed

    Args:
        bundle: a bundle, or the path of one.
        backends: a name or several, each of which gets the variants that it runs. Default: all whose library is
            installed; a variant that this machine cannot compute is then reported to `progress` and skipped.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: called with a line of text before each step.

    A failed comparison raises nothing: look at `passed` and `failures` of the result. Raises BundleError when the
    bundle is missing or damaged, RequestError for a bare ONNX file (it has no golden samples) and for an unknown
    backend, MachineError when a backend that was named cannot run here.
    """
    bundle = Bundle.of(bundle)
    golden = bundle.read_golden()
    if golden is None:
        raise RequestError(
            f"{bundle.folder} is a bare ONNX file without golden samples; verify the bundle it came from"
        )
    named = [backends] if isinstance(backends, str) else backends
    proofs: dict[str, tuple[Proof, ...]] = {}
    for backend in installed_backends(bundle, device) if named is None else named:
        for variant in [name for name in bundle.variants if supports_variant(backend, bundle, name)]:
            progress(f"verifying {variant} on {backend}")
            try:
                session = open_session(bundle, SessionConfig(backend, variant, device))
            except MachineError as error:
                if named is not None:
                    raise
                progress(f"skipped: {error}")
                continue
            with session:
                comparison = prove(session, bundle.spec, golden, proof_key(bundle, variant, session))
            proofs[variant] = (*proofs.get(variant, ()), comparison.proof)
            bundle = _record_proof(bundle, variant, comparison)
    return Verification(write_card(bundle), proofs)


def _record_proof(bundle: Bundle, variant: str, comparison: Comparison) -> Bundle:
    """Add the proof and its contact sheet. The sheet's name holds its digest, so an interrupted update leaves the old
    record intact: the new file exists before the manifest names it, and the old one is deleted afterwards."""
    proof = comparison.proof
    png = encode_png(draw_contact_sheet(comparison.compared, bundle.spec.output))
    stem = sheet_stem(variant, proof)
    name = f"{stem}{hashlib.sha256(png).hexdigest()[:8]}.png"
    old = [file for file in bundle.files if file.startswith(stem) and file != name]
    atomic.write_file(bundle.folder / name, png)
    updated = bundle.with_proofs(variant, (proof,)).without_files(*old).with_files(name)
    updated.write_manifest()
    for file in old:
        (bundle.folder / file).unlink(missing_ok=True)
    return updated
