"""The model card: README.md of a bundle, in the form that model hubs read."""

from __future__ import annotations

from pathlib import Path

from ganrt import atomic, notes
from ganrt.bundle import Bundle, Variant
from ganrt.card import format_front_matter, format_usage
from ganrt.golden import Golden
from ganrt.images import encode_png, make_grid, to_uint8
from ganrt.levels import find_levels
from ganrt.proof import Proof, format_psnr
from ganrt.spec import Output, Range
from ganrt.stores import FileDigest

from .contact_sheet import sheet_stem

_PRECISIONS = {
    "fp32": "float32",
    "bf16": "float32 in the file, computed in bfloat16 by backends that support it",
    "fp16": "float16 in the graph itself, except for the fp32 islands below; inputs and outputs are float32",
    "int8": "convolutions on 8-bit integers, between explicit quantise/dequantise pairs, except for those below; all "
    "else in float",
    "fp8": "convolutions on float8e4m3fn, between explicit quantise/dequantise pairs, except for those below; all else "
    "in float16",
}

GRID = "samples.png"
_SAMPLES = 64
_SIDE = 48
"""Small pictures are scaled up to about this many pixels."""


def write_card(bundle: Bundle) -> Bundle:
    """Write README.md and samples.png (golden samples, as PyTorch made them) and the manifest that lists them.

    A card that somebody edited stays as it is. A packed bundle, which has no samples.png, keeps its short card, and one
    that cannot be changed is returned as it is.
    """
    if not has_pictures(bundle):
        return bundle
    golden = bundle.read_golden()
    assert golden is not None, "cards are for bundles with golden samples"
    shown = next((group for group in golden.groups if group.has_given_pictures), golden.groups[0])
    pictures = to_uint8(shown.images[:_SAMPLES], find_levels(bundle.spec.output))
    sheet = make_grid(pictures, scale=max(1, _SIDE // pictures.shape[1]))
    card = _format_card(bundle, golden).encode()
    # An unchanged card is not written again, so its digest in the manifest is right at every moment.
    for name, content in ((GRID, encode_png(sheet, smallest=False)), (Bundle.CARD, card)):
        path = bundle.folder / name
        if name == Bundle.CARD and _was_edited(bundle):
            continue
        if not path.exists() or path.read_bytes() != content:
            atomic.write_file(path, content)
        bundle = bundle.with_files(name)
    bundle.write_manifest()
    return bundle


def has_pictures(bundle: Bundle) -> bool:
    """Whether a bundle is to have contact sheets and a grid of samples: not if it was packed, or cannot be changed."""
    return bundle.store.writable and (GRID in bundle.files or Bundle.CARD not in bundle.files)


def _was_edited(bundle: Bundle) -> bool:
    path = bundle.folder / Bundle.CARD
    return Bundle.CARD in bundle.files and path.exists() and FileDigest.of(path) != bundle.files[Bundle.CARD]


def _format_card(bundle: Bundle, golden: Golden) -> str:
    spec = bundle.spec
    name = bundle.provenance.get("bundle", Path(bundle.path).name)
    return f"""{format_front_matter(spec)}

# {name}

![samples]({GRID})

An image generator of the family **{spec.family}** that makes {spec.output}. The pictures above are its
golden samples, made by {_describe_original(bundle)}; {_format_verdict(bundle)}.{_describe_values(spec.output)}

{format_usage(spec, name)}

## Variants

{_format_variants(bundle)}

## Proof

Worst and median PSNR over {golden}, on the image's own range. A variant must also make the same image
whatever its place in a batch, the other images there, the batch size and the run; *batch drift* is the largest
difference that these make, as a share of the range. The sheets show the worst samples: original, variant, and their
difference, amplified.

{_format_proofs(bundle)}
"""


def _describe_original(bundle: Bundle) -> str:
    source = bundle.provenance.get("source")
    named = source.get("original") if isinstance(source, dict) else None
    return named if isinstance(named, str) else "the PyTorch original"


def _format_verdict(bundle: Bundle) -> str:
    proofs = [proof for variant in bundle.variants.values() for proof in variant.proofs]
    refused = [
        f"{proof.backend} with {name}"
        for name, variant in bundle.variants.items()
        for proof in variant.proofs
        if not proof.passed
    ]
    if refused:
        return f"every backend below makes the same ones, except {', '.join(refused)}"
    return "every backend below makes the same ones" if proofs else "no backend has been compared with them yet"


def _format_variants(bundle: Bundle) -> str:
    """A paragraph for each variant: precision, passes, and the notes of its conversion."""
    return "\n\n".join(_format_variant(name, variant) for name, variant in bundle.variants.items())


def _format_variant(name: str, variant: Variant) -> str:
    passes = f"; graph passes: {', '.join(variant.passes)}" if variant.passes else "; the graph as it was traced"
    made_for = "; made for NVIDIA GPUs" if variant.for_gpu else ""
    decided = [f"- {line}".replace("-   ", "  - ") for line in notes.format_notes(variant.notes)]
    return "\n".join(
        [f"**{name}** (`{variant.file}`): {_PRECISIONS[variant.precision]}{passes}{made_for}.", "", *decided]
    ).strip()


def _format_proofs(bundle: Bundle) -> str:
    rows = [
        f"| {name} | {p.backend} | {p.device} | {p.samples} | {format_psnr(p.worst_psnr)} | "
        f"{format_psnr(p.median_psnr)} | {_format_batch_drift(p, bundle.spec.output.range)} | "
        f"{_format_result(p)} | {_link_sheet(bundle, name, p)} |"
        for name, variant in bundle.variants.items()
        for p in variant.proofs
    ]
    columns = ("variant", "backend", "device", "samples", "worst", "median", "batch drift", "verdict", "sheet")
    return "\n".join([f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|", *rows])


def _format_result(proof: Proof) -> str:
    return "passed" if proof.passed else f"refused: {proof.failures[0].replace('|', '/')}"


def _describe_values(output: Output) -> str:
    """A sentence on what the network makes, where that is normalized or BGR."""
    return "" if find_levels(output) == output.range else f" What it computes has {output.values}."


def _format_batch_drift(proof: Proof, value_range: Range) -> str:
    if proof.batch_drift is None:
        return "-"
    return f"{proof.batch_drift / (value_range[1] - value_range[0]):.0e}" if proof.batch_drift else "0"


def _link_sheet(bundle: Bundle, variant: str, proof: Proof) -> str:
    stem = sheet_stem(variant, proof)
    return next((f"[worst]({file})" for file in bundle.files if file.startswith(stem)), "-")
