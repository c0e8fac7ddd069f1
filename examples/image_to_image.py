"""Export an image-to-image network and run a picture of any size through it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import ganrt
from ganrt.export import export
from ganrt.images import encode_png


class Upscaler(nn.Module):
    """RGB (N, 3, H, W) in [0, 1], and a strength (N,) -> (N, 3, 2H, 2W)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 12, 3, padding=1))
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, photo: Tensor, strength: Tensor) -> Tensor:
        doubled = nn.functional.interpolate(photo, scale_factor=2.0)
        detail: Tensor = self.shuffle(self.layers(photo))
        return doubled + strength.view(-1, 1, 1, 1) * detail


torch.manual_seed(0)
module = Upscaler()
spec = ganrt.Spec(
    family="upscaler",
    inputs=(
        ganrt.Image("photo", role="low_res", channels=3, range=(0.0, 1.0)),  # size=None: any height and width
        ganrt.Scalar("strength", range=(0.0, 1.0), default=0.5),
    ),
    # reach: an output pixel sees 3 input pixels to each side (2 + 1), so large pictures can be cut into tiles.
    output=ganrt.Output(channels=3, range=(0.0, 1.0), size=None, scale=2, reach=3),
)

export(module, "upscaler.ganrt", spec=spec, overwrite=True)
photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)  # or the path of a PNG, JPEG or WebP file
with ganrt.load("upscaler.ganrt") as generator:
    picture = generator.transform(photo)  # uint8 (120, 160, 3)
    stronger = generator.transform(photo, strength=1.0)
    tiled = generator.transform(photo, tile=32)  # the same picture, in bounded memory
Path("upscaled.png").write_bytes(encode_png(picture))
print(f"{photo.shape} -> {picture.shape}; tiles change it by at most {np.abs(tiled.astype(int) - picture).max()}")
