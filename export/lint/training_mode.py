"""A module that came in training mode and makes other pictures there than in evaluation mode, which is exported."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from ganrt.agreement import THRESHOLDS, compare
from ganrt.feeds import Feeds
from ganrt.levels import Levels, find_levels
from ganrt.spec import Spec

from .findings import Finding, join_paths, strip_wrappers

_NORMS = (
    "the module came in training mode, where these norms take their statistics from the picture itself; the export is "
    "in evaluation mode, {psnr:.1f} dB away. If the pictures are good in training mode only, as those of pix2pix, put "
    "InstanceNorm2d(affine=True) with the same weight and bias in their place; if evaluation mode is meant, call "
    "eval() on the module first"
)
_BATCH_NORMS = (
    "the module came in training mode, where these norms take their statistics from a batch of more than one picture; "
    "the export is in evaluation mode, {psnr:.1f} dB away, with their running statistics. Call eval() on the module "
    "first, and see that its pictures are good"
)
_DROPOUT = (
    "the module came in training mode, where dropout changes the picture; the export is in evaluation mode, {psnr:.1f} "
    "dB away. If its noise is meant, take it as an input, with a ganrt.Latent in the Spec, since dropout does not draw "
    "from the seed of a sample; if evaluation mode is meant, call eval() on the module first"
)
_OTHERS = (
    "the module came in training mode, where its forward makes another picture; the export is in evaluation mode, "
    "{psnr:.1f} dB away. See what self.training changes there; if evaluation mode is meant, call eval() on the module "
    "first"
)


def list_training_parts(module: nn.Module) -> tuple[str, ...]:
    """Paths of the modules that are in training mode."""
    return tuple(name for name, part in module.named_modules() if part.training)


def check_training_mode(
    module: nn.Module, spec: Spec, images: Tensor, given: Feeds, in_training: Sequence[str]
) -> Iterator[Finding]:
    """Compare training mode, one picture at a time, with evaluation mode, and name what makes the difference. The
    module stays as it is; the random state of torch does not.

    Args:
        images: what the module makes of `given` in evaluation mode.
        in_training: paths of the modules that came in training mode.
    """
    levels = find_levels(spec.output)
    whole, _ = _compare_modes(module, levels, images, given, in_training)
    if not whole < THRESHOLDS["fp32"]:
        return
    alike: dict[type[nn.Module], list[str]] = {}
    for name, part in module.named_modules():
        if strip_wrappers(name) in in_training:
            alike.setdefault(type(part), []).append(strip_wrappers(name))
    found: dict[str, list[tuple[float, list[str]]]] = {}
    for kind, paths in alike.items():
        psnr, alone = _compare_modes(module, levels, images, given, paths)
        if psnr < THRESHOLDS["fp32"]:
            found.setdefault(_choose_text(kind, alone), []).append((psnr, paths))
    for text, parts in (found or {_OTHERS: [(whole, [""])]}).items():
        paths = [path for _, group in parts for path in group]
        text = text.format(psnr=min(psnr for psnr, _ in parts))
        yield Finding("training mode", join_paths(paths), text, "warning")


def _choose_text(kind: type[nn.Module], alone: bool) -> str:
    if issubclass(kind, _NormBase):
        return _NORMS if alone else _BATCH_NORMS
    return _DROPOUT if issubclass(kind, _DropoutNd) else _OTHERS


def _compare_modes(
    module: nn.Module, levels: Levels, images: Tensor, given: Feeds, in_training: Collection[str]
) -> tuple[float, bool]:
    """Worst PSNR between both modes, in dB, infinity where training mode cannot be run; and whether it ran on single
    pictures."""
    rows = len(images)
    for size in (1, rows) if in_training else ():
        found = _run_in_training(module, images, given, in_training, size)
        if found is not None:
            return float(compare(found.numpy(), images.numpy(), levels).psnr.min()), size == 1
    return float("inf"), True


def _run_in_training(
    module: nn.Module, images: Tensor, given: Feeds, in_training: Collection[str], size: int
) -> Tensor | None:
    """Images of a copy of a module, some parts of which are in training mode, in batches of `size`. None where that
    fails, as norms of single pixels do in batches of 1."""
    try:
        copied = copy.deepcopy(module, {id(value): value for value in module.parameters()})
        for name, part in copied.named_modules():
            part.training = strip_wrappers(name) in in_training
        inputs = [torch.from_numpy(array) for array in given.values()]
        with torch.no_grad():
            made = [copied(*batch) for batch in zip(*(torch.split(value, size) for value in inputs), strict=True)]
        found = torch.cat([_find_image(result, images.shape[1:]) for result in made])
    except Exception:  # it is the user's code: it may raise anything, and hold what cannot be copied
        return None
    return found if found.shape == images.shape else None


def _find_image(result: Any, shape: torch.Size) -> Tensor:
    """The image among what a module returned: training mode may return more. Raises StopIteration."""
    items = result if isinstance(result, tuple | list) else [result]
    return next(item for item in items if isinstance(item, Tensor) and item.shape[1:] == shape)
