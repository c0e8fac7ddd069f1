"""The record of a proof: what was compared, on what, and what was found. To and from JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ganrt.errors import BundleError
from ganrt.json_reader import decode


@dataclass(frozen=True)
class Proof:
    """What a comparison found; kept in the bundle's record, or beside the machine's caches."""

    key: str
    """Digest of everything the result depends on (`ganrt.trust.proof_key`)."""
    backend: str
    device: str
    precision: str
    details: dict[str, str]
    samples: int
    worst_psnr: float
    """dB, of the worst sample."""
    median_psnr: float
    max_abs: float
    """Largest difference of all samples, in the image's own units."""
    failures: tuple[str, ...]
    """Why the variant is not the model it claims to be; empty when it is."""
    batch_drift: float | None = None
    """By how much an image changes, at most, when only its place, its neighbours or its batch size do, or when it is
    made again; in the image's own units. None where the images are wrong already, and in records before there was
    this."""

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"failures": list(self.failures)}

    @classmethod
    def from_dict(cls, raw: object) -> Proof:
        """Read a proof from parsed JSON. Raises BundleError, naming the field, when it is not one."""
        if isinstance(raw, dict) and "moved" in raw:  # the key of ganrt 0.1.0
            raw = {**{name: value for name, value in raw.items() if name != "moved"}, "batch_drift": raw["moved"]}
        return decode(cls, raw, "proof", BundleError)
