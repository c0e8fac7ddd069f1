"""Which proof covers a session on this machine: the bundle's own record, this machine's memory, or a new one.

A proof holds for the bytes of the variant on one backend, device, set of library versions and processor. The machine
that exported a bundle proved it for itself; any other proves it once, when it is first loaded, and remembers.
"""

from __future__ import annotations

import hashlib
import json
import logging

from ganrt import atomic
from ganrt.backend import Session
from ganrt.bundle import Bundle
from ganrt.cache import cache_folder, find_cache_folder
from ganrt.errors import BundleError, MachineError, MissingLibraryError, UnprovenError
from ganrt.json_reader import read_json
from ganrt.machine import cpu_name
from ganrt.proof import Proof
from ganrt.proving import prove
from ganrt.session_config import SessionConfig

_log = logging.getLogger(__name__)
_MAX_BYTES = 2**20


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
    """The proof that covers a session of a variant: the bundle's own, one that this machine remembers, or a new one.

    Raises UnprovenError when there is nothing to compare with, or when the comparison failed.
    """
    key = proof_key(bundle, variant, session)
    proof = next((p for p in bundle.variant(variant).proofs if p.key == key), None)
    proof = proof or _read_proof(key) or _prove_now(bundle, variant, session, key)
    if not proof.passed:
        config = SessionConfig(session.backend, variant, session.device)
        raise UnprovenError(
            f"{bundle.folder} on {config} does not make the original's images: {proof.failures[0]}. "
            "Use another backend, or pass unproven=True to use it all the same"
        )
    return proof


def _prove_now(bundle: Bundle, variant: str, session: Session, key: str) -> Proof:
    golden = bundle.golden()
    if golden is None:
        raise UnprovenError(
            f"{bundle.onnx(variant)} has no golden samples to compare with (a bare ONNX file has none): load "
            "the bundle it came from, or pass unproven=True to use it all the same"
        )
    config = SessionConfig(session.backend, variant, session.device)
    _log.info("proving %s on %s for the first time on this machine", bundle.folder, config)
    proof = prove(session, bundle.spec, golden, key).proof
    try:
        atomic.write_file(cache_folder("proofs") / f"{key}.json", json.dumps(proof.to_dict()).encode())
    except MissingLibraryError:
        raise
    except MachineError as error:
        _log.warning("the proof is not remembered, so the next load makes it again: %s", error)
    return proof


def _read_proof(key: str) -> Proof | None:
    """The proof that this machine remembers under a key; None when there is none, or none that can be trusted."""
    try:
        folder = find_cache_folder("proofs")
        path = folder / f"{key}.json" if folder else None
        if path is None or not path.is_file():
            return None
        proof = Proof.from_dict(read_json(path, _MAX_BYTES, BundleError))
    except MissingLibraryError:
        raise
    except (MachineError, BundleError) as error:
        _log.warning("%s; the proof is made again", error)
        return None
    return proof if proof.key == key else None
