"""`SessionConfig`: how a session runs a bundle."""

import pickle

import pytest

from ganrt.session_config import SessionConfig


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (SessionConfig("onnxruntime"), "onnxruntime"),
        (SessionConfig("onnxruntime", device="cpu"), "onnxruntime"),
        (SessionConfig("openvino", "int8-phases", "cpu", {"threads": 2}), "openvino int8-phases threads=2"),
        (SessionConfig("tensorrt", "fp16-phases", "cuda:1"), "tensorrt fp16-phases cuda:1"),
    ],
)
def test_its_text(config: SessionConfig, text: str) -> None:
    assert str(config) == text


def test_equal_configs_have_equal_hashes() -> None:
    one = SessionConfig("openvino", options={"threads": 2, "hint": "X"})
    same = SessionConfig("openvino", options={"hint": "X", "threads": 2})
    assert one == same and len({one, same}) == 1
    assert one != SessionConfig("openvino", options={"threads": 1, "hint": "X"})
    assert pickle.loads(pickle.dumps(one)) == one
