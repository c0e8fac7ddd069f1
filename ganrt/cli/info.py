"""What `ganrt info` tells of a bundle: what it takes, makes and has been proven for, and what `load` takes here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ganrt import notes, tuned
from ganrt.bundle import Bundle
from ganrt.choosing import RULE, Wish, by_rules
from ganrt.cli.terminal import print_proofs
from ganrt.errors import RequestError
from ganrt.tuned import Timing, Tuned


def facts(bundle: Bundle) -> dict[str, Any]:
    """The manifest's facts and the choice of `load` on this machine, as JSON has them."""
    record = tuned.find(bundle)
    first, then, reason = choice(bundle, record)
    return {
        "spec": bundle.spec.to_dict(),
        "model": dict(bundle.model) if bundle.model else None,
        "provenance": dict(bundle.provenance),
        "variants": {name: [p.to_dict() for p in v.proofs] for name, v in bundle.variants.items()},
        "bytes": _size(bundle),
        "choice": {"first": first, "then": then, "reason": reason, "tuned": record.to_dict() if record else None},
    }


def choice(bundle: Bundle, record: Tuned | None) -> tuple[str | None, list[str], str]:
    """What `load` takes when nothing is asked for (None: something must be), what it tries when that cannot be opened,
    and why."""
    picked = record and record.pick(None)
    try:
        rules = [str(candidate) for candidate in by_rules(bundle, Wish())]
    except RequestError as error:
        return str(picked[0]) if picked else None, [], picked[1] if picked else str(error)
    return (str(picked[0]), rules, picked[1]) if picked else (rules[0], rules[1:], RULE)


def print_about(bundle: Bundle, name: str) -> None:
    """The same in words, on standard output. `name`: what the user calls it."""
    click.echo(f"{name}: {bundle.spec.family}, {_size(bundle) / 1e6:.1f} MB; makes {bundle.spec.output}")
    for item in bundle.spec.inputs:
        click.echo(f"  takes {item.name}: {item}")
    for fixed, value in (bundle.model or {}).get("fixed", {}).items():
        click.echo(f"  has {fixed} fixed at {value}")
    findings = bundle.provenance.get("lint")
    for finding in findings if isinstance(findings, list) else ():  # it is whatever the manifest says
        if isinstance(finding, dict):
            click.echo("  " + ": ".join(str(finding.get(part, "?")) for part in ("level", "where", "text")))
    for variant_name, variant in bundle.variants.items():
        print_proofs(f"proofs of {variant_name}", variant.proofs)
        if variant.passes:
            click.echo(f"  graph passes: {', '.join(variant.passes)}")
        for line in notes.lines(variant.notes):
            click.echo(f"  {line}")
    for line in _choice_lines(bundle, name):
        click.echo(line)


def _choice_lines(bundle: Bundle, name: str) -> Iterator[str]:
    record = tuned.find(bundle)
    first, then, reason = choice(bundle, record)
    if record is None:
        yield f"load tries {', then '.join([first, *then])}" if first else "load must be told a precision"
        yield f"  {reason}; `ganrt tune {name}` measures what is fastest"
        return
    yield f"load takes {first}"
    yield f"  {reason}"
    for batch, place in sorted(record.winners.items()):
        winner = record.choices[place]
        time = _milliseconds(winner.timings[batch])
        yield f"  batch {batch}: {winner}, {time}, worst PSNR {winner.worst_psnr:.1f} dB"


def _milliseconds(timing: Timing) -> str:
    interval = "" if timing.low is None or timing.high is None else f" ({1e3 * timing.low:.3g}-{1e3 * timing.high:.3g})"
    return f"{1e3 * timing.median:.3g} ms{interval}"


def _size(bundle: Bundle) -> int:
    return sum(digest.size for digest in bundle.files.values())
