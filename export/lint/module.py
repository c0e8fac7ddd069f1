"""Faults that show in a module without running it: norms and modes that only make sense in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from ganrt.models import fold_layer

from .findings import Finding, join_paths

Rule = Callable[[nn.Module], Iterable[Finding]]
"""Looks at a module (on the CPU, after eval(), without gradients), and fixes it in place where it can."""

_SAME_AS_BATCH_NORM: dict[type[nn.Module], type[_BatchNorm]] = {
    nn.InstanceNorm1d: nn.BatchNorm1d,
    nn.InstanceNorm2d: nn.BatchNorm2d,
    nn.InstanceNorm3d: nn.BatchNorm3d,
}


def check_module(module: nn.Module) -> list[Finding]:
    """Apply all RULES, in their order. The module's parameters stay without gradients."""
    findings = [finding for rule in RULES for finding in rule(module)]
    module.requires_grad_(False)
    return findings


def fix_training_mode(module: nn.Module) -> Iterator[Finding]:
    """Modules that eval() does not reach, because a class has a train() of its own."""
    left = [(name, part) for name, part in module.named_modules() if part.training]
    if not left:
        return
    for _, part in left:
        part.training = False
    named = [name for name, part in left if isinstance(part, _NormBase | _DropoutNd)]
    yield Finding(
        "training mode",
        join_paths(named or [name for name, _ in left]),
        "stayed in training mode after eval(); it was put into evaluation mode, in which batch norm uses its running "
        "statistics and dropout does nothing",
        "fixed",
    )


def fold_parametrizations(module: nn.Module) -> Iterator[Finding]:
    """Spectral norm, weight norm and other parametrizations, of both of torch's kinds: hooks that run before forward,
    and `torch.nn.utils.parametrize`."""
    found: dict[str, list[str]] = {}
    for path, part in module.named_modules():
        if isinstance(part, parametrize.ParametrizationList):
            continue
        for hook in list(part._forward_pre_hooks.values()):
            if isinstance(hook, SpectralNorm | WeightNorm):
                found.setdefault(_split_class_name(type(hook).__name__), []).append(path)
                remove = remove_spectral_norm if isinstance(hook, SpectralNorm) else remove_weight_norm
                remove(part, hook.name)
        if parametrize.is_parametrized(part):
            kinds = {type(kind).__name__ for chain in part.parametrizations.values() for kind in chain}
            found.setdefault(" and ".join(sorted(map(_split_class_name, kinds))), []).append(path)
            fold_layer(part)
    for kind, paths in found.items():
        yield Finding("computed weights", join_paths(paths), f"{kind} was folded into plain weights", "fixed")


def _split_class_name(name: str) -> str:
    """SpectralNorm or _SpectralNorm -> spectral norm."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name.lstrip("_")).strip()


def replace_instance_norms(module: nn.Module) -> Iterator[Finding]:
    """Instance norm that uses running statistics in evaluation mode is batch norm, and torch.onnx.export writes it as a
    tangle of shapes and tiles."""
    paths = []
    for path, parent in list(module.named_modules()):
        for name, part in parent.named_children():
            kind = _SAME_AS_BATCH_NORM.get(type(part))
            if kind is not None and isinstance(part, _NormBase) and part.running_mean is not None:
                same = kind(part.num_features, part.eps, part.momentum, part.affine)
                same.load_state_dict(part.state_dict())
                setattr(parent, name, same.eval())
                paths.append(f"{path}.{name}".lstrip("."))
    if paths:
        yield Finding(
            "instance norm with running statistics",
            join_paths(paths),
            "instance norm with running statistics became the batch norm that it is in evaluation mode, the same "
            "function; if the pictures were good in training mode only, leave out track_running_stats",
            "fixed",
        )


def check_batch_statistics(module: nn.Module) -> Iterator[Finding]:
    """Batch norm that has nothing but the batch to take its statistics from."""
    paths = [
        name for name, part in module.named_modules() if isinstance(part, _BatchNorm) and part.running_mean is None
    ]
    if paths:
        yield Finding(
            "batch statistics",
            join_paths(paths),
            "batch norm without running statistics makes a picture depend on the others of its batch. Where it always "
            "ran on single pictures, put InstanceNorm2d(affine=True) in its place; else give it "
            "track_running_stats=True and pass some hundred batches through it in training mode",
            "rejected",
        )


def check_initial_statistics(module: nn.Module) -> Iterator[Finding]:
    """Batch norm with initial statistics in a trained network: what an exponential moving average (EMA) of the
    parameters leaves behind when it skips the buffers. A network whose norms are all initial has not been trained, and
    gets no warning."""
    norms = [(name, part) for name, part in module.named_modules() if isinstance(part, _BatchNorm)]
    initial = [name for name, part in norms if _is_initial(part)]
    if not initial or not (len(initial) < len(norms) or _is_trained(module)):
        return
    yield Finding(
        "statistics never measured",
        join_paths(initial),
        "running mean 0 and variance 1, as before training, beside trained weights: an EMA that left the buffers out? "
        "Copy the trained generator's buffers, or pass some hundred batches through it in training mode",
        "warning",
    )


def _is_initial(norm: _BatchNorm) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and not bool(mean.any()) and bool((variance == 1).all())


def _is_trained(module: nn.Module) -> bool:
    """Whether a norm counted batches, or has a bias that is not 0: everybody makes them 0."""
    for part in module.modules():
        counted = getattr(part, "num_batches_tracked", None)
        bias = getattr(part, "bias", None)
        normalises = isinstance(part, _NormBase | nn.GroupNorm | nn.LayerNorm)
        if normalises and any(isinstance(value, torch.Tensor) and bool(value.any()) for value in (counted, bias)):
            return True
    return False


def check_output_padding(module: nn.Module) -> Iterator[Finding]:
    """Transposed convolutions that append rows.

    TensorRT's layer has no such setting. Its parser takes the rows off the padding at the end, and where there is less
    padding than rows it appends zeros after the layer and adds the bias separately (onnx-tensorrt,
    builtin_op_importers.cpp, ConvTranspose).
    """
    cheap: list[str] = []
    dear: list[str] = []
    for name, part in module.named_modules():
        if isinstance(part, _ConvTransposeNd) and any(part.output_padding):
            assert not isinstance(part.padding, str), "transposed convolutions take numbers only"
            beyond = any(extra > pad for extra, pad in zip(part.output_padding, part.padding, strict=True))
            (dear if beyond else cheap).append(name)
    kept = "output_padding is kept: ONNX Runtime, OpenVINO and TensorRT's parser compute it, Torch-TensorRT does not"
    costs = (
        "output_padding beyond padding costs two more layers in TensorRT; a kernel that is larger by output_padding, "
        "with zeros at its end, makes the same pictures"
    )
    for names, text in ((cheap, kept), (dear, costs)):
        if names:
            yield Finding("output_padding", join_paths(names), text, "warning")


RULES: tuple[Rule, ...] = (
    fix_training_mode,
    fold_parametrizations,
    replace_instance_norms,
    check_batch_statistics,
    check_initial_statistics,
    check_output_padding,
)
