"""Compile every variant of every family, and of the suite's generators, with TensorRT for RTX, which needs no GPU.

    cd tests && python -m rtx.sweep FOLDER [NAME ...]

FOLDER gets `sweep.json` and `README.md`: what each plan launches, in which types, and how large it is. What they have
of other generators stays, if the same version of the library compiled it. The command fails if a variant does not
compile, or if the plan of an fp16 variant computes more products in float32 than its graph. Nothing runs on a GPU, so
the table says nothing about speed.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import click
import onnx_ir as ir
from rtx.summary import CompiledVariant, ProfileCounts, Sweep, find_problems, format_summary

from ganrt.atomic import write_file
from ganrt.backend import BACKENDS, library_version
from ganrt.bench import clock
from ganrt.bench.generators import GENERATORS, GeneratorRecipe, make_generator
from ganrt.bundle import FAITHFUL, Bundle, Variant
from ganrt.errors import GanrtError, VerificationError
from ganrt.export.engines import (
    FP8_TARGETS,
    PRECISIONS,
    USUAL_TARGETS,
    Compiler,
    Launch,
    RtxEngineOptions,
    compile_variant,
    parse_layers,
)
from ganrt.export.tracing import DEFAULT_OPSET, trace
from ganrt.export.variants import QUALITY, VariantOptions, add_variants, save_graph
from ganrt.models import get_family
from ganrt.stores import FolderStore

_log = partial(click.echo, err=True)
BATCHES = (1, 8)
ANY_QUALITY = 1.0
"""In dB."""
_FORMS = ("phases",)
_REQUANTIZING = "RounCast"
"""In the names of generated kernels that round to integers."""
_SMALL = 32
"""Side in pixels of the pictures that families are given in small."""
RECIPES = {
    "small mlp": GeneratorRecipe("mlp", {"size": 16, "batch_norm": True}),
    "small dcgan": GeneratorRecipe("dcgan", {"size": 32, "width": 8, "latent": 16}),
    "small resnet": GeneratorRecipe("resnet", {"width": 4, "latent": 16, "classes": 3, "attention": (16,)}),
    "small biggan_deep": GeneratorRecipe(
        "biggan_deep", {"widths": (64, 64, 32), "upsample": (1,), "attention": 1, "latent": 16, "classes": 3}
    ),
    "small progan": GeneratorRecipe("progan", {"widths": (32, 32, 16), "latent": 32}),
    "small stylegan2": GeneratorRecipe(
        "stylegan2", {"widths": (32, 32, 16), "latent": 16, "style": 16, "layers": 2, "classes": 3}
    ),
    "small stylegan3": GeneratorRecipe(
        "stylegan3",
        {"sizes": (36, 36, 52, 32), "up": (2, 2, 4, 2), "widths": (16,) * 5, "latent": 16, "style": 16},
    ),
    "small r3gan": GeneratorRecipe(
        "r3gan", {"widths": (16, 16, 8), "groups": (8, 8, 4), "blocks": (1, 1, 1), "latent": 16}
    ),
    "small srresnet": GeneratorRecipe("srresnet", {"scale": 2, "width": 8, "blocks": 1}, _SMALL),
    "small msrresnet": GeneratorRecipe("msrresnet", {"scale": 2, "width": 8, "blocks": 1}, _SMALL),
    "small espcn": GeneratorRecipe("espcn", {"width": 16}, _SMALL),
    "small vdsr": GeneratorRecipe("vdsr", {"width": 16, "convs": 4}, _SMALL),
    "small rrdb": GeneratorRecipe("rrdb", {"scale": 2, "width": 8, "blocks": 1, "growth": 8}, _SMALL),
    "small srvgg": GeneratorRecipe("srvgg", {"width": 16, "convs": 3}, _SMALL),
    "small upcunet": GeneratorRecipe("upcunet", {}, _SMALL),
    "small upconv7": GeneratorRecipe("upconv7", {}, _SMALL),
    "small span": GeneratorRecipe("span", {"width": 16, "img_range": 1.0}, _SMALL),
    "small transformer_net": GeneratorRecipe("transformer_net", {"width": 8, "blocks": 1}, _SMALL),
    "small adain": GeneratorRecipe("adain", {"width": 2}, _SMALL, he=True),
    "small lama": GeneratorRecipe("lama", {"width": 8, "blocks": 1, "transformed": 48}, _SMALL),
    "small gfpgan": GeneratorRecipe("gfpgan", {"widths": (32, 32, 32, 16), "style": 32, "layers": 2}),
    "small pix2pix": GeneratorRecipe("pix2pix", {"width": 8, "levels": 5}, _SMALL),
    "small cyclegan": GeneratorRecipe("cyclegan", {"width": 8, "blocks": 1}, _SMALL),
    "small animegan": GeneratorRecipe("animegan", {}, _SMALL),
    "small synthesis": GeneratorRecipe("synthesis", {"width": 8, "blocks": 1}, _SMALL),
    "small spade": GeneratorRecipe("spade", {"ngf": 4, "semantic_nc": 4, "crop_size": 64}, he=True),
    **GENERATORS,
}
"""Name -> recipe: every family in a small configuration, and the generators of the suite."""


class ExportedVariants(NamedTuple):
    """What `ganrt export` makes of a generator, without proofs."""

    bundle: Bundle
    missing: Mapping[str, str]
    """Precision -> why the generator has no variant in it."""


@contextmanager
def skip_search() -> Iterator[None]:
    """Put all convolutions into 8 bits: the search for those that must not be takes most of an export."""
    with ExitStack() as stack:
        for module in ("float_layers", "half_quantization"):
            name = f"ganrt.export.precision.{module}.choose_kept_layers"
            stack.enter_context(patch(name, lambda *_, **__: ((), {})))
        yield


def export_variants(recipe: GeneratorRecipe, folder: Path, quality: float) -> ExportedVariants:
    """Export a generator in all precisions that TensorRT for RTX takes.

    Args:
        quality: worst PSNR in dB that variants in 8 bits must reach.
    """
    family = get_family(recipe.family)
    spec = family.spec(family.configure(recipe.config))
    model = trace(make_generator(recipe), spec)
    bundle = Bundle(FolderStore(folder), spec, {FAITHFUL: Variant("model.onnx", DEFAULT_OPSET, "fp32")}, {}, None)
    bundle = bundle.with_files(*save_graph(model, bundle, "model.onnx"))
    try:
        return ExportedVariants(_add_variants(bundle, model, VariantOptions(PRECISIONS, _FORMS, quality)), {})
    except VerificationError:
        missing = {}
    for precision in PRECISIONS:
        try:
            bundle = _add_variants(bundle, model, VariantOptions((precision,), _FORMS, quality))
        except VerificationError as error:
            missing[precision] = str(error)
    return ExportedVariants(bundle, missing)


def _add_variants(bundle: Bundle, model: ir.Model, options: VariantOptions) -> Bundle:
    added: Bundle = add_variants(bundle, model, options, None, lambda _: None)
    return added


def compile_generator(name: str, compiler: Compiler, quality: float) -> Iterator[CompiledVariant]:
    """Yield every variant of a generator of RECIPES, compiled with its post-processing head.

    Args:
        quality: worst PSNR in dB that variants in 8 bits must reach.
    """
    recipe = RECIPES[name]
    with tempfile.TemporaryDirectory() as folder:
        bundle, missing = export_variants(recipe, Path(folder), quality)
        size = (recipe.picture, recipe.picture) if recipe.picture else None
        for variant, found in bundle.variants.items():
            targets = tuple(name for name in USUAL_TARGETS if found.precision != "fp8" or name in FP8_TARGETS)
            yield _compile(name, bundle, variant, RtxEngineOptions(BATCHES, size, targets), compiler)
        for precision, reason in missing.items():
            yield CompiledVariant(name, precision, precision, 0, missing=reason)


def _compile(name: str, bundle: Bundle, variant: str, options: RtxEngineOptions, compiler: Compiler) -> CompiledVariant:
    found = CompiledVariant(
        name, variant, bundle.variant(variant).precision, _count_float32_products(ir.load(bundle.onnx(variant)))
    )
    started = clock.now_ns()
    try:
        compiled = compile_variant(compiler, bundle, variant, options)
    except GanrtError as error:
        return replace(found, error=str(error))
    profiles = map(_count, parse_layers(compiled.layers))
    return replace(
        found,
        plan_bytes=len(compiled.plan),
        seconds=round((clock.now_ns() - started) / 1e9, 2),
        profiles=dict(zip(options.batches, profiles, strict=False)),
    )


def _count(launches: list[Launch]) -> ProfileCounts:
    products = Counter(launch.types for launch in launches if launch.is_product)
    others = [launch for launch in launches if not launch.is_product]
    requantizing = sum(_REQUANTIZING in launch.name for launch in others)
    return ProfileCounts(dict(sorted(products.items())), len(others), requantizing)


def _count_float32_products(model: ir.Model) -> int:
    """The number of convolutions and matrix products whose first factor is float32."""
    kinds = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
    return sum(
        node.op_type in kinds and node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.FLOAT
        for node in model.graph
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, type=click.Choice(list(RECIPES)))
@click.option("--suite", is_flag=True, help="Only the generators of the suite, not the families in small.")
@click.option("--quick", is_flag=True, help="Put all convolutions into 8 bits, whatever becomes of the images.")
def main(folder: Path, names: tuple[str, ...], suite: bool, quick: bool) -> None:
    """Compile the generators NAMES, by default all, and write a table."""
    version = library_version(BACKENDS["tensorrt-rtx"].package)
    sweep = Sweep.read(folder / "sweep.json", version, USUAL_TARGETS)
    quality = ANY_QUALITY if quick else QUALITY
    with Compiler() as compiler, skip_search() if quick else nullcontext():
        for name in names or (GENERATORS if suite else RECIPES):
            _log(name)
            sweep = sweep.replace_generator(name, tuple(compile_generator(name, compiler, quality)), list(RECIPES))
            write_file(folder / "sweep.json", sweep.to_json().encode())
            write_file(folder / "README.md", format_summary(sweep).encode())
    problems = find_problems(sweep.variants)
    for problem in problems:
        _log(problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
