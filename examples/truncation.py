"""Three ways a generator can trade variety for quality, and what the Spec says for each."""

import numpy as np
import torch
from torch import Tensor, nn

import ganrt
from ganrt.export import export


class Generator(nn.Module):
    """z (N, 16) -> grey images (N, 1, 16, 16) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 256)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.layer(z)).view(-1, 1, 16, 16)


class MappedGenerator(nn.Module):
    """Truncates inside the network, as StyleGAN does: towards the mean of an intermediate latent."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Linear(16, 16)
        self.mean = nn.Parameter(torch.zeros(16))
        self.synthesis = Generator()

    def forward(self, z: Tensor, truncation: Tensor) -> Tensor:
        offset = self.mapping(z) - self.mean
        images: Tensor = self.synthesis(self.mean + truncation.view(-1, 1) * offset)
        return images


resampled = ganrt.Latent("z", shape=(16,), truncation="resampled")  # BigGAN: |z| stays below the truncation
scaled = ganrt.Latent("z", shape=(16,), truncation="scaled", default=1.0)  # BigGAN-deep: resampled at 2, then scaled
plain = ganrt.Latent("z", shape=(16,))
inside = ganrt.Scalar("truncation", range=(0.0, 1.0), default=1.0)  # StyleGAN: an input of this name

torch.manual_seed(0)
models: dict[str, tuple[nn.Module, tuple[ganrt.Latent | ganrt.Scalar, ...]]] = {
    "resampled": (Generator(), (resampled,)),
    "scaled": (Generator(), (scaled,)),
    "inside": (MappedGenerator(), (plain, inside)),
}
for name, (module, inputs) in models.items():
    spec = ganrt.Spec(name, inputs, ganrt.Output(channels=1, range=(-1.0, 1.0), size=(16, 16)))
    export(module, f"{name}.ganrt", spec=spec, overwrite=True)
    with ganrt.load(f"{name}.ganrt") as generator:
        varied, typical = (generator.sample(64, seed=7, truncation=value) for value in (1.0, 0.3))
    variety = [np.std(pictures.astype(float), axis=0).mean() for pictures in (varied, typical)]
    print(f"{name}: pixels vary by {variety[0]:.0f} at truncation 1.0, by {variety[1]:.0f} at 0.3")
