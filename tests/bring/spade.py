"""NVlabs/SPADE: norms modulated by a semantic map, which is resized to each layer; spectral norms; a start whose size
follows the map's, or was computed once from the options."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bring.common import UNIT, Made, image, make_spec, settle
from torch import Tensor, nn
from torch.nn.utils import spectral_norm


class Modulated(nn.Module):
    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.gamma, self.beta = nn.Conv2d(labels, width, 3, padding=1), nn.Conv2d(labels, width, 3, padding=1)

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        seg = F.interpolate(seg, size=x.size()[2:], mode="nearest")
        return self.norm(x) * (1 + self.gamma(seg)) + self.beta(seg)


class Net(nn.Module):
    def __init__(self, start: tuple[int, int] | None = None, numbers: bool = False, labels: int = 4) -> None:
        super().__init__()
        width = 8
        self.fc, self.norm = nn.Conv2d(labels, width, 3, padding=1), Modulated(width, labels)
        self.conv, self.rgb = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.start, self.numbers, self.labels = start, numbers, labels
        settle(self, 0.5)
        self.conv = spectral_norm(self.conv)

    def forward(self, seg: Tensor) -> Tensor:
        if self.numbers:
            seg = F.one_hot(seg[:, 0].long(), self.labels).permute(0, 3, 1, 2).float()
        h, w = self.start or (seg.shape[2] // 4, seg.shape[3] // 4)
        x = self.fc(F.interpolate(seg, size=(h, w)))
        for _ in range(2):
            x = self.conv(F.leaky_relu(self.norm(F.interpolate(x, scale_factor=2.0), seg), 0.2))
        return torch.tanh(self.rgb(x))


def free() -> Made:
    return Net(), make_spec(image("segmap", role="labels", channels=4, range=UNIT, multiple_of=4))


def opts() -> Made:
    """The start was computed for 64 x 64 pixels, and the Spec leaves the size free."""
    return Net((16, 16)), make_spec(image("segmap", role="labels", channels=4, range=UNIT, multiple_of=4))


def numbers() -> Made:
    segmap = image("segmap", 16, role="labels", channels=1, range=(0.0, 3.0))
    return Net(numbers=True), make_spec(segmap, side=16)
