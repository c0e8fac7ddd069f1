"""Tensors of the Open Inference Protocol: Triton's own client writes what we read, and reads what we write."""

import json
from typing import Any

import numpy as np
import pytest
from helpers.triton import (
    BINARY,
    EIGHT,
    LENGTH,
    REQUEST,
    Arrays,
    Z,
    make_array,
    make_body,
    read_json,
    read_with_client,
    write_with_client,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from ganrt.errors import BackendError, RequestError, TooLargeError
from ganrt.serve.tensor_data import DATATYPES, find_datatype
from ganrt.serve.tensors import InferRequest, RequestedOutput, check_outputs, read_infer_request, write_infer_response


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_a_request_of_tritons_client_is_read(datatype: str, binary: bool) -> None:
    inputs = {"a": make_array(datatype), "b": make_array("INT8", (1,)), "c": make_array(datatype, (5,))}
    body, length = write_with_client(
        inputs, binary, {}, request_id="one", parameters={"n": 3, "psi": 0.5, "fast": True}
    )
    found = read_infer_request(body, length)
    assert found._replace(inputs={}) == InferRequest(
        "one", {}, None, {"n": 3, "psi": 0.5, "fast": True, "binary_data_output": True}, True
    )
    for name, array in inputs.items():
        assert_array_equal(found.inputs[name], array, strict=True)
        assert found.inputs[name].flags.c_contiguous and found.inputs[name].flags.aligned


def test_an_aligned_tensor_is_a_read_only_view_of_the_body() -> None:
    for spaces in range(8):
        head = make_body(BINARY) + b" " * spaces
        body = head + EIGHT
        array = read_infer_request(body, str(len(head))).inputs["z"]
        assert array.tolist() == [1, 2] and array.flags.aligned and not array.flags.writeable
        aligned = np.frombuffer(body, np.float32, 2, len(head)).flags.aligned
        assert np.shares_memory(array, np.frombuffer(body, np.uint8)) == aligned


@pytest.mark.parametrize(
    ("asked", "binary_data_output", "expected"),
    [
        ([{"name": "a"}], False, [("a", False)]),
        ([{"name": "a"}], True, [("a", True)]),
        ([{"name": "a", "parameters": {"binary_data": True}}], False, [("a", True)]),
        ([{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}], True, [("a", False), ("b", True)]),
        ([], True, None),
        (None, False, None),
    ],
)
def test_each_output_may_be_binary_or_json(asked: Any, binary_data_output: bool, expected: Any) -> None:
    request = read_json(Z, outputs=asked, parameters={"binary_data_output": binary_data_output})
    assert request.outputs == (None if expected is None else tuple(RequestedOutput(*pair) for pair in expected))
    assert request.binary_default == binary_data_output


def test_json_is_the_default_of_the_protocol() -> None:
    assert not read_json(Z).binary_default
    assert read_json(Z, outputs=[{"name": "a"}]).outputs == (RequestedOutput("a", False),)


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2, 2], [1, 2, 3, 4]),
        ([2, 2], [[1, 2], [3, 4]]),
        ([4, 1], [[1], [2], [3], [4]]),
        ([2, 1, 2], [[[1, 2]], [[3, 4]]]),
    ],
)
def test_data_are_flat_or_nested(shape: list[int], data: list[Any]) -> None:
    found = read_json(Z | {"shape": shape, "data": data}).inputs["z"]
    assert_array_equal(found, np.array([1, 2, 3, 4], np.float32).reshape(shape), strict=True)


@pytest.mark.parametrize(
    ("shape", "data"), [([0], []), ([0, 3], []), ([2, 0], []), ([2, 0], [[], []]), ([0, 2**31], []), ([], [5])]
)
def test_small_shapes(shape: list[int], data: list[Any]) -> None:
    assert read_json(Z | {"shape": shape, "data": data}).inputs["z"].shape == tuple(shape)


def test_an_empty_binary_tensor() -> None:
    body, length = write_with_client({"a": np.zeros((0, 3), np.float16)}, True, {"x": False})
    assert read_infer_request(body, length).inputs["a"].shape == (0, 3)


def test_null_counts_as_missing() -> None:
    item = {"name": "a", "parameters": None}
    request = read_json(Z | {"parameters": None}, id=None, outputs=[item], parameters=None, model_name=None)
    assert request.id is None and request.parameters == {} and request.outputs == (RequestedOutput("a", False),)


def test_hints_of_other_servers_are_allowed() -> None:
    request = read_json(Z | {"parameters": {"content_type": "np"}}, model_name="m", model_version="1")
    assert request.inputs["z"].shape == (2, 2)


OUTPUTS: Arrays = {"image": make_array("FP32", (2, 3, 4)), "seed": make_array("UINT64", (2,))}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_tritons_client_reads_a_response(datatype: str, binary: bool) -> None:
    outputs = {"a": make_array(datatype), "b": make_array("INT8", (1,)), "c": make_array(datatype, (5,))}
    body, headers = write_infer_response("m", "1", REQUEST._replace(id="one", binary_default=binary), outputs)
    found = read_with_client(body, headers)
    assert headers["Content-Type"] == ("application/octet-stream" if binary else "application/json")
    assert (LENGTH in headers) == binary
    response = found.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("m", "1", "one")
    assert [item["name"] for item in response["outputs"]] == ["a", "b", "c"]
    for name, array in outputs.items():
        assert found.get_output(name)["datatype"] == find_datatype(array.dtype)
        assert_array_equal(found.as_numpy(name), array, strict=True)


def test_a_response_has_what_was_asked_for_in_that_order() -> None:
    body, length = write_with_client({"z": OUTPUTS["image"]}, True, {"seed": True, "image": False})
    body, headers = write_infer_response("m", "1", read_infer_request(body, length), OUTPUTS)
    head = int(headers[LENGTH])
    assert body[head:] == OUTPUTS["seed"].tobytes()
    assert json.loads(body[:head]) == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {"name": "seed", "datatype": "UINT64", "shape": [2], "parameters": {"binary_data_size": 16}},
            {"name": "image", "datatype": "FP32", "shape": [2, 3, 4], "data": OUTPUTS["image"].ravel().tolist()},
        ],
    }


@pytest.mark.parametrize("binary", [True, False])
def test_any_layout_and_byte_order_is_written(binary: bool) -> None:
    array = np.arange(24, dtype=">f4").reshape(2, 3, 4).transpose(2, 0, 1)
    body, headers = write_infer_response("m", "1", REQUEST._replace(binary_default=binary), {"a": array})
    assert_array_equal(read_with_client(body, headers).as_numpy("a"), array.astype("<f4"), strict=True)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_responses_of_small_shapes(shape: tuple[int, ...], binary: bool) -> None:
    body, headers = write_infer_response(
        "m", "1", REQUEST._replace(binary_default=binary), {"a": np.zeros(shape, "i1")}
    )
    assert read_with_client(body, headers).as_numpy("a").shape == shape


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["images"], "there is no output 'images'; the model's outputs are image, seed"),
        (["seed", "seed"], "the request asks for output 'seed' twice; the model's outputs are image, seed"),
    ],
)
def test_a_wrong_output_is_named_before_and_after_the_pictures_are_made(names: list[str], message: str) -> None:
    request = read_json(Z, outputs=[{"name": name} for name in names])
    with pytest.raises(RequestError, match=f"^{message}$"):
        check_outputs(request, ["image", "seed"])
    with pytest.raises(RequestError, match=f"^{message}$"):
        write_infer_response("m", "1", request, OUTPUTS)


def test_outputs_that_were_not_named_are_all_there_are() -> None:
    assert check_outputs(REQUEST, ["a", "b"]) == (RequestedOutput("a", False), RequestedOutput("b", False))
    asked = (RequestedOutput("b", True),)
    assert check_outputs(REQUEST._replace(outputs=asked), ["a", "b"]) == asked


def test_many_values_are_written_as_bytes_alone() -> None:
    many, one = np.zeros(2**20, np.uint8), np.zeros(1, np.uint8)
    assert len(write_infer_response("m", "1", REQUEST, {"a": many})[0]) > 2**21
    message = "^the request asks for 1048577 values as JSON, of which 1048576 is the limit; ask for binary_data$"
    with pytest.raises(TooLargeError, match=message):
        write_infer_response("m", "1", REQUEST, {"a": many, "b": one})
    write_infer_response("m", "1", REQUEST._replace(binary_default=True), {"a": many, "b": one})


def test_values_that_json_does_not_have_are_an_error_of_the_model() -> None:
    with pytest.raises(BackendError, match=r"^the output 'a' has values that are not finite$"):
        write_infer_response("m", "1", REQUEST, {"a": np.array([1, np.nan], np.float32)})
    with pytest.raises(
        BackendError, match=r"^an output is complex64, for which the Open Inference Protocol has no datatype$"
    ):
        write_infer_response("m", "1", REQUEST, {"a": np.zeros(1, np.complex64)})


FINITE = {"allow_nan": False, "allow_infinity": False}
ANY_ARRAY = hnp.arrays(
    st.sampled_from([*DATATYPES.values(), np.dtype(">f4"), np.dtype(">i8")]),
    hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3),
    elements=FINITE,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(ANY_ARRAY, st.booleans()), max_size=4), st.booleans())
def test_any_tensors_are_read_as_they_were_written(tensors: dict[str, tuple[NDArray[Any], bool]], nested: bool) -> None:
    """The outputs of a response become the inputs of a request."""
    request = REQUEST._replace(outputs=tuple(RequestedOutput(name, binary) for name, (_, binary) in tensors.items()))
    body, headers = write_infer_response("m", "1", request, {name: array for name, (array, _) in tensors.items()})
    head = int(headers.get(LENGTH, len(body)))
    response = json.loads(body[:head])
    for item in response["outputs"]:
        array = tensors[item["name"]][0]
        if nested and "data" in item and array.ndim:
            item["data"] = array.tolist()
    text = make_body(*response["outputs"])
    found = read_infer_request(text + body[head:], str(len(text)))
    assert list(found.inputs) == list(tensors)
    for name, (array, _) in tensors.items():
        assert_array_equal(found.inputs[name], array.astype(array.dtype.newbyteorder("<")), strict=True)
