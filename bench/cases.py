"""The cases to measure: a bundle on some backends at some batch sizes, each call in two scopes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from ganrt.backend import backend_names, supports_variant
from ganrt.bundle import Bundle
from ganrt.checks import is_whole
from ganrt.choosing import backends_to_try, runs_on_gpu
from ganrt.errors import RequestError
from ganrt.golden import proof_picture_size
from ganrt.session_config import SessionConfig
from ganrt.spec import Spec

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""
Scope: TypeAlias = Literal["session", "sample", "transform"]
"""The part of a call that is timed (`SCOPES`)."""

SCOPES: dict[Scope, str] = {
    "session": "inputs ready on the host to float32 images on the host: one submit() and wait() of the bare session",
    "sample": "a seed to uint8 pictures on the host: Generator.sample(batch), which draws the inputs, runs the "
    "session, checks the values and converts them",
    "transform": "uint8 pictures on the host to uint8 pictures on the host: Generator.transform(pictures, tile=0), "
    "which converts the pictures, runs the session (in batches that fit a bounded memory), checks the values and "
    "converts them",
}
"""Scope -> what its time includes, in words. Every report prints those of its own scopes."""

METHOD = (
    "Each backend runs in a fresh process. While one runs, the others are idle, and that is checked. Rounds of all "
    "cases alternate in shuffled order; within a round, calls of both scopes alternate, and every call gets new "
    "inputs. Loading, warm-up and the first call of each round of several are not counted; no other call is discarded. "
    "A median is the median of the rounds' medians, and its 95 % interval follows from their order."
)
"""The method of measurement, in words. Every report prints it."""

LONGEST_S = 1e6
"""Upper limit of the seconds that a measurement may take."""


def end_to_end_scope(takes_pictures: bool) -> Scope:
    """Return the scope of a user's call to a model that takes pictures, or to one that is sampled from a seed."""
    return "transform" if takes_pictures else "sample"


@dataclass(frozen=True)
class Setup:
    """A bundle and a configuration, which one worker process loads."""

    bundle: Path | str
    """Path of the bundle."""
    config: SessionConfig
    """Backend, variant, device and options of the session."""
    size: Size | None = None
    """Height and width of the pictures that the model is given; None for one that takes none."""
    reuse_proof: bool = False
    """Accept an existing proof of this machine instead of comparing with the golden samples again."""

    @property
    def name(self) -> str:
        """The configuration as tables show it, without the device: that is the same for all setups of a report."""
        return str(replace(self.config, device="auto"))


@dataclass(frozen=True)
class Case:
    """A setup at one batch size. It is measured in both scopes."""

    setup: Setup
    """The session to measure."""
    batch: int
    """Images per call."""
    slow: bool
    """Whether the backend is slow by design (`Session.slow`): then it runs at batch 1 only, with few calls."""

    def __str__(self) -> str:
        return f"{self.setup.name}, batch {self.batch}"


def open_bundle(bundle: str | Path | Bundle) -> Bundle:
    """Read a bundle unless it is one, and make its path absolute. Raises BundleError."""
    found = Bundle.of(bundle)
    return replace(found, store=found.store.resolve())


def list_setups(
    bundle: Bundle,
    backends: Sequence[str] | Mapping[str, Sequence[str]] | None,
    variants: Sequence[str] | None,
    device: str,
    size: Size | None = None,
) -> list[Setup]:
    """Return one setup per backend and variant that it runs.

    Args:
        backends: names, or a mapping of names to the variants of each; None: all backends for the device, baselines
            included; `auto` without an NVIDIA GPU leaves out those that need one.
        variants: names; None: all of the bundle, but on a CPU none that is made for GPUs.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        size: as `check_size` returns it.

    Raises RequestError for an unknown backend or variant, or when no backend runs any of the variants.
    """
    known = backend_names()
    chosen = backends_to_try(device, baselines=True) if backends is None else list(dict.fromkeys(backends))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        problem = f"there is no backend {unknown[0]!r}" if unknown else "no backend was named"
        raise RequestError(f"{problem}; choose from {', '.join(known)}")
    for variant in variants or ():
        bundle.variant(variant)
    own = backends if isinstance(backends, Mapping) else {}
    suiting = {name: _list_suiting_variants(bundle, name, device) for name in chosen}
    pairs = [(name, variant) for name in chosen for variant in own.get(name) or variants or suiting[name]]
    configs = [
        SessionConfig(backend, variant, device)
        for backend, variant in pairs
        if supports_variant(backend, bundle, variant, device)
    ]
    if not configs:
        raise RequestError(f"none of {', '.join(chosen)} runs {', '.join(variants or bundle.variants)}")
    return [Setup(bundle.path, config, size) for config in configs]


def _list_suiting_variants(bundle: Bundle, backend: str, device: str) -> list[str]:
    gpu = runs_on_gpu(backend, device)
    return [name for name, variant in bundle.variants.items() if gpu or not variant.for_gpu]


def check_batches(batches: Sequence[int]) -> list[int]:
    """Return the batch sizes sorted and without duplicates. Raises RequestError unless they are integers from 1, and at
    least one."""
    if not batches or not all(is_whole(b) and b >= 1 for b in batches):
        raise RequestError(f"the batch sizes are {list(batches)}; give at least one, each a whole number from 1")
    return sorted(set(batches))


def check_seconds(seconds: float) -> None:
    """Raise RequestError unless a measurement may take this long."""
    if not 0 < seconds < LONGEST_S:
        raise RequestError(f"{seconds} seconds were asked for; give a number above 0 and below {LONGEST_S:g}")


def check_size(spec: Spec, size: Size | None) -> Size | None:
    """Return height and width of the pictures to measure with; None for a model that takes none.

    Args:
        size: None: the size of the pictures of a proof, which is small (`golden.proof_picture_size`).

    Raises RequestError for a size that the model does not take.
    """
    if not spec.images:
        if size is not None:
            raise RequestError(f"a picture size was given, but this {spec.family} model takes no picture: leave it out")
        return None
    first = spec.images[0]
    if first.size is not None:
        if size is not None and size != first.size:
            raise RequestError(
                f"{_format_size(size)} pictures were asked for; this model takes {_format_size(first.size)} only"
            )
        return first.size
    if size is None:
        return proof_picture_size(spec)
    rule = math.lcm(*(item.multiple_of for item in spec.images))
    if any(side < 1 or side % rule for side in size):
        raise RequestError(
            f"{_format_size(size)} pictures were asked for; both sides must be positive multiples of {rule}"
        )
    return size


def _format_size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
