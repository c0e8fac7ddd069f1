"""The body of `POST /v1/images`, and what it asks a model for."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from ganrt.errors import RequestError
from ganrt.serve.photos import MEDIA_TYPES, Format


def _read_whole(value: object) -> int:
    number = int(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**64:
        raise PydanticCustomError("whole", "it must be a whole number from 0 to 2^64 - 1, or its decimal digits")
    return number


_DECIMAL = re.compile("[0-9]{1,20}")
_WHOLE = {
    "anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, {"type": "string", "pattern": "^[0-9]{1,19}$"}]
}
Whole: TypeAlias = Annotated[int, PlainValidator(_read_whole), WithJsonSchema(_WHOLE)]
"""A whole number from 0 to 2^64 - 1, or its decimal digits: JavaScript's numbers are exact up to 2^53 alone."""
Class: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class ImageRequest(BaseModel):
    """A request for pictures. What takes a list takes one value for all pictures, or one for each."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="Name of the model; the first one of the server by default.")
    n: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Number of pictures; by default the length of the lists, or 1."
    )
    seed: Whole | list[Whole] | None = Field(
        None, description="Seed, also as decimal digits: 0 to 2^64 - 1; 0 by default."
    )
    index: Whole | list[Whole] | None = Field(
        None, description="Sample number; one number is that of the first picture; 0 by default."
    )
    label: Class | list[Class | None] | None = Field(None, description="Class; null for one drawn from the seed.")
    truncation: Number | list[Number | None] | None = Field(None, description="Truncation; null for the model's own.")
    to_seed: Whole | None = Field(None, description="Interpolate the latents between `seed` and this seed.")
    amount: Annotated[float, Field(ge=0, le=1)] | list[Annotated[float, Field(ge=0, le=1)]] | None = Field(
        None, description="With `to_seed`: from 0 (`seed`) to 1 (`to_seed`)."
    )
    inputs: dict[str, Number | list[Number]] = Field({}, description="Further numbers that the model takes, by name.")
    pictures: dict[str, str] = Field(
        {}, description="Pictures that the model takes, by name: PNG, JPEG or WebP files in base64."
    )
    tile: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Side of overlapping tiles in input pixels; 0 for none; tiles for large pictures by default."
    )
    format: Format | None = Field(None, description="Format of the answer; by default what `Accept` asks for, or png.")
    timeout: Annotated[float, Field(gt=0, le=3600)] | None = Field(
        None, description="Seconds after which the answer is worth nothing."
    )

    def decode_pictures(self) -> dict[str, bytes]:
        """Return the files in `pictures`. Raises RequestError for one that is not base64."""
        return {name: _decode_base64(name, text) for name, text in self.pictures.items()}


def read_image_request(raw: object) -> ImageRequest:
    """Check a parsed body. Raises RequestError, naming the field."""
    try:
        return ImageRequest.model_validate(raw)
    except ValidationError as error:
        raise RequestError(_describe(error)) from error


_QUERY: dict[str, type[Any]] = {"n": int, "tile": int, "label": int, "truncation": float, "amount": float}
_QUERY |= {"timeout": float}
_TEXTS = ("model", "seed", "index", "to_seed", "format")


def read_query(query: Mapping[str, str], repeated: set[str]) -> ImageRequest:
    """Read the query parameters of a request whose body is a picture; those that are no fields are numbers of the model
    (`?strength=0.7`).

    Args:
        query: name -> text.
        repeated: names that were given more than once.

    Raises RequestError, naming the parameter.
    """
    if repeated:
        raise RequestError(f"the query parameter {min(repeated)!r:.100} was given more than once")
    raw: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    for name, text in query.items():
        if name in _TEXTS:
            raw[name] = text
        elif name in _QUERY:
            raw[name] = _read_number(name, text, _QUERY[name])
        else:
            numbers[name] = _read_number(name, text, float)
    return read_image_request({**raw, "inputs": numbers})


def choose_format(request: ImageRequest, accept: str | None) -> Format | None:
    """Return the format of the answer: the one that was asked for, else the first that the header `Accept` allows; None
    if it allows none."""
    if request.format is not None or accept is None:
        return request.format or "png"
    ranges = [part.split(";") for part in accept.lower().split(",")]
    allowed = {kind.strip() for kind, *rest in ranges if not any(item.strip() in ("q=0", "q=0.0") for item in rest)}
    for form, media_type in MEDIA_TYPES.items():
        if {media_type, f"{media_type.partition('/')[0]}/*", "*/*"} & allowed:
            return form
    return None


def _read_number(name: str, text: str, kind: type[Any]) -> Any:
    try:
        if len(text) > 100:
            raise ValueError(text)
        return kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise RequestError(f"the query parameter {name!r:.100} is {text!r:.100}; it must be {what}") from error


def _decode_base64(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"the picture {name!r:.100} is not valid base64: {error}") from error


def _describe(error: ValidationError) -> str:
    """Return the first mistake as a sentence; alternatives of a field are one mistake."""
    first = error.errors(include_url=False, include_context=False)[0]
    if not first["loc"]:
        return "the body is not a JSON object"
    path = [str(part) for part in first["loc"] if isinstance(part, int) or str(part) in _NAMES]
    found = "" if isinstance(first["input"], dict) else f" (found {first['input']!r:.100})"
    if first["type"] == "extra_forbidden":
        return f"there is no field {str(first['loc'][0])!r:.100}; the fields are {', '.join(sorted(_NAMES))}"
    return f"{'.'.join(path) or 'the body'}: {first['msg'][0].lower()}{first['msg'][1:]}{found}"


_NAMES = set(ImageRequest.model_fields)
