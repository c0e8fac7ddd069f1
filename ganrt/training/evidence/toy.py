"""Show mode collapse on two-dimensional mixtures of Gaussians: a ring of 8 modes and a grid of 25.

    python -m ganrt.training.evidence.toy --out docs/training

trains a small generator and discriminator on the CPU for each pattern and each row of REMEDIES, and writes `toy.png`
and `toy.json`. Patterns and score are those of Srivastava et al., "VEEGAN", NeurIPS 2017, section 4.1. The plot needs
the extra `bench`.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray
from torch import Tensor, nn

from ganrt.atomic import write_file
from ganrt.models.parametrize import apply_spectral_norm
from ganrt.training.losses import LOSSES, gradient_penalty

Points = NDArray[np.float64]
_LATENT, _WIDTH, _BATCH, _RATE = 2, 128, 128, 4e-3
_SAMPLES = 5000


@dataclass(frozen=True)
class Pattern:
    """A mixture of isotropic Gaussians of equal weight."""

    name: str
    """`ring` or `grid`."""
    centres: Points
    """Means of the modes, (M, 2)."""
    sigma: float
    """Standard deviation of each mode."""

    @property
    def largest_coordinate(self) -> float:
        """Largest absolute coordinate of a centre; networks see points divided by it."""
        return float(np.abs(self.centres).max())


def _ring_centres() -> Points:
    angle = np.arange(8) * (math.pi / 4)
    return 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _grid_centres() -> Points:
    place = np.arange(-4.0, 5.0, 2.0)
    return np.stack(np.meshgrid(place, place), axis=-1).reshape(-1, 2)


PATTERNS = (Pattern("ring", _ring_centres(), 0.02), Pattern("grid", _grid_centres(), 0.05))


@dataclass(frozen=True)
class Remedy:
    """One way to train."""

    name: str
    """Its row in the table."""
    loss: str = "non-saturating"
    """A row of `ganrt.training.LOSSES`."""
    critic_steps: int = 1
    """Discriminator updates per generator update."""
    penalty: float = 0.0
    """Weight of the gradient penalty; Gulrajani et al. use 0.1 for toy problems, where 10 is too much."""
    packing: int = 1
    """Points that the discriminator sees together (Lin et al., "PacGAN", NeurIPS 2018)."""
    deviation: bool = False
    """Whether the discriminator gets the standard deviation over the batch as an input (Karras et al. 2018, section
    3)."""
    spectral: bool = False
    """Whether the discriminator has spectral norm (Miyato et al. 2018)."""


REMEDIES = (
    Remedy("no remedy"),
    Remedy("minibatch deviation", deviation=True),
    Remedy("packing of 2", packing=2),
    Remedy("hinge, spectral norm", "hinge", critic_steps=2, spectral=True),
    Remedy("wgan-gp", "wgan-gp", critic_steps=4, penalty=0.1),
)


class Discriminator(nn.Module):
    """(N, 2) -> logits (N / packing,)."""

    def __init__(self, remedy: Remedy) -> None:
        super().__init__()
        self.packing, self.deviation = remedy.packing, remedy.deviation
        self.main = _build_mlp(2 * remedy.packing + remedy.deviation, 1)
        if remedy.spectral:
            apply_spectral_norm(self.main)

    def forward(self, points: Tensor) -> Tensor:
        """Score points (N, 2): logits (N / packing,)."""
        x = points.reshape(len(points) // self.packing, -1)
        if self.deviation:
            spread = (x.var(dim=0, correction=0) + 1e-8).sqrt().mean()
            x = torch.cat([x, spread.expand(len(x), 1)], dim=1)
        return self.main(x)[:, 0]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Score:
    """How well points cover the modes of a pattern."""

    modes: int
    """Modes with a point within three standard deviations of their centre."""
    share: float
    """Share of the points that are that close to some centre."""


def score(pattern: Pattern, points: Points) -> Score:
    """Score generated points (N, 2)."""
    distance = np.linalg.norm(points[:, None] - pattern.centres[None], axis=-1)
    near = distance < 3 * pattern.sigma
    return Score(int(near.any(axis=0).sum()), float(near.any(axis=1).mean()))


def train(pattern: Pattern, remedy: Remedy, steps: int, seed: int) -> Points:
    """Train a pair of networks and return _SAMPLES generated points (N, 2). Learning rates decay linearly to zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator, loss = _build_mlp(_LATENT, 2), Discriminator(remedy), LOSSES[remedy.loss]
        pair = [torch.optim.Adam(net.parameters(), _RATE, loss.betas, fused=True) for net in (generator, discriminator)]
        for step in range(steps):
            for optimizer in pair:
                optimizer.param_groups[0]["lr"] = _RATE * (1 - step / steps)
            for _ in range(remedy.critic_steps):
                real, fake = _draw_points(pattern), generator(torch.randn(_BATCH, _LATENT))
                value = loss.discriminator(discriminator(real), discriminator(fake.detach()))
                if remedy.penalty:
                    penalty = gradient_penalty(discriminator, real, fake, torch.rand(_BATCH))
                    value = value + remedy.penalty * penalty
                _take_step(pair[1], value)
            _take_step(pair[0], loss.generator(discriminator(fake)))
        with torch.inference_mode():
            made: Points = generator(torch.randn(_SAMPLES, _LATENT)).double().numpy()
        return made * pattern.largest_coordinate


def _build_mlp(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(inputs, _WIDTH), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Linear(_WIDTH, _WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(_WIDTH, outputs))


def _draw_points(pattern: Pattern) -> Tensor:
    """Points in units of `pattern.largest_coordinate`."""
    centres = torch.from_numpy(pattern.centres).float()
    points = centres[torch.randint(len(centres), (_BATCH,))] + pattern.sigma * torch.randn(_BATCH, 2)
    return points / pattern.largest_coordinate


def _take_step(optimizer: torch.optim.Optimizer, value: Tensor) -> None:
    optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--steps", default=3000, show_default=True, help="Generator updates per network.")
@click.option("--seed", default=0, show_default=True)
def main(out: Path, steps: int, seed: int) -> None:
    """Train on every pattern with every remedy; write toy.png and toy.json."""
    torch.set_num_threads(1)
    table, made = {}, {}
    for pattern in PATTERNS:
        for remedy in REMEDIES:
            points = made[pattern.name, remedy.name] = train(pattern, remedy, steps, seed)
            found = score(pattern, points)
            table[f"{pattern.name}: {remedy.name}"] = {**asdict(found), "steps": steps, "seed": seed, **asdict(remedy)}
            click.echo(f"| {pattern.name} | {remedy.name} | {found.modes}/{len(pattern.centres)} | {found.share:.1%} |")
    write_file(out / "toy.json", json.dumps(table, indent=1).encode() + b"\n")
    write_file(out / "toy.png", _draw_figure(made))


def _draw_figure(made: Mapping[tuple[str, str], Points]) -> bytes:
    """PNG: a row per pattern, a column per remedy; centres as circles of three standard deviations."""
    figure = Figure(figsize=(2.4 * len(REMEDIES), 5.2), layout="constrained")
    panels = figure.subplots(len(PATTERNS), len(REMEDIES))
    for row, pattern in zip(panels, PATTERNS, strict=True):
        for panel, remedy in zip(row, REMEDIES, strict=True):
            points = made[pattern.name, remedy.name]
            found = score(pattern, points)
            panel.scatter(*points.T, s=1, color="tab:blue", alpha=0.3, linewidths=0)
            for centre in pattern.centres:
                panel.add_patch(Circle(centre.tolist(), 3 * pattern.sigma, fill=False, color="tab:red", linewidth=0.8))
            edge = pattern.largest_coordinate * 1.3
            panel.set(xlim=(-edge, edge), ylim=(-edge, edge), xticks=[], yticks=[], aspect="equal")
            panel.set_title(f"{remedy.name}\n{found.modes}/{len(pattern.centres)}, {found.share:.0%} near", size=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, metadata={"Software": None})
    return content.getvalue()


if __name__ == "__main__":
    main()
