"""Lower precisions: graphs converted to fp16 and int8, as far as their images allow on calibration samples."""

from .calibration import Evaluator, Samples, draw_samples
from .float_layers import convert_to_int8
from .fp32_islands import convert_with_fp32_islands
from .pictures import PictureCrops, read_crops

__all__ = [
    "Evaluator",
    "PictureCrops",
    "Samples",
    "convert_to_int8",
    "convert_with_fp32_islands",
    "draw_samples",
    "read_crops",
]
