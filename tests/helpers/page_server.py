"""The server of generators in a thread, on a free port of this machine."""

import sys
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

sys.path.insert(0, "/tmp/w")
from stub import make_app
import ganrt
from ganrt.serve.settings import Settings


@contextmanager
def serve(settings: Settings) -> Iterator[str]:
    """Serve until the block ends; yields the address, with a slash at its end."""
    app = make_app({m.name: ganrt.load(m.path, **m.loading) for m in settings.models}, settings.token)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join()
