"""Every exception that ganrt raises on purpose. A message says what was asked, what was found and what to do.

GanrtError
├── RequestError             exit 2  an argument that this model or command does not allow (also a ValueError)
│   ├── TooLargeError                a request above a limit of a server
│   └── MediaTypeError               a format that a server does not read or write
├── ArtifactError            exit 3  a file that is missing, damaged, foreign or not trusted
│   ├── BundleError                  a bundle or an ONNX file that cannot be used
│   ├── CheckpointError              a training checkpoint that cannot be used
│   └── UnprovenError                a variant without a proof, or with a failed one
├── MachineError             exit 3  this machine lacks what was asked for
│   ├── MissingLibraryError          an optional dependency is not installed; names the extra
│   ├── DeviceMemoryError            a device has too little memory left
│   └── EngineError                  TensorRT cannot build, load or refit an engine
│       └── NoEngineError            no engine in the cache of this machine fits
├── BackendError             exit 3  a session broke its contract (ganrt.backend.Session)
│   ├── DeviceLostError              a device failed or hung; the session is over
│   └── ContractError                found by ganrt.testing (also an AssertionError)
├── ServiceError             exit 3  a batcher or a server cannot answer this request now
│   ├── OverloadedError              too much is waiting; says when to try again
│   ├── DeadlineError                the deadline passed before all pictures were made
│   └── ClosedError                  it is not ready yet, or shuts down
└── VerificationError        exit 1  a check was carried out and failed
"""

from __future__ import annotations

import platform
from typing import ClassVar

_JETPACK = (
    "on a Jetson it comes with JetPack, so make the virtual environment with --system-site-packages; elsewhere, "
    "pip install tensorrt"
)


class GanrtError(Exception):
    """Base of the tree. `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 3


class RequestError(GanrtError, ValueError):
    """The caller asked for something that this model or command does not allow."""

    exit_code = 2


class TooLargeError(RequestError):
    """A request above a limit of a server: of its body, its pictures or its values."""


class MediaTypeError(RequestError):
    """A format that a server does not read or write."""


class ArtifactError(GanrtError):
    """A file is missing, damaged, foreign or not trusted."""


class BundleError(ArtifactError):
    """A bundle or an ONNX file that cannot be used."""


class CheckpointError(ArtifactError):
    """A training checkpoint that cannot be used."""


class UnprovenError(ArtifactError):
    """A variant has no proof that it is the model it claims to be, or the proof failed."""


class MachineError(GanrtError):
    """This machine lacks a device, a library or a permission that was asked for."""


class MissingLibraryError(MachineError):
    """An optional dependency is not installed.

    Args:
        library: the module that could not be imported.
        extra: the extra of ganrt that installs it.
        purpose: what needs it, as the subject of a sentence ("the onnxruntime backend").
    """

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        self.module, self.extra, self.purpose = library, extra, purpose
        advice = f'pip install "ganrt[{extra}]"'
        if library == "tensorrt" and platform.machine() == "aarch64":  # the extra does not bring it there
            advice = _JETPACK
        super().__init__(f"{purpose} needs {library}, which is not installed: {advice}")

    def __reduce__(self) -> tuple[type[MissingLibraryError], tuple[str, str, str]]:
        return type(self), (self.module, self.extra, self.purpose)


class DeviceMemoryError(MachineError):
    """A device has too little memory left for what was asked."""


class EngineError(MachineError):
    """TensorRT cannot build, load or refit an engine; the message has TensorRT's own reasons."""


class NoEngineError(EngineError):
    """No engine in this machine's cache fits: build one with `ganrt build`."""


class BackendError(GanrtError):
    """A session broke its contract: wrong names, shapes or dtypes, or values that are not finite."""


class DeviceLostError(BackendError):
    """A device failed or did not answer in time. Its results cannot be trusted, so the session is closed."""


class ContractError(BackendError, AssertionError):
    """A check of `ganrt.testing` found a promise broken.

    Args:
        promise: the promise, as a sentence.
        found: what was found instead.
    """

    def __init__(self, promise: str, found: str) -> None:
        self.promise, self.found = promise, found
        super().__init__(f"{promise}. But {found}")

    def __reduce__(self) -> tuple[type[ContractError], tuple[str, str]]:
        return type(self), (self.promise, self.found)


class ServiceError(GanrtError):
    """A batcher or a server cannot answer this request now; another time it could."""


class OverloadedError(ServiceError):
    """Too much is waiting.

    Args:
        message: what is full.
        retry_after_s: seconds until there is likely to be room.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)

    def __reduce__(self) -> tuple[type[OverloadedError], tuple[str, float]]:
        return type(self), (str(self), self.retry_after_s)


class DeadlineError(ServiceError):
    """The deadline of a request passed before all of its pictures were made."""


class ClosedError(ServiceError):
    """A batcher or a server is not ready yet, or shuts down."""


class VerificationError(GanrtError):
    """A check was carried out and failed."""

    exit_code = 1
