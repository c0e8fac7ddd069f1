"""What is refused of an ONNX file before anything runs it, and which sides are channels."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from ganrt.errors import CheckpointError, RequestError
from ganrt.export.sources import read_graph_file
from ganrt.export.sources.onnx_interface import has_channels_last


def save_rectifier(path: Path, dtype: int = TensorProto.FLOAT) -> Path:
    x, y = (helper.make_tensor_value_info(name, dtype, ["n", 3, 8, 8]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_size_of_a_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_rectifier(tmp_path / "x.onnx")
    monkeypatch.setattr("ganrt.export.sources.onnx_file._LARGEST", path.stat().st_size)
    assert read_graph_file(path).path == path
    monkeypatch.setattr("ganrt.export.sources.onnx_file._LARGEST", path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match=r"x\.onnx has .* GiB of weights; at most 2 GiB can be taken"):
        read_graph_file(path)


@pytest.mark.parametrize(("dtype", "name"), [(TensorProto.DOUBLE, "double"), (TensorProto.FLOAT16, "float16")])
def test_a_graph_without_weights_is_in_the_precision_of_its_inputs(dtype: int, name: str, tmp_path: Path) -> None:
    path = save_rectifier(tmp_path / "x.onnx", dtype)
    with pytest.raises(RequestError, match=rf"it is in {name}; take the one in float32"):
        read_graph_file(path)


@pytest.mark.parametrize(
    ("sides", "channels", "last"),
    [
        (("n", "h", "w", 3), None, True),
        ((1, 64, 64, 1), None, True),
        (("n", 3, "h", "w"), None, False),
        ((1, 3, 8, 3), None, False),
        ((1, 1, 8, 3), None, False),
        (("n", "h", "w", 4), None, False),
        (("n", "h", "w", 4), 4, True),
        (("n", 4, 4, 4), 4, False),
        (("n", "w", 3), None, False),
    ],
)
def test_which_sides_are_channels(sides: tuple[object, ...], channels: int | None, last: bool) -> None:
    assert has_channels_last(sides, channels) is last
