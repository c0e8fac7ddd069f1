"""ganrt: run image generators anywhere, with the same pictures and honest numbers.

    import ganrt

    g = ganrt.load("digits.ganrt")
    images = g.sample(64, seed=7)

Importing this costs numpy alone; a backend's library is imported when the backend is named.
"""

from ganrt._version import __version__
from ganrt.bundle import Bundle
from ganrt.errors import (
    ArtifactError,
    BackendError,
    BundleError,
    CheckpointError,
    GanrtError,
    MachineError,
    MissingLibraryError,
    RequestError,
    UnprovenError,
    VerificationError,
)
from ganrt.generator import Generator, load
from ganrt.spec import Image, Label, Latent, Output, Scalar, Spec

__all__ = [
    "ArtifactError",
    "BackendError",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "GanrtError",
    "Generator",
    "Image",
    "Label",
    "Latent",
    "MachineError",
    "MissingLibraryError",
    "Output",
    "RequestError",
    "Scalar",
    "Spec",
    "UnprovenError",
    "VerificationError",
    "__version__",
    "load",
]
