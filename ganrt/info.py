"""`Info`: what stands behind the pictures of a generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ganrt.backend import Session
from ganrt.bundle import Bundle
from ganrt.proof import Proof
from ganrt.session_config import SessionConfig


@dataclass(frozen=True)
class Info:
    """Which bundle, variant, backend, device, libraries, proof and tuning made a picture. `str` gives it in words."""

    config: SessionConfig
    """Backend, variant, device and options. The device is where the session really runs."""
    precision: str
    """`fp32`, `bf16`, `fp16` or `int8`: what the session computes in."""
    details: Mapping[str, str]
    """Versions of the libraries, and whatever else the backend states about itself."""
    bundle: Path | None = None
    """Folder of the bundle; None for a session that was opened without one."""
    digest: str | None = None
    """sha256 over the digests of the variant's graph and weights."""
    proof: Proof | None = None
    """The proof that covers the session; None for one that was loaded with `unproven=True`."""
    reason: str = ""
    """Why `load` chose this configuration: the tuned record, or the rules."""

    @classmethod
    def of_session(
        cls,
        session: Session,
        bundle: Bundle | None = None,
        config: SessionConfig | None = None,
        proof: Proof | None = None,
        reason: str = "",
    ) -> Info:
        """Collect what an open session states.

        Args:
            bundle, config: what it was opened from, and with.
        """
        config = config or SessionConfig(session.backend)
        return cls(
            config=replace(config, device=session.device),
            precision=session.precision,
            details=dict(session.details),
            bundle=bundle.folder if bundle else None,
            digest=bundle.digest(config.variant) if bundle else None,
            proof=proof,
            reason=reason,
        )

    @property
    def threads(self) -> int | None:
        """Number of threads, or None where the library decides."""
        threads = self.details.get("threads", "")
        return int(threads) if threads.isdecimal() else None

    def __str__(self) -> str:
        proof = f"{self.proof.worst_psnr:.1f} dB in the worst golden sample" if self.proof else "none"
        lines = {
            "bundle": self.bundle,
            "digest": self.digest,
            "runs": f"{self.config}, in {self.precision} on {self.config.device}",
            "details": ", ".join(f"{name} {value}" for name, value in self.details.items()),
            "proof": proof,
            "chosen": self.reason,
        }
        return "\n".join(f"{name}: {value}" for name, value in lines.items() if value)
