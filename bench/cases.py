"""What is measured: a bundle on some backends at some batch sizes, each call in two scopes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ganrt.backend import backend_names, runs
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.errors import RequestError
from ganrt.golden import picture_size
from ganrt.spec import Spec

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""
Scope: TypeAlias = Literal["session", "sample", "transform"]

SCOPES: dict[Scope, str] = {
    "session": "inputs ready on the host to float32 images on the host: one submit() and wait() of the bare session",
    "sample": "a seed to uint8 pictures on the host: Generator.sample(batch), which draws the inputs, runs the "
    "session, checks the values and converts them",
    "transform": "uint8 pictures on the host to uint8 pictures on the host: Generator.transform(pictures, tile=0), "
    "which converts the pictures, runs the session (on as many at a time as a bounded memory allows), checks the "
    "values and converts them",
}
"""What the time of each scope includes, in words; every report prints those that it has."""


def end_to_end(pictures: bool) -> Scope:
    """The whole way that users go: of a model that takes pictures, or of one that is sampled from a seed."""
    return "transform" if pictures else "sample"


METHOD = (
    "One fresh process per backend; the others are idle, checked, while one runs. Rounds of all cases in shuffled "
    "order, both scopes call by call in turn, every call on new inputs. The first call of a round of several, loading "
    "and warm-up are not counted; no sample is discarded. The median and its 95 % interval are those of the rounds' "
    "medians."
)


@dataclass(frozen=True)
class Setup:
    """What one worker process loads."""

    bundle: Path
    backend: str
    variant: str
    device: str
    size: Size | None = None
    """Of the pictures that the model is given; None for one that takes none."""
    options: tuple[tuple[str, int | str], ...] = ()
    """Of the backend, name and value, such as `threads`."""
    known: bool = False
    """Whether a proof that this machine knows already will do in the place of a comparison with the golden samples."""

    @property
    def name(self) -> str:
        """As tables have it: the backend, with the variant where that is not the model as it was traced, and the
        options."""
        form = () if self.variant == FAITHFUL else (self.variant,)
        return " ".join([self.backend, *form, *(f"{name}={value}" for name, value in self.options)])


@dataclass(frozen=True)
class Case:
    """A setup at one batch size; it is measured in every scope."""

    setup: Setup
    batch: int
    slow: bool
    """Whether the backend is slow by design (`Session.slow`): then batch 1, and the few calls that time allows."""

    def __str__(self) -> str:
        return f"{self.setup.name}, batch {self.batch}"


def setups(
    bundle: Bundle,
    backends: Sequence[str] | Mapping[str, Sequence[str]] | None,
    variants: Sequence[str] | None,
    device: str,
    size: Size | None = None,
) -> list[Setup]:
    """One per backend and variant that it runs; None stands for all there are, a mapping gives each backend variants of
    its own. `size` as `check_size` returns it.
    Raises RequestError for an unknown backend or variant, or when nothing is left."""
    known = backend_names()
    chosen = backend_names(device) if backends is None else list(dict.fromkeys(backends))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        wrong = f"there is no backend {unknown[0]!r}" if unknown else "no backend was named"
        raise RequestError(f"{wrong}; choose from {', '.join(known)}")
    for variant in variants or ():
        bundle.variant(variant)
    own = backends if isinstance(backends, Mapping) else {}
    pairs = [(name, variant) for name in chosen for variant in own.get(name) or variants or bundle.variants]
    made = [Setup(bundle.folder, *pair, device, size) for pair in pairs if runs(pair[0], bundle, pair[1])]
    if not made:
        raise RequestError(f"none of {', '.join(chosen)} runs {', '.join(variants or bundle.variants)}")
    return made


def check_batches(batches: Sequence[int]) -> list[int]:
    """The batch sizes in order, each once. Raises RequestError unless they are whole numbers from 1, one at least."""
    if not batches or any(isinstance(b, bool) or not isinstance(b, int) or b < 1 for b in batches):
        raise RequestError(f"the batch sizes are {list(batches)}; give whole numbers from 1, one at least")
    return sorted(set(batches))


def check_size(spec: Spec, size: Size | None) -> Size | None:
    """Height and width of the pictures to measure with, None for a model that takes none; by default as large as the
    pictures of a proof, which is small.

    Raises RequestError for a size that the model does not take.
    """
    if not spec.images:
        if size is not None:
            raise RequestError(f"a picture size was given, but this {spec.family} model takes no picture: leave it out")
        return None
    first = spec.images[0]
    if first.size is not None:
        if size is not None and size != first.size:
            raise RequestError(f"{_sides(size)} pictures were asked for; this model takes {_sides(first.size)} only")
        return first.size
    if size is None:
        return picture_size(spec)
    rule = math.lcm(*(item.multiple_of for item in spec.images))
    if any(side < 1 or side % rule for side in size):
        raise RequestError(
            f"{_sides(size)} pictures were asked for; both sides must be multiples of {rule}, from {rule}"
        )
    return size


def _sides(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
