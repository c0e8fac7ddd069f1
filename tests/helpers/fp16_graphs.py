"""Small graphs for the tests of fp16: chains of the operators that generators are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from ganrt.spec import Latent, Output, Spec

SPEC = Spec("small", (Latent("z", (4, 6, 6)),), Output(3, (-4.0, 4.0), (6, 6)))  # any range
STEPS = ("conv", "relu", "scale", "norm", "pixel", "turn", "softmax", "enlarge", "skip", "split")


class Chain:
    """A graph from z (N, 4, 6, 6) to image, one operator after the other."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self.last = "z"

    def weight(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(value)
        return name

    def add_op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Apply an operator to the last tensor, or to `inputs`."""
        made = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op_type, list(inputs) or [self.last], [made], name=f"n_{made}", **attributes)
        )
        self.last = made
        return made

    def with_constant(self, op_type: str, value: Any) -> str:
        """A binary operator with a float32 constant."""
        return self.add_op(op_type, self.last, self.weight(np.asarray(value, np.float32)))

    def model(self, opset: int = 20) -> ir.Model:
        nodes = [*self.nodes, helper.make_node("Identity", [self.last], ["image"], name="n_image")]
        made = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 4, 6, 6])],
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 4, "h", "w"])],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        return ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))

    def add(self, step: str) -> None:
        """One of STEPS; magnitudes stay about 1."""
        x, random = self.last, self.random
        if step == "conv":
            kernel = random.normal(0, 1 / 6, (4, 4, 3, 3)).astype(np.float32)
            self.add_op("Conv", x, self.weight(kernel), pads=[1, 1, 1, 1])
        elif step == "relu":
            self.add_op("LeakyRelu", alpha=0.2)
        elif step == "scale":
            self.with_constant("Mul", random.uniform(0.5, 1.5, (1, 4, 1, 1)))
        elif step == "norm":
            ones = (self.weight(np.full(4, value, np.float32)) for value in (1, 0))
            self.add_op("InstanceNormalization", x, *ones, epsilon=1e-2)
        elif step == "pixel":
            self.with_constant("Pow", 2.0)
            self.add_op("ReduceMean", self.last, self.weight(np.array([1])), keepdims=1)
            self.with_constant("Add", 1e-8)
            self.add_op("Mul", x, self.add_op("Reciprocal", self.add_op("Sqrt")))
        elif step == "turn":
            self.add_op("Transpose", perm=[0, 1, 3, 2])
            self.add_op("Reshape", self.last, self.add_op("Shape", x))
        elif step == "softmax":
            self.add_op("Softmax", axis=1)
            self.with_constant("Mul", 3.0)
        elif step == "enlarge":
            scales = self.weight(np.array([1, 1, 2, 2], np.float32))
            self.add_op("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric")
            self.add_op("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
        elif step == "skip":
            self.add("conv")
            self.add_op("Add", self.last, x)
        else:
            self.add_op("Split", x, axis=1, num_outputs=2)
            self.nodes[-1].output.append(f"{self.last}.second")
            self.add_op("Concat", self.last, f"{self.last}.second", axis=1)


def chain(steps: list[str], seed: int = 0) -> ir.Model:
    made = Chain(seed)
    for step in steps:
        made.add(step)
    return made.model()
