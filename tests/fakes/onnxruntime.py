"""A fake CUDA provider of ONNX Runtime: the CPU provider on the memory and streams of `fakes.cuda`, with the signatures
of the real classes."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from fakes.cuda import CUDAError, FakeCuda

KNOWN = {"device_id", "user_compute_stream", "use_tf32", "cudnn_conv_algo_search", "enable_cuda_graph", "prefer_nhwc"}


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, on_cpu: bool = False) -> list[dict[str, Any]]:
    """Install the fake and return a list that gets the provider options of each session. With `on_cpu`, fall back
    to the CPU, as the real one can."""
    opened: list[dict[str, Any]] = []
    real = ort.InferenceSession

    class Binding:
        def __init__(self, session: Session) -> None:
            self.session = session
            self.places: dict[str, tuple[Any, tuple[int, ...], int]] = {}

        def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr):  # type: ignore[no-untyped-def]
            assert (device_type, device_id) == ("cuda", 0)
            self.places[name] = (np.dtype(element_type), tuple(shape), buffer_ptr)

        def bind_output(  # type: ignore[no-untyped-def]
            self, name, device_type="cpu", device_id=0, element_type=None, shape=None, buffer_ptr=None
        ):
            assert (device_type, device_id) == ("cuda", 0) and buffer_ptr is not None
            self.places[name] = (np.dtype(element_type), tuple(shape), buffer_ptr)

    class Session:
        def __init__(self, path: str, options: Any, providers: Any, enable_fallback: bool) -> None:
            assert not enable_fallback
            (self.provider, settings), *_ = providers
            assert self.provider == "CUDAExecutionProvider" and set(settings) <= KNOWN
            assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
            opened.append(settings)
            self.stream = cuda.streams[int(settings["user_compute_stream"])]
            self.cpu = real(path, providers=["CPUExecutionProvider"])
            self.graphs: dict[str, Binding] = {}
            self.captures = settings["enable_cuda_graph"] == 1

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"] if on_cpu else [self.provider, "CPUExecutionProvider"]

        def io_binding(self) -> Binding:
            return Binding(self)

        def run_with_iobinding(self, iobinding, run_options=None):  # type: ignore[no-untyped-def]
            cuda.note("run_with_iobinding")
            assert iobinding.session is self
            assert run_options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
            number = run_options.get_run_config_entry("gpu_graph_id")
            if self.captures and self.graphs.setdefault(number, iobinding) is not iobinding:
                raise CUDAError("another binding was captured under this number")
            cuda.enqueue(self.stream, "run", lambda: self.act(iobinding))

        def act(self, binding: Binding) -> None:
            def view(name: str) -> np.ndarray:
                dtype, shape, address = binding.places[name]
                return cuda.get_memory(address).view(dtype)[: int(np.prod(shape))].reshape(shape)

            inputs = {item.name: view(item.name).copy() for item in self.cpu.get_inputs()}
            for item, made in zip(self.cpu.get_outputs(), self.cpu.run(None, inputs), strict=True):
                view(item.name)[...] = made

    for ours, theirs in ((Binding.bind_input, "bind_input"), (Binding.bind_output, "bind_output")):
        assert inspect.signature(ours) == inspect.signature(getattr(ort.IOBinding, theirs))
    assert inspect.signature(Session.run_with_iobinding) == inspect.signature(real.run_with_iobinding)
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(ort, "preload_dlls", lambda **_: None)
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    return opened
