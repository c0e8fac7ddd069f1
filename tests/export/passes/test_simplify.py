"""Constants, padding, dead channels and dead biases: the same function with fewer nodes, proven in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.graphs import CHANNELS, graph, same, types
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from ganrt.export.passes.base import apply_passes
from ganrt.export.passes.dead_channels import DEAD_BIASES, DEAD_CHANNELS
from ganrt.export.passes.simplify import PADS, SIMPLIFY, drop_empty_updates

SEEDS = st.integers(0, 99)
SIDES = st.lists(st.integers(0, 3), min_size=4, max_size=4)


def padding(name: str, sides: list[int]) -> dict[str, np.ndarray]:
    return {name: np.array([0, 0, *sides[:2], 0, 0, *sides[2:]])}


@given(sides=SIDES, seed=SEEDS)
def test_constants_are_folded_and_zeros_are_padded_by_the_convolution(sides: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = {name: random.normal(size=(3, CHANNELS, 3, 3)) for name in ("v", "w")} | padding("p", sides)
    nodes = [
        helper.make_node("Add", ["v", "w"], ["sum"]),
        helper.make_node("Pad", ["x", "p"], ["padded"]),
        helper.make_node("Conv", ["padded", "sum"], ["c"]),
        helper.make_node("Identity", ["c"], ["y"]),
    ]
    before = graph(nodes, weights)
    after, applied = apply_passes(before, [SIMPLIFY])
    assert applied == ("simplify",) and types(after) == ["Conv"]
    same(before, after, seed)


def test_what_is_computed_twice_is_computed_once() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["x"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    before = graph(nodes, {})
    after, applied = apply_passes(before, [SIMPLIFY])
    assert applied == ("simplify",) and types(after) == ["Relu", "Add"]
    same(before, after, 0)


@pytest.mark.parametrize("written", [0, 1])
@pytest.mark.parametrize("last", ["Neg", None])
def test_updates_of_nothing_are_dropped(written: int, last: str | None) -> None:
    """The exporter writes them for `mask[:, -8:0] = 1`."""
    updates = {"indices": np.zeros((written, 4), np.int64), "updates": np.ones(written)}
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("ScatterND", ["a", *updates], ["b" if last else "y"]),
        *([helper.make_node(last, ["b"], ["y"])] if last else []),
    ]
    before = graph(nodes, updates)
    after = before.clone()
    dropped = bool(last) and not written  # an output of the graph keeps its node
    assert drop_empty_updates(after) == dropped
    assert types(after) == ["Relu", *([] if dropped else ["ScatterND"]), *([last] if last else [])]
    same(before, after, 0)


@pytest.mark.parametrize("computed", [["indices"], ["updates"], ["indices", "updates"]])
def test_updates_of_nothing_are_known_by_one_of_both(computed: list[str]) -> None:
    """What computes the other goes with them; where neither is a constant, the node stays."""
    updates = {"indices": np.zeros((0, 4), np.int64), "updates": np.ones(0)}
    weights = {f"{name}.given" if name in computed else name: array for name, array in updates.items()}
    nodes = [
        *(helper.make_node("Neg", [f"{name}.given"], [name]) for name in computed),
        helper.make_node("ScatterND", ["x", *updates], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    before = graph(nodes, weights)
    after = before.clone()
    dropped = len(computed) == 1
    assert drop_empty_updates(after) == dropped
    assert types(after) == (["Relu"] if dropped else ["Neg", "Neg", "ScatterND", "Relu"])
    same(before, after, 0)


def test_a_node_of_the_same_name_from_elsewhere_stays() -> None:
    updates = {"indices": np.zeros((0, 4), np.int64), "updates": np.ones(0)}
    nodes = [
        helper.make_node("ScatterND", ["x", *updates], ["b"], domain="elsewhere"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    assert drop_empty_updates(graph(nodes, updates)) == 0


def test_padding_of_named_axes_stays() -> None:
    weights = {"p": np.array([1, 1]), "two": np.array([2]), "three": np.array([3])}
    nodes = [
        helper.make_node("Pad", ["x", "p", "", "two"], ["q"]),
        helper.make_node("Pad", ["q", "p", "", "three"], ["y"]),
    ]
    assert apply_passes(graph(nodes, weights), [PADS])[1] == ()


@pytest.mark.parametrize("mode", ["constant", "edge"])
@given(one=SIDES, two=SIDES, seed=SEEDS)
def test_padding_twice_is_padding_once(mode: str, one: list[int], two: list[int], seed: int) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "p"], ["q"], mode=mode),
        helper.make_node("Pad", ["q", "r"], ["y"], mode=mode),
    ]
    before = graph(nodes, padding("p", one) | padding("r", two))
    after, applied = apply_passes(before, [PADS])
    assert applied == ("pads",) and types(after) == ["Pad"]
    same(before, after, seed)


@pytest.mark.parametrize(
    "modes", [("reflect", "reflect"), ("constant", "edge"), ("constant", "filled"), ("cut", "cut")]
)
def test_other_padding_stays(modes: tuple[str, str]) -> None:
    weights: dict[str, Any] = padding("p", [1] * 4) | padding("less", [-1] * 4) | {"fill": np.array(2.0)}
    inputs = {"filled": ["p", "fill"], "cut": ["less"]}
    attributes = [{} if mode in inputs else {"mode": mode} for mode in modes]
    nodes = [
        helper.make_node("Pad", ["x", *inputs.get(modes[0], ["p"])], ["q"], **attributes[0]),
        helper.make_node("Pad", ["q", *inputs.get(modes[1], ["p"])], ["y"], **attributes[1]),
    ]
    assert apply_passes(graph(nodes, weights), [PADS])[1] == ()


@given(bounds=st.sampled_from([(0, 3), (1, 3), (-2, 100)]), bias=st.booleans(), seed=SEEDS)
def test_channels_that_are_cut_away_are_not_computed(bounds: tuple[int, int], bias: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = {
        "w": random.normal(size=(5, CHANNELS, 3, 3)),
        **({"b": random.normal(size=5)} if bias else {}),
        **{name: np.array([value]) for name, value in zip(("first", "last", "axis"), (*bounds, 1), strict=True)},
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", *(["b"] if bias else [])], ["c"]),
        helper.make_node("Slice", ["c", "first", "last", "axis"], ["y"]),
    ]
    before = graph(nodes, weights)
    after, applied = apply_passes(before, [DEAD_CHANNELS])
    assert applied == ("dead-channels",) and types(after) == ["Conv"]
    same(before, after, seed)


@pytest.mark.parametrize(("axis", "step"), [(2, 1), (1, 2)])
def test_other_cuts_stay(axis: int, step: int) -> None:
    numbers = {"one": 1, "three": 3, "axis": axis, "step": step}
    weights = {"w": np.ones((5, CHANNELS, 3, 3))} | {name: np.array([value]) for name, value in numbers.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Slice", ["c", "one", "three", "axis", "step"], ["y"]),
    ]
    assert apply_passes(graph(nodes, weights), [DEAD_CHANNELS])[1] == ()


@given(seed=SEEDS)
def test_a_bias_before_an_instance_norm_is_dropped(seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = {"w": random.normal(size=(3, CHANNELS, 3, 3))} | {name: random.normal(size=3) for name in ("b", "g", "h")}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("InstanceNormalization", ["c", "g", "h"], ["y"]),
    ]
    before = graph(nodes, weights)
    after, applied = apply_passes(before, [DEAD_BIASES])
    assert applied == ("dead-biases",) and "b" not in after.graph.initializers
    same(before, after, seed, (5, 6))
