"""Carry a tuned record from one device to others of the same kind: `ganrt tune --export` and `--import`.

The file is the record itself. It says which variants, processor, cores, GPU and library versions it was measured with;
another device takes it only where all of them are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ganrt import atomic, tuned
from ganrt.bundle import Bundle
from ganrt.errors import ArtifactError, VerificationError
from ganrt.json_reader import read_json
from ganrt.tuned import Origin, Tuned

_LONGEST = 100


def export_record(record: Tuned, path: Path) -> None:
    """Write a record to a file for other devices. Raises VerificationError for a provisional one, ArtifactError for one
    that does not say what it was measured on, MachineError if the file cannot be written."""
    if record.provisional:
        raise VerificationError(f"{path} is not written, as the result is provisional: {record.describe_doubt()}")
    if record.origin is None:
        raise ArtifactError(
            f"{path} is not written: an older ganrt measured the record and did not note on what; tune again"
        )
    atomic.write_file(path, record.to_json())


def import_record(path: Path, bundle: Bundle) -> Tuned:
    """Read a record of another device and save it for this bundle on this machine, in the place of an earlier one.

    The bundle may have fewer variants than the one that was measured (a packed bundle), but all that win at a batch
    size; the record is then reduced to these.

    Returns what was saved. Raises ArtifactError, listing the differences, if the record was measured on something else,
    and for a file that is no record or a provisional one; MachineError if it cannot be saved.
    """
    record = Tuned.from_dict(read_json(path, tuned.MAX_BYTES))
    if record.provisional or record.origin is None:
        found = "provisional" if record.provisional else "of an older ganrt, which did not note what it measured on"
        raise ArtifactError(f"{path} is not imported: its record is {found}; tune that device again")
    here, versions = Origin.of(bundle), tuned.installed_versions()
    lines = [*_compare_machines(record, record.origin, here, versions), *_compare_variants(record, here)]
    if lines:
        reasons = "".join(f"\n- {line}" for line in lines)
        raise ArtifactError(f"{path} does not hold for {bundle.path} on this machine, so tune here:{reasons}")
    kept = [index for index, choice in enumerate(record.choices) if choice.config.variant in here.variants]
    record = replace(
        record,
        key=here.make_key(versions),
        choices=tuple(record.choices[index] for index in kept),
        winners={batch: kept.index(index) for batch, index in record.winners.items()},
        origin=here,
    )
    tuned.save_record(record)
    return record


def _compare_machines(record: Tuned, there: Origin, here: Origin, versions: Mapping[str, str]) -> Iterator[str]:
    """What differs between the machine of the record and this one, a line each."""
    for name in sorted(record.versions.keys() | versions.keys()):
        one, two = record.versions.get(name, "no version"), versions.get(name, "none")
        if record.versions.get(name) != versions.get(name):
            yield f"measured with {_show(name)} {_show(one)}, this machine has {two}"
    if there.processor != here.processor:
        yield f"measured on the processor {_show(there.processor)}, this machine has {here.processor}"
    if there.cores != here.cores:
        yield f"measured with {there.cores} cores, this process may use {here.cores}"
    for name in sorted(there.gpu.keys() | here.gpu.keys()):
        one, two = there.gpu.get(name, "none"), here.gpu.get(name, "none")
        if there.gpu.get(name) != here.gpu.get(name):
            yield f"measured with the {_show(name)} {_show(one)}, this machine has {two}"
    most = max((choice.config.options.get("threads", 0) for choice in record.choices), default=0)
    if not isinstance(most, int) or most > there.cores:
        yield f"a choice uses {_show(str(most))} threads on {there.cores} cores"


def _compare_variants(record: Tuned, here: Origin) -> Iterator[str]:
    """What differs between the bundle of the record and this one, a line each."""
    assert record.origin is not None
    for name, digest in here.variants.items():
        if name not in record.origin.variants:
            yield f"this bundle has the variant {name}, which was not there to be measured"
        elif record.origin.variants[name] != digest:
            yield f"the variant {name} has other weights or another graph"
    for batch, index in sorted(record.winners.items()):
        name = record.choices[index].config.variant
        if name not in here.variants:
            yield f"the fastest at batch {batch} is the variant {_show(name)}, which this bundle does not have"


def _show(text: str) -> str:
    """Text of an untrusted file, safe to print on a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_LONGEST]
