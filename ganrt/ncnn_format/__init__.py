"""ncnn's own format, a text file of layers and a binary file of weights, and writing a bundle's graph in it.

ncnn has no converter in its Python package. This one knows the operators of ganrt's graphs and of most image-to-image
networks; a graph with any other operator is rejected with the operator's name.
"""

from ganrt.ncnn_format.conversion import convert_graph
from ganrt.ncnn_format.device_package import pack_for_ncnn
from ganrt.ncnn_format.network import ARRAY, FLOAT16_TAG, MAGIC, Layer, Network, Number, Parameter, Weights

__all__ = [
    "ARRAY",
    "FLOAT16_TAG",
    "MAGIC",
    "Layer",
    "Network",
    "Number",
    "Parameter",
    "Weights",
    "convert_graph",
    "pack_for_ncnn",
]
