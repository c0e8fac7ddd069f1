"""What is done to a graph before it is quantized helps on samples that it was not measured on, or is not done."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from ganrt.export.precision import draw_samples, preparation
from ganrt.export.precision.int8 import find_layers
from ganrt.export.precision.judge import Judge
from ganrt.export.precision.preparation import prepare_graph
from ganrt.export.tracing import trace
from ganrt.export.variants import draw_calibration
from ganrt.models import build_generator, get_family
from ganrt.spec import Image, Latent, Output, Spec

BOTH = ("channels equalized", "weights rounded with feedback")


@pytest.fixture(scope="module")
def graph() -> tuple[ir.Model, Spec]:
    """srvgg whose channels differ in size."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"scale": 2, "width": 8, "convs": 3}
    module, family = build_generator("srvgg", settings), get_family("srvgg")
    sizes = 10 ** torch.linspace(-1, 1, 8)
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.normal_(part.weight, 0, (1.5 / part.weight[0].numel()) ** 0.5)
            if part.out_channels == 8:
                part.weight.data *= sizes[:, None, None, None]
            if part.in_channels == 8:
                part.weight.data /= sizes[:, None, None]
    spec = family.spec(family.configure(settings))
    return trace(module.eval(), spec, 20, lambda raw: None), spec


def prepare(graph: tuple[ir.Model, Spec]) -> tuple[preparation.Prepared, list[str], Judge]:
    model, spec = graph
    judged = draw_samples(spec, 8)
    judge, names = Judge(model, spec, judged, 45.0), [layer.name for layer in find_layers(model)]
    return prepare_graph(model, names, draw_calibration(spec, judged, None), judge), names, judge


def test_both_help_where_channels_differ(graph: tuple[ir.Model, Spec]) -> None:
    prepared, names, judge = prepare(graph)
    plain = preparation.Prepared(
        graph[0], preparation.measure_ranges(graph[0], names, draw_samples(graph[1], 32, start=8)), {}, ()
    )
    assert prepared.done == BOTH and prepared.measured == judge.measure(prepared.quantize(names))
    rounded_to_the_nearest = prepared._replace(steps={})
    psnrs = [judge.measure(each.quantize(names)).psnr for each in (plain, rounded_to_the_nearest, prepared)]
    assert psnrs[0] + 3 < psnrs[1] < psnrs[2]


@pytest.mark.parametrize("worse", [0, 1], ids=BOTH)
def test_what_does_not_help_is_not_done(
    worse: int, graph: tuple[ir.Model, Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unbalance(model: ir.Model, ranges: Any) -> ir.Model:
        return model.clone()

    def round_badly(model: ir.Model, ranges: Any, samples: Any) -> dict[str, Any]:
        return {name: np.zeros_like(steps) for name, steps in kept(model, ranges, samples).items()}

    kept = preparation.round_weights
    if worse:
        monkeypatch.setattr(preparation, "round_weights", round_badly)
    else:
        monkeypatch.setattr(preparation, "equalize_channels", unbalance)
    done = prepare(graph)[0].done
    assert done == (BOTH[1 - worse],)


def test_calibration_samples_are_others_than_those_that_are_judged() -> None:
    spec = Spec("small", (Latent("z", (4,)),), Output(3, (-1.0, 1.0), (8, 8)))
    judged = draw_samples(spec, 8)
    calibration = draw_calibration(spec, judged, None)
    assert calibration.origin == "samples 8 to 39 of seed 2024"

    def rows(given: Collection[Any]) -> set[tuple[float, ...]]:
        return {tuple(row) for batch in given for row in batch["z"].tolist()}

    assert len(rows(calibration.given)) == 32 and not rows(calibration.given) & rows(judged.given)


def test_made_up_pictures_have_the_sizes_of_a_proof_in_turn() -> None:
    spec = Spec("small", (Image("x", "content", 3, (0.0, 1.0)),), Output(3, (0.0, 1.0), None))
    sizes = [batch["x"].shape[2:] for batch in draw_samples(spec, 16).given]
    assert sizes == [(48, 64), (37, 101), (113, 71), (48, 64)]
