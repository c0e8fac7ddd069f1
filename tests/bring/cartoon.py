"""CartoonGAN in deployment: pictures in BGR from 0 to 255, a mean for each channel, a norm of its own with
the unbiased variance."""

from __future__ import annotations

import torch
from bring.common import UNIT, Made, image, make_spec, settle
from torch import Tensor, nn

import ganrt


class Net(nn.Module):
    """BGR without its mean -> BGR in [-1, 1], almost the same picture."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        settle(self, 0.1)

    def mean(self) -> Tensor:
        return torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.size(0), x.size(1)
        flat = self.first(x / 128).view(n, -1, x.size(2) * x.size(3))
        normal = (flat - flat.mean(2, keepdim=True)) * torch.rsqrt(torch.var(flat, 2, keepdim=True) + 1e-9)
        y = normal.view(n, -1, x.size(2), x.size(3))
        return (x + self.mean()) / 127.5 - 1 + 0.05 * self.last(torch.relu(y)).view(n, c, x.size(2), x.size(3))


class Wrapped(nn.Module):
    """RGB in [0, 1] -> RGB."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, photo: Tensor) -> Tensor:
        return self.net(photo.flip(1) * 255 - self.net.mean()).flip(1)


def spec() -> ganrt.Spec:
    return make_spec(image(side=24, range=UNIT), side=24)


def as_is() -> Made:
    return Net(), make_spec(image(side=24, range=(-123.0, 151.0)), side=24)


def wrapped() -> Made:
    return Wrapped(), spec()


def bgr() -> Made:
    """The network as it was trained: the Spec says how its colours are."""
    photo = ganrt.Image("photo", "content", 3, (0.0, 255.0), (24, 24), mean=(104.0, 117.0, 123.0), order="bgr")
    return Net(), ganrt.Spec("cartoon", (photo,), ganrt.Output(3, (-1.0, 1.0), (24, 24), order="bgr"))
