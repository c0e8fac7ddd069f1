"""The models of a server: loaded, proven and warmed up before it is ready, and closed when it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import ganrt
from ganrt.backend import backend_table
from ganrt.errors import ClosedError, DeviceLostError, GanrtError, RequestError
from ganrt.fair_lock import FairLock
from ganrt.generator import Generator
from ganrt.serve.batcher import Batcher
from ganrt.serve.metrics import Metrics
from ganrt.serve.settings import ModelSettings, Settings
from ganrt.serve.warm_up import choose_largest_batch, warm_up

_log = logging.getLogger(__name__)


class UnknownModelError(RequestError):
    """A request names a model that is not served."""


class Model:
    """A loaded model and its batcher."""

    def __init__(self, settings: ModelSettings, generator: Generator, batcher: Batcher) -> None:
        self.name, self.bundle = settings.name, settings.bundle
        self.generator = generator
        self.batcher = batcher
        self.labels = (self.name, generator.info.config.variant)
        """Its labels in the metrics."""

    @property
    def spec(self) -> ganrt.Spec:
        """Inputs and output."""
        return self.generator.spec


class Models:
    """All models of a server, in the order of its settings."""

    def __init__(self, settings: Settings, metrics: Metrics, on_change: Callable[[Models], None]) -> None:
        """Args: on_change: called when the models are ready, could not be loaded, or lost their device."""
        self._settings, self._metrics, self._on_change = settings, metrics, on_change
        self._models: dict[str, Model] = {}
        self._turns: dict[str, FairLock] = {}
        """Device -> the lock that models on it share, so that one computes at a time, with all processors."""
        self.state: Literal["loading", "ready", "failed", "closing"] = "loading"
        """Requests are answered while it is `ready`."""
        self.error: Exception | None = None
        """Why the state is `failed`."""
        self.is_loading = True
        """Whether `load` has not returned yet."""
        self.was_ready = False
        """Whether the state has been `ready`."""

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models, loaded or not."""
        return tuple(model.name for model in self._settings.models)

    def load(self) -> None:
        """Load, prove and warm up all models, unless the server ends meanwhile."""
        try:
            for settings in self._settings.models:
                if self.state == "loading":
                    self._load(settings)
        except Exception as error:  # it has no caller to raise to; the process ends with it
            self.state, self.error = "failed", error
        self.is_loading = False
        if self.state == "loading":
            self.state, self.was_ready = "ready", True
        self._on_change(self)

    def lose_device(self, error: DeviceLostError) -> None:
        """Called when a device failed: the process has to be started again."""
        self.state, self.error = "failed", error
        self._on_change(self)

    def _load(self, settings: ModelSettings) -> None:
        generator = ganrt.load(settings.path, **settings.loading)
        try:
            chosen, device = self._settings.largest_batch, generator.session.device
            seconds = warm_up(settings.name, generator, min(chosen or generator.max_batch, generator.max_batch))
            batcher = Batcher(
                generator,
                largest_batch=chosen or choose_largest_batch(generator.seconds or seconds),
                longest_wait_s=self._settings.longest_wait_s,
                longest_queue_s=self._settings.longest_queue_s,
                most_rows=self._settings.most_rows,
                turns=self._turns.setdefault(device, FairLock()),
                monitor=self._metrics.watch(settings.name, generator.info, settings.bundle),
            )
        except BaseException:
            generator.close()
            raise
        self._models[settings.name] = Model(settings, generator, batcher)
        _log.info("%s: %s", settings.name, generator.info.config)

    def find(self, name: str | None) -> Model:
        """Return a model; the first one for None.

        Raises UnknownModelError if there is no such model, ClosedError unless the state is `ready`.
        """
        chosen = self.names[0] if name is None else name
        if chosen not in self.names:
            raise UnknownModelError(f"there is no model {chosen!r:.100}; this server has {', '.join(self.names)}")
        if self.state == "failed":
            raise ClosedError("the models cannot be used; the server's log says why")
        if self.state == "closing":
            raise ClosedError("the server is shutting down")
        if self.state == "loading":
            raise ClosedError("the models are still being loaded; try again in a moment")
        return self._models[chosen]

    def close(self) -> None:
        """Answer the requests that wait, for `drain_s` seconds at most, and free everything."""
        if self.state != "failed":
            self.state = "closing"
        for model in list(self):  # the loading thread may add one
            model.batcher.close(self._settings.drain_s)
            model.generator.close()


def log_failure(models: Models) -> None:
    """Log why models cannot be used, if they cannot: for processes that nobody asks for their error."""
    if models.error is not None:
        _log.error("%s", models.error, exc_info=None if isinstance(models.error, GanrtError) else models.error)


def spread_threads(settings: ModelSettings, threads: int) -> ModelSettings:
    """Return settings with a number of threads, if none is chosen and the backend that is named has that option."""
    backend = settings.loading.get("backend", "auto")
    entry = backend_table().get(backend)
    if "threads" in settings.loading or (entry is not None and not entry.threads):
        return settings
    return replace(settings, loading={**settings.loading, "threads": threads})
