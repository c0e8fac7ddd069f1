"""Inputs that are bound when a model is exported: the same images as with the values given each time."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.manifests import edit_manifest

import ganrt
from ganrt import feeds
from ganrt.bound_inputs import check_bound_inputs, drop_bound_inputs, make_bound_feeds
from ganrt.bundle import Bundle
from ganrt.errors import BundleError, RequestError
from ganrt.export import export
from ganrt.export.bind_inputs import bind_inputs
from ganrt.export.passes.pipeline import optimize_graph
from ganrt.export.precision.calibration import Evaluator
from ganrt.export.tracing import run_original, trace
from ganrt.golden import proof_picture_size
from ganrt.models import build_generator, get_family
from ganrt.spec import Label, Latent, Output, Scalar, Spec

SMALL = {"size": 32, "width": 2, "latent": 8, "classes": 5}
DEEP = {"widths": (16, 16, 8), "upsample": (1,), "attention": -1, "latent": 8, "classes": 5}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, int | float]]] = {
    "a class": ("resnet", SMALL, {"label": 3}),
    "a class beside latents": ("resnet", {**SMALL, "shared": 4, "hierarchical": True}, {"label": 3}),
    "a class and a truncation": ("biggan_deep", DEEP, {"label": 1, "truncation": 0.5}),
    "a strength": ("adain", {"width": 2}, {"strength": 0.25}),
}


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_those_of_the_whole_model(case: str) -> None:
    family, config, bound = CASES[case]
    torch.manual_seed(0)
    module = build_generator(family, config).eval()
    known = get_family(family)
    spec = known.spec(known.configure(config))
    left = drop_bound_inputs(spec, bound)
    given = feeds.draw_feeds(left, 1, 0, 3, size=proof_picture_size(left))
    every = given | make_bound_feeds(spec, bound, 3)
    wanted = run_original(module, {item.name: every[item.name] for item in spec.inputs})
    graph = bind_inputs(trace(module, spec), make_bound_feeds(spec, bound, 1), left)
    assert [value.name for value in graph.graph.inputs] == [item.name for item in left.inputs]
    for made in (graph, optimize_graph(graph, "phases")[0]):
        np.testing.assert_allclose(Evaluator(made)(given)[0], wanted, rtol=0, atol=2e-5 * float(np.ptp(wanted)))


def test_a_bound_class_folds_conditional_norms_away() -> None:
    torch.manual_seed(0)
    known = get_family("resnet")
    spec = known.spec(known.configure(SMALL))
    whole = trace(build_generator("resnet", SMALL).eval(), spec)
    bound = {"label": 3}
    left = bind_inputs(whole, make_bound_feeds(spec, bound, 1), drop_bound_inputs(spec, bound))
    counts = [
        sum(n.op_type in ("Gather", "Mul") for n in optimize_graph(made, "phases")[0].graph) for made in (whole, left)
    ]
    assert counts[1] < counts[0] / 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """A conditional model, whole and with its class bound."""
    folder = tmp_path_factory.mktemp("bound")
    torch.manual_seed(0)
    torch.save(build_generator("resnet", SMALL).state_dict(), folder / "c.pth")
    whole = export(str(folder / "c.pth"), folder / "whole.ganrt")
    return whole, export(str(folder / "c.pth"), folder / "bound.ganrt", bind={"label": 3})


def test_an_exported_class_needs_no_label(made: tuple[Bundle, Bundle]) -> None:
    whole, left = made
    assert left.spec.find(Label) is None and left.provenance["options"]["bound"] == {"label": 3}
    assert "pytorch" in {proof.backend for proof in left.variants["fp32"].proofs if proof.passed}
    with ganrt.load(whole.folder) as every, ganrt.load(left.folder) as one:
        apart = np.abs(one.sample(4, seed=7).astype(int) - every.sample(4, seed=7, labels=3))
        assert apart.max() <= 1
        with pytest.raises(RequestError, match="labels"):
            one.sample(1, labels=3)


def bind_label(value: object, manifest: dict[str, Any]) -> None:
    manifest["model"]["bound"] = {"label": value}


def test_bound_inputs_of_a_manifest_are_checked(made: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    for value, backend, message in (
        ("3", "onnxruntime", "they must be numbers"),
        (9, "pytorch", "do not fit the family"),
    ):
        folder = tmp_path / f"{value}{backend}.ganrt"
        shutil.copytree(made[1].folder, folder)
        edit_manifest(folder, partial(bind_label, value))
        with pytest.raises(BundleError, match=message):
            ganrt.load(folder, backend=backend, unproven=True)


SPEC = Spec(
    "x",
    (Latent("z", (4,)), Label("label", 10), Label("kind", 2, "one_hot"), Scalar("strength", (0.0, 1.0), 1.0)),
    Output(3, (-1.0, 1.0), (8, 8)),
)


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"z": 1}, "z cannot be bound; this model has label, kind, strength to bind"),
        ({"other": 1}, "other cannot be bound"),
        ({"label": 10}, "label cannot be bound to 10; it takes a class from 0 to 9"),
        ({"label": 0.5}, "label cannot be bound to 0.5"),
        ({"strength": 1.5}, "strength cannot be bound to 1.5; it takes 0 to 1"),
        ({"strength": float("nan")}, "strength cannot be bound to nan"),
        ({"label": True}, "label cannot be bound to True; it takes a number"),
        ({"strength": "1"}, "strength cannot be bound to '1'; it takes a number"),
    ],
)
def test_inputs_and_values_that_cannot_be_bound(bound: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_bound_inputs(SPEC, bound)


def test_one_input_must_stay_unbound() -> None:
    spec = Spec("x", (Label("label", 10),), Output(3, (-1.0, 1.0), (8, 8)))
    with pytest.raises(RequestError, match=r"all inputs of this model are bound \(label\); at least one"):
        check_bound_inputs(spec, {"label": 1})


def test_rows_are_what_the_inputs_take() -> None:
    made = make_bound_feeds(SPEC, {"label": 7, "kind": 1, "strength": 0.5}, 2)
    assert {name: array.tolist() for name, array in made.items()} == {
        "label": [7, 7],
        "kind": [[0, 1], [0, 1]],
        "strength": [0.5, 0.5],
    }
    assert [made[name].dtype for name in ("label", "kind", "strength")] == [np.int64, np.float32, np.float32]
    assert [item.name for item in drop_bound_inputs(SPEC, {"label": 1}).inputs] == ["z", "kind", "strength"]
