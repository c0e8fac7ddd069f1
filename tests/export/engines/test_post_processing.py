"""The post-processing head makes the pictures of `to_uint8`, to the last bit, and shows values that are not finite."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from ganrt.bundle import Bundle
from ganrt.export.engines.post_processing import add_post_processing_head
from ganrt.feeds import draw_feeds
from ganrt.gpu import FINITENESS_TENSOR, PICTURES_TENSOR
from ganrt.images import to_uint8
from ganrt.spec import Latent, Output, Spec

RANGES = ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-3.5, 0.25))


def make_identity(value_range: tuple[float, float], opset: int = 20) -> tuple[Spec, Any]:
    """A graph that returns its input, with a head."""
    spec = Spec("identity", (Latent("x", (3, 2, 2)),), Output(3, value_range, (2, 2)))
    x = ir.val("x", ir.DataType.FLOAT, ["N", 3, 2, 2])
    node = ir.node("Identity", [x])
    node.outputs[0].name, node.outputs[0].dtype = spec.output.name, ir.DataType.FLOAT
    node.outputs[0].shape = ir.Shape(["N", 3, 2, 2])
    model = ir.Model(
        ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": opset}, name="identity"), ir_version=10
    )
    return spec, ReferenceEvaluator(ir.to_proto(add_post_processing_head(model, spec)))


HEADS = {value_range: make_identity(value_range) for value_range in RANGES}


@given(value_range=st.sampled_from(RANGES), data=st.data())
def test_pictures_equal_those_of_to_uint8(value_range: tuple[float, float], data: st.DataObject) -> None:
    low, high = value_range
    spec, head = HEADS[value_range]
    halves = st.integers(0, 255).map(lambda step: low + (step + 0.5) * (high - low) / 255)
    value = st.one_of(st.floats(low - 1, high + 1), halves, st.sampled_from([low, high, 1e30, -1e30]))
    images = np.array(data.draw(st.lists(value, min_size=24, max_size=24)), np.float32).reshape(2, 3, 2, 2)
    made = head.run([PICTURES_TENSOR], {"x": images})[0]
    assert made.dtype == np.uint8 and np.array_equal(made, to_uint8(images, spec.output.range))


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_image_that_is_not_finite_is_marked(bad: float, opset: int) -> None:
    images = np.full((3, 3, 2, 2), -0.5, np.float32)
    images[1, 2, 1, 0] = bad
    with np.errstate(invalid="ignore"):  # from the cast to uint8
        finiteness = make_identity(RANGES[0], opset)[1].run([FINITENESS_TENSOR], {"x": images})[0]
    assert finiteness.shape == (3,) and np.isfinite(finiteness).tolist() == [True, False, True]
    assert finiteness[0] == 0.5


def test_the_float_image_and_the_original_graph_stay_the_same(bundle: Bundle) -> None:
    model = ir.load(bundle.onnx("fp32"))
    head = add_post_processing_head(model, bundle.spec)
    feeds = draw_feeds(bundle.spec, 3, 0, 2)
    names = [bundle.spec.output.name, PICTURES_TENSOR]
    evaluator: Any = ReferenceEvaluator(ir.to_proto(head))
    image, pictures = evaluator.run(names, feeds)
    assert np.array_equal(pictures, to_uint8(image, bundle.spec.output.range))
    assert [value.name for value in model.graph.outputs] == [bundle.spec.output.name]
    assert [value.name for value in head.graph.outputs] == [bundle.spec.output.name, PICTURES_TENSOR, FINITENESS_TENSOR]
