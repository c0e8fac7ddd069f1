"""Lower precisions: graphs converted to fp16, int8 and fp8, as far as their images allow on calibration samples."""

from .calibration import Evaluator, Samples, draw_samples, run_samples
from .float_layers import convert_to_int8
from .fp32_islands import HalfGraph, convert_with_fp32_islands
from .half_quantization import HalfQuantizer, find_half_layers
from .pictures import PictureCrops, read_crops
from .stored_weights import describe_storage

__all__ = [
    "Evaluator",
    "HalfGraph",
    "HalfQuantizer",
    "PictureCrops",
    "Samples",
    "convert_to_int8",
    "convert_with_fp32_islands",
    "describe_storage",
    "draw_samples",
    "find_half_layers",
    "read_crops",
    "run_samples",
]
