"""A server of three small models: a GAN, one with classes, and a super-resolution network."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.http_server import Running, run_server, serve_bundles

import ganrt
from ganrt.bundle import Bundle


@pytest.fixture(scope="session")
def classes_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A class-conditional GAN whose latent can be truncated. Read-only."""
    import torch

    from ganrt.export import export
    from ganrt.models import build_generator

    folder = tmp_path_factory.mktemp("classes")
    config = {"size": 32, "channels": 3, "latent": 8, "width": 4, "classes": 7}
    torch.manual_seed(1)
    torch.save(build_generator("resnet", config).state_dict(), folder / "resnet.pth")
    return export(str(folder / "resnet.pth"), folder / "classes.ganrt")


@pytest.fixture(scope="session")
def served_bundles(bundle: Bundle, classes_bundle: Bundle, espcn: Bundle) -> dict[str, Path]:
    """Name of a model -> its bundle."""
    return {Path(found.path).name.removesuffix(".ganrt"): Path(found.path) for found in (bundle, classes_bundle, espcn)}


@pytest.fixture(scope="session")
def server(served_bundles: dict[str, Path]) -> Iterator[Running]:
    """The server, ready."""
    with run_server(serve_bundles(*served_bundles.values())) as running:
        yield running


@pytest.fixture(scope="session")
def generators(server: Running) -> dict[str, ganrt.Generator]:
    """Name of a model -> its generator in the server, which tests may use too."""
    return {model.name: model.generator for model in server.models}
