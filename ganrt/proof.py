"""The record of a proof: what was compared, on what, and what was found. To and from JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ganrt.errors import BundleError

_NUMBER = (int, float)
_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("key", "backend", "device", "precision"), str),
    **dict.fromkeys(("worst_psnr", "median_psnr", "max_abs"), _NUMBER),
    "details": dict,
    "samples": int,
    "failures": list,
}


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
    moved: float | None = None
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
        """Read a proof from parsed JSON. Raises BundleError when it is not one."""
        try:
            if not isinstance(raw, dict):
                raise TypeError(f"{raw!r:.100} is not one")
            for name, kind in _KINDS.items():
                if not isinstance(raw[name], kind) or isinstance(raw[name], bool):
                    raise TypeError(f"its {name} is {raw[name]!r:.100}")
            moved = raw.get("moved")
            if moved is not None and (isinstance(moved, bool) or not isinstance(moved, _NUMBER)):
                raise TypeError(f"its moved is {moved!r:.100}")
            return cls(**raw | {"failures": tuple(map(str, raw["failures"]))})
        except (TypeError, KeyError) as error:
            raise BundleError(f"a verification record cannot be read: {error}") from error
