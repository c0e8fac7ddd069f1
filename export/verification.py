"""`verify`: compare a bundle with its golden samples on the backends of this machine, and record the proofs in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from ganrt import atomic
from ganrt.agreement import THRESHOLDS
from ganrt.backend import backend_table, import_backend, open_session, supports_variant
from ganrt.bundle import Bundle
from ganrt.choosing import backends_to_try
from ganrt.errors import BackendError, BundleError, MachineError, MissingLibraryError, RequestError
from ganrt.golden import Golden
from ganrt.images import encode_png
from ganrt.proof import Proof
from ganrt.proving import Comparison, GoldenComparison, prove
from ganrt.session_config import SessionConfig
from ganrt.trust import cache_proof, make_refusal, proof_key, request_key

from .card import has_pictures, write_card
from .contact_sheet import draw_contact_sheet, sheet_stem
from .engines import CompilationTrial, CompilationTrials
from .lint import join_paths
from .passes import find_module_path

Progress = Callable[[str], None]
"""Called with a line of text before each step."""
_COMPILER_NOTE = "NVIDIA's compiler"
FindDifference = Callable[[Bundle, SessionConfig, GoldenComparison], str]
"""Names the first module whose values a session computes differently from the original."""


def installed_backends(device: str) -> list[str]:
    """The backends to verify a bundle on by default: those whose library is installed and that run on this kind of
    device; `auto` without an NVIDIA GPU leaves out those that need one. The slow `reference` is not among them, because
    the golden samples are PyTorch's already."""
    names = []
    for name in backends_to_try(device):
        try:
            import_backend(name)
        except MissingLibraryError:
            continue
        except MachineError:  # opening it says what is broken
            pass
        names.append(name)
    return [name for name in names if name != "reference"]


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    bundle: Bundle
    """The bundle with the new proofs in its record."""
    proofs: Mapping[str, tuple[Proof, ...]]
    """Name of a variant -> its proofs of this run, passed or failed, one for each backend."""
    named: tuple[str, ...] = ()
    """The backends that were named; () if all that are installed were to be tried."""

    @property
    def passed(self) -> bool:
        """True if there are no failures."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the bundle failed: a sentence for each variant that was tried and has no backend that runs its graph and
        makes the original's images, and for each refusal of a backend that was named."""
        if not self.proofs:
            tried = f"none of the backends {', '.join(self.named)}" if self.named else "nothing on this machine"
            return (f"{tried} runs {', '.join(self.bundle.variants)}",)
        refused = {name: texts for name in self.proofs if (texts := self._list_refusals(name))}
        failed = ["; ".join(texts) for name, texts in refused.items() if not self.is_proven(name)]
        named = [text for name in refused if self.is_proven(name) for text in self._list_refusals(name, self.named)]
        return (*failed, *named)

    @property
    def refusals(self) -> tuple[str, ...]:
        """A sentence for each backend that does not run a variant, or does not make the original's images with it."""
        return tuple(text for name in self.proofs for text in self._list_refusals(name))

    def is_proven(self, variant: str) -> bool:
        """Return whether a backend makes the original's images from the variant's graph. `pytorch` rebuilds the module,
        so its images prove nothing about the graph."""
        runs_graphs = {name for name, entry in backend_table().items() if entry.graphs}
        return any(proof.passed and proof.backend in runs_graphs for proof in self.proofs.get(variant, ()))

    def _list_refusals(self, variant: str, backends: Sequence[str] | None = None) -> list[str]:
        refused = [p for p in self.proofs[variant] if not p.passed and (backends is None or p.backend in backends)]
        return [
            f"{proof.backend if variant in proof.refusal else f'{variant} on {proof.backend}'} {proof.refusal}"
            for proof in refused
        ]


def verify(
    bundle: Bundle | str | Path,
    *,
    backends: str | Sequence[str] | None = None,
    device: str = "auto",
    progress: Progress = lambda _: None,
) -> Verification:
    """Check every file, compare every variant with the golden samples on every backend, and write proofs, contact
    sheets and the model card into the bundle.

        verify("faces.ganrt", backends="onnxruntime").passed

    Args:
        bundle: a bundle, or the path of one.
        backends: a name or several, each of which gets the variants that it runs and must make the original's images.
            Default: all whose library is installed. What one of these cannot load, fails to run or makes differently is
            recorded as its refusal; what this machine lacks is reported to `progress` and skipped.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: called with a line of text before each step.

    A failed comparison raises nothing: look at `passed`, `failures` and `refusals` of the result. Raises BundleError
    when the bundle is missing or damaged, RequestError for a bare ONNX file (it has no golden samples) and for an
    unknown backend, MachineError when a backend that was named is not installed or lacks what it needs here.
    """
    bundle = Bundle.of(bundle)
    _check_files(bundle, progress)
    if not bundle.store.writable and Bundle.GOLDEN in bundle.files:
        progress(f"{bundle.path} cannot be changed: the proofs go to this user's cache, where ganrt.load finds them")
    return prove_bundle(bundle, backends, device, progress)


def _check_files(bundle: Bundle, progress: Progress) -> None:
    """Check every file, used or not. Raises BundleError, naming all that are wrong, unless they are pictures or the
    card: hubs edit cards."""
    damaged = bundle.find_damage()
    shown = [name for name in damaged if name == Bundle.CARD or name.endswith(".png")]
    for name in shown:
        progress(f"{damaged[name]}, if you need it; no backend uses it")
    broken = [damaged[name] for name in damaged if name not in shown]
    if len(broken) == 1:
        raise broken[0]
    if broken:
        raise BundleError(f"{bundle.path} has {len(broken)} damaged files:\n" + "\n".join(f"- {e}" for e in broken))


def prove_bundle(
    bundle: Bundle,
    backends: str | Sequence[str] | None,
    device: str,
    progress: Progress,
    find_difference: FindDifference | None = None,
    variants: Collection[str] | None = None,
) -> Verification:
    """`verify`, of some variants (None: all); with the original at hand, wrong images are traced to the module that
    they come from."""
    golden = bundle.read_golden()
    if golden is None:
        raise RequestError(f"{bundle.path} is a bare ONNX file without golden samples; verify the bundle it came from")
    named = (backends,) if isinstance(backends, str) else tuple(backends or ())
    proofs: dict[str, tuple[Proof, ...]] = {}
    known: dict[str, Comparison] = {}
    pairs = [
        (backend, variant)
        for backend in named or installed_backends(device)
        for variant in variants or bundle.variants
        if supports_variant(backend, bundle, variant, device)
    ]
    with CompilationTrials(bundle, variants) as compilation:
        for backend, variant in pairs:
            progress(f"verifying {variant} on {backend}")
            try:
                config = SessionConfig(backend, variant, device)
                proof, compared = _prove(bundle, config, golden, known)
                if find_difference and compared and compared.agreement.psnr.min() < THRESHOLDS[proof.precision]:
                    where = find_difference(bundle, config, compared)
                    first, *others = proof.failures
                    proof = replace(proof, failures=(f"{first}; values first differ in {where}", *others))
            except (MachineError, RequestError) as error:
                if named:
                    raise
                progress(f"skipped: {error}")
                continue
            proofs[variant] = (*proofs.get(variant, ()), proof)
            bundle = _record_proof(bundle, variant, proof, compared)
        bundle = _note_compilation(bundle, compilation.trials, progress)
    return Verification(write_card(bundle), proofs, named)


def _note_compilation(bundle: Bundle, trials: Mapping[str, Future[CompilationTrial]], progress: Progress) -> Bundle:
    """Note for each variant whether NVIDIA's compiler takes it for RTX GPUs.

    Args:
        trials: by the name of the variant.
    """
    for name, trial in trials.items():
        progress(f"compiling {name} for RTX GPUs")
        try:
            found = trial.result()
        except BundleError as error:  # which the proofs have reported already
            progress(f"skipped: {error}")
            continue
        except MachineError as error:
            progress(f"skipped: {error}")
            break
        variant = bundle.variant(name)
        noted = replace(variant, notes={**variant.notes, _COMPILER_NOTE: _describe_trial(bundle, name, found)})
        bundle = replace(bundle, variants={**bundle.variants, name: noted})
    return bundle


def _describe_trial(bundle: Bundle, variant: str, trial: CompilationTrial) -> str:
    parts = [f"takes it for {', '.join(trial.targets)}"] if trial.targets else []
    rejecting: dict[str, list[str]] = {}
    for target, reason in trial.reasons.items():
        rejecting.setdefault(reason, []).append(target)
    for reason, targets in rejecting.items():
        where = _locate_operators(bundle, variant, reason)
        parts.append(f"rejects it for {', '.join(targets)}: {reason.removeprefix(f'{trial.compiler} ')}{where}")
    return f"{trial.compiler} {'; '.join(parts)}"


def _prove(
    bundle: Bundle, config: SessionConfig, golden: Golden, known: dict[str, Comparison]
) -> tuple[Proof, GoldenComparison | None]:
    """The proof of a session with its images; without images the refusal of a backend that cannot load the graph or
    fails while running it.

    Args:
        known: key -> comparison of a session that computes the same, such as that of another form whose graph has the
            same bytes; the new one is added.
    """
    try:
        with open_session(bundle, config) as session:
            key = proof_key(bundle, config.variant, session)
            if key not in known:
                known[key] = prove(session, bundle.spec, golden, key)
            comparison = known[key]
    except (BundleError, BackendError) as error:
        reason = str(error).removeprefix(f"{config.backend} ")
        return make_refusal(bundle, config, reason + _locate_operators(bundle, config.variant, reason)), None
    return replace(comparison.proof, request=request_key(bundle, config)), comparison.compared


def _locate_operators(bundle: Bundle, variant: str, reason: str) -> str:
    """The modules of the operators in a library's message, for the end of it; empty if the message names a node."""
    try:
        nodes = list(ir.load(bundle.onnx(variant)).graph.all_nodes())
    except Exception:  # a file that is no graph: the library's message is about that
        return ""
    words = set(re.findall(r"\w+", reason))
    modules = dict.fromkeys(find_module_path(node) for node in nodes if node.op_type in words)
    if any(str(node.name) in reason for node in nodes) or not any(modules):
        return ""
    return f" (in {join_paths(list(modules))})"


def _record_proof(bundle: Bundle, variant: str, proof: Proof, compared: GoldenComparison | None) -> Bundle:
    """Add the proof and its contact sheet. The sheet's name holds its digest, so an interrupted update leaves the old
    record intact: the new file exists before the manifest names it, and the old one is deleted afterwards.

    A bundle that cannot be changed stays as it is; its proof goes to the user's cache."""
    stem, names = sheet_stem(variant, proof), []
    if not bundle.store.writable:
        if proof.samples:  # a refusal without images is found in a bundle's record alone
            cache_proof(proof)
        return bundle.with_proofs(variant, (proof,))
    if compared is not None and has_pictures(bundle):
        png = encode_png(draw_contact_sheet(compared, bundle.spec.output), smallest=False)
        names.append(f"{stem}{hashlib.sha256(png).hexdigest()[:8]}.png")
        atomic.write_file(bundle.folder / names[0], png)
    old = [file for file in bundle.files if file.startswith(stem) and file not in names]
    updated = bundle.with_proofs(variant, (proof,)).without_files(*old).with_files(*names)
    updated.write_manifest()
    for file in old:
        (bundle.folder / file).unlink(missing_ok=True)
    return updated
