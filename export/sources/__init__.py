"""What can be exported, and how it is recognised: RUN folders, checkpoints, ncnn's files, ONNX files, factories and
modules in memory."""

from .checkpoints import recognize
from .onnx_file import GraphFile, GraphModule, choose_output, read_batch, read_graph_file
from .onnx_graph import adopt_graph
from .opening import Source, describe_source, open_source
from .receptive_field import has_reach, measure_reach
from .spec_guess import Guess, guess_spec

__all__ = [
    "GraphFile",
    "GraphModule",
    "Guess",
    "Source",
    "adopt_graph",
    "choose_output",
    "describe_source",
    "guess_spec",
    "has_reach",
    "measure_reach",
    "open_source",
    "read_batch",
    "read_graph_file",
    "recognize",
]
