"""What the image-to-image networks of junyanz/pytorch-CycleGAN-and-pix2pix and its successors share: norms, the Spec of
an image in [-1, 1], and the statistics that old checkpoints hold beside the weights.

The project's `test.py` leaves networks in training mode unless `--eval` is given: dropout and the statistics of the
picture at hand are then part of its pictures. Here all are in evaluation mode.
"""

from __future__ import annotations

import re
from typing import TypeVar

from torch import nn

from ganrt.errors import RequestError
from ganrt.models.family import Shapes
from ganrt.spec import Image, Output, Spec

NORMS = ("batch", "instance", "affine", "none")
"""`instance` has no weights; `affine` is instance norm with a gain and a bias per channel."""
_RANGE = (-1.0, 1.0)
_STATISTICS = re.compile(r"(.+)\.(running_mean|running_var|num_batches_tracked)")
_T = TypeVar("_T")


def check_norm(norm: str) -> None:
    """Raise RequestError for an unknown norm."""
    if norm not in NORMS:
        raise RequestError(f"norm is {norm!r}; it must be one of {', '.join(NORMS)}")


def build_norm(norm: str, width: int) -> nn.Module:
    """One of NORMS."""
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width, affine=norm == "affine")


def guess_norm(shapes: Shapes, layer: str, norm: str) -> tuple[str, bool]:
    """Infer the norm, and whether the convolutions in front of it have a bias. A norm without weights leaves nothing
    behind: the project's convolutions have a bias in front of an instance norm, and none where there is no norm.

    Args:
        layer: name of a convolution.
        norm: name of the norm behind it.
    """
    bias = f"{layer}.bias" in shapes
    if f"{norm}.weight" in shapes:
        return ("batch" if f"{norm}.running_mean" in shapes else "affine"), bias
    return ("instance" if bias else "none"), bias


def build_spec(family: str, channels: int, made: int, multiple_of: int) -> Spec:
    """An image in, another of the same size out, both in [-1, 1].

    Args:
        channels: of the input.
        made: channels of the output.
    """
    picture = Image("image", "content", channels, _RANGE, multiple_of=multiple_of)
    return Spec(family, (picture,), Output(made, _RANGE, None, name="translated"))


def drop_unused_statistics(state: dict[str, _T]) -> dict[str, _T]:
    """Without the running statistics that PyTorch before 0.4 wrote for instance norms and never used: those of norms
    without a weight."""

    def is_used(key: str) -> bool:
        found = _STATISTICS.fullmatch(key)
        return found is None or f"{found[1]}.weight" in state

    return {key: value for key, value in state.items() if is_used(key)}
