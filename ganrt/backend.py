"""The contract between ganrt and an inference library: `Session`, and the table of backends.

To add a backend: one file with `open(bundle, variant, device, **options) -> Session`, one row in BACKENDS, one extra.
From another package: an entry point of the group `ganrt.backends` that names an `Entry`.
`ganrt.testing.check_backend` is the contract as code.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from ganrt.agreement import THRESHOLDS
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.checks import require_whole
from ganrt.errors import BackendError, GanrtError, MachineError, MissingLibraryError, RequestError
from ganrt.feeds import Array, Draw, Feeds, check_feeds
from ganrt.machine import parse_device
from ganrt.session_config import SessionConfig
from ganrt.spec import Spec

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Pending(ABC):
    """Results under way. Ask once, for one of the two."""

    @abstractmethod
    def wait(self) -> dict[str, Array]:
        """Block until done. Returns output name -> host array, float32 NCHW, owned by the caller: writeable, and never
        touched by the session again."""

    @abstractmethod
    def device_arrays(self) -> dict[str, Any]:
        """Output name -> an object with `__dlpack__` and `__dlpack_device__`, on the session's device, with the values
        of `wait`; valid until the session's next `submit`."""


class Session(ABC):
    """One variant of one bundle, loaded on one device by one backend.

    One thread at a time may call a session, not always the same one. Two batches may be under way at once: `submit`,
    `submit`, then `wait` in that order. A row of the result depends on the same row of the feeds alone. A session never
    reads a clock and never runs on anything but the device it states.
    """

    backend: str
    """Name in the table of backends."""
    device: str
    """`cpu`, or `cuda:0` and so on: where the work really happens."""
    precision: str
    """`fp32`, `bf16`, `fp16` or `int8`: what the arithmetic really is."""
    slow: bool = False
    """Takes seconds per image: it is proven on fewer samples."""
    batch_sizes: tuple[int, ...] = ()
    """Batch sizes that `submit` takes, ascending; () means any from 1."""
    details: Mapping[str, str]
    """All else that results may depend on: library versions, options. Part of the key of a proof."""

    @abstractmethod
    def submit(self, feeds: Feeds) -> Pending:
        """Start one batch.

        Args:
            feeds: input name -> C-contiguous array, all of one batch size. Possibly read-only, never written to, and
                the caller's again when this returns.

        Raises a GanrtError, and stays usable, when the feeds do not fit the Spec (see `ganrt.feeds.check_feeds`) or the
        batch size is not one of `batch_sizes`. No exception of another library leaves a session.
        """

    @abstractmethod
    def close(self) -> None:
        """Free everything. Calling it twice is fine; `submit` afterwards raises BackendError."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PictureSession(Session):
    """A session that draws the inputs of samples and makes pictures of its images on its device, so that neither
    latents nor floats cross the bus."""

    @abstractmethod
    def submit_draw(self, draw: Draw) -> Pending:
        """Start one batch of samples of a seed, at most as many as the largest of `batch_sizes`.

        What comes, of `wait` and `device_arrays` alike, are so many pictures: uint8 (N, H, W, C), clamped and rounded
        as `ganrt.images.to_uint8` does. `wait` raises BackendError when a value of an image is not finite;
        `device_arrays` does not look.
        """


class Ready(Pending):
    """Results that are on the host already."""

    def __init__(self, outputs: dict[str, Array]) -> None:
        self._outputs = outputs

    def wait(self) -> dict[str, Array]:
        return self._outputs

    def device_arrays(self) -> dict[str, Any]:
        return dict(self._outputs)


class HostSession(Session):
    """A session on the CPU that does all its work inside `submit`. Subclasses write `run` and `release`; feeds are
    checked and exceptions translated here."""

    device = "cpu"

    def __init__(self, backend: str, precision: str, spec: Spec, details: Mapping[str, str]) -> None:
        self.backend, self.precision, self.details = backend, precision, details
        self._spec = spec
        self._closed = False

    @abstractmethod
    def run(self, feeds: Feeds) -> Array:
        """Compute the image output: a fresh float32 NCHW array. May raise anything."""

    @abstractmethod
    def release(self) -> None:
        """Drop whatever `run` needs; called once."""

    def submit(self, feeds: Feeds) -> Pending:
        if self._closed:
            raise BackendError(f"this {self.backend} session is closed; load the bundle again")
        size = check_feeds(self._spec, feeds, self.batch_sizes)
        try:
            return Ready({self._spec.output.name: self.run(feeds)})
        except GanrtError:
            raise
        except Exception as error:  # foreign exceptions end at this boundary
            raise BackendError(f"{self.backend} failed on a batch of {size}: {first_line(error)}") from error

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.release()


class BackendModule(Protocol):
    """What a backend's module offers."""

    def open(self, bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
        """Load a variant by its name. `device`: `auto`, `cpu`, `cuda` or `cuda:N`.

        Raises MachineError when the device is not there, or cannot compute in the variant's precision; RequestError for
        an unknown option or a variant that this backend does not run; BundleError when the bundle lacks what it needs.
        """


class Entry(NamedTuple):
    """A row of the table: what is known of a backend before its library is imported."""

    module: str
    """The module with `open`, to be imported by name."""
    extra: str
    """The extra of ganrt that installs its library; empty for a backend of another package."""
    package: str
    """Distribution of its library, whose version is part of a tuned record's key."""
    precisions: tuple[str, ...]
    """Precisions of the variants that it runs; any other is rejected."""
    gpu: bool = False
    """Whether it can use an NVIDIA GPU."""
    graphs: bool = True
    """Whether it runs the ONNX graphs; otherwise it rebuilds the PyTorch original and runs the variant `fp32` alone."""
    cpu: bool = True
    """Whether it can run without a GPU."""
    threads: bool = False
    """Whether it has the option `threads`, which is then tuned."""
    on_gpu: tuple[Mapping[str, int | str], ...] = ()
    """Sets of options that are faster on some GPUs, and are tuned there."""
    slow: bool = False
    """Whether it takes seconds per image; such a backend is not tuned."""


BACKENDS = {
    "tensorrt": Entry("ganrt.backends.tensorrt", "tensorrt", "tensorrt", ("fp32", "fp16", "int8"), gpu=True, cpu=False),
    "onnxruntime": Entry(
        *("ganrt.backends.onnxruntime", "cpu", "onnxruntime", ("fp32", "fp16", "int8")),
        gpu=True,
        threads=True,
        on_gpu=({"prefer_nhwc": True}, {"search": "EXHAUSTIVE"}, {"prefer_nhwc": True, "search": "EXHAUSTIVE"}),
    ),
    "openvino": Entry("ganrt.backends.openvino", "cpu", "openvino", ("fp32", "bf16", "int8"), threads=True),
    "pytorch": Entry("ganrt.backends.pytorch", "export", "torch", ("fp32",), gpu=True, graphs=False),
    "reference": Entry("ganrt.backends.reference", "export", "onnx", ("fp32", "fp16", "int8"), slow=True),
}
"""In the order in which `load` tries them."""


def backend_table() -> dict[str, Entry]:
    """Name -> row of every backend, installed or not: those of BACKENDS, then those of other packages by their names.

    An entry point of the group `ganrt.backends` names an `Entry` in a module that is quick to import
    (`my_package.entry:ENTRY`), or the backend's module itself, about which nothing more is known then.
    """
    outside = {point.name: _outside_entry(point) for point in _entry_points() if point.name not in BACKENDS}
    return {**BACKENDS, **dict(sorted(outside.items()))}


def _outside_entry(point: importlib.metadata.EntryPoint) -> Entry:
    package = point.dist.name if point.dist is not None else point.module
    unknown = Entry(point.value, "", package, tuple(THRESHOLDS), gpu=True)
    if not point.attr:
        return unknown
    try:
        found = point.load()
    except Exception:  # another package's code; opening the backend raises it again, and says so
        return unknown
    return found if isinstance(found, Entry) else unknown


def backend_names(device: str = "auto") -> list[str]:
    """The backends that can run on a kind of device, installed or not, in the order in which `load` tries them."""
    kind = parse_device(device)[0]
    return [n for n, entry in backend_table().items() if {"cuda": entry.gpu, "cpu": entry.cpu}.get(kind, True)]


def supports_variant(backend: str, bundle: Bundle, variant: str) -> bool:
    """Whether a backend is made for a variant, as far as its row tells. `open_session` rejects unknown ones."""
    entry = backend_table().get(backend)
    if entry is None:
        return True
    return bundle.variant(variant).precision in entry.precisions and (entry.graphs or variant == FAITHFUL)


def backend_module(name: str) -> BackendModule:
    """Import a backend. Raises RequestError for an unknown name, MissingLibraryError, naming the extra, for a missing
    library, MachineError for a backend of another package that cannot be imported."""
    entry = backend_table().get(name)
    if entry is None:
        raise RequestError(f"there is no backend {name!r}; choose one of {', '.join(backend_names())}")
    try:
        module, _, attribute = entry.module.partition(":")
        found = importlib.import_module(module)
        return cast(BackendModule, getattr(found, attribute) if attribute else found)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ganrt."):  # a defect of ganrt, not of the machine
            raise
        raise _missing_library(name, entry, error) from error
    except Exception as error:  # half of a library, or another package's code
        if name in BACKENDS and not isinstance(error, ImportError | AttributeError | OSError):
            raise
        what = f"{entry.package} is installed but broken" if name in BACKENDS else f"the backend {name!r} is broken"
        raise MachineError(f"{what} ({first_line(error)}): install it again") from error


def _missing_library(name: str, entry: Entry, error: ModuleNotFoundError) -> MachineError:
    if name not in BACKENDS:
        return MachineError(f"the backend {name!r} ({entry.module}) cannot be imported: {error}")
    missing = error.name or entry.package
    top = missing.partition(".")[0]
    # Of a library that shares its top-level name with others, such as cuda.core, some other part may be here.
    if top != entry.package or importlib.util.find_spec(top) is None:
        return MissingLibraryError(missing, entry.extra, f"the {name} backend")
    return MachineError(f"{entry.package} is installed but broken ({error}): install it again")


def open_session(bundle: Bundle, config: SessionConfig) -> Session:
    """Open a session without asking for a proof; `ganrt.load` is what users call. Raises RequestError for a variant
    that the backend does not run, and what its `open` raises."""
    module = backend_module(config.backend)
    if not supports_variant(config.backend, bundle, config.variant):
        entry = backend_table()[config.backend]
        supported = ", ".join(entry.precisions) if entry.graphs else f"the variant {FAITHFUL} alone"
        raise RequestError(f"the {config.backend} backend does not run {config.variant}; it runs {supported}")
    return module.open(bundle, config.variant, config.device, **config.options)


def library_version(package: str) -> str:
    """Installed version of a distribution, `?` when its metadata is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "?"


def check_options(backend: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise RequestError for an option that the backend does not have."""
    for name in options:
        if name not in known:
            raise RequestError(f"the {backend} backend has no option {name!r}; it has {', '.join(known) or 'none'}")


def thread_count(options: Mapping[str, Any]) -> int:
    """The option `threads`; 0, the default, leaves it to the library. Raises RequestError."""
    return require_whole("threads", options.get("threads", 0), 0)


def first_line(error: Exception) -> str:
    """What a foreign exception says, without its stack of C++ frames."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _entry_points() -> importlib.metadata.EntryPoints:
    """The backends of other packages."""
    return importlib.metadata.entry_points(group="ganrt.backends")
