"""`Bundle`, an exported model: a folder with a manifest, ONNX graphs, weights and golden samples.

    faces.ganrt/
      ganrt.json            manifest: format, Spec, digest of every file, provenance, proofs
      model.onnx            the float32 graph as traced (large weights in external data beside it)
      model.<variant>.onnx  the same model in another form or precision
      weights.safetensors   weights of the PyTorch module that `model` of the manifest describes
      golden.npz            seeds, and the float32 images that PyTorch made from them
      README.md             model card with a sample grid

Reading a bundle reads the manifest alone. The size and sha256 of a file are checked against it when the file is used
(`ganrt.stores`), so files that nobody uses cost nothing and need not be there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ganrt import atomic
from ganrt.agreement import THRESHOLDS
from ganrt.checks import is_finite, is_whole
from ganrt.errors import BundleError, RequestError
from ganrt.golden import Golden
from ganrt.json_reader import parse_json
from ganrt.onnx_metadata import read_metadata
from ganrt.proof import Proof
from ganrt.spec import Spec
from ganrt.stores import MANIFEST, BareStore, FileDigest, Store, open_store

FORMAT = 4
"""Format of the manifest. 1 had one variant per precision and no notes; 2 had the keys `lighter`, `moved` and `fixed`
for `fewer_macs`, `batch_drift` and `bound`; 3 had no `for_gpu`, and `fewer_macs` where only SIMD lanes were saved. All
are read."""
FAITHFUL = "fp32"
"""Name of the variant with the graph as traced, in float32."""
METADATA_KEY = "ganrt.spec"
"""Metadata key, in every ONNX file, of the Spec as JSON."""
PRECISION_KEY = "ganrt.precision"
"""Metadata key, in every ONNX file, of the precision."""

_FEWER_IDLE_LANES = "packing"
"""Graph pass that fills idle SIMD lanes of a CPU."""
_MAX_BARE_ONNX = 2**31


@dataclass(frozen=True)
class Variant:
    """The model in one precision and one form. Its name in the bundle is a precision, such as `fp32`, or
    `<precision>-<form>`, such as `int8-phases` or `int8-half-traced`."""

    file: str
    """File name of the ONNX graph. Variants may share one."""
    opset: int
    """ONNX opset of the graph; 0 if unknown (a bare ONNX file)."""
    precision: str
    """`fp32`, `bf16`, `fp16`, `int8` or `fp8`."""
    fewer_macs: bool = False
    """True if it has fewer MACs than the graph as traced."""
    passes: tuple[str, ...] = ()
    """Graph passes applied, in order."""
    proofs: tuple[Proof, ...] = ()
    """Proofs of this variant, one per backend, device and library version."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Decisions of the export with their reasons, such as the layers kept in float32."""
    for_gpu: bool = False
    """True if it is made for NVIDIA GPUs. Backends that run on the CPU too run it there only to prove it."""


@dataclass(frozen=True)
class Bundle:
    """An exported model whose manifest was read and checked, or a bare ONNX file, which has no golden samples."""

    store: Store
    """Where its files are."""
    spec: Spec
    """Inputs and output of the model."""
    variants: Mapping[str, Variant]
    """Name -> variant; at least one."""
    files: Mapping[str, FileDigest]
    """File name -> digest, of every file but the manifest."""
    model: Mapping[str, Any] | None = None
    """How to rebuild the PyTorch module from `weights.safetensors`: `family`, `config`, and `bound` if inputs were
    bound to constants (`ganrt.bound_inputs`). None for modules that are not of a family of ganrt."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the bundle comes from: checkpoint, date, versions and the like. For people; not evaluated."""
    left_out: Mapping[str, FileDigest] = field(default_factory=dict)
    """File name -> digest, of files of the exported bundle that `ganrt pack` left out or shortened. Proofs of the
    exported bundle are bound to them."""

    GOLDEN = "golden.npz"
    WEIGHTS = "weights.safetensors"
    CARD = "README.md"

    @classmethod
    def of(cls, bundle: Bundle | str | Path) -> Bundle:
        """Return a bundle as it is, or read the one at a path. Raises what `read` raises."""
        return bundle if isinstance(bundle, Bundle) else cls.read(bundle)

    @classmethod
    def read(cls, path: str | Path) -> Bundle:
        """Read the manifest of a bundle, or a bare .onnx file.

        Raises BundleError if it is missing, damaged, or written by a newer ganrt. The other files are checked when they
        are used: see `locate`.
        """
        store = open_store(path)
        if isinstance(store, BareStore):
            return _read_bare(store)
        bundle = _parse_manifest(store, _read_manifest(store))
        store.check_listing(bundle.files)
        return bundle

    @property
    def path(self) -> Path | str:
        """What `ganrt.load` takes to read it again."""
        return self.store.path

    @property
    def folder(self) -> Path:
        """The bundle's folder, or that of the ONNX file. Raises RequestError for a bundle that cannot be changed."""
        return self.store.folder

    def locate(self, name: str) -> Path:
        """Return the path of a file on this machine, its content checked against the manifest.

        Raises BundleError if the file is not listed, missing or was changed.
        """
        if name not in self.files:
            raise BundleError(f"{self.path} has no {name}: its manifest does not list it")
        return self.store.locate(name, self.files[name])

    def variant(self, name: str) -> Variant:
        """Return a variant by its name. Raises RequestError, listing the names, if there is no such variant."""
        if name not in self.variants:
            raise RequestError(f"{self.path} has no variant {name!r}; it has {', '.join(self.variants)}")
        return self.variants[name]

    def in_precision(self, precision: str, gpu: bool = False) -> list[str]:
        """Return the names of the variants of a precision, in the order in which to try them.

        On a CPU: variants with fewer MACs or fewer idle SIMD lanes, then the graph as traced, then variants that
        arrange the same work differently (faster on some backends, slower on others); none that is made for GPUs. On an
        NVIDIA GPU: variants with fewer MACs, then those made for GPUs, then the graph as traced. There a form that
        saves no multiplications only adds kernels to start: phases make four convolutions of a transposed one. The rule
        was not measured; `ganrt tune` measures.

        Args:
            precision: of the variants.
            gpu: True for an NVIDIA GPU.

        Raises RequestError, listing what there is, if there is none.
        """
        names = [name for name, variant in self.variants.items() if variant.precision == precision]
        fitting = [name for name in names if gpu or not self.variants[name].for_gpu]
        if names and not fitting:
            raise RequestError(
                f"{self.path} has {precision} for NVIDIA GPUs only: {', '.join(names)}; name the variant to run it "
                "elsewhere"
            )
        if not names:
            known = ", ".join(dict.fromkeys(variant.precision for variant in self.variants.values()))
            only_gpu = not gpu and all(v.precision == "fp16" or v.for_gpu for v in self.variants.values())
            advice = ", made for GPUs: a CPU only emulates float16, for proofs. Export fp32 or int8 too for a CPU"
            raise RequestError(f"{self.path} has no {precision} variant; it has {known}{advice * only_gpu}")

        def rank(name: str) -> tuple[bool, bool, bool]:
            variant = self.variants[name]
            less = variant.fewer_macs or (not gpu and _FEWER_IDLE_LANES in variant.passes)
            return not less, not variant.for_gpu, name != FAITHFUL

        return sorted(fitting, key=rank)

    def find_damage(self) -> dict[str, BundleError]:
        """Check all files, used or not. Returns name -> what is wrong, of each that is missing or was changed."""
        found = {}
        for name in self.files:
            try:
                self.locate(name)
            except BundleError as error:
                found[name] = error
        return found

    def list_graph_files(self, name: str) -> list[str]:
        """Return the names of a variant's files: the ONNX graph, then its external data."""
        graph = self.variant(name).file
        return [graph, *(file for file in self.files if file.startswith(graph) and file != graph)]

    def onnx(self, name: str) -> Path:
        """Return the path of a variant's ONNX file, checked as by `locate`, with its external data beside it. Raises
        RequestError for an unknown name, and what `locate` raises."""
        graph, *data = self.list_graph_files(name)
        for file in data:
            self.locate(file)
        return self.locate(graph)

    def read_golden(self) -> Golden | None:
        """Read the golden samples; None for a bare ONNX file. Raises BundleError if they are missing or damaged."""
        return Golden.load(self.locate(self.GOLDEN), self.spec) if self.GOLDEN in self.files else None

    def digest(self, name: str) -> str:
        """Return a sha256 over the digests of everything that defines a variant: graph, external data and weights."""
        graph = self.variant(name).file
        every = {**self.left_out, **self.files}
        parts = {n: d.sha256 for n, d in every.items() if n.startswith(graph) or n == self.WEIGHTS}
        return hashlib.sha256(_canonical_json(parts)).hexdigest()

    def with_files(self, *names: str) -> Bundle:
        """Return a copy of the bundle with these files listed, their digests computed from the folder."""
        return replace(self, files={**self.files, **{n: self.store.measure(self.folder / n) for n in names}})

    def without_files(self, *names: str) -> Bundle:
        """Return a copy of the bundle that does not list these files. Nothing is deleted."""
        return replace(self, files={n: digest for n, digest in self.files.items() if n not in names})

    def with_proofs(self, name: str, proofs: tuple[Proof, ...]) -> Bundle:
        """Return a copy of the bundle with proofs added to a variant; they replace earlier ones with the same key or of
        the same request."""
        old = self.variant(name)
        keys, requests = {proof.key for proof in proofs}, {proof.request for proof in proofs} - {""}
        kept = tuple(proof for proof in old.proofs if proof.key not in keys and proof.request not in requests)
        return replace(self, variants={**self.variants, name: replace(old, proofs=kept + proofs)})

    def write_manifest(self) -> None:
        """Write ganrt.json atomically; the other files must be in place. Raises ValueError if the provenance or a note
        is not JSON, MachineError if the file cannot be written."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "spec": self.spec.to_dict(),
            "model": None if self.model is None else dict(self.model),
            "variants": {
                name: {
                    "file": v.file,
                    "opset": v.opset,
                    "precision": v.precision,
                    "fewer_macs": v.fewer_macs,
                    "for_gpu": v.for_gpu,
                    "passes": list(v.passes),
                    "proofs": [p.to_dict() for p in v.proofs],
                    "notes": dict(v.notes),
                }
                for name, v in self.variants.items()
            },
            "files": _describe_files(self.files),
            "provenance": dict(self.provenance),
            **({"left_out": _describe_files(self.left_out)} if self.left_out else {}),
        }
        body["sha256"] = hashlib.sha256(_canonical_json(body)).hexdigest()
        atomic.write_file(self.folder / MANIFEST, _manifest_bytes(body))


def _describe_files(files: Mapping[str, FileDigest]) -> dict[str, Any]:
    return {name: {"size": digest.size, "sha256": digest.sha256} for name, digest in sorted(files.items())}


def _parse_files(raw: Mapping[str, Any]) -> dict[str, FileDigest]:
    return {_check_file_name(name): FileDigest(int(d["size"]), str(d["sha256"])) for name, d in raw.items()}


def _canonical_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _manifest_bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(body, indent=1, allow_nan=False).encode() + b"\n"


def _read_manifest(store: Store) -> dict[str, Any]:
    content, path = store.read_manifest(), f"{store.path}/{MANIFEST}"
    raw = parse_json(content, path, BundleError)
    version = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not is_whole(version) or version < 1:
        raise BundleError(f"{path} is not a manifest of ganrt")
    if version > FORMAT:
        raise BundleError(f"{path} has format {version}; this ganrt reads up to {FORMAT}: update ganrt")
    try:
        as_written = _manifest_bytes(raw) == content  # rejects repeated keys and other spellings of a number
        digest = raw.pop("sha256", None)
        intact = as_written and digest == hashlib.sha256(_canonical_json(raw)).hexdigest()
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise BundleError(f"{path} was changed after it was written (its sha256 differs): fetch the bundle again")
    return raw


def _parse_manifest(store: Store, raw: dict[str, Any]) -> Bundle:
    try:
        files, left_out = _parse_files(raw["files"]), _parse_files(raw.get("left_out", {}))
        variants = {_check_variant_name(name): _parse_variant(name, v, files) for name, v in raw["variants"].items()}
        unknown = sorted({variant.precision for variant in variants.values()} - set(THRESHOLDS))
        if unknown or not variants:
            what = f"variants of the unknown precision {unknown[0]!r}" if unknown else "no variants"
            raise BundleError(f"{store.path} has {what}: update ganrt, or export the model again")
        spec = Spec.from_dict(raw["spec"])
        model, provenance = _parse_model(raw["model"]), dict(raw["provenance"])
        return Bundle(store, spec, variants, files, model, provenance, left_out)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleError(f"{store.path}/{MANIFEST} is incomplete: {error!r}") from error


def _parse_variant(name: str, raw: dict[str, Any], files: Mapping[str, FileDigest]) -> Variant:
    """Parse a variant. In format 1 its name is its precision."""
    if raw["file"] not in files:
        raise BundleError(f"the manifest names the graph {raw['file']!r} but not its digest")
    return Variant(
        file=str(raw["file"]),
        opset=int(raw["opset"]),
        precision=str(raw.get("precision", name)),
        fewer_macs=raw.get("fewer_macs", raw.get("lighter")) is True,
        for_gpu=raw.get("for_gpu") is True,
        passes=tuple(map(str, raw["passes"])),
        proofs=tuple(map(Proof.from_dict, raw["proofs"])),
        notes=dict(raw.get("notes", {})),
    )


def _check_variant_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]{1,20}(-[a-z0-9]{1,40}){0,2}", name):
        raise BundleError(f"the manifest lists a variant {name!r}; a name is a precision, or precision-form")
    return name


def _parse_model(raw: Any) -> dict[str, Any] | None:
    if raw is None:
        return None
    bound = dict(raw.get("bound", raw.get("fixed", {})))
    if not all(map(is_finite, bound.values())):
        raise BundleError(f"the manifest lists the bound inputs {bound}; they must be numbers")
    model = {"family": str(raw["family"]), "config": dict(raw["config"])}
    return {**model, "bound": bound} if bound else model


def _check_file_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}", name) or name == MANIFEST:
        raise BundleError(f"the manifest lists {name!r}, which is not a plain file name")
    return name


def _read_bare(store: BareStore) -> Bundle:
    path = store.path
    try:
        if path.stat().st_size > _MAX_BARE_ONNX:
            raise BundleError(f"{path} is larger than {_MAX_BARE_ONNX} bytes: load the bundle it came from")
        metadata, digest = read_metadata(path.read_bytes(), str(path)), store.measure(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    if METADATA_KEY not in metadata:
        raise BundleError(f"{path} has no Spec of ganrt in its metadata; export the model with `ganrt export`")
    spec = Spec.from_dict(parse_json(metadata[METADATA_KEY].encode(), f"the Spec in {path}", BundleError))
    precision = metadata.get(PRECISION_KEY, "fp32")
    if precision not in THRESHOLDS:
        raise BundleError(f"{path} has the unknown precision {precision!r}: update ganrt, or export the model again")
    variants = {precision: Variant(path.name, 0, precision)}
    return Bundle(store, spec, variants, {path.name: digest})
