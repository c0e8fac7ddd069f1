"""The model card: what it says of each variant, and what it links."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ganrt import notes
from ganrt.bundle import Bundle
from ganrt.export import export
from ganrt.export.card import write_card
from ganrt.proof import Proof
from ganrt.stores import FolderStore


@pytest.fixture(scope="module")
def made(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    source = bundles["dcgan"].folder / Bundle.WEIGHTS
    return export(str(source), tmp_path_factory.mktemp("card") / "x.ganrt", precisions=("fp16", "int8"), quality=34.0)


def test_every_variant_has_its_paragraph(made: Bundle) -> None:
    card = (made.folder / Bundle.CARD).read_text()
    assert "**fp32** (`model.onnx`): float32; the graph as it was traced." in card
    for name, calibrated, kept in (
        ("fp16-phases", "0 to 7", "kept in float32"),
        ("int8-phases", "8 to 39", "convolutions kept in float"),
    ):
        paragraph = card.partition(f"**{name}**")[2].partition("\n\n**")[0].partition("\n## ")[0]
        assert f"- calibrated on: samples {calibrated} of seed 2024" in paragraph
        assert re.search(r"- worst PSNR there: \d", paragraph) and f"- {kept}: nothing" in paragraph


def test_every_proof_has_its_invariance_and_its_sheet(made: Bundle) -> None:
    card = (made.folder / Bundle.CARD).read_text()
    rows = [line.split(" | ") for line in card.splitlines() if line.endswith(") |")]
    proofs = [(name, proof) for name, variant in made.variants.items() for proof in variant.proofs]
    assert len(rows) == len(proofs) > 5
    for row, (name, proof) in zip(rows, proofs, strict=True):
        assert row[:2] == [f"| {name}", proof.backend] and row[7] == "passed"
        assert proof.batch_drift is not None and float(row[6]) == pytest.approx(proof.batch_drift / 2, rel=0.5)
        file = re.search(r"\((worst-.*\.png)\)", row[8])
        assert file is not None and f"{name}-{proof.backend}" in file[1] and (made.folder / file[1]).is_file()


def test_a_proof_of_an_older_record_has_a_dash(made: Bundle, tmp_path: Path) -> None:
    raw = made.variants["fp32"].proofs[0].to_dict()
    del raw["batch_drift"]
    (tmp_path / Bundle.GOLDEN).write_bytes((made.folder / Bundle.GOLDEN).read_bytes())
    variant = replace(made.variants["fp32"], proofs=(Proof.from_dict(raw),))
    write_card(
        replace(made, store=FolderStore(tmp_path), variants={"fp32": variant}, files={}).with_files(Bundle.GOLDEN)
    )
    assert "| - | passed | - |" in (tmp_path / Bundle.CARD).read_text()


def test_notes_as_lines() -> None:
    found = notes.format_notes(
        {
            "worst PSNR there": 59.9,
            "between these": {},
            "kept": {
                "a": "sums: 3.2e5 in float32",
                "b": "has a constant of 1e-8",
                "c": "sums: 7 in float32",
                "d": "sums: 90.5 in float32",
            },
            "named": {f"n{k}": "32-bit" for k in range(4)},
            "with a scale per channel": ["a", "b", "c"],
            "stored in 16 bits": [f"n{k}" for k in range(4)],
        }
    )
    assert list(found) == [
        "worst PSNR there: 59.9 dB",
        "between these: nothing",
        "kept: 4",
        "  a, c, d: sums: 7 to 3.2e5 in float32",
        "  b: has a constant of 1e-8",
        "named: 4",
        "  n0, ..., n3 (4): 32-bit",
        "with a scale per channel: a, b, c",
        "stored in 16 bits: n0, ..., n3 (4)",
    ]
