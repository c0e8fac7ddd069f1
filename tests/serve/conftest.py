"""A server of three small models: a GAN, one with classes, and a super-resolution network."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.http_server import Running, run_server, serve_bundles

import ganrt
from ganrt.bundle import Bundle


@pytest.fixture(scope="session")
def served_bundles(bundle: Bundle, conditional: Bundle, espcn: Bundle) -> dict[str, Path]:
    """Name of a model -> its bundle."""
    return {"dcgan": Path(bundle.path), "classes": Path(conditional.path), "espcn": Path(espcn.path)}


@pytest.fixture(scope="session")
def server(served_bundles: dict[str, Path]) -> Iterator[Running]:
    """The server, ready."""
    with run_server(serve_bundles(served_bundles)) as running:
        yield running


@pytest.fixture(scope="session")
def generators(server: Running) -> dict[str, ganrt.Generator]:
    """Name of a model -> its generator in the server, which tests may use too."""
    return {model.name: model.generator for model in server.models}
