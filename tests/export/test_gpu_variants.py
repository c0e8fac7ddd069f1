"""The variants for NVIDIA GPUs that an export adds, which of them is tried first, and what the compiler makes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from helpers.optional import unwrap

from ganrt import tuned
from ganrt.bundle import Bundle
from ganrt.cli.info import collect_facts, print_info
from ganrt.errors import VerificationError
from ganrt.export import export, variants
from ganrt.export.engines import Compiler, Launch, RtxEngineOptions, parse_layers
from ganrt.export.passes import TRACED, optimize_graph
from ganrt.export.precision import HalfGraph, HalfQuantizer
from ganrt.models import build_generator
from ganrt.session_config import SessionConfig
from ganrt.tuned import Timing, Tuned, TunedConfig

CONDITIONAL = {"size": 32, "width": 2, "latent": 12, "classes": 3, "shared": 4, "hierarchical": True}
"""A residual network with nearest up-sampling, whose norms are conditional."""


def export_random(family: str, settings: dict[str, Any], folder: Path, **options: Any) -> Bundle:
    torch.manual_seed(0)
    checkpoint = folder / "weights.pth"
    torch.save(build_generator(family, settings).state_dict(), checkpoint)
    return export(str(checkpoint), folder / "x.ganrt", **options)


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    with Compiler() as opened:
        yield opened


@pytest.fixture(scope="module")
def dcgan(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Up-sampling by transposed convolutions."""
    source, out = bundles["dcgan"].folder / Bundle.WEIGHTS, tmp_path_factory.mktemp("gpu") / "x.ganrt"
    return export(str(source), out, precisions=("fp32", "fp16", "int8", "fp8"), quality=32.0)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("resnet")
    return export_random("resnet", CONDITIONAL, folder, precisions=("fp16", "int8", "fp8"), quality=32.0)


def launch_kernels(compiler: Compiler, file: Path) -> list[Launch]:
    return parse_layers(compiler.compile(file, RtxEngineOptions((1,), targets=("sm89", "sm120"))).layers)[0]


def count_operators(bundle: Bundle, variant: str, op_type: str) -> int:
    return sum(node.op_type == op_type for node in ir.load(bundle.onnx(variant)).graph)


def test_forms_that_save_nothing_have_a_traced_one_beside_them(dcgan: Bundle) -> None:
    assert dcgan.in_precision("fp16") == ["fp16-phases"]
    assert dcgan.in_precision("fp16", gpu=True) == ["fp16-traced", "fp16-phases"]
    assert dcgan.in_precision("fp32", gpu=True)[0] == "fp32"
    assert count_operators(dcgan, "fp16-traced", "ConvTranspose") == 2  # the first is a matrix product
    assert count_operators(dcgan, "fp16-phases", "ConvTranspose") == 0


def test_forms_that_save_multiplications_come_first(resnet: Bundle) -> None:
    assert resnet.in_precision("fp16", gpu=True) == ["fp16-phases", "fp16-traced"]
    assert resnet.in_precision("fp32", gpu=True)[0] == "fp32-phases"
    assert resnet.in_precision("int8", gpu=True) == ["int8-half-phases", "int8-phases"]
    assert resnet.in_precision("int8") == ["int8-phases"]
    assert {name for name, v in resnet.variants.items() if v.for_gpu} == {
        *("fp16-traced", "int8-half-phases", "fp8-phases")
    }


def test_8_bits_use_the_form_where_the_traced_graph_has_transposed_convolutions_alone(dcgan: Bundle) -> None:
    assert {"int8-half-phases", "fp8-phases"} <= set(dcgan.variants)


def test_graphs_without_up_sampling_have_one_fp16(tmp_path: Path) -> None:
    made = export_random("espcn", {"scale": 2, "width": 8}, tmp_path, precisions=("fp16", "int8"), quality=30.0)
    assert [name for name in made.variants if not name.startswith("fp32")] == [
        *("int8-traced", "fp16-traced", "int8-half-traced")
    ]
    assert not made.variants["fp16-traced"].for_gpu


def test_every_variant_is_proven_on_the_cpu(dcgan: Bundle, resnet: Bundle) -> None:
    for bundle in (dcgan, resnet):
        for name, variant in bundle.variants.items():
            worst = {proof.backend: proof.worst_psnr for proof in variant.proofs if proof.passed}
            assert "onnxruntime" in worst, name
            if variant.for_gpu:
                assert set(worst) == {"onnxruntime"}
            if variant.precision == "fp16":
                assert worst["onnxruntime"] > 50
            if variant.precision in ("int8", "fp8"):
                assert 30 < worst["onnxruntime"] < 60  # more would mean that nothing was quantized


def test_a_backend_that_cannot_prove_them_gets_none(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    source = str(bundles["dcgan"].folder / Bundle.WEIGHTS)
    made = export(source, tmp_path / "x.ganrt", precisions="int8", quality=32.0, backends="openvino")
    assert list(made.variants) == ["fp32", "fp32-phases", "int8-phases"]
    options = variants.VariantOptions(("fp16",), ("phases",), for_gpu=False)
    added = variants.add_variants(made, ir.load(made.onnx("fp32")), options, None, lambda _: None)
    assert [name for name in added.variants if name.startswith("fp16")] == ["fp16-phases"]


@pytest.mark.parametrize("at", ["convert", "half"])
def test_int8_that_does_not_come_out_for_gpus_is_left_out(
    at: str, bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """int8 for CPUs is there, which GPUs run too."""

    def fail(*given: Any) -> None:
        raise VerificationError("no layer takes it")

    if at == "convert":
        monkeypatch.setattr(HalfQuantizer, "convert", fail)
    else:
        monkeypatch.setattr(variants, "convert_with_fp32_islands", fail)
    source, lines = str(bundles["dcgan"].folder / Bundle.WEIGHTS), list[str]()
    made = export(source, tmp_path / "x.ganrt", precisions="int8", progress=lines.append)
    assert list(made.variants) == ["fp32", "fp32-phases", "int8-phases"]
    assert "skipped: int8 between float16, for NVIDIA GPUs: no layer takes it" in lines
    with pytest.raises(VerificationError, match="no layer takes it"):
        export(source, tmp_path / "y.ganrt", precisions="fp8")


def test_fp16_of_the_traced_graph_may_fail(
    bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert, lines = variants.convert_with_fp32_islands, list[str]()

    def fail_on_transposed(model: ir.Model, *given: Any) -> HalfGraph:
        if any(node.op_type == "ConvTranspose" for node in model.graph):
            raise VerificationError("it overflows")
        return convert(model, *given)

    monkeypatch.setattr(variants, "convert_with_fp32_islands", fail_on_transposed)
    source = str(bundles["dcgan"].folder / Bundle.WEIGHTS)
    made = export(source, tmp_path / "x.ganrt", precisions="fp16", progress=lines.append)
    assert [name for name in made.variants if name.startswith("fp16")] == ["fp16-phases"]
    assert "skipped: fp16-traced, for NVIDIA GPUs: it overflows" in lines


def test_one_that_makes_other_images_is_left_out(
    bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export goes on, but for fp8, which was asked for."""

    def spoil(quantizer: HalfQuantizer, precision: str) -> tuple[ir.Model, dict[str, object]]:
        made = quantizer._half.model.clone()
        for value in made.graph.initializers.values():
            if value.dtype == ir.DataType.FLOAT16:
                value.const_value = ir.tensor(-unwrap(value.const_value).numpy(), name=value.name)
        return made, {}

    monkeypatch.setattr(HalfQuantizer, "convert", spoil)
    source, lines = str(bundles["dcgan"].folder / Bundle.WEIGHTS), list[str]()
    made = export(source, tmp_path / "x.ganrt", precisions=("int8", "fp16"), progress=lines.append)
    assert "int8-phases" in made.variants and "fp16-traced" in made.variants
    assert not any("int8-half" in text for text in [*made.variants, *made.files, *map(str, made.folder.iterdir())])
    assert Bundle.read(made.folder) == made and "int8-half" not in (made.folder / Bundle.CARD).read_text()
    start = "int8-half-phases, made for NVIDIA GPUs, is left out: onnxruntime does not make the original's images"
    assert any(line.startswith(start) for line in lines)
    with pytest.raises(VerificationError, match="fp8-phases on onnxruntime does not make the original's images"):
        export(source, tmp_path / "y.ganrt", precisions="fp8")


def test_conditional_norms_stay_matrix_products_for_gpus(resnet: Bundle) -> None:
    traced = count_operators(resnet, "fp32", "Gemm")
    assert count_operators(resnet, "fp16-traced", "Gemm") == traced > count_operators(resnet, "fp32-phases", "Gemm")
    for name in ("fp16-traced", "fp16-phases", "int8-half-phases"):
        assert not {"affine", "packing"} & set(resnet.variants[name].passes)
    assert {"affine", "packing"} <= set(resnet.variants["fp32-phases"].passes)


def test_the_passes_for_gpus_launch_fewer_products(compiler: Compiler, resnet: Bundle, tmp_path: Path) -> None:
    traced = ir.load(resnet.onnx("fp32"))
    counts = []
    for gpu in (True, False):
        ir.save(optimize_graph(traced, TRACED, gpu)[0], tmp_path / "model.onnx")
        counts.append(sum(launch.is_product for launch in launch_kernels(compiler, tmp_path / "model.onnx")))
    assert counts[0] < counts[1]


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [("fp16-traced", {"Half"}), ("fp16-phases", {"Half"}), ("int8-half-phases", {"Int8"}), ("fp8-phases", {"FP8"})],
)
def test_convolutions_compute_in_the_precision_of_the_variant(
    compiler: Compiler, dcgan: Bundle, variant: str, wanted: set[str]
) -> None:
    products = [launch for launch in launch_kernels(compiler, dcgan.onnx(variant)) if launch.is_product]
    first = {launch.computed_in for launch in products if "Gemm" in "".join(launch.origin)}
    assert first <= {"Half"}
    convolutions = [launch for launch in products if "Gemm" not in "".join(launch.origin)]
    floats = len(dcgan.variants[variant].notes.get("convolutions kept in float", ()))
    assert {launch.computed_in for launch in convolutions} - ({"Half"} if floats else set()) == wanted


def test_info_says_what_no_one_has_measured(dcgan: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    def read_lines() -> list[str]:
        print_info(dcgan, "x.ganrt")
        return [line.strip() for line in capsys.readouterr().out.splitlines() if "made for" in line]

    assert collect_facts(dcgan)["for_gpu"] == ["fp16-traced", "int8-half-phases", "fp8-phases"]
    unmeasured = "made for NVIDIA GPUs; not measured on a GPU of this machine (`ganrt tune` does)"
    assert read_lines() == 3 * [unmeasured]
    choice = TunedConfig(SessionConfig("onnxruntime", "fp8-phases", "cuda:0"), "fp8", 33.0, {1: Timing(1, None, None)})
    tuned.save_record(Tuned(tuned.tuned_key(dcgan), 30.0, "2026-11-25", {}, (choice,), {1: 0}))
    assert read_lines() == [unmeasured, unmeasured, "made for NVIDIA GPUs; measured on this machine's GPU"]
