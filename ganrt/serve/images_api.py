"""`POST /v1/images` and `GET /v1/models`: the server's own, plain interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from ganrt.errors import MediaTypeError, RequestError
from ganrt.images import Pictures
from ganrt.picture_inputs import LUMA
from ganrt.sample_request import Draw
from ganrt.serve.clock import now
from ganrt.serve.descriptions import describe_model
from ganrt.serve.desk import IMAGES_PATH, Desk
from ganrt.serve.image_request import ImageRequest, choose_format, read_image_request, read_query
from ganrt.serve.jobs import Answer
from ganrt.serve.json_body import parse_json
from ganrt.serve.models import Model
from ganrt.serve.order import Order
from ganrt.serve.photos import MEDIA_TYPES, decode_picture, encode_pictures
from ganrt.serve.problems import NotAcceptableError, describe_problems

_PICTURES = ("image/png", "image/jpeg", "image/webp")
"""Media types of bodies that are one picture."""
_QUICK, _QUICK_TO_COMPRESS = 2**18, 2**14
"""Bytes that are read or written in less than a millisecond, and that are compressed in as much."""
_MOST_LISTED = 64
"""Headers list the samples of at most so many pictures: clients limit the length of headers."""


def make_router(desk: Desk) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/v1/models", summary="What the models are and take", responses=describe_problems(401, 503))
    async def list_models() -> dict[str, list[dict[str, Any]]]:
        desk.models.find(None)  # it raises while they are being loaded
        return {"models": [describe_model(model) for model in desk.models]}

    @router.post(
        IMAGES_PATH,
        summary="Make pictures",
        response_class=Response,
        responses=_ANSWERS,
        openapi_extra=_BODIES,
    )
    async def make_images(request: Request) -> Response:
        body = await desk.read_body(request)
        wanted, files = await desk.run(len(body) <= _QUICK, _read_request, request, body)
        model = request.state.model = desk.models.find(wanted.model)
        form = choose_format(wanted, request.headers.get("accept"))
        if form is None:
            raise NotAcceptableError(f"the header Accept allows none of {', '.join(MEDIA_TYPES.values())}")
        if not model.spec.images and None in files:
            raise RequestError(f"this {model.spec.family} model takes no picture; send JSON")
        pictures: dict[str, Pictures] = {}
        if files:
            reservation, before = request.state.reservation, request.state.reservation.bytes
            limits = (desk.settings.max_pixels, reservation.grow)
            pictures = await desk.run(False, _decode_pictures, model, files, *limits)
            reservation.shrink_to(before + sum(picture.nbytes for picture in pictures.values()))
        answer = await desk.answer(request, model, _make_order(wanted, pictures))
        started = now()
        is_quick = answer.pictures.nbytes <= (_QUICK if form == "npy" else _QUICK_TO_COMPRESS)
        content = await desk.run(is_quick, encode_pictures, answer.pictures, form)
        headers = _describe_answer(model, answer, now() - started)
        return Response(content, media_type=MEDIA_TYPES[form], headers=headers)

    return router


def _read_request(request: Request, body: bytes) -> tuple[ImageRequest, dict[str | None, bytes]]:
    """Return what is asked for, and the picture files by the names of their inputs; None is the first input's.

    Raises MediaTypeError for a body that is neither JSON nor a picture, RequestError for a wrong one.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    names = [name for name, _ in request.query_params.multi_items()]
    if media_type in _PICTURES:
        repeated = {name for name, count in Counter(names).items() if count > 1}
        return read_query(request.query_params, repeated), {None: body}
    if media_type != "application/json":
        allowed = ", ".join(("application/json", *_PICTURES))
        raise MediaTypeError(f"the Content-Type is {media_type!r:.100}; send one of {allowed}")
    if names:
        raise RequestError(f"the query parameter {names[0]!r:.100} belongs into the JSON")
    wanted = read_image_request(parse_json(body))
    files: dict[str | None, bytes] = {}
    files.update(wanted.decode_pictures())
    return wanted, files


def _decode_pictures(
    model: Model, files: Mapping[str | None, bytes], most_pixels: int, reserve: Callable[[int], None]
) -> dict[str, Pictures]:
    """Decode the pictures of a request, which have at most `most_pixels` together."""
    pictures: dict[str, Pictures] = {}
    inputs = {item.name: item for item in model.spec.images}
    for given, content in files.items():
        name = given if given is not None else model.spec.images[0].name
        if name not in inputs:
            raise RequestError(f"this model has no picture {name!r:.100}; it has {', '.join(inputs) or 'none'}")
        channels = 3 if inputs[name].role == LUMA else inputs[name].channels
        pictures[name] = decode_picture(f"the picture {name!r}", content, channels, most_pixels, reserve)
        most_pixels -= pictures[name][..., 0].size
    return pictures


def _make_order(wanted: ImageRequest, pictures: Mapping[str, Pictures]) -> Order:
    return Order(
        n=wanted.n,
        seed=wanted.seed,
        index=wanted.index,
        label=wanted.label,
        truncation=wanted.truncation,
        to_seed=wanted.to_seed,
        amount=wanted.amount,
        numbers=wanted.inputs,
        pictures=dict(pictures),
        tile=wanted.tile,
        timeout_s=wanted.timeout,
    )


def _describe_answer(model: Model, answer: Answer, encode_s: float) -> dict[str, str]:
    """Return the headers that say how pictures were made."""
    times = {"queue": answer.queue_s, "compute": answer.compute_s, "encode": encode_s}
    headers = {
        "X-Ganrt-Model": model.name,
        "X-Ganrt-Batch": f"rows={answer.batch_rows};requests={answer.batch_requests}",
        "Server-Timing": ", ".join(f"{name};dur={seconds * 1e3:.2f}" for name, seconds in times.items()),
    }
    if answer.draw is not None and answer.draw.rows <= _MOST_LISTED:
        headers |= _list_samples(answer.draw)
    return headers


def _list_samples(draw: Draw) -> dict[str, str]:
    columns = {"Seed": draw.seeds, "Index": draw.indices, "Label": draw.labels}
    return {
        f"X-Ganrt-{name}": ",".join(map(str, column.tolist())) for name, column in columns.items() if column is not None
    }


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture, a grid of several, or the array: uint8 (n, H, W, C)",
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES.values()},
    },
    **describe_problems(400, 401, 404, 406, 408, 413, 415, 429, 503, 504),
}
_BODIES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ImageRequest.model_json_schema()},
            **{name: {"schema": {"type": "string", "format": "binary"}} for name in _PICTURES},
        },
    }
}
