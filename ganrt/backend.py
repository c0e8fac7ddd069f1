"""`Session`, the interface that every inference library is wrapped in, and the table of backends.

To add a backend to ganrt: write a module with `open(bundle, variant, device, **options) -> Session`, add a row to
BACKENDS and an extra to pyproject.toml. To add one from another package: declare an entry point of the group
`ganrt.backends` that names an `Entry`. `ganrt.testing.check_backend` tests a backend against this interface.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from ganrt import forking
from ganrt.agreement import THRESHOLDS
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.errors import BackendError, DeviceMemoryError, GanrtError, MachineError, MissingLibraryError, RequestError
from ganrt.feeds import Array, Feeds, check_feeds
from ganrt.machine import parse_device
from ganrt.sample_request import Draw
from ganrt.session_config import SessionConfig
from ganrt.spec import Spec

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Pending(ABC):
    """The result of a batch in flight. Call one of the two methods, once."""

    @abstractmethod
    def wait(self) -> dict[str, Array]:
        """Block until the batch is done. Returns output name -> host array, float32 NCHW. The caller owns the arrays:
        they are writeable, and the session does not touch them again."""

    @abstractmethod
    def device_arrays(self) -> dict[str, Any]:
        """Return output name -> DLPack object (`__dlpack__`, `__dlpack_device__`) on the session's device, with the
        values of `wait`. The session owns the memory; it is valid until the next `submit`."""


class Session(ABC):
    """One variant of one bundle, loaded on one device by one backend.

    Any thread may call a session, but only one at a time. Two batches may be in flight: `submit`, `submit`, then `wait`
    in the same order. A row of the result depends only on the same row of the feeds. A session never reads a clock and
    never runs on another device than the one in `device`.
    """

    backend: str
    """Name in the table of backends."""
    device: str
    """The device that does the work: `cpu`, `cuda:0`, `vulkan:1` and so on; never `auto` or `cuda`."""
    precision: str
    """Precision of the arithmetic: `fp32`, `bf16`, `fp16`, `int8` or `fp8`."""
    slow: bool = False
    """True if an image takes seconds; fewer golden samples are then compared."""
    batch_sizes: tuple[int, ...] = ()
    """Batch sizes that `submit` takes, ascending; () means any size from 1."""
    details: Mapping[str, str]
    """Everything else that results depend on, such as library versions and options. Part of the key of a proof."""
    _generation: int

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        session = super().__new__(cls)
        session._generation = forking.track(session)
        return session

    @property
    def is_inherited(self) -> bool:
        """True in a forked child of the process that opened the session. There it must not be used or freed."""
        return self._generation != forking.generation()

    def reject_inherited(self) -> None:
        """Raise BackendError if the session is inherited."""
        if self.is_inherited:
            raise BackendError(
                f"this {self.backend} session was opened before the process forked, and its library does not survive a "
                "fork: load the bundle after the fork"
            )

    @abstractmethod
    def submit(self, feeds: Feeds) -> Pending:
        """Start one batch.

        Args:
            feeds: input name -> C-contiguous array, all of the same batch size. They may be read-only and are never
                written to. The caller may change them as soon as `submit` returns.

        Raises a GanrtError if the feeds do not fit the Spec (see `ganrt.feeds.check_feeds`) or the batch size is not in
        `batch_sizes`; the session stays usable. Exceptions of other libraries are translated to a GanrtError. In a
        process that was forked after the session was opened, it raises BackendError; it never hangs.
        """

    @abstractmethod
    def close(self) -> None:
        """Free all resources. May be called twice; `submit` afterwards raises BackendError. An inherited session frees
        nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PictureSession(Session):
    """A session that also draws inputs from a seed and converts images to uint8 pictures on its device, so that no
    float32 data crosses the bus."""

    @abstractmethod
    def submit_draw(self, draw: Draw) -> Pending:
        """Start one batch of samples; `draw.rows` is at most the largest of `batch_sizes`. Each row has its own seed,
        sample number, label and truncation.

        `wait` and `device_arrays` return `draw.rows` pictures: uint8 (N, H, W, C), clamped and rounded as by
        `ganrt.images.to_uint8`. `wait` raises BackendError if an image is not finite; `device_arrays` does not check.
        """


class Ready(Pending):
    """A result that is already on the host."""

    def __init__(self, outputs: dict[str, Array]) -> None:
        self._outputs = outputs

    def wait(self) -> dict[str, Array]:
        return self._outputs

    def device_arrays(self) -> dict[str, Any]:
        return dict(self._outputs)


class HostSession(Session):
    """A CPU session that does all its work inside `submit`. It checks the feeds and translates exceptions; subclasses
    implement `run` and `release`."""

    device = "cpu"

    def __init__(self, backend: str, precision: str, spec: Spec, details: Mapping[str, str]) -> None:
        self.backend, self.precision, self.details = backend, precision, details
        self.batch_sizes = (1,) if spec.single else ()
        self._spec = spec
        self._closed = False

    @abstractmethod
    def run(self, feeds: Feeds) -> Array:
        """Return the images as a new float32 NCHW array. `feeds` are checked already. May raise any exception."""

    @abstractmethod
    def release(self) -> None:
        """Free what `run` needs. Called once."""

    def submit(self, feeds: Feeds) -> Pending:
        if self._closed:
            raise BackendError(f"this {self.backend} session is closed; load the bundle again")
        self.reject_inherited()
        size = check_feeds(self._spec, feeds, self.batch_sizes)
        try:
            with forking.computing:
                return Ready({self._spec.output.name: self.run(feeds)})
        except GanrtError:
            raise
        except MemoryError as error:
            raise DeviceMemoryError(f"{self.backend}: too little memory for a batch of {size}") from error
        except Exception as error:  # exceptions of the library stop here
            raise BackendError(f"{self.backend} failed on a batch of {size}: {first_line(error)}") from error

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if not self.is_inherited:
                self.release()


class BackendModule(Protocol):
    """The interface of a backend's module."""

    def open(self, bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
        """Load a variant.

        Args:
            bundle: the bundle that holds it.
            variant: its name.
            device: `auto`, `cpu`, `cuda`, `cuda:N`, `vulkan` or `vulkan:N`.
            options: options of this backend.

        Raises MachineError if the device is missing or cannot compute in the variant's precision; RequestError for an
        unknown option or a variant that this backend cannot run; BundleError if the bundle lacks a file it needs.
        """


class Entry(NamedTuple):
    """A row of the table: the facts about a backend that do not need its library."""

    module: str
    """Name of the module with `open`, or `module:attribute`."""
    extra: str
    """The extra of ganrt that installs its library; empty for a backend from another package."""
    package: str
    """Distribution name of its library. The version is part of the key of a tuned record."""
    precisions: tuple[str, ...]
    """Precisions of the variants that it can run."""
    gpu: bool = False
    """True if it can use an NVIDIA GPU."""
    graphs: bool = True
    """True if it runs the ONNX graphs. False: it rebuilds the PyTorch original, so it runs only the variant `fp32`."""
    cpu: bool = True
    """True if it can run without a GPU."""
    threads: bool = False
    """True if it has the option `threads`; `ganrt tune` then tries several values."""
    on_gpu: tuple[Mapping[str, int | str], ...] = ()
    """Sets of options that are faster on some GPUs; `ganrt tune` tries each of them on a GPU."""
    slow: bool = False
    """True if an image takes seconds; `ganrt tune` skips such a backend."""
    prebuilt: bool = False
    """True if it runs engines that were built on this machine (`ganrt build`), so that a failure is one engine's."""
    baseline: bool = False
    """True if it is there to be compared with: `ganrt bench` measures it, everything else uses it only if it is
    named."""
    spin: bool = False
    """True if it has the option `spin`; `ganrt tune` then tries it."""
    vulkan: tuple[str, ...] = ()
    """Precisions of the variants that it can run on a GPU through Vulkan, which it uses only if the device is named."""


_EVERY = ("fp32", "fp16", "int8", "fp8")
BACKENDS = {
    "tensorrt": Entry(*("ganrt.backends.tensorrt", "tensorrt", "tensorrt", _EVERY), gpu=True, cpu=False, prebuilt=True),
    "tensorrt-rtx": Entry(
        *("ganrt.backends.tensorrt_rtx", "tensorrt-rtx", "tensorrt-rtx-cu13-bindings", _EVERY),
        gpu=True,
        cpu=False,
        prebuilt=True,
    ),
    "onnxruntime": Entry(
        *("ganrt.backends.onnxruntime", "cpu", "onnxruntime", _EVERY),
        gpu=True,
        threads=True,
        spin=True,
        on_gpu=({"prefer_nhwc": True}, {"search": "EXHAUSTIVE"}, {"prefer_nhwc": True, "search": "EXHAUSTIVE"}),
    ),
    "openvino": Entry("ganrt.backends.openvino", "cpu", "openvino", ("fp32", "bf16", "int8"), threads=True),
    "ncnn": Entry("ganrt.backends.ncnn", "ncnn", "ncnn", ("fp32", "bf16"), threads=True, vulkan=("fp32", "fp16")),
    "pytorch": Entry(*("ganrt.backends.pytorch", "export", "torch", ("fp32",)), gpu=True, graphs=False, threads=True),
    "mnn": Entry("ganrt.backends.mnn", "mnn", "mnn", ("fp32",), threads=True, spin=True),
    "reference": Entry("ganrt.backends.reference", "export", "onnx", _EVERY, slow=True),
}
"""The backends of ganrt, in the order in which `load` tries them."""


def backend_table() -> dict[str, Entry]:
    """Return name -> row of every backend, installed or not: BACKENDS, then those of other packages sorted by name.

    An entry point of the group `ganrt.backends` names an `Entry` in a module that is quick to import
    (`my_package.entry:ENTRY`), or the backend's module itself; its row then allows every precision and device.
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
    except Exception:  # another package's code; opening the backend raises it again as a MachineError
        return unknown
    return found if isinstance(found, Entry) else unknown


def backend_names(device: str = "auto") -> list[str]:
    """Return the backends that can run on a device, installed or not, in the order in which `load` tries them.

    Args:
        device: `auto` (any), `cpu`, `cuda`, `cuda:N`, `vulkan` or `vulkan:N`.
    """
    kind = parse_device(device, vulkan=True)[0]
    table = backend_table().items()
    return [n for n, e in table if {"cuda": e.gpu, "cpu": e.cpu, "vulkan": bool(e.vulkan)}.get(kind, True)]


def supports_variant(backend: str, bundle: Bundle, variant: str, device: str = "auto") -> bool:
    """Return whether a backend can run a variant on a device, by its row in the table: one that rebuilds the PyTorch
    original needs its weights, and what is made for NVIDIA GPUs needs a backend that can use a GPU. True for an unknown
    backend, which `open_session` rejects. Raises RequestError for an unknown variant."""
    entry = backend_table().get(backend)
    if entry is None:
        return True
    found = bundle.variant(variant)
    rebuilt = variant == FAITHFUL and bundle.model is not None and Bundle.WEIGHTS in bundle.files
    if entry.vulkan and _is_vulkan(device):
        return found.precision in entry.vulkan
    suits = proves_gpu_variants(backend) or not found.for_gpu
    return found.precision in entry.precisions and suits and (entry.graphs or rebuilt)


def _is_vulkan(device: str) -> bool:
    return parse_device(device, vulkan=True)[0] == "vulkan"


def proves_gpu_variants(backend: str) -> bool:
    """Return whether a backend runs variants that are made for NVIDIA GPUs: one that can use such a GPU, and one that
    is slow by design, which is for proofs anyway. True for an unknown backend."""
    entry = backend_table().get(backend)
    return entry is None or entry.gpu or entry.slow


def import_backend(name: str) -> BackendModule:
    """Import a backend's module. Raises RequestError for an unknown name, MissingLibraryError with the extra to install
    if its library is missing, MachineError if the library or the backend of another package is broken."""
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
    except Exception as error:  # a broken library, or another package's code
        if name in BACKENDS and not isinstance(error, ImportError | AttributeError | OSError):
            raise
        what = f"{entry.package} is installed but broken" if name in BACKENDS else f"the backend {name!r} is broken"
        raise MachineError(f"{what} ({first_line(error)}): install it again") from error


def _missing_library(name: str, entry: Entry, error: ModuleNotFoundError) -> MachineError:
    if name not in BACKENDS:
        return MachineError(f"the backend {name!r} ({entry.module}) cannot be imported: {error}")
    missing = error.name or entry.package
    top = missing.partition(".")[0]
    # Libraries such as cuda.core share a top-level name: another part of it may be installed.
    if top != entry.package or importlib.util.find_spec(top) is None:
        return MissingLibraryError(missing, entry.extra, f"the {name} backend")
    return MachineError(f"{entry.package} is installed but broken ({error}): install it again")


def open_session(bundle: Bundle, config: SessionConfig) -> Session:
    """Open a session without a proof; users call `ganrt.load`. The caller closes the session. Raises RequestError for a
    variant that the backend cannot run, BackendError for an exception of a library that the backend did not translate,
    and what `import_backend` and `BackendModule.open` raise."""
    module = import_backend(config.backend)
    if not supports_variant(config.backend, bundle, config.variant, config.device):
        entry = backend_table()[config.backend]
        supported = ", ".join(entry.vulkan if _is_vulkan(config.device) else entry.precisions)
        if not entry.graphs:
            supported = f"only the variant {FAITHFUL} of ganrt's own families"
        made_for = ", made for NVIDIA GPUs" if bundle.variant(config.variant).for_gpu and not entry.gpu else ""
        raise RequestError(f"the {config.backend} backend does not run {config.variant}{made_for}; it runs {supported}")
    try:
        with forking.computing:
            return module.open(bundle, config.variant, config.device, **config.options)
    except GanrtError:
        raise
    except Exception as error:
        raise BackendError(f"{config.backend} cannot open {config.variant}: {first_line(error)}") from error


def library_version(package: str) -> str:
    """Return the installed version of a distribution, `?` if it has no metadata."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "?"


_NOISE = re.compile(
    r"\x1b\[[0-9;]*m"  # colours
    r"|\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed: ?"
    r"|Exception from \S+:\d+: ?|Check '.*?' failed at \S+:\d+: ?|While validating node '.*?friendly_name '\S+': ?|^-- "
    r"|\"/[^\"]*\" ?"  # the file
    r"|(?:(?<=\s)|^)/\S+\.(?:h|hpp|cc|cpp|cu):\d+ (?:\S+\(.*?\) )?"  # ONNX Runtime's source files and functions
)


def first_line(error: Exception | str) -> str:
    """Return the first line of a library's message, at most 300 characters, without what means nothing to users: C++
    frames, source files and the file that was loaded, which may be a temporary one."""
    lines = _NOISE.sub("", str(error)).strip().splitlines()
    return lines[0].strip()[:300] if lines else type(error).__name__


@cache  # reading the metadata of every installed package takes milliseconds
def _entry_points() -> importlib.metadata.EntryPoints:
    """Entry points of backends in other packages."""
    return importlib.metadata.entry_points(group="ganrt.backends")
