"""ganrt: run exported image generators, with the same pictures on every backend.

    import ganrt

    g = ganrt.load("digits.ganrt")
    images = g.sample(64, seed=7)

Importing ganrt needs only numpy; the library of a backend is imported when the backend is used.
"""

from ganrt._version import __version__
from ganrt.bundle import Bundle
from ganrt.errors import (
    ArtifactError,
    BackendError,
    BundleError,
    CheckpointError,
    ClosedError,
    ContractError,
    DeadlineError,
    DeviceLostError,
    DeviceMemoryError,
    EngineError,
    GanrtError,
    MachineError,
    MediaTypeError,
    MissingLibraryError,
    NoEngineError,
    OverloadedError,
    RequestError,
    ServiceError,
    TooLargeError,
    UnprovenError,
    VerificationError,
)
from ganrt.generator import Generator
from ganrt.hub import push_to_hub
from ganrt.info import Info
from ganrt.loading import load
from ganrt.packing import pack
from ganrt.photos import Frame, Metadata, Photo, ReadOptions, encode_photo, read_photo
from ganrt.sample_request import Draw
from ganrt.session_config import SessionConfig
from ganrt.spec import Image, Label, Latent, Output, Scalar, Spec

__all__ = [
    "ArtifactError",
    "BackendError",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "ClosedError",
    "ContractError",
    "DeadlineError",
    "DeviceLostError",
    "DeviceMemoryError",
    "Draw",
    "EngineError",
    "Frame",
    "GanrtError",
    "Generator",
    "Image",
    "Info",
    "Label",
    "Latent",
    "MachineError",
    "MediaTypeError",
    "Metadata",
    "MissingLibraryError",
    "NoEngineError",
    "Output",
    "OverloadedError",
    "Photo",
    "ReadOptions",
    "RequestError",
    "Scalar",
    "ServiceError",
    "SessionConfig",
    "Spec",
    "TooLargeError",
    "UnprovenError",
    "VerificationError",
    "__version__",
    "encode_photo",
    "load",
    "pack",
    "push_to_hub",
    "read_photo",
]
