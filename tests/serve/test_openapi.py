"""What the server does is what its OpenAPI document says: requests that schemathesis makes from the document, valid and
invalid."""

import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from helpers.http_server import Running
from schemathesis.checks import CHECKS
from schemathesis.config import ChecksConfig, GenerationConfig, NotAServerErrorConfig

from ganrt.serve.app import make_app
from ganrt.serve.settings import ModelSettings, Settings

EXAMPLES = int(os.environ.get("GANRT_OPENAPI_EXAMPLES", "15"))
"""Requests of each kind for each operation; set the variable for a long search."""
MODELS = ("dcgan", "classes", "espcn")
SETTINGS = Settings((ModelSettings("dcgan", "dcgan", "."),))

# Off, because they have nothing to check here: those of resources that requests make and delete (use_after_free,
# ensure_resource_availability, object_level_authorization) and of tokens (ignored_auth: this server has none, and
# test_bad_requests.py has the tokens). Every GET accepts valid data; what POST takes depends on the model, which the
# document cannot say: a list has as many entries as there are pictures, and so on.
ACCEPTANCE = "positive_data_acceptance"
schema = schemathesis.openapi.from_dict(make_app(SETTINGS).openapi())
schema.config.generation = GenerationConfig(deterministic=True, max_examples=EXAMPLES)
# 504 is no fault of the server's where a request asks for an answer within 1e-300 seconds.
schema.config.checks = ChecksConfig(
    not_a_server_error=NotAServerErrorConfig(expected_statuses=["2xx", "3xx", "4xx", "504"])
)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as one:
        yield one


@schema.parametrize()
def test_operations(case: Any, server: Running, session: requests.Session) -> None:
    _name_models(case)
    excluded = [CHECKS.get_one(ACCEPTANCE)] if case.method == "POST" else []
    case.call_and_validate(base_url=server.url, session=session, excluded_checks=excluded)


def _name_models(case: Any) -> None:
    """Replace random names of models by names that there are, in most requests, so that they get further."""
    choice = zlib.crc32(repr((case.path_parameters, case.body)).encode()) % 4
    if choice == len(MODELS):
        return
    if "model" in case.path_parameters:
        case.path_parameters["model"] = MODELS[choice]
    if "version" in case.path_parameters:
        case.path_parameters["version"] = "1"
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    if case.path == "/v1/images" and isinstance(case.body, dict) and is_valid:
        case.body["model"] = MODELS[choice]
        for name in ("inputs", "pictures"):
            case.body.pop(name, None)


def test_the_server_is_healthy_afterwards(server: Running) -> None:
    assert server.is_healthy()


def test_the_document(server: Running) -> None:
    document = server.client.get("/openapi.json").json()
    assert document == schema.raw_schema
    assert all(
        "422" not in operation["responses"] for path in document["paths"].values() for operation in path.values()
    )
    assert "securitySchemes" not in document["components"]


def test_the_document_of_a_server_with_a_token() -> None:
    document = make_app(Settings(SETTINGS.models, token="secret")).openapi()
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    secured = {path for path, operations in document["paths"].items() if "security" in next(iter(operations.values()))}
    assert document["paths"].keys() - secured == {"/v2/health/live", "/v2/health/ready"}
