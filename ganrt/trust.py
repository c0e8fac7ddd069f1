"""Find or make the proof that covers a session on this machine.

A proof holds for the bytes of a variant on one backend, device, set of library versions and processor. The bundle
stores the proofs of the machine that exported it. Another machine proves a session when it first loads it and caches
the proof.

The bundle also stores refusals: proofs that failed, or that could not be made because the backend cannot load the graph
or fails while running it. A refusal is found by what was asked for, before a session is opened, because opening one may
take minutes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

from ganrt._version import __version__
from ganrt.backend import Session, backend_table, library_version
from ganrt.bundle import Bundle
from ganrt.cache import find_optional_folder, write_cached_file
from ganrt.errors import BundleError, UnprovenError
from ganrt.json_reader import read_json
from ganrt.machine import cpu_name, has_nvidia_gpu, nvidia_details
from ganrt.proof import Proof
from ganrt.proving import prove
from ganrt.session_config import SessionConfig

_log = logging.getLogger(__name__)
_MAX_BYTES = 2**20


def proof_key(bundle: Bundle, variant: str, session: Session) -> str:
    """Return a sha256 of everything that a comparison with the golden samples depends on."""
    return _proof_keys(bundle, variant, session)[0]


def _proof_keys(bundle: Bundle, variant: str, session: Session) -> list[str]:
    """The key of a proof with the bundle's golden samples, and of one with all that it was exported with."""
    parts = {
        "backend": session.backend,
        "device": session.device,
        "precision": session.precision,
        "details": dict(session.details),
    }
    return _hash_parts(bundle, variant, parts)


def request_key(bundle: Bundle, config: SessionConfig) -> str:
    """Return a sha256 of everything that is known of a session before it is opened."""
    return _request_keys(bundle, config)[0]


def _request_keys(bundle: Bundle, config: SessionConfig) -> list[str]:
    parts = {
        "backend": config.backend,
        "device": _resolve_device(config.device),
        "precision": bundle.variant(config.variant).precision,
        "options": {name: repr(value) for name, value in config.options.items()},
        "versions": {"ganrt": __version__, **_library_versions(config.backend)},
        "gpu": nvidia_details(),
    }
    return _hash_parts(bundle, config.variant, parts)


def _hash_parts(bundle: Bundle, variant: str, parts: dict[str, Any]) -> list[str]:
    """One hash for each file of golden samples: the bundle's, then the one that it is a part of."""
    common = {"model": bundle.digest(variant), "spec": bundle.spec.to_dict(), "processor": cpu_name()}
    listed = [files.get(Bundle.GOLDEN) for files in (bundle.files, bundle.left_out)]
    found: list[str | None] = [digest.sha256 for digest in listed if digest is not None]
    return [
        hashlib.sha256(json.dumps(common | {"golden": golden} | parts, sort_keys=True).encode()).hexdigest()
        for golden in found or [None]
    ]


def _resolve_device(device: str) -> str:
    return "cpu" if device == "auto" and not has_nvidia_gpu() else device


def _library_versions(backend: str) -> dict[str, str]:
    """Versions of a backend's library: some have another name for their build for GPUs."""
    entry = backend_table().get(backend)
    names = (entry.package, f"{entry.package}-gpu") if entry else ()
    return {name: version for name in names if (version := library_version(name)) != "?"}


def make_refusal(bundle: Bundle, config: SessionConfig, reason: str) -> Proof:
    """Return the record that a backend could not open a session, or that the session failed while it was running.

    Args:
        reason: what it did, as a sentence without the subject, such as "cannot load fp32: ...".
    """
    key = request_key(bundle, config)
    return Proof(
        key=key,
        backend=config.backend,
        device=_resolve_device(config.device),
        precision=bundle.variant(config.variant).precision,
        details=_library_versions(config.backend),
        samples=0,
        worst_psnr=-1e9,
        median_psnr=-1e9,
        max_abs=1e9,
        failures=(reason,),
        request=key,
    )


def find_refusal(bundle: Bundle, config: SessionConfig) -> Proof | None:
    """Return the failed proof in a bundle's record of exactly this request on this machine; None if there is none, or
    if the failure was that of an engine, which may have been built again."""
    failed = [proof for proof in bundle.variant(config.variant).proofs if proof.request and not proof.passed]
    entry = backend_table().get(config.backend)
    if not failed or entry is None or entry.prebuilt:
        return None
    keys = _request_keys(bundle, config)
    return next((proof for proof in failed if proof.request in keys), None)


def reject_refused(bundle: Bundle, config: SessionConfig) -> None:
    """Raise UnprovenError if the bundle's record has a refusal of exactly this request on this machine."""
    refusal = find_refusal(bundle, config)
    if refusal is not None:
        raise _unproven_error(bundle, config, refusal)


def _unproven_error(bundle: Bundle, config: SessionConfig, proof: Proof) -> UnprovenError:
    if "refittable" in proof.details:
        advice = "; TensorRT 11 may drop the bias of a Gemm in an engine built with --refit: build it without"
        return UnprovenError(f"{bundle.path} on {config} {proof.refusal}{advice}")
    advice = ", or pass unproven=True to use it anyway" if proof.samples else "; `ganrt verify` tries this one again"
    return UnprovenError(f"{bundle.path} on {config} {proof.refusal}. Use another backend{advice}")


def require_proof(bundle: Bundle, variant: str, session: Session) -> Proof:
    """Return the proof that covers a session: the bundle's, the one in this machine's cache, or a new one.

    Args:
        bundle: the bundle that the session was opened from.
        variant: name of its variant.
        session: an open session; a new proof runs the golden samples on it.

    Raises UnprovenError if there are no golden samples to compare with, or if the proof failed; MissingLibraryError
    without platformdirs.
    """
    keys = _proof_keys(bundle, variant, session)
    proof = next((p for p in bundle.variant(variant).proofs if p.key in keys), None)
    proof = proof or next(filter(None, map(_read_proof, keys)), None) or _prove_now(bundle, variant, session, keys[0])
    if not proof.passed:
        raise _unproven_error(bundle, SessionConfig(session.backend, variant, session.device), proof)
    return proof


def _prove_now(bundle: Bundle, variant: str, session: Session, key: str) -> Proof:
    golden = bundle.read_golden()
    if golden is None:
        raise UnprovenError(
            f"{bundle.onnx(variant)} has no golden samples to compare with (a bare ONNX file has none): load "
            "the bundle it came from, or pass unproven=True to use it anyway"
        )
    config = SessionConfig(session.backend, variant, session.device)
    _log.info("proving %s on %s for the first time on this machine", bundle.path, config)
    proof = prove(session, bundle.spec, golden, key).proof
    cache_proof(proof)
    return proof


def cache_proof(proof: Proof) -> None:
    """Write a proof to this user's cache, where `require_proof` finds it; warns if there is none."""
    write_cached_file("proofs", f"{proof.key}.json", json.dumps(proof.to_dict()).encode())


def _read_proof(key: str) -> Proof | None:
    """Read a proof from the cache; None if there is none, or none that can be trusted."""
    folder = find_optional_folder("proofs")
    path = folder / f"{key}.json" if folder else None
    if path is None or not path.exists():
        return None
    try:
        proof = Proof.from_dict(read_json(path, _MAX_BYTES, BundleError))
    except BundleError as error:
        _log.warning("%s; proving again", error)
        return None
    return proof if proof.key == key else None
