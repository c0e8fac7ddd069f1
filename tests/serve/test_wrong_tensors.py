"""Wrong tensors of the Open Inference Protocol: each message, and that no body raises anything else."""

import re
from typing import Any

import numpy as np
import pytest
from helpers.triton import BINARY, EIGHT, LENGTH, Z, make_array, make_body, read_json, write_with_client
from hypothesis import given
from hypothesis import strategies as st

from ganrt.errors import RequestError
from ganrt.serve.tensor_data import DATATYPES
from ganrt.serve.tensors import read_infer_request


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "inputs[0] lacks name"),
        ({"shape": None, "datatype": None}, "inputs[0] lacks datatype, shape"),
        ({"name": 3}, "the name of inputs[0] is 3; it must be a string of 1 to 200 characters"),
        ({"name": ""}, "the name of inputs[0] is ''; it must be a string of 1 to 200 characters"),
        ({"name": "x" * 201}, f"the name of inputs[0] is '{'x' * 99}; it must be a string of 1 to 200 characters"),
        (
            {"dtype": "FP32"},
            "inputs[0] has the unknown key 'dtype'; it may have data, datatype, name, parameters, shape",
        ),
        (
            {"datatype": "BF16"},
            "input 'z' has the datatype 'BF16'; this server reads BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, "
            "INT32, INT64, FP16, FP32, FP64",
        ),
        ({"datatype": "BYTES"}, "input 'z' has the datatype 'BYTES'; this server reads BOOL, UINT8"),
        ({"datatype": ["FP32"]}, "input 'z' has the datatype ['FP32']; this server reads BOOL, UINT8"),
        ({"shape": 4}, "input 'z' has the shape 4; it must be a list of at most 8 whole numbers from 0"),
        ({"shape": [1] * 9}, "input 'z' has the shape [1, 1, 1, 1, 1, 1, 1, 1, 1]; it must be a list of at most 8"),
        ({"shape": [4.0]}, "input 'z' has the shape [4.0]; it must be a list of at most 8 whole numbers from 0"),
        ({"shape": [True, 4]}, "input 'z' has the shape [True, 4]; it must be a list of at most 8 whole numbers"),
        ({"shape": [-2, -2]}, "input 'z' has the shape [-2, -2]; it must be a list of at most 8 whole numbers from 0"),
        ({"shape": [2**63]}, "input 'z' has the shape [9223372036854775808]; 2147483648 values are the limit"),
        ({"shape": [2**31 + 1]}, "input 'z' has the shape [2147483649]; 2147483648 values are the limit"),
        ({"shape": [0, 2**31, 2]}, "input 'z' has the shape [0, 2147483648, 2]; 2147483648 values are the limit"),
        (
            {"shape": [2**32] * 4},
            "input 'z' has the shape [4294967296, 4294967296, 4294967296, 4294967296]; 2147483648",
        ),
        ({"shape": [2**31]}, "input 'z' has 4 values in its data, and its shape [2147483648] 2147483648"),
        ({"shape": [3]}, "input 'z' has 4 values in its data, and its shape [3] 3"),
        ({"shape": []}, "input 'z' has 4 values in its data, and its shape [] 1"),
        ({"data": None}, "input 'z' has neither data nor the parameter binary_data_size; it needs one of them"),
        (
            {"parameters": {"binary_data_size": 16}},
            "input 'z' has both data and the parameter binary_data_size; it needs one of them",
        ),
        ({"data": 7}, "the data of input 'z' is 7; it must be a list"),
        (
            {"data": [[1, 2, 3, 4]]},
            "the lists in the data of input 'z' do not have its shape [2, 2]; give one flat list of all values, "
            "or nested lists of that shape",
        ),
        ({"data": [[1, 2], [3, 4, 5]]}, "the lists in the data of input 'z' do not have its shape [2, 2]"),
        ({"data": [[1, 2], 3]}, "the lists in the data of input 'z' do not have its shape [2, 2]"),
        ({"data": [[1, 2], [3, [4]]]}, "input 'z' has [4] in its data; each value of FP32 must be a number"),
        ({"shape": [], "data": [[1]]}, "input 'z' has [1] in its data; each value of FP32 must be a number"),
        ({"data": [1, 2, "3", 4]}, "input 'z' has '3' in its data; each value of FP32 must be a number"),
        ({"data": [1, 2, True, 4]}, "input 'z' has True in its data; each value of FP32 must be a number"),
        ({"data": [1, 2, None, 4]}, "input 'z' has None in its data; each value of FP32 must be a number"),
        ({"data": [1, 2, 3, 1e39]}, "input 'z' has a value in its data that is beyond the range of FP32"),
        ({"data": [1, 2, 3, 10**400]}, "input 'z' has a value in its data that is beyond the range of FP32"),
        (
            {"datatype": "FP16", "data": [1, 2, 3, 65520]},
            "input 'z' has a value in its data that is beyond the range of FP16",
        ),
        (
            {"datatype": "INT8", "data": [1, 2, 3, 4.0]},
            "input 'z' has 4.0 in its data; each value of INT8 must be a whole",
        ),
        (
            {"datatype": "INT8", "data": [1, 2, 3, "4"]},
            "input 'z' has '4' in its data; each value of INT8 must be a whole",
        ),
        (
            {"datatype": "UINT8", "data": [1, 2, 3, False]},
            "input 'z' has False in its data; each value of UINT8 must be",
        ),
        ({"datatype": "INT8", "data": [1, 2, 3, 128]}, "input 'z' has 128 in its data; INT8 goes from -128 to 127"),
        ({"datatype": "INT8", "data": [1, 2, 3, -129]}, "input 'z' has -129 in its data; INT8 goes from -128 to 127"),
        ({"datatype": "UINT8", "data": [1, 2, 3, -1]}, "input 'z' has -1 in its data; UINT8 goes from 0 to 255"),
        (
            {"datatype": "UINT64", "data": [1, 2, 3, 2**64]},
            "input 'z' has 18446744073709551616 in its data; UINT64 goes from 0 to 18446744073709551615",
        ),
        ({"datatype": "BOOL"}, "input 'z' has 1 in its data; each value of BOOL must be true or false"),
        ({"parameters": [1]}, "the parameters of input 'z' are [1]; they must be a JSON object"),
        (
            {"parameters": {"shared_memory_region": "a"}},
            "input 'z' has the parameter shared_memory_region, which this server does not have",
        ),
    ],
)
def test_a_wrong_input_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=f"^{re.escape(message)}"):
        read_json(Z | changes)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON is expected, but the request has none"),
        (b"[]", "the request is []; it must be a JSON object"),
        (b"{}", "the request lacks inputs"),
        (b'{"inputs": {}}', "inputs is {}; it must be a list"),
        (b'{"inputs": [3]}', "inputs[0] is 3; it must be a JSON object"),
        (
            b'{"inputs": [], "output": []}',
            "the request has the unknown key 'output'; it may have id, inputs, model_name, model_version, outputs, "
            "parameters",
        ),
        (make_body(Z, Z), "the request has input 'z' twice"),
        (make_body(Z, outputs={}), "outputs is {}; it must be a list"),
        (make_body(Z, outputs=["a"]), "outputs[0] is 'a'; it must be a JSON object"),
        (make_body(Z, outputs=[{}]), "outputs[0] lacks name"),
        (
            make_body(Z, outputs=[{"name": 1}]),
            "the name of outputs[0] is 1; it must be a string of 1 to 200 characters",
        ),
        (make_body(Z, outputs=[{"name": "a", "data": 1}]), "outputs[0] has the unknown key 'data'"),
        (
            make_body(Z, outputs=[{"name": "a", "parameters": {"binary_data": 1}}]),
            "output 'a' has the parameter binary_data with the value 1; it must be true or false",
        ),
        (
            make_body(Z, outputs=[{"name": "a", "parameters": {"classification": 3}}]),
            "output 'a' has the parameter classification, which this server does not have",
        ),
        (
            make_body(Z, parameters={"binary_data_output": "yes"}),
            "the request has the parameter binary_data_output with the value 'yes'; it must be true or false",
        ),
        (
            make_body(Z, parameters={"n": [1]}),
            "the request has the parameter 'n' with the value [1]; it must be a string, a number, true or false",
        ),
        (make_body(Z, parameters=3), "the parameters of the request are 3; they must be a JSON object"),
        (make_body(Z, id=5), "the id of the request is 5; it must be at most 200 printable characters"),
        (
            make_body(Z, id="a\r\nSet-Cookie: b"),
            "the id of the request is 'a\\r\\nSet-Cookie: b'; it must be at most 200",
        ),
        (
            make_body(Z, id="x" * 201),
            f"the id of the request is '{'x' * 99}; it must be at most 200 printable characters",
        ),
    ],
)
def test_a_wrong_request_is_described(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=f"^{re.escape(message)}"):
        read_infer_request(body, None)


def test_the_longest_texts() -> None:
    request = read_json(Z | {"name": "x" * 200}, id="ü" * 200)
    assert list(request.inputs) == ["x" * 200] and request.id == "ü" * 200


@pytest.mark.parametrize(
    ("item", "tail", "message"),
    [
        (BINARY, EIGHT[:7], "input 'z' has binary_data_size 8; the body has 7 bytes left for it"),
        (BINARY, EIGHT + b"x", "1 bytes follow the binary data of the inputs, whose sizes add up to 8"),
        (Z, b"x", "1 bytes follow the binary data of the inputs, whose sizes add up to 0"),
        (BINARY | {"shape": [3]}, EIGHT, "input 'z' has binary_data_size 8; its shape and datatype take 12 bytes"),
        (
            BINARY | {"datatype": "FP64"},
            EIGHT,
            "input 'z' has binary_data_size 8; its shape and datatype take 16 bytes",
        ),
        (
            BINARY | {"parameters": {"binary_data_size": -8}},
            EIGHT,
            "input 'z' has binary_data_size -8; its shape and datatype take 8 bytes",
        ),
        (
            BINARY | {"parameters": {"binary_data_size": 8.0}},
            EIGHT,
            "input 'z' has binary_data_size 8.0; its shape and datatype take 8 bytes",
        ),
        (
            BINARY | {"parameters": {"binary_data_size": True}, "shape": [1], "datatype": "INT8"},
            b"x",
            "input 'z' has binary_data_size True; its shape and datatype take 1 bytes",
        ),
        (
            BINARY | {"shape": [2**31], "parameters": {"binary_data_size": 2**33}},
            EIGHT,
            "input 'z' has binary_data_size 8589934592; the body has 8 bytes left for it",
        ),
        (BINARY, np.array([1, np.nan], np.float32).tobytes(), "input 'z' has values in its data that are not finite"),
        (BINARY, np.array([1, -np.inf], np.float32).tobytes(), "input 'z' has values in its data that are not finite"),
        (
            BINARY | {"datatype": "BOOL", "shape": [2, 4]},
            b"\x00\x01\x02\x00\x00\x00\x01\x01",
            "input 'z' has a byte 2 in its data; BOOL has 0 and 1",
        ),
    ],
)
def test_wrong_binary_data_are_described(item: Any, tail: bytes, message: str) -> None:
    head = make_body(item)
    with pytest.raises(RequestError, match=f"^{re.escape(message)}$"):
        read_infer_request(head + tail, str(len(head)))


def test_the_bytes_of_two_inputs_do_not_overlap() -> None:
    head = make_body(BINARY, BINARY | {"name": "y"})
    with pytest.raises(RequestError, match=r"^input 'y' has binary_data_size 8; the body has 4 bytes left for it$"):
        read_infer_request(head + EIGHT + EIGHT[:4], str(len(head)))


def test_binary_data_need_the_header() -> None:
    message = "^input 'z' has binary_data_size, but the request lacks the header Inference-Header-Content-Length$"
    with pytest.raises(RequestError, match=message):
        read_json(BINARY)


@pytest.mark.parametrize("text", ["", "-1", "+5", "1.0", "abc", "٣", "0x10", "999", "9" * 5000])
def test_a_wrong_header_is_described(text: str) -> None:
    body = make_body(Z)
    message = f"^the header {LENGTH} is '{re.escape(text[:99])}'?; it must be a number of bytes from 0 to {len(body)}$"
    with pytest.raises(RequestError, match=message):
        read_infer_request(body, text)


def test_a_header_of_the_whole_body_is_right_and_one_of_nothing_is_not() -> None:
    body = make_body(Z)
    assert read_infer_request(body, f"00{len(body)}").inputs["z"].shape == (2, 2)
    with pytest.raises(RequestError, match=r"^JSON is expected, but the request has none$"):
        read_infer_request(body, "000")


SCRAPS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"-",
    b"0",
    b"1e9",
    b"null",
    b"true",
    b"\\",
    b"\xff",
    b"NaN",
    b"FP16",
    b"data",
]


@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5), st.sampled_from(SCRAPS)), min_size=1, max_size=3),
    st.none() | st.integers(-1, 400).map(str),
)
def test_a_damaged_body_is_a_wrong_request_or_a_right_one(
    binary: bool, damages: list[tuple[int, int, bytes]], header: str | None
) -> None:
    inputs = {"z": make_array("FP32"), "on": make_array("BOOL", (3,)), "k": make_array("INT64", (1,))}
    body, length = write_with_client(inputs, binary, {"image": True}, request_id="one")
    for place, count, scrap in damages:
        at = place % len(body)
        body = body[:at] + scrap + body[at + count :]
    for text in (length, header):
        try:
            request = read_infer_request(body, text)
        except RequestError as error:
            assert str(error)
        else:
            assert all(
                np.isfinite(array).all() and array.dtype in DATATYPES.values() for array in request.inputs.values()
            )


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["z", "FP32"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["binary_data_size", "a"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), VALUES))
def test_any_json_is_a_wrong_input_or_a_right_one(changes: dict[str, Any]) -> None:
    try:
        request = read_json(Z | changes)
    except RequestError as error:
        assert str(error)
    else:
        (array,) = request.inputs.values()
        assert array.dtype in DATATYPES.values()
