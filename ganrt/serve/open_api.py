"""The OpenAPI document of the server."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from fastapi import FastAPI


def make_document(app: FastAPI, has_token: bool) -> Callable[[], dict[str, Any]]:
    """Return what makes the document of an application: FastAPI's, without the answer 422, which no route gives, and
    with the token."""

    @cache
    def make() -> dict[str, Any]:
        document = FastAPI.openapi(app)
        operations = [operation for path in document["paths"].values() for operation in path.values()]
        for operation in operations:
            operation["responses"].pop("422", None)
        components = document["components"]
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)
        if has_token:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for operation in operations:
                if "401" in operation["responses"]:
                    operation["security"] = [{"token": []}]
        return document

    return make
