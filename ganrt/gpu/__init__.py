"""Sessions on an NVIDIA GPU: device and streams, double-buffered batches, latents drawn and pictures made on the
device, TensorRT engines and their cache, ONNX Runtime's CUDA provider.

Names are imported on first use, because cuda-core and TensorRT may be missing. The module `engine_cache` needs neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from ganrt.gpu import engine_cache
    from ganrt.gpu.device import Gpu, translate_errors
    from ganrt.gpu.nvinfer import LEAN, LOG, VERSION, LoadedEngine, describe_machine, load_engine, trt
    from ganrt.gpu.ort_programs import OrtPrograms
    from ganrt.gpu.session import DeviceSession, parse_deadline
    from ganrt.gpu.tensor_names import FINITENESS_TENSOR, PICTURES_TENSOR
    from ganrt.gpu.trt_programs import TrtPrograms

__all__ = [
    "FINITENESS_TENSOR",
    "LEAN",
    "LOG",
    "PICTURES_TENSOR",
    "VERSION",
    "DeviceSession",
    "Gpu",
    "LoadedEngine",
    "OrtPrograms",
    "TrtPrograms",
    "describe_machine",
    "engine_cache",
    "load_engine",
    "parse_deadline",
    "translate_errors",
    "trt",
]

_MODULES = {
    "FINITENESS_TENSOR": "tensor_names",
    "LEAN": "nvinfer",
    "LOG": "nvinfer",
    "PICTURES_TENSOR": "tensor_names",
    "VERSION": "nvinfer",
    "DeviceSession": "session",
    "Gpu": "device",
    "LoadedEngine": "nvinfer",
    "OrtPrograms": "ort_programs",
    "TrtPrograms": "trt_programs",
    "describe_machine": "nvinfer",
    "engine_cache": "",
    "load_engine": "nvinfer",
    "parse_deadline": "session",
    "translate_errors": "device",
    "trt": "nvinfer",
}
"""Public name -> the module of this package that defines it; empty for a module itself."""

__getattr__ = lazy_exports(__name__, _MODULES)
