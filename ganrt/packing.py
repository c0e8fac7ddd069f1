"""`pack`: a bundle with what a device needs and no more, as a folder or as one file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ganrt import atomic
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.card import format_front_matter, format_usage
from ganrt.errors import RequestError
from ganrt.golden import Golden
from ganrt.stores import MANIFEST, FolderStore, is_bundle
from ganrt.zip_store import write_zip

ONE_FILE = ".zip"
"""How the name of a bundle in one file ends."""
_PER_RUN, _OTHERS = 2, 2
"""Golden samples that are kept: of each run of the first group, with four runs as many as the checks of batch
independence take; and of each group of other pictures."""


def pack(
    bundle: Bundle | str | Path,
    out: str | Path,
    *,
    variants: str | Sequence[str] | None = None,
    weights: bool = False,
    overwrite: bool = False,
) -> Bundle:
    """Write a smaller bundle for a device: some variants, a few golden samples to prove them with, and a short card.

        ganrt.pack("faces.ganrt", "faces-int8.zip", variants="int8-phases")

    The proofs of the variants are kept, and hold where they held before.

    Args:
        bundle: a bundle, or the path of one; its files that are kept are checked.
        out: a folder to make, or one file if the name ends in ".zip". `ganrt.load` takes both.
        variants: names; default: all.
        weights: keep the weights, with which the pytorch backend rebuilds the original.
        overwrite: replace a bundle at `out`.

    Raises RequestError for an unknown variant, for a bare ONNX file and for `weights` that would not be used,
    BundleError for a file that is missing or was changed, MachineError if `out` cannot be written.
    """
    bundle, out = Bundle.of(bundle), Path(out)
    names = list(dict.fromkeys([variants] if isinstance(variants, str) else variants or bundle.variants))
    if Bundle.GOLDEN not in bundle.files:
        raise RequestError(f"{bundle.path} has no golden samples to prove a device with: pack the bundle it came from")
    if weights and (Bundle.WEIGHTS not in bundle.files or FAITHFUL not in names):
        raise RequestError(
            f"the weights are for the variant {FAITHFUL} on pytorch: {bundle.path} has to hold them, and the variants "
            f"to pack have to include {FAITHFUL}"
        )
    files = [file for name in names for file in bundle.list_graph_files(name)]
    files = list(dict.fromkeys([*files, *([Bundle.WEIGHTS] if weights else [])]))
    chosen = replace(bundle, variants={name: bundle.variant(name) for name in names})
    one_file = out.suffix == ONE_FILE
    atomic.check_output(out, overwrite, None if one_file else is_bundle)
    if not one_file:
        with atomic.new_folder(out, overwrite, is_bundle) as draft:
            _write_folder(chosen, files, draft, out.name)
        return Bundle.read(out)
    with tempfile.TemporaryDirectory(prefix="ganrt-") as folder:
        packed = _write_folder(chosen, files, Path(folder), out.name)
        write_zip(Path(folder), [MANIFEST, *sorted(packed.files)], out)
    return Bundle.read(out)


def _write_folder(bundle: Bundle, files: Sequence[str], folder: Path, name: str) -> Bundle:
    """Copy files of a bundle to a folder, and write what is shorter than in the bundle."""
    for file in files:
        shutil.copyfile(bundle.locate(file), folder / file)
    _write_golden(bundle, folder / Bundle.GOLDEN)
    provenance = {**bundle.provenance, "bundle": name}
    (folder / Bundle.CARD).write_text(_format_card(bundle, name), encoding="utf-8")
    made = replace(bundle, store=FolderStore(folder), files={}, provenance=provenance, left_out={})
    made = made.with_files(*files, Bundle.GOLDEN, Bundle.CARD)
    exported = {**bundle.files, **bundle.left_out}
    changed = {
        n: exported[n] for n in (Bundle.GOLDEN, Bundle.WEIGHTS) if n in exported and exported[n] != made.files.get(n)
    }
    made = replace(made, left_out=changed)
    made.write_manifest()
    return made


def _write_golden(bundle: Bundle, path: Path) -> None:
    """Copy the golden samples, or write a part of them if there are more than a device needs."""
    golden = bundle.read_golden()
    assert golden is not None, "only bundles with golden samples are packed"
    first, *others = golden.groups
    part = Golden((first.subset(_PER_RUN), *(group.subset(1, _OTHERS) for group in others)))
    if sum(len(group.images) for group in part.groups) == sum(len(group.images) for group in golden.groups):
        shutil.copyfile(bundle.locate(Bundle.GOLDEN), path)
    else:
        part.save(path)


def _format_card(bundle: Bundle, name: str) -> str:
    spec = bundle.spec
    return f"""{format_front_matter(spec)}

# {name}

An image generator of the family **{spec.family}** that makes {spec.output}, packed for a device:
{", ".join(bundle.variants)}.

{format_usage(spec, name)}
"""
