"""A bundle of the NumPy model, for tests that open no graph."""

from pathlib import Path

from fakes.sessions import SPEC, images

from ganrt.bundle import FAITHFUL, Bundle, Variant
from ganrt.golden import Golden
from ganrt.stores import FolderStore

GRAPH = "model.onnx"


def write_bundle(folder: Path) -> Bundle:
    """One float32 variant without a proof, and golden samples. Its graph and weights are bytes that nothing can run."""
    Golden.make(SPEC, lambda given: images(SPEC, given)).save(folder / Bundle.GOLDEN)
    for name in (GRAPH, Bundle.WEIGHTS):
        (folder / name).write_bytes(name.encode())
    bundle = Bundle(FolderStore(folder), SPEC, {FAITHFUL: Variant(GRAPH, 18, "fp32")}, {})
    return bundle.with_files(GRAPH, Bundle.WEIGHTS, Bundle.GOLDEN)
