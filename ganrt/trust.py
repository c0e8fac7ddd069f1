"""Which proof covers a session on this machine: the bundle's own record, this machine's memory, or a new one.

A proof holds for the bytes of the variant on one backend, device, set of library versions and processor. The machine
that exported a bundle proved it for itself; any other proves it once, when it is first loaded, and remembers.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from ganrt import atomic
from ganrt.backend import Session
from ganrt.bundle import Bundle, parse_json
from ganrt.errors import BundleError, MachineError, MissingLibraryError, UnprovenError
from ganrt.machine import cpu_name
from ganrt.proof import Proof
from ganrt.proving import prove

_log = logging.getLogger(__name__)


def proof_key(bundle: Bundle, variant: str, session: Session) -> str:
    """Digest of everything that a comparison with the goldens depends on."""
    parts = {
        "model": bundle.digest(variant),
        "golden": bundle.files[Bundle.GOLDEN].sha256 if Bundle.GOLDEN in bundle.files else None,
        "spec": bundle.spec.to_dict(),
        "backend": session.backend,
        "device": session.device,
        "precision": session.precision,
        "details": dict(session.details),
        "processor": cpu_name(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def require_proof(bundle: Bundle, variant: str, session: Session) -> Proof:
    """The proof that covers a session of a variant, made now if there is none yet.

    Raises UnprovenError when there is nothing to compare with, or when the comparison failed.
    """
    key = proof_key(bundle, variant, session)
    proof = next((p for p in bundle.variant(variant).proofs if p.key == key), None)
    proof = proof or _remembered(key) or _prove_now(bundle, variant, session, key)
    if not proof.passed:
        raise UnprovenError(
            f"{bundle.folder}, {variant}, on {session.backend} ({session.device}) does not make the "
            f"original's images: {proof.failures[0]}. Use another backend, or pass unproven=True to use it all the same"
        )
    return proof


def _prove_now(bundle: Bundle, variant: str, session: Session, key: str) -> Proof:
    golden = bundle.golden()
    if golden is None:
        raise UnprovenError(
            f"{bundle.onnx(variant)} has no golden samples to compare with (a bare ONNX file has none): load "
            "the bundle it came from, or pass unproven=True to use it all the same"
        )
    _log.info(
        "proving %s, %s, on %s (%s) for the first time on this machine",
        bundle.folder,
        variant,
        session.backend,
        session.device,
    )
    proof = prove(session, bundle.spec, golden, key).proof
    try:
        atomic.write_file(_memory(key), json.dumps(proof.to_dict()).encode())
    except MachineError as error:
        _log.warning("the proof is not remembered, so the next load makes it again: %s", error)
    return proof


def _remembered(key: str) -> Proof | None:
    try:
        content = _memory(key).read_bytes()
    except OSError:
        return None
    try:
        proof = Proof.from_dict(parse_json(content, str(_memory(key))))
    except BundleError as error:
        _log.warning("%s; the proof is made again", error)
        return None
    return proof if proof.key == key else None


def _memory(key: str) -> Path:
    try:
        import platformdirs
    except ImportError as error:
        raise MissingLibraryError("platformdirs", "cpu", "remembering proofs") from error
    return platformdirs.user_cache_path("ganrt") / "proofs" / f"{key}.json"
