"""The faithful graph of a generator, traced or read, with the golden samples that everything else is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import onnx_ir as ir
import safetensors.torch

from ganrt._version import __version__
from ganrt.backend import library_version
from ganrt.bound_inputs import BoundInputs, drop_bound_inputs, make_bound_feeds
from ganrt.bundle import FAITHFUL, Bundle, Variant
from ganrt.errors import ArtifactError, RequestError, VerificationError
from ganrt.feeds import Array, Feeds
from ganrt.golden import Golden
from ganrt.images import Floats
from ganrt.machine import usable_cores
from ganrt.onnx_macs import count_graph_macs
from ganrt.proving import count_proof_samples
from ganrt.spec import Spec
from ganrt.stores import FolderStore

from .bind_inputs import bind_inputs
from .lint import (
    PICTURE_SIZE,
    Finding,
    Place,
    check_graph,
    check_graph_batch,
    check_output_range,
    check_picture_sizes,
    describe_failing_place,
    find_freezing_place,
    find_general_sizes,
    report_findings,
)
from .sources import Source, adopt_graph
from .tracing import Sizes, count_macs, make_example_inputs, run_original, trace
from .variants import save_graph

Progress: TypeAlias = Callable[[str], None]
_GRAPH = "model.onnx"
_MACS_PER_SECOND = 1e10
"""Of a core in float32, for the estimate of how long a proof takes: what convolutions reach on most CPUs."""
_LIBRARIES = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")


@dataclass(frozen=True)
class Faithful:
    """How to write a faithful graph."""

    opset: int
    """ONNX operator set."""
    bind: BoundInputs
    """Inputs that get a constant value."""
    progress: Progress

    def write(
        self,
        loaded: Source,
        folder: Path,
        name: str,
        findings: Sequence[Finding],
        held_out: Sequence[Mapping[str, Array]],
    ) -> tuple[ir.Model, Bundle]:
        """Write the graph and the golden samples: a bundle without further variants, manifest and proofs.

        Args:
            name: of the bundle.
            findings: of the linter, so far.
            held_out: crops of the user's pictures, to be golden samples.

        Raises RequestError when the linter rejects the graph.
        """
        model, in_graph = self._make_graph(loaded)
        report_findings(in_graph, loaded.name, self.progress)
        spec, bind = drop_bound_inputs(loaded.spec, self.bind), self.bind
        golden = self._make_golden(loaded, model, spec, held_out)
        if bind:
            model = bind_inputs(model, make_bound_feeds(loaded.spec, bind, 1), spec)
        faithful = Variant(_GRAPH, model.opset_imports[""], "fp32")
        bundle = Bundle(FolderStore(folder), spec, {FAITHFUL: faithful}, {}, _describe_model(loaded, bind))
        names = [*save_graph(model, bundle, _GRAPH), Bundle.GOLDEN]
        golden.save(folder / Bundle.GOLDEN)
        if loaded.model is not None:
            weights = folder / Bundle.WEIGHTS
            safetensors.torch.save_file(loaded.module.state_dict(), weights)
            weights.chmod((folder / _GRAPH).stat().st_mode)  # the library lets only its owner read it
            names.append(Bundle.WEIGHTS)
        provenance = {
            "bundle": name,
            "source": dict(loaded.origin),
            "options": {"opset": self.opset, "bound": dict(bind)},
            "lint": [asdict(finding) for finding in (*findings, *in_graph)],
            "versions": {"ganrt": __version__} | {library: library_version(library) for library in _LIBRARIES},
        }
        return model, replace(bundle, provenance=provenance).with_files(*names)

    def _make_graph(self, loaded: Source) -> tuple[ir.Model, list[Finding]]:
        """The graph of a module by tracing it, that of an ONNX file as it is, in the form of a traced one; and what the
        linter finds there."""
        if loaded.graph is None:
            self.progress("tracing the module")
            return self._trace(loaded)
        file, output = loaded.graph
        self.progress(f"reading the graph of {file.path.name}")
        findings: list[Finding] = []
        return adopt_graph(
            file, output, loaded.spec, self.opset, lambda raw: findings.extend(_check_raw_graph(loaded, raw))
        ), findings

    def _trace(self, loaded: Source) -> tuple[ir.Model, list[Finding]]:
        """Trace a module; once more, at other sizes of its pictures, if its graph holds at the first ones alone."""

        def trace_at(sizes: Sizes | None) -> tuple[ir.Model, list[Finding]]:
            findings: list[Finding] = []
            model = trace(
                loaded.module,
                loaded.spec,
                self.opset,
                lambda raw: findings.extend(_check_raw_graph(loaded, raw, sizes)),
                partial(describe_failing_place, loaded.module, loaded.spec),
                sizes,
            )
            return model, findings

        first = trace_at(None)
        if {finding.rule for finding in first[1] if finding.severity == "rejected"} != {PICTURE_SIZE}:
            return first
        sizes = find_general_sizes(loaded.module, loaded.spec)
        if sizes is None:
            return first
        try:
            again = trace_at(sizes)
        except (RequestError, VerificationError):  # not traceable there: the first findings say what to do
            return first
        return first if any(finding.severity == "rejected" for finding in again[1]) else again

    def _make_golden(
        self, loaded: Source, model: ir.Model, spec: Spec, held_out: Sequence[Mapping[str, Array]]
    ) -> Golden:
        """Run the original on golden samples, and report how much work it is to prove a variant on a backend."""
        self.progress("making golden samples")
        macs = _count_macs(loaded, model)
        golden = Golden.make(spec, partial(run_whole, loaded, self.bind), macs=macs, pictures=held_out)
        work = macs * count_proof_samples(golden)
        seconds = max(1.0, work / (_MACS_PER_SECOND * usable_cores()))
        needed = f"; each proof takes {work / 1e9:.2g} GMACs, roughly {seconds:.0f} s here" if work else ""
        self.progress(f"made {golden}{needed}")
        return golden


def _check_raw_graph(loaded: Source, raw: ir.Model, traced: Sizes | None = None) -> list[Finding]:
    """What the linter finds in the graph as it was traced, with pictures of some sizes."""
    if loaded.graph is not None:
        findings = check_graph(raw, loaded.spec, lambda place, axis: Place("the graph"))
        return [*findings, *check_output_range(raw, loaded.module, loaded.spec)]
    findings = check_graph(raw, loaded.spec, partial(find_freezing_place, loaded.module, loaded.spec))
    if loaded.model is None and all(finding.severity != "rejected" for finding in findings):  # not of ganrt's families
        findings += check_output_range(raw, loaded.module, loaded.spec)
        findings += check_graph_batch(loaded.module, loaded.spec, raw)
        findings += check_picture_sizes(loaded.module, loaded.spec, raw, traced)
    return findings


def _count_macs(loaded: Source, model: ir.Model) -> int:
    """Multiply-accumulates for one row of the inputs that a module is traced with. 0 for an ONNX file in which they do
    not follow from the inputs' shapes: it gets the golden samples of a small network."""
    given = make_example_inputs(loaded.spec)
    if loaded.graph is None:
        return count_macs(loaded.module, given)
    shapes = {item.name: (1, *rows.shape[1:]) for item, rows in zip(loaded.spec.inputs, given, strict=True)}
    try:
        return count_graph_macs(ir.to_proto(model), shapes, loaded.name)
    except ArtifactError:
        return 0


def run_whole(loaded: Source, bind: BoundInputs, given: Feeds) -> Floats:
    """The images of the whole module, with the bound inputs in their places."""
    return run_original(loaded.module, add_bound_inputs(loaded, bind, given))


def add_bound_inputs(loaded: Source, bind: BoundInputs, given: Feeds) -> Feeds:
    """All inputs of the module, in the order of its forward."""
    every = given | make_bound_feeds(loaded.spec, bind, len(next(iter(given.values()))))
    return {item.name: every[item.name] for item in loaded.spec.inputs}


def _describe_model(loaded: Source, bind: BoundInputs) -> Mapping[str, Any] | None:
    """`Bundle.model`."""
    return {**loaded.model, "bound": dict(bind)} if loaded.model and bind else loaded.model
