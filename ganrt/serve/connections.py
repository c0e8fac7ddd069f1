"""HTTP connections that cannot be held open by clients that send or read too slowly."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedProtocol(H11Protocol):
    """uvicorn's protocol on h11, with two limits that it lacks: on the time until the head of a request is complete,
    and on the time in which the client must take what was sent. The body of a request has its own limit
    (`ganrt.serve.bodies`)."""

    timeout_s: ClassVar[float] = 30.0
    """Seconds for each of the two."""
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel("_head_timer")
        self._cancel("_write_timer")
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel("_head_timer")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cancel("_write_timer")
        self._write_timer = self.loop.call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._cancel("_write_timer")
        super().resume_writing()

    def _await_head(self) -> None:
        self._cancel("_head_timer")
        self._head_timer = self.loop.call_later(self.timeout_s, self.transport.abort)

    def _cancel(self, name: str) -> None:
        timer: Any = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)
