"""Requests and responses of the Open Inference Protocol, as Triton's own client writes and reads them."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from ganrt.serve.tensor_data import DATATYPES, find_datatype
from ganrt.serve.tensors import InferRequest, read_infer_request

Arrays = dict[str, NDArray[Any]]
LENGTH = "Inference-Header-Content-Length"
REQUEST = InferRequest(None, {}, None, {}, False)
Z: dict[str, Any] = {"name": "z", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
BINARY: dict[str, Any] = {"name": "z", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
EIGHT = np.array([1, 2], np.float32).tobytes()


def write_with_client(
    inputs: Arrays, binary: bool, outputs: dict[str, bool], **others: Any
) -> tuple[bytes, str | None]:
    """The body and the header that Triton's client sends."""
    items = [
        InferInput(name, list(array.shape), find_datatype(array.dtype)).set_data_from_numpy(array, binary)
        for name, array in inputs.items()
    ]
    asked = [InferRequestedOutput(name, binary_data) for name, binary_data in outputs.items()]
    body, length = InferenceServerClient.generate_request_body(items, asked, **others)
    return body, None if length is None else str(length)


def read_with_client(body: bytes, headers: dict[str, str]) -> Any:
    """What Triton's client makes of a response."""
    length = headers.get(LENGTH)
    return InferenceServerClient.parse_response_body(body, header_length=None if length is None else int(length))


def make_body(*inputs: Any, **others: Any) -> bytes:
    return json.dumps({"inputs": inputs, **others}).encode()


def read_json(*inputs: Any, **others: Any) -> InferRequest:
    return read_infer_request(make_body(*inputs, **others), None)


def make_array(datatype: str, shape: tuple[int, ...] = (2, 3)) -> NDArray[Any]:
    """Values of both ends of the range of a datatype."""
    dtype = DATATYPES[datatype]
    if dtype.kind == "b":
        return np.resize(np.array([True, False, False]), shape)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return np.resize(np.array([limits.min, limits.max, 1, 0], dtype), shape)
