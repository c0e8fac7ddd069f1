"""NVIDIA's compiler takes every variant of every family, in the types of the graph; and the table of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rtx import sweep as rtx_sweep
from rtx.summary import CompiledVariant, ProfileCounts, Sweep, find_problems, format_summary
from rtx.sweep import ANY_QUALITY, RECIPES, compile_generator, skip_search

from ganrt.backend import library_version
from ganrt.export.engines import USUAL_TARGETS, Compiler
from ganrt.models import FAMILIES

LARGE = {"animegan", "upcunet"}
"""Families of one size, which take two minutes each: `make rtx-table` compiles them."""
MISSING = {("small mlp", "int8"), ("small mlp", "fp8")}
"""Families that have no variant in a precision: 8 bits are for convolutions."""


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    with Compiler() as opened:
        yield opened


def test_every_family_is_compiled_in_small() -> None:
    assert {name.removeprefix("small ") for name in RECIPES if name.startswith("small ")} == set(FAMILIES)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in LARGE])
def test_every_variant_compiles_in_the_types_of_its_graph(family: str, compiler: Compiler) -> None:
    with skip_search():
        found = list(compile_generator(f"small {family}", compiler, ANY_QUALITY))
    assert find_problems(found) == []
    assert {(each.generator, each.variant) for each in found if each.missing} == {
        missing for missing in MISSING if missing[0] == f"small {family}"
    }
    first = {"fp32": "Float ->", "fp16": "Half ->", "int8": "Int8 ->", "fp8": "FP8 ->"}
    for each in found:
        assert set(each.profiles) == (set() if each.missing else set(rtx_sweep.BATCHES))
        for profile in each.profiles.values():
            assert any(types.startswith(first[each.precision]) for types in profile.products)
    assert {each.precision for each in found} >= set(first)


FP16 = CompiledVariant(
    generator="dcgan-64",
    variant="fp16-phases",
    precision="fp16",
    float32_products_in_graph=1,
    plan_bytes=10_600_000,
    seconds=0.31,
    profiles={
        1: ProfileCounts({"Float -> Float": 1, "Half -> Half": 13}, 5, 0),
        8: ProfileCounts({"Half -> Half": 14}, 7, 2),
    },
)


def test_a_float32_product_of_an_fp16_plan_must_be_in_the_graph() -> None:
    """A product that takes a float32 input and gives float16 is none: it begins with a cast."""
    mixed = replace(FP16, profiles={1: ProfileCounts({"Float -> Half": 3, "Half -> Half": 1}, 0, 0)})
    assert find_problems([FP16, mixed]) == []
    found = find_problems([replace(FP16, float32_products_in_graph=0)])
    assert found == ["dcgan-64 fp16-phases at batch 1: 1 products in float32; the graph has 0"]
    assert find_problems([replace(FP16, precision="int8", float32_products_in_graph=0)]) == []


def test_a_variant_that_does_not_compile_is_a_problem_and_one_that_is_not_exported_is_none() -> None:
    refused = replace(FP16, error="at Foo 'bar': no such operator", profiles={})
    silent = replace(FP16, profiles={1: ProfileCounts({}, 7, 0)})
    missing = CompiledVariant("mlp", "int8", "int8", 0, missing="no convolutions")
    assert find_problems([refused, silent, missing]) == [
        "dcgan-64 fp16-phases does not compile: at Foo 'bar': no such operator",
        "dcgan-64 fp16-phases: the compiler reports no convolution and no matrix product",
    ]


def test_the_table_has_a_row_for_each_variant() -> None:
    missing = CompiledVariant("mlp", "int8", "int8", 0, missing="no convolutions")
    page = format_summary(Sweep("1.7.1", ("sm86", "sm89"), (FP16, missing)))
    assert "TensorRT for RTX 1.7.1 for sm86, sm89 (fp8 for those that have it), batches of 1 and 8" in page
    assert "| generator | variant | launches, batch 1 / 8 | products, batch 8 | requantizing, batch 1 / 8 |" in page
    assert page.splitlines()[-2:] == [
        "| dcgan-64 | fp16-phases | 19 / 21 | 14 Half -> Half | 0 / 2 | 10.6 | 0.3 |",
        "| mlp | int8 |  | no convolutions |  |  |  |",
    ]


@pytest.mark.parametrize(("allowed", "code"), [(1, 0), (0, 1)])
def test_the_command_writes_both_files_and_fails_for_a_problem(
    allowed: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(FP16, float32_products_in_graph=allowed)
    monkeypatch.setattr(
        rtx_sweep, "compile_generator", lambda name, compiler, quality: [replace(found, generator=name)]
    )
    run = CliRunner().invoke(rtx_sweep.main, [str(tmp_path), "--suite"])
    assert run.exit_code == code, run.output
    assert ("products in float32" in run.stderr) == bool(code)
    rows = (tmp_path / "README.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in rows[-9:]] == [f"| {name}" for name in rtx_sweep.GENERATORS]
    assert '"version": "1.7' in (tmp_path / "sweep.json").read_text()


def test_what_other_generators_have_stays_if_the_library_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtx_sweep, "compile_generator", lambda name, compiler, quality: [replace(FP16, generator=name)])
    for name in ("style", "dcgan-64", "style"):
        assert CliRunner().invoke(rtx_sweep.main, [str(tmp_path), name]).exit_code == 0
    found = Sweep.read(tmp_path / "sweep.json", library_version("tensorrt-rtx-cu13-bindings"), USUAL_TARGETS)
    assert found.variants == (FP16, replace(FP16, generator="style"))
    assert Sweep.read(tmp_path / "sweep.json", "1.8", USUAL_TARGETS).variants == ()
