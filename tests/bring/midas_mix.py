"""First-order motion (AliaksandrSiarohin/first-order-model) and its kind: features warped by a flow that the network
makes, on a grid of torch.linspace; a scale for each channel from the maximum over all pixels, applied by einsum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bring.common import UNIT, Made, image, make_spec, settle
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.flow = nn.Sequential(nn.Conv2d(6, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, 2, 3, 1, 1), nn.Tanh())
        self.features, self.last = nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, 3, 3, 1, 1)
        self.scale = nn.Linear(width, width)
        settle(self, 0.5)

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        _, _, h, w = source.shape
        flow = self.flow(torch.cat([source, driving], 1)) * 0.1
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        grid = torch.stack([columns, rows], -1).unsqueeze(0) + flow.permute(0, 2, 3, 1)
        warped = F.grid_sample(torch.relu(self.features(source)), grid, padding_mode="border", align_corners=False)
        scale = torch.sigmoid(self.scale(F.adaptive_max_pool2d(warped, 1).flatten(1)))
        return torch.sigmoid(self.last(torch.einsum("bchw,bc->bchw", warped, scale)))


def free() -> Made:
    driving = image("driving", role="pose", range=UNIT, like="source")
    return Net(), make_spec(image("source", range=UNIT), driving, range=UNIT)
