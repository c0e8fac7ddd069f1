"""The generators that docs and `make bench-cpu` compare forms and precisions on, as checkpoints with made-up weights.

    python -m ganrt.bench.generators FOLDER [NAME ...]

Trained weights of this many families cannot be shipped. These are drawn as their authors drew theirs; then batch norms
get the statistics of the network's own samples, and the last layer is scaled so that pictures have the contrast of
photographs. A generator whose pictures are nearly flat would flatter every comparison: PSNR is on the image's range.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from safetensors.torch import save
from torch import nn

from ganrt import feeds
from ganrt.atomic import write_file
from ganrt.golden import picture_size
from ganrt.models import get_family, upscaling
from ganrt.models.parametrize import fold
from ganrt.spec import Spec

_SEED = 0
_ROUNDS, _BATCH = 4, 8
"""How many batches the statistics are taken from."""
_CONTRAST = 0.25
"""Standard deviation of the pictures, as a share of their range."""


class Recipe(NamedTuple):
    """A generator: its family and its settings."""

    family: str
    config: Mapping[str, Any]
    picture: int | None = None
    """Side of the pictures that it is measured with, where it takes some."""
    he: bool = False
    """Whether all convolutions get the weights of He et al. 2015: with PyTorch's own the picture fades away in a deep
    network without norms."""


GENERATORS = {
    "dcgan-64": Recipe("dcgan", {}),
    "resnet-64": Recipe("resnet", {"size": 64, "width": 32}),
    "biggan-128": Recipe(
        "resnet",
        {
            "size": 128,
            "width": 64,
            "latent": 120,
            "classes": 1000,
            "shared": 128,
            "hierarchical": True,
            "attention": (64,),
        },
    ),
    "progan-128": Recipe("progan", {"widths": (512, 512, 512, 512, 256, 128)}),
    "biggan-deep-128": Recipe("biggan_deep", {}),
    "style": Recipe("transformer_net", {}, picture=256),
    "adain": Recipe("adain", {}, picture=256, he=True),
    "srresnet-x4": Recipe("srresnet", {}, picture=128),
    "rrdb-x4": Recipe("rrdb", {"blocks": 6}, picture=128),
}
"""Name -> recipe. `resnet-64` has 64 channels at full size, as has `biggan-128`, where BigGAN itself has 96."""


def make(recipe: Recipe) -> nn.Module:
    """The generator on the CPU, in eval mode. The same for everybody with one version of torch."""
    family = get_family(recipe.family)
    config = family.configure(recipe.config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(_SEED)
        module = fold((family.trainable or family.generator)(config))
        if recipe.he:
            upscaling.kaiming(module)
        _take_statistics(module, family.spec(config))
        _set_contrast(module, family.spec(config))
    return module.eval()


def write(name: str, folder: Path) -> Path:
    """Make the generator of a name, as the checkpoint `folder`/NAME.safetensors. Raises MachineError when it cannot be
    written."""
    state = make(GENERATORS[name]).state_dict()
    path = folder / f"{name}.safetensors"
    write_file(path, save({key: tensor.contiguous() for key, tensor in state.items()}))
    return path


def _run(module: nn.Module, spec: Spec, first: int) -> torch.Tensor:
    drawn = feeds.draw(spec, _SEED, first, _BATCH, size=picture_size(spec))
    made: torch.Tensor = module(*(torch.from_numpy(drawn[item.name]) for item in spec.inputs))
    return made


def _take_statistics(module: nn.Module, spec: Spec) -> None:
    """Mean and variance of what each batch norm sees, over all rounds alike."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    for number in range(_ROUNDS if norms else 0):
        _run(module, spec, number * _BATCH)
    module.eval()


def _set_contrast(module: nn.Module, spec: Spec) -> None:
    """Scale the last layer so that each channel of its output, before any squashing, deviates by a share of the range,
    about the middle of it where the layer has a bias."""
    called: list[tuple[nn.Conv2d | nn.ConvTranspose2d, torch.Tensor]] = []
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(lambda part, _, made: called.append((part, made))) for layer in layers]
    _run(module, spec, 0)
    for hook in hooks:
        hook.remove()
    layer, made = called[-1]
    low, high = spec.output.range
    scale = _CONTRAST * (high - low) / made.std((0, 2, 3)).mean()
    layer.weight.mul_(scale)
    if layer.bias is not None:
        layer.bias.sub_(made.mean((0, 2, 3))).mul_(scale).add_((low + high) / 2)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, type=click.Choice(list(GENERATORS)))
def main(folder: Path, names: tuple[str, ...]) -> None:
    """Write NAME.safetensors for each of the NAMES, by default all."""
    for name in names or GENERATORS:
        path = write(name, folder)
        click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
