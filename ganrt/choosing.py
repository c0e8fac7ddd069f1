"""The configurations that `load` tries, in order: the tuned record of this machine, then fixed rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from ganrt import tuned
from ganrt.backend import backend_names, backend_table, supports_variant
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.checks import require_whole
from ganrt.errors import RequestError
from ganrt.machine import has_nvidia_gpu, parse_device
from ganrt.session_config import SessionConfig
from ganrt.tuned import TunedConfig

_REDUCED = {False: ("bf16", "int8"), True: ("fp16", "int8", "fp8")}
"""On a GPU or not: the precisions to try of a bundle without float32. A CPU only emulates the others."""
RULE = "not tuned on this machine: the first configuration that is installed and proven"
"""Reason of the candidates of `candidates_by_rule`."""
_OPENVINO = "openvino"
"""The backend that comes before those above it in the table where no GPU is used."""
CPU_RULE = f"{RULE}, OpenVINO first, which is the fastest for most models on a CPU"
"""Reason of the candidates of `candidates_by_rule` where no backend is named and no GPU is used."""
_OFF = {"spin": False}
"""What an option is that a tuned record does not have."""


@dataclass(frozen=True)
class LoadRequest:
    """The arguments of `load`."""

    backend: str = "auto"
    """Name in the table of backends, or `auto`: any but baselines."""
    variant: str | None = None
    """Name of a variant; None: any of `precision`."""
    device: str = "auto"
    """`auto` (any but Vulkan), `cpu`, `cuda`, `cuda:N`, `vulkan` or `vulkan:N`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the backend."""
    precision: str = "auto"
    """Precision, or `auto`: any for a tuned record, else float32. Ignored if `variant` is given."""
    batch: int | None = None
    """Number of images per request, from 1; None if it varies."""

    def allows(self, choice: TunedConfig) -> bool:
        """Return whether a tuned configuration fits the request."""
        config = choice.config
        kind, number = parse_device(self.device, vulkan=True)
        wanted = self.device if ":" in self.device else kind
        return (
            (self.backend == config.backend or (self.backend == "auto" and not _is_baseline(config.backend)))
            and (kind == "auto" or config.device == wanted or (number == 0 and config.device == f"{kind}:0"))
            and (self.variant in (None, config.variant))
            and (self.variant is not None or self.precision in ("auto", choice.precision))
            and all(config.options.get(name, _OFF.get(name)) == value for name, value in self.options.items())
        )


@dataclass(frozen=True)
class Candidate:
    """A configuration for `load` to try."""

    config: SessionConfig
    """Backend, variant, device and options to open."""
    reason: str
    """Why it is a candidate."""
    seconds: Mapping[int, float] = field(default_factory=dict)
    """Batch size -> measured seconds; empty if it was not tuned."""

    def __str__(self) -> str:
        return str(self.config)


def find_candidates(bundle: Bundle, request: LoadRequest) -> Iterator[Candidate]:
    """Yield candidates in the order in which to try them: the tuned configuration if one fits the request, then
    `candidates_by_rule`. Raises RequestError if the request is malformed or this bundle cannot satisfy it."""
    batch = None if request.batch is None else require_whole("batch", request.batch)
    rules = candidates_by_rule(bundle, request)
    record = tuned.find_record(bundle)
    picked = record and record.pick(batch, request.allows)
    if picked:
        choice, reason = picked
        yield Candidate(choice.config, reason, choice.seconds)
    yield from rules


def candidates_by_rule(bundle: Bundle, request: LoadRequest) -> list[Candidate]:
    """Return the candidates without a tuned record: float32 unless the request names a precision or variant, or, of a
    bundle without float32, what it has; backends in the order of their table, but OpenVINO first where no GPU is used;
    per backend, variants in the order of `Bundle.in_precision` for the device, on OpenVINO the graph as traced last.
    Pairs that the backend cannot run are left out. If that leaves none, all are returned, so that opening them raises
    the reason."""
    backends = backends_to_try(request.device) if request.backend == "auto" else [request.backend]
    on_gpu = {backend: runs_on_gpu(backend, request.device) for backend in backends}
    reason = RULE
    if request.backend == "auto" and not any(on_gpu.values()):
        on_gpu = dict.fromkeys(sorted(on_gpu, key=lambda backend: backend != _OPENVINO), False)
        reason = CPU_RULE
    configs = []
    for backend, gpu in on_gpu.items():
        with nullcontext() if gpu or not any(on_gpu.values()) else suppress(RequestError):  # of a GPU's variants alone
            names = _list_variants(bundle, request, gpu)
            if backend == _OPENVINO:  # the graph as traced last: its transposed convolutions take half as long again
                names = sorted(names, key=lambda name: name == FAITHFUL)
            configs += [SessionConfig(backend, name, request.device, request.options) for name in names]
    supported = [
        config for config in configs if supports_variant(config.backend, bundle, config.variant, config.device)
    ]
    return [Candidate(config, reason) for config in supported or configs]


def _list_variants(bundle: Bundle, request: LoadRequest, gpu: bool) -> list[str]:
    if request.variant is not None:
        return [request.variant]
    if request.precision != "auto":
        return bundle.in_precision(request.precision, gpu)
    held = {variant.precision for variant in bundle.variants.values() if gpu or not variant.for_gpu}
    reduced = [precision for precision in _REDUCED[gpu] if precision in held]
    if "fp32" in held or not reduced:
        return bundle.in_precision("fp32", gpu)
    return [name for precision in reduced for name in bundle.in_precision(precision, gpu)]


def runs_on_gpu(backend: str, device: str) -> bool:
    """Return whether a backend uses a GPU for a device, by its row in the table: `auto` is a GPU where there is one of
    NVIDIA. False for an unknown backend."""
    kind = parse_device(device, vulkan=True)[0]
    entry = backend_table().get(backend)
    if entry is None or kind == "vulkan":
        return entry is not None and bool(entry.vulkan)
    return entry.gpu and (kind == "cuda" or (kind == "auto" and has_nvidia_gpu()))


def _is_baseline(backend: str) -> bool:
    entry = backend_table().get(backend)
    return entry is not None and entry.baseline


def backends_to_try(device: str, baselines: bool = False) -> list[str]:
    """Return the backends to try on a device if none is named. `auto` without an NVIDIA GPU leaves out those that need
    one. Baselines are left out unless `baselines` is True."""
    names = backend_names("cpu" if device == "auto" and not has_nvidia_gpu() else device)
    return [name for name in names if baselines or not _is_baseline(name)]
