"""Instance norms that are written out, in the ways of PyTorch's exporters and of TensorFlow's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.graphs import CHANNELS, graph, same, types
from hypothesis import given
from hypothesis import strategies as st
from onnx.helper import make_node

from ganrt.export.passes.base import apply_passes
from ganrt.export.passes.instance_norm import INSTANCE_NORMS

CONSTANTS = {
    "pixels": np.array([2, 3]),
    "two": np.array(2.0),
    "one": np.array([[[[1.0]]]]),
    "gain": np.array([0.5, -1, 2, 3]).reshape(1, CHANNELS, 1, 1),
    "epsilon": np.array(2.0**-6),  # exact in the float32 of an attribute
}

DIVISIONS: dict[str, tuple[list[Any], int]] = {
    "the difference by the deviation": ([make_node("Div", ["d", "s"], ["y"])], 0),
    "times one by the deviation": (
        [make_node("Div", ["one", "s"], ["r"]), make_node("Mul", ["r", "d"], ["y"])],
        0,
    ),
    "times the reciprocal": ([make_node("Reciprocal", ["s"], ["r"]), make_node("Mul", ["d", "r"], ["y"])], 0),
    "times a gain by the deviation": (
        [make_node("Div", ["gain", "s"], ["r"]), make_node("Mul", ["d", "r"], ["y"])],
        1,
    ),
    "times the reciprocal times a gain": (
        [
            make_node("Reciprocal", ["s"], ["r"]),
            make_node("Mul", ["gain", "r"], ["t"]),
            make_node("Mul", ["d", "t"], ["y"]),
        ],
        1,
    ),
    "twice": (
        [
            make_node("Div", ["d", "s"], ["a"]),
            make_node("Div", ["gain", "s"], ["r"]),
            make_node("Mul", ["d", "r"], ["b"]),
            make_node("Add", ["a", "b"], ["y"]),
        ],
        2,
    ),
}


def write_norm(division: list[Any], square: Any = None, epsilon_first: bool = False) -> list[Any]:
    """relu(x) is centered as d, and s is its deviation."""
    added = ["epsilon", "v"] if epsilon_first else ["v", "epsilon"]
    return [
        make_node("Relu", ["x"], ["h"]),
        make_node("ReduceMean", ["h", "pixels"], ["m"]),
        make_node("Sub", ["h", "m"], ["d"]),
        square or make_node("Pow", ["d", "two"], ["q"]),
        make_node("ReduceMean", ["q", "pixels"], ["v"]),
        make_node("Add", added, ["e"]),
        make_node("Sqrt", ["e"], ["s"]),
        *division,
    ]


@pytest.mark.parametrize("way", DIVISIONS)
@given(product=st.booleans(), epsilon_first=st.booleans(), negative=st.booleans(), seed=st.integers(0, 99))
def test_it_becomes_one_operator(way: str, product: bool, epsilon_first: bool, negative: bool, seed: int) -> None:
    division, gains = DIVISIONS[way]
    square = make_node("Mul", ["d", "d"], ["q"]) if product else None
    constants = CONSTANTS | {"pixels": np.array([-1, -2] if negative else [2, 3])}
    before = graph(write_norm(division, square, epsilon_first), constants)
    after, applied = apply_passes(before, [INSTANCE_NORMS])
    assert applied == ("instance-norms",)
    found = types(after)
    assert found.count("InstanceNormalization") == 1
    assert not {"ReduceMean", "Sub", "Sqrt", "Reciprocal", "Div", "Identity"} & set(found)
    assert found.count("Mul") == (1 if gains else 0)
    same(before, after, seed)


OTHERS: dict[str, list[Any]] = {
    "the deviation is used elsewhere": write_norm(
        [make_node("Div", ["d", "s"], ["n"]), make_node("Add", ["n", "s"], ["y"])]
    ),
    "the reciprocal is used elsewhere": write_norm(
        [
            make_node("Reciprocal", ["s"], ["r"]),
            make_node("Mul", ["d", "r"], ["n"]),
            make_node("Add", ["n", "r"], ["y"]),
        ]
    ),
    "a gain is used elsewhere": write_norm(
        [
            make_node("Reciprocal", ["s"], ["r"]),
            make_node("Mul", ["r", "gain"], ["t"]),
            make_node("Mul", ["d", "t"], ["n"]),
            make_node("Add", ["n", "t"], ["y"]),
        ]
    ),
    "two gains": write_norm(
        [
            make_node("Reciprocal", ["s"], ["r"]),
            make_node("Mul", ["r", "gain"], ["t"]),
            make_node("Mul", ["t", "gain"], ["u"]),
            make_node("Mul", ["d", "u"], ["y"]),
        ]
    ),
    "the difference is used elsewhere": write_norm(
        [make_node("Div", ["d", "s"], ["n"]), make_node("Add", ["n", "d"], ["y"])]
    ),
    "the deviation is divided": write_norm([make_node("Div", ["s", "d"], ["y"])]),
    "something else is divided": write_norm([make_node("Div", ["h", "s"], ["y"])]),
    "a cube": write_norm([make_node("Div", ["d", "s"], ["y"])], make_node("Pow", ["d", "three"], ["q"])),
    "a product with another": write_norm([make_node("Div", ["d", "s"], ["y"])], make_node("Mul", ["d", "h"], ["q"])),
}


@pytest.mark.parametrize("case", OTHERS)
def test_others_stay(case: str) -> None:
    constants = CONSTANTS | {"three": np.array(3.0)}
    assert apply_passes(graph(OTHERS[case], constants), [INSTANCE_NORMS])[1] == ()


def test_an_epsilon_of_another_rank_stays() -> None:
    nodes = write_norm([make_node("Div", ["d", "s"], ["y"])])
    assert apply_passes(graph(nodes, CONSTANTS | {"epsilon": np.ones((1, 1, 1, 1, 1))}), [INSTANCE_NORMS])[1] == ()


@pytest.mark.parametrize("axes", [[1, 2, 3], [3], [0, 2]])
def test_norms_over_other_axes_stay(axes: list[int]) -> None:
    nodes = write_norm([make_node("Div", ["d", "s"], ["y"])])
    assert apply_passes(graph(nodes, CONSTANTS | {"pixels": np.array(axes)}), [INSTANCE_NORMS])[1] == ()


def test_the_mean_is_that_of_what_is_centered() -> None:
    nodes = write_norm([make_node("Div", ["d", "s"], ["y"])])
    nodes[1] = make_node("ReduceMean", ["x", "pixels"], ["m"])
    assert apply_passes(graph(nodes, CONSTANTS), [INSTANCE_NORMS])[1] == ()
