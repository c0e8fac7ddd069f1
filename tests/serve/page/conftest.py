"""The real server with four small models, and a browser to look at its page.

The browser is imported by the fixtures: where it is missing, the modules of tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import ganrt
from ganrt.bundle import Bundle
from ganrt.export import export
from ganrt.serve.settings import ModelSettings, Settings

if TYPE_CHECKING:
    from helpers.browser import Visit

CONDITIONAL = ganrt.Spec(
    "conditional",
    (
        ganrt.Latent("z", (8,), truncation="resampled"),
        ganrt.Label("label", 10),
        ganrt.Scalar("contrast", (0.0, 2.0), 1.0),
    ),
    ganrt.Output(3, (0.0, 1.0), (16, 16)),
)
BLEND = ganrt.Spec(
    "blend",
    (
        ganrt.Image("content", "content", 3, (0.0, 1.0), size=(32, 48)),
        ganrt.Image("style", "style", 3, (0.0, 1.0), size=(32, 48)),
        ganrt.Scalar("strength", (0.0, 1.0), 0.5),
    ),
    ganrt.Output(3, (0.0, 1.0), (32, 48)),
)


class Conditional(nn.Module):
    """z (N, 8), label (N,), contrast (N,) -> pictures (N, 3, 16, 16) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.layer = nn.Embedding(10, 8), nn.Linear(16, 768)

    def forward(self, z: Tensor, label: Tensor, contrast: Tensor) -> Tensor:
        made: Tensor = self.layer(torch.cat([z, self.embedding(label)], 1)) * contrast.view(-1, 1)
        return torch.sigmoid(2 * made).view(-1, 3, 16, 16)


class Blend(nn.Module):
    """content and style (N, 3, 32, 48), strength (N,) -> pictures of that size in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, content: Tensor, style: Tensor, strength: Tensor) -> Tensor:
        share = strength.view(-1, 1, 1, 1)
        return ((1 - share) * content + share * style.mean((2, 3), keepdim=True) + self.layer(content) / 4).clamp(0, 1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle `faces.ganrt`: classes, truncation, and a scalar."""
    folder = tmp_path_factory.mktemp("page")
    export(Conditional(), folder / "faces.ganrt", spec=CONDITIONAL, forms=(), backends=("onnxruntime", "openvino"))
    return folder


@pytest.fixture(scope="session")
def url(folder: Path, espcn: Bundle) -> Iterator[str]:
    """Address of the server: `faces` with two backends, `x2` for photographs, and `blend`, which takes two pictures of
    one size."""
    from helpers.page_server import serve

    blend = export(Blend(), folder / "blend.ganrt", spec=BLEND, forms=(), backends="onnxruntime")
    faces = str(folder / "faces.ganrt")
    models = (
        ModelSettings("faces", "faces", faces, {"backend": "onnxruntime", "device": "cpu"}),
        ModelSettings("faces.openvino", "faces", faces, {"backend": "openvino", "device": "cpu"}),
        ModelSettings("x2", "x2", str(espcn.path), {"backend": "onnxruntime", "device": "cpu"}),
        ModelSettings("blend", "blend", str(blend.path), {"backend": "onnxruntime", "device": "cpu"}),
    )
    with serve(Settings(models)) as address:
        yield address


@pytest.fixture(scope="module")  # while it is open, no other test in this process can run a loop of asyncio
def browser() -> Iterator[Any]:
    from helpers.browser import open_browser

    with open_browser() as browser:
        yield browser


@pytest.fixture
def visit(browser: Any, url: str) -> Iterator[Visit]:
    """A page that must not complain, and must not ask anybody but the server."""
    from helpers.browser import Visit

    visit = Visit(browser, url)
    yield visit
    visit.close()
