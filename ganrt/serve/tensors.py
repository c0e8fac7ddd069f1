"""Requests and responses of the Open Inference Protocol, version 2, with its binary tensor data extension.

A body is a JSON object. With the extension, the bytes of tensors follow it, in the order in which it lists them, and
the header `Inference-Header-Content-Length` says where they begin. These are plain functions of bytes, and the size of
an array is checked before it is made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganrt.checks import is_whole
from ganrt.errors import BackendError, RequestError, TooLargeError
from ganrt.serve.json_body import parse_json
from ganrt.serve.tensor_data import DATATYPES, convert_values, find_datatype, view_bytes

LENGTH_HEADER = "Inference-Header-Content-Length"
"""HTTP header: bytes of the JSON at the start of a body; missing if the body is JSON alone."""
_LONGEST_TEXT = 200
"""Most characters of a name and of the id of a request."""
_MOST_DIMENSIONS = 8
_MOST_VALUES = 2**31
"""Most values of a tensor, where a side of 0 counts as 1: NumPy can make an array of every smaller shape."""
_MOST_JSON_VALUES = 2**20
"""Most values of a response in JSON, which takes about 20 bytes for each."""
_ELSEWHERE = ("shared_memory_region", "classification")
"""Parameters of tensors that change what a tensor is, and that this server does not have; others are hints."""


class RequestedOutput(NamedTuple):
    """An output that a request asks for."""

    name: str
    binary: bool
    """Whether as bytes; otherwise as JSON."""


class InferRequest(NamedTuple):
    """A request for one inference, checked."""

    id: str | None
    """The client's name of the request, printable, which the response repeats."""
    inputs: dict[str, NDArray[Any]]
    """Name -> array: C-contiguous, aligned, little endian, finite, maybe read-only."""
    outputs: tuple[RequestedOutput, ...] | None
    """The outputs in the order of the response; None for all."""
    parameters: dict[str, str | int | float | bool]
    """Parameters of the request, not checked."""
    binary_default: bool
    """Whether an output is returned as bytes if the request does not name it."""


def read_infer_request(body: bytes, header_length: str | None) -> InferRequest:
    """Read the body of a request.

    Args:
        body: the body, decompressed.
        header_length: value of the header `Inference-Header-Content-Length`, or None.

    Arrays of binary data may be views of `body`. Raises RequestError, naming the input or output and what was found, if
    anything is wrong, and TooLargeError if the JSON is too long (`parse_json`).
    """
    length = len(body) if header_length is None else _read_length(header_length, len(body))
    raw = _check_keys(
        "the request",
        parse_json(body[:length]),
        {"inputs"},
        {"id", "outputs", "parameters", "model_name", "model_version"},
    )
    parameters = _read_parameters("the request", raw)
    binary_default = _read_flag("the request", parameters, "binary_data_output", False)
    tail = None if header_length is None else memoryview(body)[length:]
    inputs = _read_inputs(_check_list("inputs", raw["inputs"]), tail)
    listed = _check_list("outputs", raw.get("outputs", []))
    outputs = tuple(_read_output(place, item, binary_default) for place, item in enumerate(listed))
    return InferRequest(_read_id(raw.get("id")), inputs, outputs or None, parameters, binary_default)


def check_outputs(request: InferRequest, names: Collection[str]) -> tuple[RequestedOutput, ...]:
    """Return the outputs that a response to a request has, in its order.

    Args:
        names: outputs of the model, in the order for a request that names none.

    Raises RequestError, listing `names`, if the request names another output, or one twice.
    """
    if request.outputs is None:
        return tuple(RequestedOutput(name, request.binary_default) for name in names)
    seen: set[str] = set()
    for name, _ in request.outputs:
        if name not in names:
            raise RequestError(f"there is no output {name!r}; the model's outputs are {', '.join(names)}")
        if name in seen:
            raise RequestError(
                f"the request asks for output {name!r} twice; the model's outputs are {', '.join(names)}"
            )
        seen.add(name)
    return request.outputs


def write_infer_response(
    model_name: str, model_version: str, request: InferRequest, outputs: Mapping[str, NDArray[Any]]
) -> tuple[bytes, dict[str, str]]:
    """Write the body and the headers of a response.

    Args:
        outputs: name -> array, of a dtype of DATATYPES in any byte order and layout.

    Raises RequestError if the request names an output that is not there or names one twice, TooLargeError if it asks
    for more than 2^20 values as JSON, and BackendError if values for JSON are not finite.
    """
    chosen = check_outputs(request, outputs)
    in_json = sum(outputs[name].size for name, binary in chosen if not binary)
    if in_json > _MOST_JSON_VALUES:
        raise TooLargeError(
            f"the request asks for {in_json} values as JSON, of which {_MOST_JSON_VALUES} is the limit; "
            "ask for binary_data"
        )
    listed: list[dict[str, object]] = []
    tail: list[memoryview] = []
    for name, binary in chosen:
        array = outputs[name]
        entry: dict[str, object] = {"name": name, "datatype": find_datatype(array.dtype), "shape": list(array.shape)}
        if binary:
            data = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).data
            entry["parameters"] = {"binary_data_size": data.nbytes}
            tail.append(data)
        else:
            entry["data"] = _list_values(name, array)
        listed.append(entry)
    identity = {} if request.id is None else {"id": request.id}
    head = json.dumps(
        {"model_name": model_name, "model_version": model_version, **identity, "outputs": listed}
    ).encode()
    if not tail:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *tail]), {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(head))}


def _list_values(name: str, array: NDArray[Any]) -> list[Any]:
    if not np.isfinite(array).all():
        raise BackendError(f"the output {name!r} has values that are not finite")
    values: list[Any] = array.ravel().tolist()
    return values


def _read_length(text: str, most: int) -> int:
    digits = text.lstrip("0") or "0"
    if not (text.isascii() and text.isdigit() and len(digits) < 19 and int(digits) <= most):
        raise RequestError(
            f"the header {LENGTH_HEADER} is {text!r:.100}; it must be a number of bytes from 0 to {most}"
        )
    return int(digits)


def _read_inputs(items: list[object], tail: memoryview | None) -> dict[str, NDArray[Any]]:
    """Read all inputs; `tail` is the binary data behind the JSON, None without it."""
    inputs: dict[str, NDArray[Any]] = {}
    used = 0
    for place, item in enumerate(items):
        raw = _check_keys(f"inputs[{place}]", item, {"name", "shape", "datatype"}, {"data", "parameters"})
        name = _read_name(f"inputs[{place}]", raw["name"])
        if name in inputs:
            raise RequestError(f"the request has input {name!r} twice")
        datatype, shape = _read_datatype(name, raw["datatype"]), _read_shape(name, raw["shape"])
        parameters = _read_parameters(f"input {name!r}", raw)
        size = parameters.get("binary_data_size")
        if (size is None) == ("data" not in raw):
            found = "neither data nor" if size is None else "both data and"
            raise RequestError(f"input {name!r} has {found} the parameter binary_data_size; it needs one of them")
        if size is None:
            inputs[name] = convert_values(name, raw["data"], datatype, shape)
        else:
            data = _take_bytes(name, size, math.prod(shape) * DATATYPES[datatype].itemsize, tail, used)
            inputs[name] = view_bytes(name, data, datatype, shape)
            used += len(data)
    if tail is not None and used < len(tail):
        raise RequestError(
            f"{len(tail) - used} bytes follow the binary data of the inputs, whose sizes add up to {used}"
        )
    return inputs


def _take_bytes(name: str, size: object, needed: int, tail: memoryview | None, used: int) -> memoryview:
    """Return the binary data of an input, which begins `used` bytes behind the JSON."""
    if not is_whole(size) or size != needed:
        raise RequestError(
            f"input {name!r} has binary_data_size {size!r:.100}; its shape and datatype take {needed} bytes"
        )
    if tail is None:
        raise RequestError(f"input {name!r} has binary_data_size, but the request lacks the header {LENGTH_HEADER}")
    if size > len(tail) - used:
        raise RequestError(
            f"input {name!r} has binary_data_size {size}; the body has {len(tail) - used} bytes left for it"
        )
    return tail[used : used + size]


def _read_output(place: int, item: object, binary_default: bool) -> RequestedOutput:
    raw = _check_keys(f"outputs[{place}]", item, {"name"}, {"parameters"})
    name = _read_name(f"outputs[{place}]", raw["name"])
    parameters = _read_parameters(f"output {name!r}", raw)
    return RequestedOutput(name, _read_flag(f"output {name!r}", parameters, "binary_data", binary_default))


def _check_keys(where: str, item: object, needed: set[str], others: set[str]) -> dict[str, Any]:
    """Return an object of parsed JSON without the entries that are null, which count as missing."""
    if not isinstance(item, dict):
        raise RequestError(f"{where} is {item!r:.100}; it must be a JSON object")
    if unknown := sorted(set(item) - needed - others):
        known = ", ".join(sorted(needed | others))
        raise RequestError(f"{where} has the unknown key {unknown[0]!r:.100}; it may have {known}")
    given = {key: value for key, value in item.items() if value is not None}
    if missing := sorted(needed - set(given)):
        raise RequestError(f"{where} lacks {', '.join(missing)}")
    return given


def _check_list(name: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise RequestError(f"{name} is {value!r:.100}; it must be a list")
    return value


def _read_parameters(where: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    parameters = raw.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(f"the parameters of {where} are {parameters!r:.100}; they must be a JSON object")
    for key, value in parameters.items():
        if key in _ELSEWHERE:
            raise RequestError(f"{where} has the parameter {key}, which this server does not have")
        if not isinstance(value, str | int | float):
            raise RequestError(
                f"{where} has the parameter {key!r:.100} with the value {value!r:.100}; "
                "it must be a string, a number, true or false"
            )
    return parameters


def _read_flag(where: str, parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{where} has the parameter {name} with the value {value!r:.100}; it must be true or false")
    return value


def _read_id(value: object) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isprintable()):
        return value
    raise RequestError(
        f"the id of the request is {value!r:.100}; it must be at most {_LONGEST_TEXT} printable characters"
    )


def _read_name(where: str, value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_TEXT:
        raise RequestError(
            f"the name of {where} is {value!r:.100}; it must be a string of 1 to {_LONGEST_TEXT} characters"
        )
    return value


def _read_datatype(name: str, value: object) -> str:
    if not isinstance(value, str) or value not in DATATYPES:
        raise RequestError(f"input {name!r} has the datatype {value!r:.100}; this server reads {', '.join(DATATYPES)}")
    return value


def _read_shape(name: str, value: object) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or len(value) > _MOST_DIMENSIONS
        or not all(is_whole(side) and side >= 0 for side in value)
    ):
        raise RequestError(
            f"input {name!r} has the shape {value!r:.100}; it must be a list of at most {_MOST_DIMENSIONS} whole "
            "numbers from 0"
        )
    if math.prod(side or 1 for side in value) > _MOST_VALUES:
        raise RequestError(f"input {name!r} has the shape {value!r:.100}; {_MOST_VALUES} values are the limit")
    return tuple(value)
