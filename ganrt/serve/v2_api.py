"""The Open Inference Protocol, version 2, over HTTP with the binary tensor data extension.

https://github.com/kserve/open-inference-protocol: health, metadata and inference. Every server of the protocol has one
version of a model here, `1`.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from ganrt import __version__
from ganrt.errors import ClosedError, RequestError
from ganrt.sample_request import TRUNCATION, find_truncations
from ganrt.serve.desk import Desk
from ganrt.serve.jobs import Answer
from ganrt.serve.models import Model, UnknownModelError
from ganrt.serve.order import Order
from ganrt.serve.problems import describe_problems
from ganrt.serve.tensors import LENGTH_HEADER, InferRequest, check_outputs, read_infer_request, write_infer_response
from ganrt.spec import Label, Latent, Scalar, Spec

_VERSION = "1"
"""Version of every model."""
_QUICK = 2**14
"""Bytes of pictures that are written in less than a millisecond, as JSON too."""
_DRAWN = ("seed", "index", "label")
"""Outputs besides the picture: what samples were drawn from."""


def make_router(desk: Desk) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/v2/health/live", summary="Whether the process works", responses=describe_problems(503))
    async def is_live() -> dict[str, bool]:
        if desk.models.state == "failed":
            raise ClosedError("the models cannot be used; the server's log says why")
        return {"live": True}

    @router.get("/v2/health/ready", summary="Whether all models are ready", responses=describe_problems(503))
    async def is_ready() -> dict[str, bool]:
        for name in desk.models.names:
            desk.models.find(name)
        return {"ready": True}

    @router.get("/v2", summary="What the server is", responses=describe_problems(401))
    async def describe_server() -> dict[str, Any]:
        return {"name": "ganrt", "version": __version__, "extensions": ["binary_tensor_data"]}

    problems = describe_problems(401, 404, 503)
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):

        @router.get(path, summary="Inputs and outputs of a model", responses=problems)
        async def describe_model(model: str, version: str = _VERSION) -> dict[str, Any]:
            return _describe_model(_find(desk, model, version))

        @router.get(f"{path}/ready", summary="Whether a model is ready", responses=problems)
        async def is_model_ready(model: str, version: str = _VERSION) -> dict[str, Any]:
            return {"name": _find(desk, model, version).name, "ready": True}

        @router.post(
            f"{path}/infer",
            summary="Make pictures from tensors",
            response_class=Response,
            responses=_ANSWERS,
            openapi_extra=_BODY,
        )
        async def infer(request: Request, model: str, version: str = _VERSION) -> Response:
            chosen = request.state.model = _find(desk, model, version)
            body = await desk.read_body(request)
            wanted = read_infer_request(body, request.headers.get(LENGTH_HEADER))
            names = _list_outputs(chosen.spec)
            check_outputs(wanted, names)
            answer = await desk.answer(request, chosen, _make_order(chosen.spec, wanted))
            outputs = _collect_outputs(chosen.spec, answer)
            is_quick = sum(array.nbytes for array in outputs.values()) <= _QUICK
            content, headers = await desk.run(is_quick, write_infer_response, model, _VERSION, wanted, outputs)
            return Response(content, headers=headers)

    return router


def _find(desk: Desk, name: str, version: str) -> Model:
    model = desk.models.find(name)
    if version != _VERSION:
        raise UnknownModelError(f"the model {name} has no version {version!r:.100}; it has {_VERSION}")
    return model


def _describe_model(model: Model) -> dict[str, Any]:
    spec, config = model.spec, model.generator.info.config
    height, width = spec.output.size or (-1, -1)
    outputs = [{"name": spec.output.name, "datatype": "UINT8", "shape": [-1, height, width, spec.output.channels]}]
    kinds = {"seed": "UINT64", "index": "UINT64", "label": "INT64"}
    outputs += [{"name": name, "datatype": kinds[name], "shape": [-1]} for name in _list_outputs(spec)[1:]]
    return {
        "name": model.name,
        "versions": [_VERSION],
        "platform": f"ganrt_{config.backend}",
        "inputs": _list_inputs(spec),
        "outputs": outputs,
        "parameters": {"variant": config.variant, "device": config.device},
    }


def _list_inputs(spec: Spec) -> list[dict[str, Any]]:
    """List the inputs; only pictures must be given."""
    inputs: list[dict[str, Any]] = []

    def add(name: str, datatype: str, shape: list[int], optional: bool = True) -> None:
        inputs.append({"name": name, "datatype": datatype, "shape": shape, "parameters": {"optional": optional}})

    for item in spec.images:
        add(item.name, "UINT8", [-1, *(item.size or (-1, -1)), item.channels], optional=False)
    if spec.streams:
        add("seed", "UINT64", [-1])
        add("index", "UINT64", [-1])
    if spec.find(Label) is not None:
        add("label", "INT64", [-1])
    if find_truncations(spec) is not None:
        add(TRUNCATION, "FP64", [-1])
    for other in spec.inputs:
        if isinstance(other, Scalar) and other.name != TRUNCATION:
            add(other.name, "FP32", [-1])
        elif isinstance(other, Latent):
            add(other.name, "FP32", [-1, *other.shape])
    return inputs


def _make_order(spec: Spec, wanted: InferRequest) -> Order:
    """Sort the tensors of a request. Raises RequestError for one of another name."""
    images = {item.name for item in spec.images}
    latents = {item.name for item in spec.inputs if isinstance(item, Latent)}
    numbers = {item.name for item in spec.inputs if isinstance(item, Scalar) and item.name != TRUNCATION}
    drawn = {"seed", "index", "label", TRUNCATION}
    for name in wanted.inputs:
        if name not in images | latents | numbers | drawn:
            known = ", ".join(item["name"] for item in _list_inputs(spec))
            raise RequestError(f"this model has no input {name!r}; its inputs are {known}")
    given = {name: _take_row(name, array) for name, array in wanted.inputs.items() if name in drawn}
    return Order(
        seed=given.get("seed"),
        index=given.get("index"),
        label=given.get("label"),
        truncation=given.get(TRUNCATION),
        numbers={name: _take_row(name, array) for name, array in wanted.inputs.items() if name in numbers},
        pictures={name: array for name, array in wanted.inputs.items() if name in images},
        latents={name: array for name, array in wanted.inputs.items() if name in latents},
        timeout_s=_read_timeout(wanted),
    )


def _take_row(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return a tensor of one value per picture, (n,) or (n, 1), as (n,)."""
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim != 1:
        raise RequestError(f"input {name!r} has the shape {list(array.shape)}; it takes one value per picture, [n]")
    return array


def _read_timeout(wanted: InferRequest) -> float | None:
    """Return the parameter `timeout`, which is in microseconds, in seconds."""
    timeout = wanted.parameters.get("timeout")
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout <= 0:
        raise RequestError(f"the parameter timeout is {timeout!r:.100}; it must be a whole number of microseconds")
    return timeout / 1e6


def _list_outputs(spec: Spec) -> tuple[str, ...]:
    if not spec.streams or spec.images:
        return (spec.output.name,)
    return (spec.output.name, *_DRAWN[: 2 if spec.find(Label) is None else 3])


def _collect_outputs(spec: Spec, answer: Answer) -> dict[str, NDArray[Any]]:
    outputs: dict[str, NDArray[Any]] = {spec.output.name: answer.pictures}
    draw = answer.draw
    if draw is not None:
        columns = dict(zip(_DRAWN, (draw.seeds, draw.indices, draw.labels), strict=True))
        outputs |= {name: column for name, column in columns.items() if column is not None}
    return outputs


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The tensors that were asked for",
        "content": {
            "application/json": {"schema": {"type": "object", "required": ["model_name", "outputs"]}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    **describe_problems(400, 401, 404, 408, 413, 415, 429, 503, 504),
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}
_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": LENGTH_HEADER,
            "in": "header",
            "required": False,
            "description": "Bytes of the JSON, if the bytes of tensors follow it",
            "schema": {"type": "string", "pattern": "^[0-9]{1,10}$"},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "inputs": {"type": "array", "items": _TENSOR},
                        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                        "parameters": {"type": "object"},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
