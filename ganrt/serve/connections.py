"""HTTP connections that cannot be held open by clients that send or read too slowly."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_NOT_HTTP = json.dumps({"error": "the request is not valid HTTP/1.1"}).encode()


class TimedProtocol(H11Protocol):
    """uvicorn's protocol on h11, with two limits that it lacks: on the time until the head of a request is complete,
    and on the time in which the client must take what was sent, also before the connection is closed. The body of a
    request has its own limit (`ganrt.serve.bodies`), and computing the answer is not limited here."""

    def __init__(self, timeout_s: float, **options: Any) -> None:
        """Args: timeout_s: seconds for each of the two; options: uvicorn's."""
        super().__init__(**options)
        self._timeout_s = timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel("_head_timer")
        self._cancel("_write_timer")
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete and not self.transport.is_closing():
            self._cancel("_head_timer")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Answer to bytes that are not HTTP, and close the connection. An answer that was begun is cut off."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(_NOT_HTTP))),
                ("Connection", "close"),
            ]
            for event in (h11.Response(status_code=400, headers=headers, reason="Bad Request"), h11.Data(_NOT_HTTP)):
                self.transport.write(self.conn.send(event))
            self.conn.send(h11.EndOfMessage())
        self.transport.close()
        self._await_head()  # a client that takes nothing would keep the rest of its answers, and the connection

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cancel("_write_timer")
        self._write_timer = self.loop.call_later(self._timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._cancel("_write_timer")
        super().resume_writing()

    def _should_upgrade(self) -> bool:
        return False  # there is nothing to upgrade to, and uvicorn would log advice for each such request

    def _await_head(self) -> None:
        self._cancel("_head_timer")
        self._head_timer = self.loop.call_later(self._timeout_s, self.transport.abort)

    def _cancel(self, name: str) -> None:
        timer: Any = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)
