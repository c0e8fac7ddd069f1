"""nipponjo/deepfillv2-pytorch: contextual attention, in which patches of a sample are the weights of a convolution over
that sample; published with a loop over the batch, rewritten with matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bring.common import UNIT, Made, image, make_spec, settle
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, loop: bool, width: int = 4) -> None:
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(4, width, 3, 2, 1), nn.ELU())
        self.dec = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(width, 3, 3, 1, 1), nn.Tanh())
        self.loop = loop
        settle(self)

    def attend(self, x: Tensor) -> Tensor:
        channels, height, width = x.shape[1:]
        patches = F.unfold(x, 4, stride=2, padding=1)
        if not self.loop:
            normal = patches / patches.square().sum(1, keepdim=True).sqrt().clamp_min(1e-4)
            attention = torch.softmax(torch.bmm(normal.transpose(1, 2), patches) * 10, dim=1)
            return F.fold(torch.bmm(patches, attention), (height, width), 4, stride=2, padding=1) / 4
        made = []
        for one, own in zip(torch.split(x, 1, dim=0), torch.split(patches, 1, dim=0), strict=True):
            kernel = own[0].t().reshape(-1, channels, 4, 4)
            normal = kernel / kernel.square().sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-4)
            scores = F.softmax(F.conv2d(one, normal, stride=2, padding=1) * 10, dim=1)
            made.append(F.conv_transpose2d(scores, kernel, stride=2, padding=1) / 4)
        return torch.cat(made, dim=0)

    def forward(self, photo: Tensor, mask: Tensor) -> Tensor:
        return self.dec(self.attend(self.enc(torch.cat([photo * (1 - mask), mask], dim=1))))


def make(loop: bool) -> Made:
    mask = image("mask", 24, role="mask", channels=1, range=UNIT, like="photo")
    return Net(loop), make_spec(image(side=24), mask, side=24)


def loop() -> Made:
    return make(True)


def bmm() -> Made:
    return make(False)
