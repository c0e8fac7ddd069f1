"""The uint8 end of an engine makes what `to_uint8` makes, to the last bit, and tells what uint8 cannot."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from ganrt.bundle import Bundle
from ganrt.export.engines.post_processing import with_head, with_signed_steps
from ganrt.feeds import draw
from ganrt.gpu import FINITENESS_TENSOR, PICTURES_TENSOR
from ganrt.images import to_uint8
from ganrt.spec import Latent, Output, Spec

RANGES = ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-3.5, 0.25))


def passing(value_range: tuple[float, float], opset: int = 20) -> tuple[Spec, ReferenceEvaluator]:
    """A graph that only passes its input on, with a head."""
    spec = Spec("passing", (Latent("x", (3, 2, 2)),), Output(3, value_range, (2, 2)))
    x = ir.val("x", ir.DataType.FLOAT, ["N", 3, 2, 2])
    node = ir.node("Identity", [x])
    node.outputs[0].name, node.outputs[0].dtype = spec.output.name, ir.DataType.FLOAT
    node.outputs[0].shape = ir.Shape(["N", 3, 2, 2])
    model = ir.Model(
        ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": opset}, name="passing"), ir_version=10
    )
    return spec, ReferenceEvaluator(ir.to_proto(with_head(model, spec)))


HEADS = {value_range: passing(value_range) for value_range in RANGES}


@given(value_range=st.sampled_from(RANGES), data=st.data())
def test_pictures_are_those_of_to_uint8(value_range: tuple[float, float], data: st.DataObject) -> None:
    low, high = value_range
    spec, head = HEADS[value_range]
    halves = st.integers(0, 255).map(lambda level: low + (level + 0.5) * (high - low) / 255)
    value = st.one_of(st.floats(low - 1, high + 1), halves, st.sampled_from([low, high, 1e30, -1e30]))
    images = np.array(data.draw(st.lists(value, min_size=24, max_size=24)), np.float32).reshape(2, 3, 2, 2)
    made = head.run([PICTURES_TENSOR], {"x": images})[0]
    assert made.dtype == np.uint8 and np.array_equal(made, to_uint8(images, spec.output.range))


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_level_tells_which_image_is_not_finite(bad: float, opset: int) -> None:
    images = np.full((3, 3, 2, 2), -0.5, np.float32)
    images[1, 2, 1, 0] = bad
    with np.errstate(invalid="ignore"):  # of the cast that a device would make something of
        level = passing(RANGES[0], opset)[1].run([FINITENESS_TENSOR], {"x": images})[0]
    assert level.shape == (3,) and np.isfinite(level).tolist() == [True, False, True] and level[0] == 0.5


def test_the_image_itself_stays_and_the_bundle_too(bundle: Bundle) -> None:
    model = ir.load(bundle.onnx("fp32"))
    head = with_head(model, bundle.spec)
    feeds = draw(bundle.spec, 3, 0, 2)
    names = [bundle.spec.output.name, PICTURES_TENSOR]
    image, pictures = ReferenceEvaluator(ir.to_proto(head)).run(names, feeds)
    assert np.array_equal(pictures, to_uint8(image, bundle.spec.output.range))
    assert [value.name for value in model.graph.outputs] == [bundle.spec.output.name]
    assert [value.name for value in head.graph.outputs] == [bundle.spec.output.name, PICTURES_TENSOR, FINITENESS_TENSOR]


@pytest.mark.parametrize("below", [0, 64, 200])
def test_unsigned_steps_become_signed_ones_of_the_same_reach(below: int) -> None:
    x = ir.val("x", ir.DataType.FLOAT, [5])
    scale = ir.Value(name="s", const_value=ir.tensor(np.float32(2 / 255)))
    zero = ir.Value(name="z", const_value=ir.tensor(np.uint8(below)))
    scale.dtype, zero.dtype = ir.DataType.FLOAT, ir.DataType.UINT8
    steps = ir.node("QuantizeLinear", [x, scale, zero])
    back = ir.node("DequantizeLinear", [steps.outputs[0], scale, zero])
    back.outputs[0].name, back.outputs[0].dtype, back.outputs[0].shape = "y", ir.DataType.FLOAT, ir.Shape([5])
    graph = ir.Graph([x], back.outputs, nodes=[steps, back], initializers=[scale, zero], opset_imports={"": 20})
    graph.name = "steps"
    model = with_signed_steps(ir.Model(graph, ir_version=10))
    given = np.array([0.0, 0.5, 1.0, 2.0, 3.0], np.float32)
    (made,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": given})
    assert zero.dtype == ir.DataType.INT8 and not zero.const_value.numpy().any()
    reach = max(below, 255 - below) * 2 / 255
    assert np.abs(made - np.minimum(given, reach)).max() <= reach / 127 and made[-1] == pytest.approx(reach)
