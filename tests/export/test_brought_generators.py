"""Generators that people bring: each is exported and proven, or refused with the reason, the place, and what to do.

tests/bring has one module for each project that they are rewritten from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from ganrt.errors import GanrtError
from ganrt.export import export


class Row(NamedTuple):
    """What becomes of a generator."""

    factory: str
    said: str = ""
    """Pattern of the refusal, or of a line of progress."""
    proven: bool = True
    batch: int | None = None


def refuse(factory: str, said: str) -> Row:
    return Row(factory, said, False)


FROZEN = r"or export it for one image at a time: --batch 1$"
GROUPS = r", y = F\.conv2d\(.*groups=n\)\): a convolution with groups for each sample"
ROWS = [
    Row("adaattn:plain"),
    refuse(
        "adaattn:sampled",
        r"\(adaattn\.py:\d+, return torch\.randperm\(count\).*\): draws random whole numbers \(randperm\) for pictures "
        r'of any size.*register_buffer\("part", torch\.rand\(k\)\), and write \(self\.part \* n\)\.long\(\)',
    ),
    refuse("adaattn:sampled_sized", r"draws random whole numbers \(randperm\), .*Draw them once, in __init__"),
    Row("adaattn:kept"),
    Row("adaattn:part"),
    Row("animegan:anysize"),
    refuse(
        "animegan:scripted", r"returned a TorchScript module; return the module that it was made of, or make an ONNX"
    ),
    Row("cartoon:as_is"),
    Row("cartoon:bgr"),
    Row("cartoon:wrapped"),
    Row("cut:free"),
    Row("cyclegan:resnet", "warning: .*output_padding is kept"),
    refuse("cyclegan:anysize", r"71 x 113 pixels, the module makes 72 x 114 .*Give photo multiple_of=2 in the Spec"),
    Row("cyclegan:local"),
    Row("cyclegan:labels"),
    refuse(
        "deepfill:loop",
        r"the module itself \(deepfill\.py:\d+, for one, own in zip\(torch\.split\(.*works for a batch of 2 only: "
        rf"write operations on the whole tensor, such as torch\.bmm.*{FROZEN}",
    ),
    Row("deepfill:loop", batch=1),
    Row("deepfill:bmm"),
    Row("deoldify:fastai", "fixed: .*spectral norm was folded"),
    refuse("deoldify:anysize", r"layers\.3: with .* the module fails: .*Give photo multiple_of=4 in the Spec"),
    Row("midas_mix:free"),
    Row("munit:published", "fixed: norm: forward calls this norm in training mode"),
    refuse(
        "lama:factory", r"""an input and the output are both named 'image'.*rename one, as in Output\(\.\.\., name="""
    ),
    Row("r3gan:fp32"),
    refuse(
        "r3gan:bf16",
        r"\(r3gan\.py:\d+, x = stage\(x\.to\(torch\.bfloat16 .*\): computes in bfloat16; leave .* casts out",
    ),
    Row("restore:bicubic_up"),
    Row("restore:unshuffle"),
    Row("restore:antialias", "warning: .*rejects Resize with antialias in all versions.*interpolate without it"),
    Row("restore:down_half"),
    refuse("rosinality:listed", r"takes a list: wrap the module in one whose forward takes z and calls it with \[z\]"),
    Row("rosinality:wrapped"),
    refuse(
        "rosinality:mixing",
        r"\(rosinality\.py:\d+, k = random\.randint.*\): makes two pictures of one input, with random numbers that "
        r"are not PyTorch's; take them as an input, with a ganrt\.Latent",
    ),
    Row("spade:free", "fixed: .*spectral norm was folded"),
    refuse("spade:opts", r"makes pictures with height 64 and width 64 whatever goes in; give the output a size"),
    Row("spade:numbers"),
    refuse(
        "starganv2:published",
        r"forward of mapping \(starganv2\.py:\d+, index = torch\.LongTensor\(range\(y\.size\(0\)\)\).*\): its "
        rf"traced graph works for a batch of 2 only: write torch\.arange\(n\) for range\(n\).*{FROZEN}",
    ),
    Row("starganv2:published", batch=1),
    Row("starganv2:arange"),
    refuse(
        "starganv2:five_domains", r'domain: the Spec has 5 classes, the network takes 3: Label\("domain", classes=3\)$'
    ),
    Row("stylegan2ada:plain", "fixed: .*became the inputs noise_0 to noise_2 of the Spec"),
    Row("stylegan2ada:conditional"),
    refuse(
        "stylegan2ada:fused", rf"convs\.0, rgbs\.0, .* \(stylegan2ada\.py:\d+{GROUPS}.*fused_modconv=False.*{FROZEN}"
    ),
    Row("stylegan2ada:fused", batch=1),
    refuse(
        "stylegan2ada:half", r"convs\.1, .*\(stylegan2ada\.py:\d+, return modulate\(x\.half\(\).*: computes in float16"
    ),
    refuse("stylegan3:as_published", rf"layers\.0, layers\.1 \(stylegan2ada\.py:\d+{GROUPS}"),
    Row("stylegan3:rewritten"),
    refuse(
        "stylegan3:updating", r"layers\.0\.magnitude, layers\.1\.magnitude: forward writes to it in evaluation mode"
    ),
    Row("stytr2:pool18_fixed"),
    refuse(
        "stytr2:pool3", r"pool: with .* other pictures than the module .*without adaptive pooling to several pixels"
    ),
    Row("stytr2:global_pool"),
    Row("swinir:fixed"),
    refuse(
        "swinir:python_batch",
        r"\(swinir\.py:\d+, b = int\(windows\.shape\[0\].*batch of 2 only: write h // 2 and the like, on sizes as "
        r"they are, without int, float and round",
    ),
    Row("taesd:tiny"),
    Row("taesd:vae"),
    Row("taesd:vae_half"),
    Row("turbo:factory"),
    refuse("u2net:published", r"returns a tuple of 3; wrap the module in one that returns the pictures alone"),
    Row("u2net:wrapped"),
    Row("wrappers:dataparallel"),
    Row("wrappers:compiled"),
    refuse(
        "wrappers:cuda",
        r'\(wrappers\.py:\d+, .*device="cuda"\)\): fails with .*; write device=x\.device in the place of',
    ),
    Row("wrappers:dictionary", r"fixed: forward: returns a dict with image .*; image is taken"),
    refuse(
        "wrappers:diffusers",
        r'returns a Sample with sample .*name it in the Spec, as in Output\(\.\.\., name="sample"\)',
    ),
    Row("wrappers:diffusers_named"),
    Row("wrappers:rgba"),
    refuse(
        "wrappers:nhwc",
        r"returns float \(batch, 24, 24, 3\); .*channels are last: return images\.permute\(0, 3, 1, 2\)$",
    ),
    refuse("wrappers:uint8", r"returns uint8 .*; return the values before they become whole numbers"),
    refuse("wrappers:program", r"returned a program of torch\.export; return the module that it was made of"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.factory}{'-single' if row.batch else ''}")
def test_it_is_proven_or_refused_with_the_reason(row: Row, tmp_path: Path) -> None:
    """On one backend, in float32, as it was traced: what other steps do with a graph does not depend on whose it is."""
    lines: list[str] = []
    arguments = {"forms": (), "backends": "onnxruntime", "batch": row.batch, "progress": lines.append}
    if row.proven:
        bundle = export(f"bring.{row.factory}", tmp_path / "x.ganrt", **arguments)  # type: ignore[arg-type]
        assert all(proof.passed for variant in bundle.variants.values() for proof in variant.proofs)
        assert not row.said or any(re.search(row.said, line) for line in lines), lines
        return
    with pytest.raises(GanrtError) as caught:
        export(f"bring.{row.factory}", tmp_path / "x.ganrt", **arguments)  # type: ignore[arg-type]
    assert re.search(row.said, str(caught.value)), str(caught.value)
    assert not (tmp_path / "x.ganrt").exists()


def test_each_project_has_a_row() -> None:
    projects = {path.stem for path in (Path(__file__).parent.parent / "bring").glob("*.py")} - {"common"}
    assert {row.factory.partition(":")[0] for row in ROWS} == projects
