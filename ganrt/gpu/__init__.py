"""Sessions on an NVIDIA GPU: device and streams, double-buffered batches, latents drawn and pictures made on the
device, TensorRT engines and their cache, ONNX Runtime's CUDA provider.

Names are imported on first use, because cuda-core and TensorRT may be missing. The module `engine_cache` needs neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    from ganrt.gpu import engine_cache, latents, pictures
    from ganrt.gpu.device import BorrowedArray, DeviceArray, Gpu, translate_errors
    from ganrt.gpu.loaded_engine import LoadedEngine, load_engine
    from ganrt.gpu.nvinfer import Library, list_engine_variants, load_tensorrt, load_tensorrt_rtx
    from ganrt.gpu.ort_programs import OrtPrograms
    from ganrt.gpu.session import DeviceSession, parse_deadline
    from ganrt.gpu.standard_output import redirect_to_stderr
    from ganrt.gpu.tensor_names import FINITENESS_TENSOR, PICTURES_TENSOR
    from ganrt.gpu.trt_programs import TrtPrograms
    from ganrt.gpu.trt_session import load_cached_engine, open_engine_session

__all__ = [
    "FINITENESS_TENSOR",
    "PICTURES_TENSOR",
    "BorrowedArray",
    "DeviceArray",
    "DeviceSession",
    "Gpu",
    "Library",
    "LoadedEngine",
    "OrtPrograms",
    "TrtPrograms",
    "engine_cache",
    "latents",
    "list_engine_variants",
    "load_cached_engine",
    "load_engine",
    "load_tensorrt",
    "load_tensorrt_rtx",
    "open_engine_session",
    "parse_deadline",
    "pictures",
    "redirect_to_stderr",
    "translate_errors",
]

_MODULES = {
    "FINITENESS_TENSOR": "tensor_names",
    "PICTURES_TENSOR": "tensor_names",
    "BorrowedArray": "device",
    "DeviceArray": "device",
    "DeviceSession": "session",
    "Gpu": "device",
    "Library": "nvinfer",
    "LoadedEngine": "loaded_engine",
    "OrtPrograms": "ort_programs",
    "TrtPrograms": "trt_programs",
    "engine_cache": "",
    "latents": "",
    "pictures": "",
    "list_engine_variants": "nvinfer",
    "load_cached_engine": "trt_session",
    "load_engine": "loaded_engine",
    "load_tensorrt": "nvinfer",
    "load_tensorrt_rtx": "nvinfer",
    "open_engine_session": "trt_session",
    "parse_deadline": "session",
    "redirect_to_stderr": "standard_output",
    "translate_errors": "device",
}
"""Public name -> the module of this package that defines it; empty for a module itself."""

__getattr__ = lazy_exports(__name__, _MODULES)
