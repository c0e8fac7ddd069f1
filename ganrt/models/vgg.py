"""VGG-16 and VGG-19 as feature extractors for perceptual and style losses (Simonyan, Zisserman, "Very Deep
Convolutional Networks for Large-Scale Image Recognition", ICLR 2015). Not a generator family.

Keys are those of torchvision (`features.N.weight`), so its checkpoints load unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ganrt.errors import CheckpointError, RequestError
from ganrt.models.family import State

Depth: TypeAlias = Literal[16, 19]
_LEVELS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Number of convolutions before each of the five poolings."""
_WIDTHS = (64, 128, 256, 512, 512)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's RGB in [0, 1], which torchvision's weights expect."""


def layer_ends(depth: Depth) -> dict[str, int]:
    """Layer name (relu1_1 ... relu5_4, pool1 ... pool5) -> index in `features` after which it ends."""
    ends: dict[str, int] = {}
    place = 0
    for level, count in enumerate(_LEVELS[depth], 1):
        for k in range(1, count + 1):
            place += 2
            ends[f"relu{level}_{k}"] = place
        place += 1
        ends[f"pool{level}"] = place
    return ends


class VGG(nn.Module):
    """RGB (N, 3, H, W) in [0, 1] -> the activations of the requested layers. Its weights are frozen."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, depth: Depth = 19) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width, count in zip(_WIDTHS, _LEVELS[depth], strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.depth = depth
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, x: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Layer name -> activations (N, C, H / 2^k, W / 2^k). Layers after the last requested one are not computed.

        Raises RequestError for a name that is not one of `layer_ends`.
        """
        ends = layer_ends(self.depth)
        wanted = list(layers)
        unknown = [name for name in wanted if name not in ends]
        if unknown:
            raise RequestError(f"VGG-{self.depth} has no layer {unknown[0]!r}; it has {', '.join(ends)}")
        names = {ends[name]: name for name in wanted}
        found: dict[str, Tensor] = {}
        x = (x - self.mean) / self.deviation
        for place, layer in enumerate(self.features, 1):
            if len(found) == len(names):
                break
            x = layer(x)
            if place in names:
                found[names[place]] = x
        return found


def load_torchvision(state: State) -> VGG:
    """Load a torchvision checkpoint of VGG-16 or VGG-19, whichever it is, in eval mode. The classifier may be missing.

    The global random number generator is not advanced. Raises CheckpointError for the state of another network.
    """
    features = {key: value for key, value in state.items() if key.startswith("features.")}
    shapes = {key: value.shape for key, value in features.items()}
    for depth in (16, 19):
        with torch.device("meta"):
            wanted = {key: value.shape for key, value in VGG(depth).state_dict().items()}
        if shapes == wanted:
            with torch.random.fork_rng(devices=[]):
                vgg = VGG(depth).eval()
            vgg.load_state_dict(features)
            return vgg
    raise CheckpointError(
        f"this is no VGG-16 or VGG-19 of torchvision: {len(features)} of its {len(state)} tensors are named "
        "features.*, and their shapes are not those of a VGG without batch norm"
    )
