"""The server of generators in a thread, on a free port of this machine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from ganrt.serve.app import make_app
from ganrt.serve.models import Models
from ganrt.serve.server import bind, configure
from ganrt.serve.settings import Settings


@contextmanager
def serve(settings: Settings) -> Iterator[str]:
    """Serve until the block ends; yields the address, with a slash at its end."""
    ready = threading.Event()
    failed: list[BaseException] = []

    def notice(models: Models) -> None:
        failed.extend(filter(None, [models.error]))
        ready.set()

    with bind("127.0.0.1", 0) as listening:
        server = uvicorn.Server(configure(settings, make_app(settings, notice), 1))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            assert ready.wait(120)
            assert not failed, failed
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()
