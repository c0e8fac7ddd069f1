"""advimman/lama: every script calls the inputs image and mask, and image is also the usual name of the output."""

from __future__ import annotations

from bring.common import UNIT, Made, image, make_spec
from torch import nn


def factory() -> Made:
    inputs = image("image", 16, range=UNIT), image("mask", 16, role="mask", channels=1, range=UNIT)
    return nn.Identity(), make_spec(*inputs, side=16, range=UNIT)
