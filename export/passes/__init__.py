"""Graph passes: ONNX graphs rewritten to compute the same images with less work, and what passes are written with."""

from .graph import Array, Patch, find_sole_user, read_attribute, read_constant, read_gemm, read_shape
from .node_names import find_module_path, name_nodes_by_module, set_node_name
from .packing import PACKING
from .pipeline import TRACED, optimize_graph
from .simplify import drop_empty_updates, simplify_graph
from .small_constants import hide_small_constants
from .upsampling import find_conv_after_nearest
from .upsampling_forms import FORMS

__all__ = [
    "FORMS",
    "PACKING",
    "TRACED",
    "Array",
    "Patch",
    "drop_empty_updates",
    "find_conv_after_nearest",
    "find_module_path",
    "find_sole_user",
    "hide_small_constants",
    "name_nodes_by_module",
    "optimize_graph",
    "read_attribute",
    "read_constant",
    "read_gemm",
    "read_shape",
    "set_node_name",
    "simplify_graph",
]
