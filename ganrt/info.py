"""`Info`: where the images of a generator come from."""

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
    """The bundle, configuration, library versions and proof behind a generator. `str` lists them, one per line."""

    config: SessionConfig
    """Backend, variant, device and options. `device` is the actual one, such as `cuda:0`, never `auto`."""
    precision: str
    """Precision of the arithmetic: `fp32`, `bf16`, `fp16`, `int8` or `fp8`."""
    details: Mapping[str, str]
    """Library versions and other facts from the backend (`Session.details`)."""
    bundle: Path | str | None = None
    """Path of the bundle; None for a session without one."""
    digest: str | None = None
    """`Bundle.digest` of the variant; None without a bundle."""
    proof: Proof | None = None
    """The proof that covers the session; None if it was loaded with `unproven=True`."""
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
        """Collect the facts of an open session.

        Args:
            session: the session.
            bundle: the bundle it was opened from.
            config: the configuration it was opened with.
            proof: the proof that covers it.
            reason: why the configuration was chosen.
        """
        config = config or SessionConfig(session.backend)
        return cls(
            config=replace(config, device=session.device),
            precision=session.precision,
            details=dict(session.details),
            bundle=bundle.path if bundle else None,
            digest=bundle.digest(config.variant) if bundle else None,
            proof=proof,
            reason=reason,
        )

    @property
    def threads(self) -> int | None:
        """Number of threads; None if the library decides."""
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
