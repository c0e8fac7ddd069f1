"""What `ganrt info` shows of a bundle: inputs, output, variants, proofs, and what `ganrt.load` picks here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ganrt import notes, tuned
from ganrt.bundle import Bundle
from ganrt.choosing import LoadRequest, candidates_by_rule
from ganrt.cli.terminal import print_proofs
from ganrt.errors import RequestError
from ganrt.levels import find_levels
from ganrt.trust import find_refusal
from ganrt.tuned import Timing, Tuned


def collect_facts(bundle: Bundle) -> dict[str, Any]:
    """The facts of the manifest and the choice of `ganrt.load` on this machine, ready for JSON."""
    record = tuned.find_record(bundle)
    first, then, reason = explain_choice(bundle, record)
    return {
        "spec": bundle.spec.to_dict(),
        "model": dict(bundle.model) if bundle.model else None,
        "provenance": dict(bundle.provenance),
        "variants": {name: [p.to_dict() for p in v.proofs] for name, v in bundle.variants.items()},
        "for_gpu": [name for name, v in bundle.variants.items() if v.for_gpu],
        "bytes": _total_bytes(bundle),
        "missing": _list_missing(bundle),
        "choice": {"first": first, "then": then, "reason": reason, "tuned": record.to_dict() if record else None},
    }


def explain_choice(bundle: Bundle, record: Tuned | None) -> tuple[str | None, list[str], str]:
    """What `ganrt.load` picks without arguments (None: it needs one), what it tries if that cannot be opened, and the
    reason. Refusals in the bundle's record that hold on this machine are left out."""
    picked = record and record.pick(None, LoadRequest().allows)
    try:
        candidates = candidates_by_rule(bundle, LoadRequest())
    except RequestError as error:
        return str(picked[0]) if picked else None, [], picked[1] if picked else str(error)
    left = [candidate for candidate in candidates if find_refusal(bundle, candidate.config) is None]
    rules = [str(candidate) for candidate in left or candidates]
    return (str(picked[0]), rules, picked[1]) if picked else (rules[0], rules[1:], candidates[0].reason)


def print_info(bundle: Bundle, name: str) -> None:
    """Print the facts in words on standard output.

    Args:
        name: the bundle's path as the user wrote it.
    """
    click.echo(f"{name}: {bundle.spec.family}, {_total_bytes(bundle) / 1e6:.1f} MB; makes {bundle.spec.output}")
    if find_levels(bundle.spec.output) != bundle.spec.output.range:
        click.echo(f"  the network makes {bundle.spec.output.values}")
    if missing := _list_missing(bundle):
        click.echo(f"  missing: {', '.join(missing)}")
    if bundle.left_out:
        click.echo(f"  packed: {', '.join(_describe_left_out(bundle))}")
    for item in bundle.spec.inputs:
        click.echo(f"  takes {item.name}: {item}")
    for bound, value in (bundle.model or {}).get("bound", {}).items():
        click.echo(f"  has {bound} bound to {value}")
    findings = bundle.provenance.get("lint")
    for finding in findings if isinstance(findings, list) else ():  # a foreign manifest may hold anything here
        if isinstance(finding, dict):
            severity = "severity" if "severity" in finding else "level"  # bundles of ganrt 0.1
            click.echo("  " + ": ".join(str(finding.get(part, "?")) for part in (severity, "where", "text")))
    record = tuned.find_record(bundle)
    measured = {choice.config.variant for choice in (record.choices if record else ()) if choice.config.device != "cpu"}
    for variant_name, variant in bundle.variants.items():
        print_proofs(f"proofs of {variant_name}", variant.proofs)
        if variant.for_gpu:
            click.echo(f"  made for NVIDIA GPUs; {_describe_measurement(variant_name in measured)}")
        if variant.passes:
            click.echo(f"  graph passes: {', '.join(variant.passes)}")
        for line in notes.format_notes(variant.notes):
            click.echo(f"  {line}")
    for line in _describe_choice(bundle, name):
        click.echo(line)


def _describe_measurement(measured: bool) -> str:
    return "measured on this machine's GPU" if measured else "not measured on a GPU of this machine (`ganrt tune` does)"


def _describe_choice(bundle: Bundle, name: str) -> Iterator[str]:
    record = tuned.find_record(bundle)
    first, then, reason = explain_choice(bundle, record)
    if record is None:
        yield f"load tries {', then '.join([first, *then])}" if first else "load needs a precision"
        yield f"  {reason}; `ganrt tune {name}` measures what is fastest"
        return
    yield f"load picks {first}"
    yield f"  {reason}"
    for batch, place in sorted(record.winners.items()):
        winner = record.choices[place]
        time = _format_milliseconds(winner.timings[batch])
        yield f"  batch {batch}: {winner}, {time}, worst PSNR {winner.worst_psnr:.1f} dB"


def _format_milliseconds(timing: Timing) -> str:
    interval = "" if timing.low is None or timing.high is None else f" ({1e3 * timing.low:.3g}-{1e3 * timing.high:.3g})"
    return f"{1e3 * timing.median:.3g} ms{interval}"


def _list_missing(bundle: Bundle) -> list[str]:
    on_hub = isinstance(bundle.path, str)  # files come from there when they are used
    return [] if on_hub else [name for name in bundle.files if not bundle.store.exists(name)]


def _describe_left_out(bundle: Bundle) -> Iterator[str]:
    for name, digest in bundle.left_out.items():
        kept = bundle.files.get(name)
        yield f"{name} has {kept.size} of {digest.size} bytes" if kept else f"without {name}"


def _total_bytes(bundle: Bundle) -> int:
    return sum(digest.size for digest in bundle.files.values())
