"""The table of what TensorRT for RTX makes of the exported graphs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

FLOAT32 = "Float -> Float"
"""Types of a product in float32."""

_TERMS = """\
Made by `make rtx-table`: every variant, with its post-processing head, compiled ahead of time by
TensorRT for RTX {version} for {targets} (fp8 for those that have it), batches of {batches}. **Nothing here has run on a
GPU**, and the table says nothing about speed. A *product* is a kernel that computes a convolution or a matrix product,
perhaps with what follows it; its types are the one that it computes in and that of its output. *Requantizing* kernels
are others that round to integers. Pictures may have any height and width. What a plan launches is read from the
compiler's log, which is for diagnosis. Seconds are of one compilation on a CPU, and indicative."""


@dataclass(frozen=True)
class ProfileCounts:
    """What a plan launches for one batch size."""

    products: Mapping[str, int]
    """Types, such as `Half -> Half` -> number of kernels."""
    others: int
    """Number of all other kernels."""
    requantizing: int
    """Of these, kernels that round to integers."""

    @property
    def launches(self) -> int:
        """Number of all kernels."""
        return sum(self.products.values()) + self.others


@dataclass(frozen=True)
class CompiledVariant:
    """A variant, as the compiler took or rejected it."""

    generator: str
    variant: str
    """Its name; that of the precision, if the generator has no variant in it."""
    precision: str
    float32_products_in_graph: int
    """Number of convolutions and matrix products of float32 values."""
    plan_bytes: int = 0
    seconds: float = 0.0
    profiles: Mapping[int, ProfileCounts] = field(default_factory=dict)
    """Batch size -> what is launched."""
    missing: str = ""
    """Why the generator is not exported in this precision."""
    error: str = ""
    """Why the variant does not compile."""


@dataclass(frozen=True)
class Sweep:
    """All variants that were compiled."""

    version: str
    """Of TensorRT for RTX."""
    targets: tuple[str, ...]
    variants: tuple[CompiledVariant, ...]

    @classmethod
    def read(cls, file: Path, version: str, targets: tuple[str, ...]) -> Sweep:
        """Read what `to_json` wrote. Without variants, if there is no file, or another version or targets are in it."""
        if not file.is_file():
            return cls(version, targets, ())
        raw = json.loads(file.read_text())
        variants = tuple(_read_variant(each) for each in raw["variants"])
        same = (raw["version"], tuple(raw["targets"])) == (version, targets)
        return cls(version, targets, variants if same else ())

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def replace_generator(self, name: str, variants: tuple[CompiledVariant, ...], order: Sequence[str]) -> Sweep:
        """Return a copy with these variants of a generator, and without generators that are not in the order given."""
        others = (found for found in self.variants if found.generator != name and found.generator in order)
        every = (*others, *variants)
        return replace(self, variants=tuple(sorted(every, key=lambda found: order.index(found.generator))))


def _read_variant(raw: Mapping[str, Any]) -> CompiledVariant:
    profiles = {int(batch): ProfileCounts(**counts) for batch, counts in raw["profiles"].items()}
    return CompiledVariant(**{**raw, "profiles": profiles})


def find_problems(variants: Sequence[CompiledVariant]) -> list[str]:
    """Return a line for each variant that does not compile, whose plan tells nothing, or which is fp16 and computes
    more products in float32 than its graph."""
    problems = []
    for found in (each for each in variants if not each.missing):
        name = f"{found.generator} {found.variant}"
        if found.error:
            problems.append(f"{name} does not compile: {found.error}")
        elif not any(profile.products for profile in found.profiles.values()):
            problems.append(f"{name}: the compiler reports no convolution and no matrix product")
        for batch, profile in found.profiles.items():
            count, allowed = profile.products.get(FLOAT32, 0), found.float32_products_in_graph
            if found.precision == "fp16" and count > allowed:
                problems.append(f"{name} at batch {batch}: {count} products in float32; the graph has {allowed}")
    return problems


def format_summary(sweep: Sweep) -> str:
    """Return a page of Markdown with a row for each variant, in the order in which they were compiled."""
    batches = sorted({batch for found in sweep.variants for batch in found.profiles})
    terms = _TERMS.format(
        version=sweep.version, targets=", ".join(sweep.targets), batches=" and ".join(map(str, batches))
    )
    launches = " / ".join(map(str, batches))
    head = ("generator", "variant", f"launches, batch {launches}", f"products, batch {batches[-1]}")
    rows: list[tuple[str, ...]] = [(*head, f"requantizing, batch {launches}", "plan, MB", "s")]
    rows += [("---",) * 4 + ("---:",) * 3, *_list_rows(sweep.variants)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"# What TensorRT for RTX makes of the exported graphs\n\n{terms}\n\n{table}\n"


def _list_rows(variants: Sequence[CompiledVariant]) -> Iterator[tuple[str, ...]]:
    for found in variants:
        profiles = [found.profiles[batch] for batch in sorted(found.profiles)]
        if not profiles:
            yield (found.generator, found.variant, "", found.missing or found.error, "", "", "")
            continue
        products = ", ".join(f"{count} {types}" for types, count in profiles[-1].products.items())
        yield (
            found.generator,
            found.variant,
            " / ".join(str(profile.launches) for profile in profiles),
            products,
            " / ".join(str(profile.requantizing) for profile in profiles),
            f"{found.plan_bytes / 1e6:.1f}",
            f"{found.seconds:.1f}",
        )
