"""A server of ganrt in a thread of the tests, on a free port."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from ganrt.serve.app import make_app
from ganrt.serve.models import Models
from ganrt.serve.server import bind, configure
from ganrt.serve.settings import ModelSettings, Settings

START_S = 120.0


class Running:
    """A server that answers."""

    def __init__(self, address: str, models: Models) -> None:
        self.address = address
        """host:port."""
        self.url = f"http://{address}"
        self.models = models
        self.client = httpx.Client(base_url=self.url, timeout=60.0)

    def post(self, body: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        """Send a request for pictures."""
        return self.client.post("/v1/images", json=body, **options)

    def is_healthy(self) -> bool:
        """Whether it is ready, and makes a picture."""
        ready = self.client.get("/v2/health/ready").status_code == 200
        model = self.client.get("/v1/models").json()["models"][0]
        return ready and (model["kind"] != "sample" or self.post({"seed": 1}).status_code == 200)


@contextmanager
def run_server(settings: Settings, wait: bool = True) -> Iterator[Running]:
    """Yield a server. Args: wait: until its models are ready."""
    changed = threading.Event()
    app = make_app(settings, lambda models: changed.set())
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(configure(settings, app, 1))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    running = Running(f"127.0.0.1:{listening.getsockname()[1]}", app.state.models)
    try:
        if wait:
            assert changed.wait(START_S) and running.models.state == "ready", running.models.error
        yield running
    finally:
        running.client.close()
        server.should_exit = True
        thread.join(START_S)
        listening.close()


def serve_bundles(bundles: Mapping[str, Path], **options: Any) -> Settings:
    """Return settings that serve bundles by their names."""
    return Settings(tuple(ModelSettings(name, name, str(path)) for name, path in bundles.items()), **options)
