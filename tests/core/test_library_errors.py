"""What backends say of graphs that their library cannot load or run: the node and the reason, and nothing beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.sessions import FakeSession, samples
from onnx import TensorProto, helper, numpy_helper, save

import ganrt
from ganrt.backend import first_line, open_session
from ganrt.bundle import Bundle, Variant
from ganrt.errors import BackendError, BundleError, DeviceMemoryError, GanrtError
from ganrt.session_config import SessionConfig
from ganrt.stores import FolderStore

SPEC = ganrt.Spec("square", (ganrt.Latent("x", (3, 8, 8)),), ganrt.Output(3, (-1.0, 1.0), (8, 8)))


def write_graph(folder: Path, *nodes: Any, **weights: list[int]) -> Bundle:
    """A bundle of a graph x (N, 3, 8, 8) -> image."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 8, 8]) for name in ("x", SPEC.output.name)
    ]
    tensors = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in weights.items()]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("foreign", 1)]
    graph = helper.make_graph(list(nodes), "g", values[:1], values[1:], tensors)
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")
    return Bundle(FolderStore(folder), SPEC, {"fp32": Variant("model.onnx", 20, "fp32")}, {}).with_files("model.onnx")


def make_node(op_type: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(op_type, inputs, ["body.0/Last"], name="body.0/Last", **attributes)


END = helper.make_node("Softmax", ["body.0/Last"], [SPEC.output.name], name="forward/Softmax")
GRAPHS: dict[str, tuple[list[Any], dict[str, list[int]]]] = {
    "unknown operator": ([make_node("Nonsense", "x"), END], {}),
    "foreign operator": ([make_node("Foo", "x", domain="foreign"), END], {}),
    "impossible shape": ([make_node("Reshape", "x", "to"), END], {"to": [-1, 3, 7, 8]}),
    "index out of range": ([make_node("Gather", "x", "rows", axis=2), END], {"rows": [9, 0, 0, 0, 0, 0, 0, 0]}),
    "wrapped padding": ([make_node("Pad", "x", "by", mode="wrap"), END], {"by": [0, 0, 1, 1, 0, 0, -1, -1]}),
}
REASONS = {
    ("onnxruntime", "unknown operator"): r"cannot load fp32: .*body\.0/Last.*No Op registered for Nonsense",
    ("onnxruntime", "foreign operator"): r"cannot load fp32: .*foreign:Foo.* is not a registered function/op",
    ("onnxruntime", "impossible shape"): r"failed on a batch of 2: .*'body\.0/Last'.* cannot be reshaped",
    ("onnxruntime", "index out of range"): r"failed on a batch of 2: .*'body\.0/Last'.*idx=9 must be within",
    ("openvino", "unknown operator"): "cannot load fp32: No conversion rule found for operations: Nonsense-20",
    ("openvino", "foreign operator"): r"cannot load fp32: No conversion rule found for operations: foreign\.Foo",
    ("openvino", "impossible shape"): r"failed: .*'body\.0/Last'.* conflicts with the reshape pattern",
    ("openvino", "wrapped padding"): r"cannot load fp32: .*body\.0/Last.* Unsupported padding mode: \[wrap\]",
    ("ncnn", "unknown operator"): "cannot load fp32: ncnn has no layer for Nonsense",
    ("ncnn", "foreign operator"): "cannot load fp32: ncnn has no layer for foreign::Foo",
    ("ncnn", "impossible shape"): r"cannot load fp32: ncnn has no layer for Reshape \(body\.0/Last\)",
    ("ncnn", "index out of range"): r"cannot load fp32: ncnn has no layer for Gather \(body\.0/Last\)",
    ("ncnn", "wrapped padding"): r"cannot load fp32: ncnn has no layer for Pad \(body\.0/Last\)",
    ("mnn", "unknown operator"): "cannot load fp32: These Op Not Support: ONNX::Nonsense",
    ("mnn", "foreign operator"): "cannot load fp32: These Op Not Support: ONNX::Foo",
    ("mnn", "impossible shape"): r"failed: Reshape error: .*; Compute Shape Error for body\.0/Last",
    ("mnn", "index out of range"): r"cannot load fp32: body\.0/Last has an index beyond 8 rows",
    ("mnn", "wrapped padding"): r"cannot load fp32: MNN only support .* Pad mode; .*body\.0/Last.*Pad, failed",
    ("reference", "foreign operator"): "cannot load fp32",
    ("reference", "impossible shape"): r"failed on a batch of 2: cannot reshape",
}


@pytest.mark.parametrize(("backend", "graph"), REASONS)
def test_the_reason_names_the_node_and_no_file(
    backend: str, graph: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes, weights = GRAPHS[graph]
    bundle = write_graph(tmp_path, *nodes, **weights)
    with pytest.raises(GanrtError) as caught, open_session(bundle, SessionConfig(backend)) as session:
        session.submit({"x": np.zeros((2, 3, 8, 8), np.float32)}).wait()
    text, reason = str(caught.value), REASONS[backend, graph]
    assert isinstance(caught.value, BundleError if "cannot load" in reason else BackendError)
    assert re.search(reason, text), text
    assert not re.search(r"\.onnx|\.cpp|\.h:|/src/|\x1b|Exception from|ONNXRuntimeError", text), text
    assert str(tmp_path) not in text and len(text) < 400
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "ncnn", "mnn", "reference"])
def test_a_file_that_is_no_graph(backend: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = write_graph(tmp_path, END)
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    bundle = bundle.with_files("model.onnx")
    with pytest.raises(BundleError, match=r"cannot load fp32: \w") as caught:
        open_session(bundle, SessionConfig(backend))
    assert str(tmp_path) not in str(caught.value)
    if backend != "openvino":  # it tries the formats of all frameworks, one of which logs
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "ValueError"),
        ("first\nsecond", "first"),
        ("\n\n", "ValueError"),
        ("x" * 999, "x" * 300),
        ("\x1b[1;31mred\x1b[m", "red"),
        ("[ONNXRuntimeError] : 1 : FAIL : Load model from /tmp/a b/x.onnx failed:no such op", "no such op"),
        ("Load model from x.onnx failed: no op at body.0/Conv", "no op at body.0/Conv"),
        (
            "Status: /onnxruntime_src/core/reshape_helper.h:84 ort::Helper(const X&, bool) is false",
            "Status: is false",
        ),
        ("Exception from src/core.cpp:84:\nCheck 'a b' failed at src/x.cpp:1:\nno rule for Det", "no rule for Det"),
        ('Unable to read the model: "/tmp/a b/x.onnx" Please check it', "Unable to read the model: Please check it"),
        ("While validating node 'opset1::C (a, b) -> (c)' with friendly_name 'C_5': 3 is not 5", "3 is not 5"),
    ],
)
def test_the_first_line_that_means_something(message: str, reason: str) -> None:
    assert first_line(ValueError(message)) == reason


def test_too_little_memory_is_the_machines_matter() -> None:
    class Full(FakeSession):
        def run(self, feeds: Any) -> Any:
            raise MemoryError

    with pytest.raises(DeviceMemoryError, match="fake: too little memory for a batch of 12"):
        Full().submit(samples()[0])
