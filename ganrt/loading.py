"""`load`: a generator from a bundle."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ganrt.backend import Session
from ganrt.bundle import Bundle
from ganrt.choosing import Candidate, LoadRequest
from ganrt.generator import Generator
from ganrt.info import Info
from ganrt.opening import open_fastest, open_with_proof
from ganrt.proof import Proof

_log = logging.getLogger(__name__)


def load(
    bundle: str | Path | Bundle,
    backend: str = "auto",
    *,
    variant: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch: int | None = None,
    unproven: bool = False,
    **options: Any,
) -> Generator:
    """Load a bundle, or a bare .onnx file that ganrt exported.

    Uses the configuration that `ganrt tune` measured fastest on this machine, if it fits the arguments. Without a tuned
    record, or if that configuration cannot be opened, uses the first one that is installed, can run the bundle and is
    proven to make the images of the PyTorch original: backends in the order of their table (`ganrt doctor` lists them),
    but OpenVINO first where no GPU is used, because most models run fastest on it there; float32; variants with fewer
    MACs, on OpenVINO all optimised ones, before the graph as traced. What the bundle's record says is refused on this
    machine is not opened.

    Args:
        bundle: path of a bundle folder or an .onnx file, or a `Bundle`.
        backend: name of a backend (`ganrt doctor` lists them), or `auto`.
        variant: name of a variant, such as `int8-phases`; `precision` is then ignored.
        device: `auto` (a GPU where the backend finds one), `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16`, `fp16`, `int8`, or `auto`: that of the tuned record, else `fp32`.
        batch: usual number of images per request; selects the tuned configuration that is fastest at that batch size.
            None selects the one that is best over all measured sizes.
        unproven: skip the proof, so that a variant without one, or with a failed one, is loaded too.
        options: options of the backend, such as `threads=2`.

    Returns a generator, which the caller closes. Raises BundleError for a damaged bundle; RequestError for arguments
    that this bundle or backend does not allow; MachineError if no backend on this machine can run it; UnprovenError if
    the images differ from the original's, the record has a refusal, or there is nothing to compare with.
    """
    read = Bundle.of(bundle)
    request = LoadRequest(backend, variant, device, options, precision, batch)
    generator = _make_generator(read, *open_fastest(read, request, unproven))
    _log.info("%s: %s (%s)", read.path, generator.info.config, generator.info.reason)
    return generator


def _make_generator(bundle: Bundle, candidate: Candidate, session: Session, proof: Proof | None) -> Generator:
    info = Info.of_session(session, bundle, candidate.config, proof, candidate.reason)
    return Generator(bundle.spec, session, candidate.seconds, info, bundle)


def load_again(path: str | Path, candidate: Candidate, unproven: bool) -> Generator:
    """Load what a pickled generator was loaded from."""
    bundle = Bundle.read(path)
    return _make_generator(bundle, candidate, *open_with_proof(bundle, candidate.config, unproven))
