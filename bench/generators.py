"""The generators of `make bench-cpu` and of the docs, as checkpoints.

    python -m ganrt.bench.generators FOLDER [NAME ...]

`TRAINED` has trained weights that are installed with ganrt. Those of so many other families cannot be shipped, so
`GENERATORS` has random ones. They are initialized as the networks' authors initialized theirs. Then the batch norms get
the statistics of the network's own samples, and the last layer is scaled so that the pictures have the contrast of
photographs. Nearly flat pictures would flatter every comparison, because PSNR is relative to the image's range.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click
import torch
from safetensors.torch import save
from torch import nn

from ganrt import feeds
from ganrt.atomic import write_file
from ganrt.golden import proof_picture_size
from ganrt.models import fold, get_family, init_kaiming
from ganrt.spec import Spec
from ganrt.weights import find_weights

_SEED = 0
_ROUNDS, _BATCH = 4, 8
"""Number and size of the batches that the batch-norm statistics are taken from."""
_CONTRAST = 0.25
"""Standard deviation of the images, as a share of their range."""


class GeneratorRecipe(NamedTuple):
    """A generator of the suite with random weights: its family and its settings."""

    family: str
    """Name of the family (`ganrt.models.FAMILIES`)."""
    config: Mapping[str, Any]
    """Settings that differ from the family's defaults."""
    picture: int | None = None
    """Side in pixels of the input pictures that it is measured with; None for one that takes none."""
    he: bool = False
    """Initialize all convolutions as He et al. (2015). With PyTorch's default the signal vanishes in a deep network
    without norms."""


class TrainedRecipe(NamedTuple):
    """A generator of the suite with trained weights."""

    weights: str
    """Name of the checkpoint (`ganrt.weights.find_weights`)."""
    picture: int | None = None
    """As in `GeneratorRecipe`."""


Recipe: TypeAlias = GeneratorRecipe | TrainedRecipe

GENERATORS = {
    "dcgan-64": GeneratorRecipe("dcgan", {}),
    "resnet-64": GeneratorRecipe("resnet", {"size": 64, "width": 32}),
    "biggan-128": GeneratorRecipe(
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
    "progan-128": GeneratorRecipe("progan", {"widths": (512, 512, 512, 512, 256, 128)}),
    "biggan-deep-128": GeneratorRecipe("biggan_deep", {}),
    "style": GeneratorRecipe("transformer_net", {}, picture=256),
    "adain": GeneratorRecipe("adain", {}, picture=256, he=True),
    "srresnet-x4": GeneratorRecipe("srresnet", {}, picture=128),
    "rrdb-x4": GeneratorRecipe("rrdb", {"blocks": 6}, picture=128),
}
"""Name -> recipe. `resnet-64` and `biggan-128` have 64 channels at full size; BigGAN itself has 96."""

_REALESR = "realesr-animevideov3-fp16"
TRAINED = {"realesr-128": TrainedRecipe(_REALESR, picture=128), "realesr-256": TrainedRecipe(_REALESR, picture=256)}
"""Name -> recipe with trained weights. One network at two sizes shows how its speed depends on the size."""


def all_recipes() -> dict[str, Recipe]:
    """Return name -> recipe of `GENERATORS` and then `TRAINED`, in the order of the suite's summary."""
    return {**GENERATORS, **TRAINED}


def make_generator(recipe: GeneratorRecipe) -> nn.Module:
    """Build the generator on the CPU, in eval mode. The weights depend on the recipe and the version of torch only."""
    family = get_family(recipe.family)
    config = family.configure(recipe.config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(_SEED)
        module = fold((family.trainable or family.generator)(config))
        if recipe.he:
            init_kaiming(module)
        _set_norm_statistics(module, family.spec(config))
        _set_contrast(module, family.spec(config))
    return module.eval()


def write_checkpoint(name: str, folder: Path) -> Path:
    """Write the generator `name` of `all_recipes`, or a copy of its trained weights, to `folder`/NAME.safetensors.
    Returns that path.

    Raises MachineError when the file cannot be written.
    """
    recipe, path = all_recipes()[name], folder / f"{name}.safetensors"
    if isinstance(recipe, GeneratorRecipe):
        return write_generator(recipe, path)
    write_file(path, find_weights(recipe.weights).read_bytes())
    return path


def write_generator(recipe: GeneratorRecipe, path: Path) -> Path:
    """`write_checkpoint` of any recipe with random weights. Returns `path`."""
    state = make_generator(recipe).state_dict()
    write_file(path, save({key: tensor.contiguous() for key, tensor in state.items()}))
    return path


def _generate(module: nn.Module, spec: Spec, first: int) -> torch.Tensor:
    drawn = feeds.draw_feeds(spec, _SEED, first, _BATCH, size=proof_picture_size(spec))
    images: torch.Tensor = module(*(torch.from_numpy(drawn[item.name]) for item in spec.inputs))
    return images


def _set_norm_statistics(module: nn.Module, spec: Spec) -> None:
    """Set the running statistics of each batch norm to those of its inputs, every batch weighted alike."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    for number in range(_ROUNDS if norms else 0):
        _generate(module, spec, number * _BATCH)
    module.eval()


def _set_contrast(module: nn.Module, spec: Spec) -> None:
    """Scale the last layer so that the standard deviation of its output, before any tanh or sigmoid and averaged over
    channels, is _CONTRAST of the range. With a bias, each channel is also centred on the middle of the range. A network
    without convolutions stays as it is."""
    outputs: list[tuple[nn.Conv2d | nn.ConvTranspose2d, torch.Tensor]] = []
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(lambda layer, _, output: outputs.append((layer, output))) for layer in layers]
    _generate(module, spec, 0)
    for hook in hooks:
        hook.remove()
    if not outputs:
        return
    layer, output = outputs[-1]
    low, high = spec.output.range
    scale = _CONTRAST * (high - low) / output.std((0, 2, 3)).mean()
    layer.weight.mul_(scale)
    if layer.bias is not None:
        layer.bias.sub_(output.mean((0, 2, 3))).mul_(scale).add_((low + high) / 2)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, type=click.Choice(list(all_recipes())))
def main(folder: Path, names: tuple[str, ...]) -> None:
    """Write NAME.safetensors for each of the NAMES, by default all."""
    for name in names or all_recipes():
        path = write_checkpoint(name, folder)
        click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
