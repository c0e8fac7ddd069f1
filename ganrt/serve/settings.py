"""`Settings`: what a server is started with. Frozen and picklable, because worker processes get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class ModelSettings:
    """A bundle, loaded in one way."""

    name: str
    """Its name in requests."""
    bundle: str
    """Name of the bundle. Models of the same bundle take the same requests, so that their pictures can be compared."""
    path: str
    """Where the bundle is, or its address on a hub."""
    loading: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `ganrt.load`."""


@dataclass(frozen=True)
class Settings:
    """What a server serves, and its limits."""

    models: tuple[ModelSettings, ...]
    """At least one; the first answers requests that name none."""
    largest_batch: int | None = None
    """Most rows of a batch; None for the size beyond which larger batches are not faster per image."""
    longest_wait_s: float = 0.002
    """As for `Batcher`; the next two likewise."""
    longest_queue_s: float = 10.0
    most_rows: int = 4096
    timeout_s: float = 60.0
    """Seconds in which a request is answered; a request may ask for less."""
    drain_s: float = 30.0
    """Seconds that requests have to finish when the server is stopped."""
    max_body: int = 2**25
    """Most bytes of a request's body, as sent and decompressed."""
    max_pixels: int = 2**26
    """Most pixels of a request: of the pictures that it holds, and of those that it asks for."""
    read_timeout_s: float = 30.0
    """Seconds in which a client must send a request, and in which it must take each part of the answer."""
    token: str | None = field(default=None, repr=False)
    """What clients must send as a bearer token; None if anybody may use the server."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may use the server besides its own page (CORS)."""
    access_log: bool = False
    """Whether to log each request."""

    def change_models(self, change: Callable[[ModelSettings], ModelSettings]) -> Settings:
        """Return settings with changed models."""
        return replace(self, models=tuple(map(change, self.models)))
