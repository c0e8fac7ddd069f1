"""`Proof`, the recorded result of comparing a session with golden samples; to and from JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ganrt.errors import BundleError
from ganrt.json_reader import decode

_NO_PSNR = -1e9
"""Stands for minus infinity, which JSON has not."""


@dataclass(frozen=True)
class Proof:
    """Result of comparing a session with the golden samples. Stored in the bundle or in this machine's cache."""

    key: str
    """Digest of everything the result depends on (`ganrt.trust.proof_key`); `request` if no images were made."""
    backend: str
    """Name in the table of backends."""
    device: str
    """Device of the session, such as `cpu` or `cuda:0`."""
    precision: str
    """`fp32`, `bf16`, `fp16` or `int8`."""
    details: dict[str, str]
    """`Session.details`: library versions and options."""
    samples: int
    """Number of golden samples compared; 0 if the backend cannot load the graph or fails while running it."""
    worst_psnr: float
    """PSNR of the worst sample, in dB; -1e9 without an image that is finite."""
    median_psnr: float
    """Median PSNR, in dB; -1e9 likewise."""
    max_abs: float
    """Largest absolute difference over all samples, in the units of the output range; 1e9 likewise."""
    failures: tuple[str, ...]
    """Why the session does not reproduce the original; empty if it does. Failures are the backend's refusal: `load`
    does not use it."""
    batch_drift: float | None = None
    """Largest change of an image, in the units of the output range, when only its position in the batch, the other rows
    or the batch size change, or when it is computed again. None if the images are wrong, the change is not finite, or
    the record is too old to have it."""
    request: str = ""
    """Digest of everything that was known before the session was opened (`ganrt.trust.request_key`). Empty in the cache
    of a machine and in records of older versions."""

    @property
    def passed(self) -> bool:
        """True if there are no failures."""
        return not self.failures

    @property
    def refusal(self) -> str:
        """Why the backend is not used, as a sentence whose subject is the backend; empty if it passed."""
        if self.passed:
            return ""
        return f"does not make the original's images: {self.failures[0]}" if self.samples else self.failures[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"failures": list(self.failures)}

    @classmethod
    def from_dict(cls, raw: object) -> Proof:
        """Read a proof from parsed JSON. Raises BundleError, naming the field, if it is not valid."""
        if isinstance(raw, dict) and "moved" in raw:  # the key of ganrt 0.1.0
            raw = {**{name: value for name, value in raw.items() if name != "moved"}, "batch_drift": raw["moved"]}
        return decode(cls, raw, "proof", BundleError)


def format_psnr(psnr: float) -> str:
    """Return a PSNR of a proof as text; a dash without an image that is finite."""
    return f"{psnr:.1f} dB" if psnr > _NO_PSNR else "-"
