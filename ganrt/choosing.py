"""What `load` tries, in which order, and why: the tuned record of this machine first, then fixed rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ganrt import tuned
from ganrt.backend import backend_names, supports_variant
from ganrt.bundle import Bundle
from ganrt.checks import require_whole
from ganrt.machine import has_nvidia_gpu, parse_device
from ganrt.session_config import SessionConfig
from ganrt.tuned import TunedConfig

RULE = "not tuned on this machine: the first that is installed and proven to make the original's images"
"""Why one of `candidates_by_rule` is chosen."""


@dataclass(frozen=True)
class LoadRequest:
    """What the caller of `load` asked for; `auto` and None leave it open."""

    backend: str = "auto"
    variant: str | None = None
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the backend."""
    precision: str = "auto"
    """Ignored when a variant is named."""
    batch: int | None = None
    """How many pictures will be asked for at a time; None: any number."""

    def allows(self, choice: TunedConfig) -> bool:
        """Whether a measured configuration is what was asked for."""
        config = choice.config
        kind, number = parse_device(self.device)
        place = self.device if ":" in self.device else kind
        return (
            self.backend in ("auto", config.backend)
            and (kind == "auto" or config.device == place or (number == 0 and config.device == f"{kind}:0"))
            and (self.variant in (None, config.variant))
            and (self.variant is not None or self.precision in ("auto", choice.precision))
            and all(config.options.get(name) == value for name, value in self.options.items())
        )


@dataclass(frozen=True)
class Candidate:
    """One way to open a bundle."""

    config: SessionConfig
    reason: str
    """Why it is tried now."""
    seconds: Mapping[int, float] = field(default_factory=dict)
    """Batch size -> the measured time in seconds; empty when it was not measured."""

    def __str__(self) -> str:
        return str(self.config)


def find_candidates(bundle: Bundle, request: LoadRequest) -> Iterator[Candidate]:
    """Yield candidates in the order in which to try them: what was tuned, if it fits the request, then
    `candidates_by_rule`. Raises RequestError for a request that no bundle, or not this one, can satisfy."""
    batch = None if request.batch is None else require_whole("batch", request.batch)
    rules = candidates_by_rule(bundle, request)
    record = tuned.find_record(bundle)
    picked = record and record.pick(batch, request.allows)
    if picked:
        choice, reason = picked
        yield Candidate(choice.config, reason, choice.seconds)
    yield from rules


def candidates_by_rule(bundle: Bundle, request: LoadRequest) -> list[Candidate]:
    """The candidates without a measurement: float32 unless another precision was asked for, backends in the order of
    their table, and of each backend the variants in the order of `Bundle.in_precision`. When none of them is made for
    the request, all are returned, so that opening the first one says why."""
    precision = "fp32" if request.precision == "auto" else request.precision
    variants = bundle.in_precision(precision) if request.variant is None else [request.variant]
    backends = backends_to_try(request.device) if request.backend == "auto" else [request.backend]
    configs = [SessionConfig(b, v, request.device, request.options) for b in backends for v in variants]
    return [Candidate(c, RULE) for c in configs if supports_variant(c.backend, bundle, c.variant)] or [
        Candidate(c, RULE) for c in configs
    ]


def backends_to_try(device: str) -> list[str]:
    """What is tried on a device when no backend is named; without a GPU none that needs one."""
    return backend_names("cpu" if device == "auto" and not has_nvidia_gpu() else device)
