"""PyTorch, eager or compiled, on the CPU or a GPU. The module is rebuilt from the family, config and weights of the
bundle."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import safetensors

from ganrt import forking
from ganrt.backend import Pending, Session, first_line, library_version
from ganrt.backend_options import check_options, count_threads, read_switch
from ganrt.bound_inputs import BoundInputs, check_bound_inputs, make_bound_feeds
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.current_folder import existing_current_folder
from ganrt.errors import BackendError, BundleError, MachineError, RequestError
from ganrt.feeds import Array, Feeds, check_feeds
from ganrt.machine import nvidia_details, parse_device
from ganrt.spec import Spec

with existing_current_folder():  # imported without one, its oneMKL ends the process when it is first used
    import torch
    from safetensors.torch import load_file

    from ganrt.models import SkipRandomWeights, build_generator, get_family


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """Open a session on the original model.

    Options:
        compiled: whether to use torch.compile, which needs a C++ compiler on the CPU (default False).
        threads: number of CPU threads; 0: as many as `torch.set_num_threads` has set (default: 0, or the cores that
            this process may use).
    """
    check_options("pytorch", options, ("compiled", "threads"))
    if variant != FAITHFUL:
        raise RequestError(f"the pytorch backend rebuilds the original, {FAITHFUL}; {variant} was asked for")
    kind, number = parse_device(device)
    if kind == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            f"{device} was asked for, but torch {torch.__version__} finds no CUDA device; use device='cpu'"
        )
    gpu = kind == "cuda" or (kind == "auto" and torch.cuda.is_available())
    where = torch.device("cuda", number) if gpu else torch.device("cpu")
    return _TorchSession(bundle, where, read_switch(options, "compiled", False), count_threads(options))


class _TorchSession(Session):
    def __init__(self, bundle: Bundle, device: torch.device, compiled: bool, threads: int) -> None:
        self.backend, self.device, self.precision = "pytorch", str(device), "fp32"
        self.details = {"torch": library_version("torch"), "compiled": str(compiled)}
        if threads:  # without it there is none, so that proofs of earlier versions hold
            self.details["threads"] = str(threads)
        if device.type == "cuda":
            self.details |= {"gpu": torch.cuda.get_device_name(device), **nvidia_details()}
        self._spec = bundle.spec
        self._torch_device, self._threads = device, threads
        module = _rebuild_module(bundle).to(device)
        self._whole, self._bound = _read_bound_inputs(bundle)
        self._module: Any = torch.compile(module, dynamic=True) if compiled else module

        # OpenMP keeps its threads per calling thread. In a forked child those of the forking thread are gone, and using
        # them hangs; a new thread gets new ones.
        self._thread = ThreadPoolExecutor(1, "ganrt-pytorch") if forking.generation() else None

    def submit(self, feeds: Feeds) -> Pending:
        if self._module is None:
            raise BackendError("this pytorch session is closed; load the bundle again")
        self.reject_inherited()
        size = check_feeds(self._spec, feeds)
        try:
            with forking.computing:
                images = (
                    self._thread.submit(self._run, feeds, size).result() if self._thread else self._run(feeds, size)
                )
                return _TorchPending(self._spec.output.name, images)
        except Exception as error:  # torch raises exceptions of many kinds
            raise BackendError(f"pytorch failed on a batch of {size}: {first_line(error)}") from error

    def _run(self, feeds: Feeds, size: int) -> torch.Tensor:
        tf32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.inference_mode(), tf32, _limit_threads(self._threads):
            every = feeds | make_bound_feeds(self._whole, self._bound, size)
            inputs = [_to_tensor(every[item.name]).to(self._torch_device) for item in self._whole.inputs]
            return cast(torch.Tensor, self._module(*inputs))

    def close(self) -> None:
        self._module = None
        if self._thread is not None and not self.is_inherited:
            self._thread.shutdown()


class _TorchPending(Pending):
    """On a GPU the kernels may still run; copying to the host waits for them."""

    def __init__(self, output: str, images: torch.Tensor) -> None:
        self._output, self._images = output, images

    def wait(self) -> dict[str, Array]:
        try:
            return {self._output: np.ascontiguousarray(self._images.cpu().numpy())}
        except Exception as error:  # CUDA reports a failed kernel when its result is copied
            raise BackendError(f"pytorch failed on {self._images.device}: {first_line(error)}") from error

    def device_arrays(self) -> dict[str, Any]:
        return {self._output: self._images}


@contextmanager
def _limit_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads in this block; 0 changes nothing.

    PyTorch has no number per model. It keeps one for each calling thread, which is restored here, and one for threads
    that have not computed yet and for oneMKL, which other threads see during the block: it costs them time at most.
    """
    before = torch.get_num_threads()
    if count in (0, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _to_tensor(array: Array) -> torch.Tensor:
    """Share the array's memory; PyTorch needs a copy of a read-only array."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _read_bound_inputs(bundle: Bundle) -> tuple[Spec, BoundInputs]:
    """Return the Spec of the whole model and the inputs that the bundle binds. Raises BundleError."""
    bound: BoundInputs = bundle.model.get("bound", {}) if bundle.model else {}
    if not bundle.model or not bound:
        return bundle.spec, bound
    family = get_family(bundle.model["family"])
    spec = family.spec(family.configure(bundle.model["config"]))
    try:
        check_bound_inputs(spec, bound)
    except RequestError as error:
        raise BundleError(f"the bound inputs do not fit the family {family.name!r}: {error}") from error
    return spec, bound


def _rebuild_module(bundle: Bundle) -> torch.nn.Module:
    if bundle.model is None or Bundle.WEIGHTS not in bundle.files:
        raise BundleError(
            "pytorch cannot rebuild the module: the bundle holds no weights of a ganrt family; use onnxruntime"
        )
    path = bundle.locate(Bundle.WEIGHTS)
    try:
        # The random state of the caller does not change, whatever initial weights are drawn nevertheless.
        with torch.random.fork_rng(devices=[]), SkipRandomWeights():
            module = build_generator(bundle.model["family"], bundle.model["config"])
        module.load_state_dict(load_file(path), assign=True)
    except (safetensors.SafetensorError, RuntimeError, RequestError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"{path.name} does not fit the family {bundle.model['family']!r}: {reason}") from error
    return module.eval().requires_grad_(False)
