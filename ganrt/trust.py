"""Find or make the proof that covers a session on this machine.

A proof holds for the bytes of a variant on one backend, device, set of library versions and processor. The bundle
stores the proofs of the machine that exported it. Another machine proves a session when it first loads it and caches
the proof.
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
    """Return a sha256 of everything that a comparison with the golden samples depends on."""
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
    """Return the proof that covers a session: the bundle's, the one in this machine's cache, or a new one.

    Args:
        bundle: the bundle that the session was opened from.
        variant: name of its variant.
        session: an open session; a new proof runs the golden samples on it.

    Raises UnprovenError if there are no golden samples to compare with, or if the proof failed; MissingLibraryError
    without platformdirs.
    """
    key = proof_key(bundle, variant, session)
    proof = next((p for p in bundle.variant(variant).proofs if p.key == key), None)
    proof = proof or _read_proof(key) or _prove_now(bundle, variant, session, key)
    if not proof.passed:
        config = SessionConfig(session.backend, variant, session.device)
        raise UnprovenError(
            f"{bundle.folder} on {config} does not make the original's images: {proof.failures[0]}. "
            "Use another backend, or pass unproven=True to use it anyway"
        )
    return proof


def _prove_now(bundle: Bundle, variant: str, session: Session, key: str) -> Proof:
    golden = bundle.read_golden()
    if golden is None:
        raise UnprovenError(
            f"{bundle.onnx(variant)} has no golden samples to compare with (a bare ONNX file has none): load "
            "the bundle it came from, or pass unproven=True to use it anyway"
        )
    config = SessionConfig(session.backend, variant, session.device)
    _log.info("proving %s on %s for the first time on this machine", bundle.folder, config)
    proof = prove(session, bundle.spec, golden, key).proof
    try:
        atomic.write_file(cache_folder("proofs") / f"{key}.json", json.dumps(proof.to_dict()).encode())
    except MissingLibraryError:
        raise
    except MachineError as error:
        _log.warning("the proof cannot be cached, so the next load proves again: %s", error)
    return proof


def _read_proof(key: str) -> Proof | None:
    """Read a proof from the cache; None if there is none, or none that can be trusted."""
    try:
        folder = find_cache_folder("proofs")
        path = folder / f"{key}.json" if folder else None
        if path is None or not path.is_file():
            return None
        proof = Proof.from_dict(read_json(path, _MAX_BYTES, BundleError))
    except MissingLibraryError:
        raise
    except (MachineError, BundleError) as error:
        _log.warning("%s; proving again", error)
        return None
    return proof if proof.key == key else None
