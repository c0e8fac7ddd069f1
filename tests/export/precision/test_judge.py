"""The judge of reduced precisions sees what an error does to flat parts, not its PSNR alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from ganrt.export.precision import Samples, run_samples
from ganrt.export.precision.judge import TEXTURE, Judge, Measured, format_share
from ganrt.export.precision.trials import Trials
from ganrt.spec import Image, Output, Spec

SPEC = Spec("copy", (Image("x", "content", 3, (0.0, 1.0)),), Output(3, (0.0, 1.0), None))
WOVEN = np.indices((32, 32)).sum(axis=0) % 2 * 2.0 - 1.0


def add_pattern(levels: float, shift: float = 0.0) -> ir.Model:
    """x + pattern, in levels of 255."""
    made = helper.make_graph(
        [helper.make_node("Add", ["x", "pattern"], ["image"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [numpy_helper.from_array(((levels * WOVEN + shift) / 255).astype(np.float32), "pattern")],
    )
    return ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def make_judge(quality: float, texture: float = TEXTURE) -> Judge:
    """Of four samples: noise, noise, a flat one, noise that is clipped by nothing."""
    images = np.random.default_rng(0).uniform(0.1, 0.9, (4, 3, 32, 32)).astype(np.float32)
    images[2] = 0.5
    samples = Samples([{"x": images[:3]}, {"x": images[3:]}], "four")
    return Judge(add_pattern(0), SPEC, samples, quality, texture=texture)


@pytest.mark.parametrize(
    ("levels", "shift", "error"),
    [(0.0, 0.0, 0.0), (TEXTURE, 0.0, 1.0), (2 * TEXTURE, 0.0, 4.0), (0.0, 0.75, 1.0), (0.0, -1.5, 4.0)],
)
def test_the_error_is_the_share_of_what_flat_parts_may_get(levels: float, shift: float, error: float) -> None:
    found = make_judge(20.0).measure(add_pattern(levels, shift))
    assert found.error == pytest.approx(error, rel=0.02, abs=1e-4) and found.psnr > 40
    assert found.texture == pytest.approx(levels, abs=0.01)
    assert found.describe()["texture on flat parts there"] == f"{found.texture:.2f} levels"


def test_the_limit_on_textures_can_be_another() -> None:
    found = make_judge(20.0, 2 * TEXTURE).measure(add_pattern(TEXTURE))
    assert found.error == pytest.approx(0.25, rel=0.02)


def test_the_error_is_the_share_of_the_mean_squared_error_where_that_is_larger() -> None:
    psnr = 20 * np.log10(255 / 0.1)
    assert make_judge(psnr + 3.0103).measure(add_pattern(0.1)).error == pytest.approx(2.0, rel=0.01)


def test_a_picture_that_is_not_finite_is_beyond_all_that_is_allowed() -> None:
    assert make_judge(30.0).measure(add_pattern(np.inf)).error == np.inf
    assert format_share(np.inf) == "values that are not finite" and format_share(0.254) == "25 % of the error allowed"


def test_a_narrow_judge_has_the_worst_sample_alone() -> None:
    judge = make_judge(30.0)
    found = judge.measure(add_pattern(0.5))
    narrow = judge.narrow(found.worst)
    assert found.worst == 2 and sum(len(rows["x"]) for rows in narrow._given) == 1
    assert narrow.measure(add_pattern(0.5)).error == found.error > 1


def test_images_that_came_with_the_samples_are_compared_with() -> None:
    images = np.full((2, 3, 32, 32), 0.5, np.float32)
    samples = Samples([{"x": images[:1]}, {"x": images[1:]}], "two")
    shifted = samples._replace(images=run_samples(add_pattern(0, 2.0), samples.given))
    judge = Judge(add_pattern(0), SPEC, shifted, 30.0)
    assert judge.measure(add_pattern(0, 2.0)).error < 1e-9 < 1 < judge.measure(add_pattern(0)).error


def test_the_worst_sample_is_the_first_that_is_not_finite() -> None:
    images = np.random.default_rng(0).uniform(0.1, 0.9, (4, 3, 32, 32)).astype(np.float32)
    images[2] = 0.0
    divided = add_pattern(0)
    divided.graph[0].op_type = "Div"
    divided.graph[0].replace_input_with(1, divided.graph.inputs[0])  # x / x
    judge = Judge(add_pattern(0), SPEC, Samples([{"x": images}], "four"), 30.0)
    assert judge.measure(divided) == (np.inf, -np.inf, np.inf, 2, {"onnxruntime": -np.inf})


class CountingJudge:
    """Finds the error of a number: itself on sample 0, and three times as much on sample 1."""

    def __init__(self, factors: tuple[float, ...] = (1.0, 3.0)) -> None:
        self.factors, self.measured = factors, 0

    def measure(self, made: float) -> Measured:
        self.measured += 1
        errors = [factor * made for factor in self.factors]
        return Measured(max(errors), 0.0, 0.0, int(np.argmax(errors)), {})

    def narrow(self, sample: int) -> CountingJudge:
        self.narrowed = CountingJudge(self.factors[sample : sample + 1])
        return self.narrowed


def test_a_trial_is_made_once_and_estimated_on_the_sample_that_does_worst() -> None:
    judge = CountingJudge()
    trials: Trials[int] = Trials(judge, lambda choice: choice / 10, 20)  # type: ignore[arg-type, return-value]
    assert trials.measure(5).error == trials.measure(5).error == 1.5 and judge.measured == 1
    assert trials.estimate(2) == trials.estimate(2) == pytest.approx(0.6)
    assert (judge.narrowed.factors, judge.narrowed.measured) == ((3.0,), 1)
    assert trials.measure(20).worst == 1 and judge.measured == 2  # for the estimate


def test_what_was_measured_before_is_not_measured_again() -> None:
    judge = CountingJudge()
    known = judge.measure(2.0)
    trials: Trials[int] = Trials(judge, lambda choice: choice / 10, 20, known)  # type: ignore[arg-type, return-value]
    assert trials.measure(20) is known and trials.estimate(10) == pytest.approx(3.0) and judge.measured == 1
