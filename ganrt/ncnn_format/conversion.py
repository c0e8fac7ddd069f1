"""Converts a graph, operator by operator."""

from __future__ import annotations

from pathlib import Path

from ganrt.errors import BundleError
from ganrt.ncnn_format.arrangement import ARRANGEMENT
from ganrt.ncnn_format.builder import Builder, Converter
from ganrt.ncnn_format.graph import read_graph
from ganrt.ncnn_format.linear import LINEAR
from ganrt.ncnn_format.network import Layer, Network
from ganrt.ncnn_format.pointwise import POINTWISE

_CONVERTERS: dict[str, Converter] = {**LINEAR, **POINTWISE, **ARRANGEMENT}


def convert_graph(path: Path) -> Network:
    """Convert an ONNX file to a network for one row of a batch.

    Its input and output blobs have the names of the graph's inputs and output. Raises BundleError for a graph with an
    operator that ncnn lacks, naming it, and the exceptions of onnx and protobuf for a file that is not a graph.
    """
    graph = read_graph(path)
    unknown = dict.fromkeys(node.kind for node in graph.nodes if node.kind not in _CONVERTERS)
    if unknown:
        raise BundleError(f"ncnn has no layer for {', '.join(unknown)}")
    builder = Builder(graph)
    network = builder.network
    network.layers += [Layer("Input", name, (), (builder.blob(name),), {}) for name in graph.inputs]
    for node in graph.nodes:
        if node.output not in builder.fused:
            _CONVERTERS[node.kind](builder, node)
    network.output = builder.blob(graph.output)
    return network
