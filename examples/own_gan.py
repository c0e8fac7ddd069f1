"""Export a GAN generator of your own and sample it."""

from pathlib import Path

import torch
from torch import nn

import ganrt
from ganrt.export import export
from ganrt.images import encode_png, make_grid


class MyGenerator(nn.Module):
    """z (N, 64) -> RGB images (N, 3, 32, 32) in [-1, 1]. Put your own class here, and load your weights below."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(64, 64 * 4 * 4)
        self.layers = nn.Sequential(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(64, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(48, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(32, 3, 3, padding=1),
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(6 * self.layers(self.project(z).view(-1, 64, 4, 4)))


torch.manual_seed(0)
module = MyGenerator()  # then: module.load_state_dict(torch.load("generator.pth", weights_only=True))

spec = ganrt.Spec(
    family="my_gan",
    inputs=(ganrt.Latent("z", shape=(64,), truncation="resampled"),),
    output=ganrt.Output(channels=3, range=(-1.0, 1.0), size=(32, 32)),
)
bundle = export(module, "my_gan.ganrt", spec=spec, overwrite=True, progress=print)
for name, variant in bundle.variants.items():
    for proof in variant.proofs:
        print(f"{name} on {proof.backend}: worst sample {proof.worst_psnr:.0f} dB from PyTorch's image")

with ganrt.load("my_gan.ganrt") as generator:
    pictures = generator.sample(64, seed=7)  # uint8 (64, 32, 32, 3)
Path("my_gan.png").write_bytes(encode_png(make_grid(pictures, scale=2)))
