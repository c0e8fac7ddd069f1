"""junyanz/pytorch-CycleGAN-and-pix2pix and NVIDIA/pix2pixHD: residual blocks with reflection padding, transposed
convolutions with output_padding; a local enhancer on a pyramid; label and instance maps."""

from __future__ import annotations

import torch
from bring.common import Made, image, make_spec, settle
from torch import Tensor, nn


def trunk(inputs: int = 3, width: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(inputs, width, 7),
        nn.InstanceNorm2d(width),
        nn.ReLU(True),
        nn.Conv2d(width, 2 * width, 3, 2, 1),
        nn.InstanceNorm2d(2 * width),
        nn.ReLU(True),
        nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1),
        nn.ReLU(True),
    )


class Net(nn.Module):
    def __init__(self, inputs: int = 3, width: int = 4) -> None:
        super().__init__()
        self.trunk = trunk(inputs, width)
        self.end = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())
        settle(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.trunk(x))


class Local(Net):
    """The trunk works on a smaller picture, beside a stem on the whole one."""

    def __init__(self, width: int = 4) -> None:
        super().__init__(width=width)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.up = nn.ConvTranspose2d(width, width, 3, 2, 1, output_padding=1)
        settle(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.up(self.stem(x) + self.trunk(self.pool(x))))


class Labels(Net):
    """Class numbers and instance numbers: one-hot planes and edges inside."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__(classes + 1)
        self.classes = classes

    def forward(self, labels: Tensor, instances: Tensor) -> Tensor:  # type: ignore[override]
        n, _, h, w = labels.shape
        planes = torch.zeros(n, self.classes, h, w).scatter_(1, labels.long(), 1.0)
        edge = torch.zeros(instances.shape, dtype=torch.bool)
        edge[:, :, :, 1:] = edge[:, :, :, 1:] | (instances[:, :, :, 1:] != instances[:, :, :, :-1])
        edge[:, :, 1:, :] = edge[:, :, 1:, :] | (instances[:, :, 1:, :] != instances[:, :, :-1, :])
        return super().forward(torch.cat([planes, edge.float()], 1))


def resnet() -> Made:
    return Net(), make_spec(image(side=24), side=24)


def anysize() -> Made:
    """Only even sides come out as they went in."""
    return Net(), make_spec(image())


def local() -> Made:
    return Local(), make_spec(image(side=32), side=32)


def labels() -> Made:
    maps = [("labels", (0.0, 4.0)), ("instances", (0.0, 99.0))]
    inputs = [image(name, 24, role=name, channels=1, range=span) for name, span in maps]
    return Labels(), make_spec(*inputs, side=24)
