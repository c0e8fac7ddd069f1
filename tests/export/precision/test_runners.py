"""int8 is judged on every backend that will run it, and reaches on each what was asked for."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnxruntime import InferenceSession

from ganrt import backend as table
from ganrt.backend import BACKENDS, Entry, HostSession, Session
from ganrt.bundle import Bundle
from ganrt.errors import BundleError, VerificationError
from ganrt.export import export
from ganrt.export.precision import convert_to_int8, draw_samples
from ganrt.export.precision.judge import Judge
from ganrt.export.tracing import trace
from ganrt.export.variants import list_judging_backends
from ganrt.feeds import Array, Feeds
from ganrt.models import build_generator, get_family
from ganrt.spec import Spec

SETTINGS = {"scale": 2, "width": 8, "convs": 3}


def widen_steps(path: Path, factor: float) -> bytes:
    """The graph with larger steps wherever it quantizes to uint8."""
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    changed = {name for node in model.graph.node if node.op_type == "QuantizeLinear" for name in node.input[1:3]}
    for name in changed:
        array = numpy_helper.to_array(constants[name])
        wider = np.rint(array / factor) if array.dtype == np.uint8 else array * factor
        constants[name].CopyFrom(numpy_helper.from_array(wider.astype(array.dtype), name))
    return bytes(model.SerializeToString())


class _CoarseSession(HostSession):
    def __init__(self, bundle: Bundle, variant: str, factor: float) -> None:
        super().__init__("coarse", bundle.variant(variant).precision, bundle.spec, {"steps": str(factor)})
        self._session = InferenceSession(widen_steps(bundle.onnx(variant), factor))

    def run(self, feeds: Feeds) -> Array:
        found: Array = self._session.run(None, feeds)[0]
        return found

    def release(self) -> None:
        del self._session


AddBackend = Callable[[Callable[[Bundle, str], Session]], None]


@pytest.fixture
def add_backend(monkeypatch: pytest.MonkeyPatch) -> AddBackend:
    """Adds the backend `coarse` to a table of onnxruntime and itself."""

    def add(open_session: Callable[[Bundle, str], Session]) -> None:
        module = types.ModuleType("coarse_backend")
        module.open = lambda bundle, variant, device, **options: open_session(bundle, variant)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        rows = {"onnxruntime": BACKENDS["onnxruntime"], "coarse": Entry(module.__name__, "", "numpy", ("fp32", "int8"))}
        monkeypatch.setattr(table, "BACKENDS", rows)

    return add


def make_module() -> torch.nn.Module:
    """With weights that let the signal through: else there is nothing to lose in 8 bits."""
    torch.manual_seed(0)
    module = build_generator("srvgg", SETTINGS)
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.normal_(part.weight, 0, (1.5 / part.weight[0].numel()) ** 0.5)
    return module.eval()


def convert(quality: float, *backends: str) -> dict[str, Any]:
    family = get_family("srvgg")
    spec: Spec = family.spec(family.configure(SETTINGS))
    model = trace(make_module(), spec, 20, lambda raw: None)
    _, notes = convert_to_int8(model, spec, draw_samples(spec, 4), quality, backends or ("onnxruntime",))
    return notes


def test_the_backend_that_makes_the_worst_pictures_counts(add_backend: AddBackend) -> None:
    add_backend(lambda bundle, variant: _CoarseSession(bundle, variant, 4.0))
    alone, both = convert(30.0), convert(30.0, "onnxruntime", "coarse")
    assert list(alone["judged on"]) == ["onnxruntime"] and list(both["judged on"]) == ["onnxruntime", "coarse"]
    measured = {name: float(text.removesuffix(" dB")) for name, text in both["judged on"].items()}
    assert measured["coarse"] < measured["onnxruntime"] - 3
    assert both["worst PSNR there"] == pytest.approx(measured["coarse"], abs=0.051)
    between = both["worst PSNR there"] + 3  # what one of them reaches in all layers, and the other does not
    alone, both = convert(between), convert(between, "onnxruntime", "coarse")
    assert both["layers in int8"] < alone["layers in int8"] and both["worst PSNR there"] >= between


@pytest.mark.parametrize("broken", [0, 1], ids=["makes other pictures", "loads nothing"])
def test_a_backend_without_the_float_graph_is_not_asked(broken: int, add_backend: AddBackend) -> None:
    class Wrong(_CoarseSession):
        def run(self, feeds: Feeds) -> Array:
            return super().run(feeds) + np.float32(0.02)

    def open_broken(bundle: Bundle, variant: str) -> Session:
        if broken:
            raise BundleError("coarse cannot load it")
        return Wrong(bundle, variant, 1.0)

    add_backend(open_broken)
    assert list(convert(30.0, "onnxruntime", "coarse")["judged on"]) == ["onnxruntime"]
    assert list(convert(30.0, "coarse")["judged on"]) == ["onnxruntime"]


def test_a_backend_that_refuses_a_graph_is_passed_over(add_backend: AddBackend) -> None:
    def open_float(bundle: Bundle, variant: str) -> Session:
        if bundle.variant(variant).precision == "int8":
            raise BundleError("coarse cannot load it")
        return _CoarseSession(bundle, variant, 1.0)

    add_backend(open_float)
    assert list(convert(30.0, "onnxruntime", "coarse")["judged on"]) == ["onnxruntime"]
    with pytest.raises(VerificationError, match="no layer of this model reaches 30 dB"):
        convert(30.0, "coarse")


def test_the_judge_stops_at_the_first_backend_that_exceeds_what_is_allowed(add_backend: AddBackend) -> None:
    add_backend(lambda bundle, variant: _CoarseSession(bundle, variant, 1.0))
    family = get_family("srvgg")
    spec = family.spec(family.configure(SETTINGS))
    model, other = (trace(module, spec, 20, lambda raw: None) for module in (make_module(), make_module().apply(_dim)))
    judge = Judge(model, spec, draw_samples(spec, 2), 30.0, ("onnxruntime", "coarse"))
    assert list(judge.measure(model).backends) == ["onnxruntime", "coarse"]
    assert list(judge.measure(other).backends) == ["onnxruntime"]
    assert list(judge.narrow(1).measure(model).backends) == ["onnxruntime"]


def _dim(part: torch.nn.Module) -> None:
    if isinstance(part, torch.nn.Conv2d) and part.bias is not None:
        torch.nn.init.constant_(part.bias, 0.5)


def test_backends_that_judge_run_int8_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_judging_backends(()) == ("onnxruntime", "openvino")
    assert list_judging_backends(("openvino", "pytorch", "reference", "tensorrt")) == ("openvino",)
    monkeypatch.setitem(BACKENDS, "openvino", BACKENDS["openvino"]._replace(slow=True))
    assert list_judging_backends(()) == ("onnxruntime",)


class _GoldenSession(_CoarseSession):
    """Adds stripes in int8 to batches of the size that golden samples have, and the judge's have not."""

    error = 0.0

    def run(self, feeds: Feeds) -> Array:
        images = super().run(feeds)
        stripes = np.where(np.arange(images.shape[3]) % 2, 1, -1).astype(np.float32)
        return images + np.float32(self.error) * stripes if self.precision == "int8" and len(images) == 8 else images


def export_golden(error: float, quality: float, add_backend: AddBackend, out: Path, lines: list[str]) -> Bundle:
    family = get_family("srvgg")
    add_backend(lambda bundle, variant: type("Golden", (_GoldenSession,), {"error": error})(bundle, variant, 1.0))
    spec, precisions = family.spec(family.configure(SETTINGS)), ("fp32", "int8")
    return export(make_module(), out, spec=spec, precisions=precisions, quality=quality, progress=lines.append)


def test_int8_that_misses_the_quality_on_golden_samples_is_converted_again(
    add_backend: AddBackend, tmp_path: Path
) -> None:
    lines: list[str] = []
    made = export_golden(0.0075, 41.0, add_backend, tmp_path / "x.ganrt", lines)
    again = [line for line in lines if line.endswith("converting it again")]
    assert again and "on the golden samples on coarse" in again[0]
    proofs = made.variants["int8-traced"].proofs
    assert {proof.backend for proof in proofs} == {"onnxruntime", "coarse"}
    assert min(proof.worst_psnr for proof in proofs) >= 41.0
    assert lines.count("verifying fp32 on coarse") == 1  # what was right is not proven again
    assert not made.find_damage()


class _ShiftedSession(_CoarseSession):
    """Makes the golden samples of int8 brighter by two levels of 255, which is 42 dB, with the first graph and with all
    that quantize as much."""

    def __init__(self, bundle: Bundle, variant: str, factor: float, counts: list[int]) -> None:
        super().__init__(bundle, variant, factor)
        self._count = [node.op_type for node in onnx.load(bundle.onnx(variant)).graph.node].count("QuantizeLinear")
        self._counts = counts

    def run(self, feeds: Feeds) -> Array:
        images = super().run(feeds)
        if self.precision != "int8" or len(images) != 8:
            return images
        self._counts.append(self._count)
        return images + np.float32(2 / 255) if self._count >= self._counts[0] else images


def export_shifted(
    counts: list[int], add_backend: AddBackend, out: Path, lines: list[str], backends: str | None = "coarse"
) -> Bundle:
    add_backend(lambda bundle, variant: _ShiftedSession(bundle, variant, 1.0, counts))
    family, module = get_family("srvgg"), make_module()
    spec, precisions = family.spec(family.configure(SETTINGS)), ("fp32", "int8")
    with torch.no_grad():
        for last in list(module.parameters())[-2:]:
            last.mul_(1e-3)  # what is added to the enlarged picture leaves its flat parts flat
    return export(module, out, spec=spec, precisions=precisions, backends=backends, progress=lines.append)


def test_int8_that_changes_flat_parts_of_golden_samples_is_converted_again(
    add_backend: AddBackend, tmp_path: Path
) -> None:
    lines: list[str] = []
    made = export_shifted([], add_backend, tmp_path / "x.ganrt", lines)
    again = [line for line in lines if line.endswith("converting it again")]
    assert "int8-traced on coarse does not make the original's images: adds a shift of" in again[0]
    assert made.variants["int8-traced"].proofs[0].passed


def test_flat_parts_that_are_wrong_on_one_backend_are_its_refusal(add_backend: AddBackend, tmp_path: Path) -> None:
    lines: list[str] = []
    made = export_shifted([0], add_backend, tmp_path / "x.ganrt", lines, None)
    assert not [line for line in lines if line.endswith("converting it again")]
    assert {proof.backend: proof.passed for proof in made.variants["int8-traced"].proofs} == {
        "onnxruntime": True,
        "coarse": False,
    }


def test_flat_parts_that_stay_wrong_stop_the_export(add_backend: AddBackend, tmp_path: Path) -> None:
    message = r"int8-traced on coarse does not make the original's images: adds a shift of [0-9.]+ levels of 255"
    with pytest.raises(VerificationError, match=message):
        export_shifted([0], add_backend, tmp_path / "x.ganrt", [])


def test_quality_that_cannot_be_reached_on_golden_samples_stops_the_export(
    add_backend: AddBackend, tmp_path: Path
) -> None:
    message = r"int8-traced is [0-9.]+ dB short of 41 dB on the golden samples on coarse; ask for less with --quality"
    with pytest.raises(VerificationError, match=message):
        export_golden(0.0105, 41.0, add_backend, tmp_path / "x.ganrt", [])
    assert not (tmp_path / "x.ganrt").exists()
