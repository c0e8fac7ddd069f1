"""The graph that an engine is built of: a variant's, with what engines need around it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ganrt.bundle import Bundle
from ganrt.errors import BundleError
from ganrt.feeds import Size
from ganrt.golden import proof_sizes

from .options import ProfileOptions
from .post_processing import add_post_processing_head
from .quantization import make_symmetric

_REVISION = 1
"""Part of the key: raised when the graph around the model changes, so that engines are built anew."""


def make_engine_graph(bundle: Bundle, variant: str) -> ir.Model:
    """Return the graph of a variant with the post-processing head, and int8 as NVIDIA's libraries take it. Raises
    BundleError for a file that is not an ONNX graph with the model's output."""
    file = bundle.onnx(variant)
    try:
        graph = ir.load(file)
    except Exception as error:  # protobuf's, onnx-ir's, the system's
        raise BundleError(f"{file} cannot be read as an ONNX graph: {error}") from error
    if bundle.spec.output.name not in [value.name for value in graph.graph.outputs]:
        raise BundleError(f"{file} has no output {bundle.spec.output.name}, which {bundle.path} describes")
    return make_symmetric(add_post_processing_head(graph, bundle.spec))


def save_engine_graph(model: ir.Model, folder: Path) -> Path:
    """Write the graph into a folder for the parser; its weights go into a file beside it. Returns the graph's path."""
    file = folder / "model.onnx"
    ir.save(model, file, external_data=f"{file.name}.data")
    return file


def name_options(options: ProfileOptions, precision: str) -> dict[str, Any]:
    """Return every option by its name, for the key of an engine."""
    named = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()}
    return {**named, "precision": precision, "revision": _REVISION}


def list_golden_sizes(bundle: Bundle) -> tuple[Size, ...]:
    """Return the heights and widths of all golden pictures."""
    golden = bundle.read_golden()
    groups = [*proof_sizes(bundle.spec), *(group.sizes for group in (golden.groups if golden else ()))]
    return tuple({size for sizes in groups for size in sizes.values()})


def format_batches(options: ProfileOptions) -> str:
    """Return the batch sizes as text."""
    return ", ".join(map(str, options.batches))
