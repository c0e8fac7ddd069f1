"""Generator families: one module each, imported on first use.

To add one: a module that ends in `FAMILY = Family(...)`, a row in FAMILIES, and a test. Training, export, proof and
sampling work on the Family and its Spec.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ganrt.errors import RequestError
from ganrt.lazy import lazy_exports

if TYPE_CHECKING:
    import torch

    from ganrt.models.family import AnyFamily, Family, Layout, Shapes, State
    from ganrt.models.parametrize import fold, fold_layer
    from ganrt.models.uninitialized import SkipRandomWeights
    from ganrt.models.unpickle import read_checkpoint, read_state
    from ganrt.models.upscaling import init_kaiming

__all__ = [
    "FAMILIES",
    "AnyFamily",
    "Family",
    "Layout",
    "Shapes",
    "SkipRandomWeights",
    "State",
    "build_generator",
    "fold",
    "fold_layer",
    "get_family",
    "init_kaiming",
    "read_checkpoint",
    "read_state",
]

FAMILIES = {
    "mlp": "fully connected generator, strided-convolution discriminator (Goodfellow et al. 2014)",
    "dcgan": "transposed convolutions with batch norm, 32 or 64 pixels (Radford et al. 2016)",
    "resnet": "residual blocks, 32 to 256 pixels: SNGAN, WGAN-GP's ResNet, SAGAN, BigGAN (Brock et al. 2019)",
    "biggan_deep": "BigGAN-deep as published for 128, 256 and 512 pixels; inference (Brock et al. 2019)",
    "progan": "progressive growing, 8 to 1024 pixels (Karras et al. 2018)",
    "stylegan2": "style-based, 4 to 2048 pixels: StyleGAN2, StyleGAN2-ADA; inference (Karras et al. 2020)",
    "stylegan3": "StyleGAN3, T and R, as published; inference (Karras et al. 2021)",
    "r3gan": "R3GAN: grouped convolutions without norms, as published; inference (Huang et al. 2024)",
    "srresnet": "super-resolution: residual blocks with batch norm, SRGAN's generator (Ledig et al. 2017)",
    "msrresnet": "super-resolution: residual blocks without batch norm (BasicSR; Lim et al. 2017)",
    "espcn": "super-resolution of luma: four convolutions and a pixel shuffle (Shi et al. 2016)",
    "vdsr": "super-resolution of luma: the residual of bicubic upsampling (Kim et al. 2016)",
    "rrdb": "super-resolution: residual dense blocks, ESRGAN and Real-ESRGAN (Wang et al. 2018, 2021)",
    "srvgg": "super-resolution: Real-ESRGAN's compact network (Wang et al. 2021)",
    "upcunet": "super-resolution: two U-Nets, Real-CUGAN and waifu2x's cunet; inference (bilibili 2022, nagadomi 2019)",
    "upconv7": "super-resolution: seven convolutions, waifu2x's upconv_7 and vgg_7; inference (nagadomi 2015)",
    "span": "super-resolution: attention without parameters; inference (Wan et al. 2024)",
    "transformer_net": "style transfer, one style per network, instance norm (Johnson et al. 2016)",
    "adain": "style transfer from any style picture, with a strength (Huang and Belongie 2017)",
    "pix2pix": "image to image: a U-Net (Isola et al. 2017)",
    "cyclegan": "image to image: residual blocks, CycleGAN and CUT (Zhu et al. 2017, Park et al. 2020)",
    "animegan": "photographs to anime, version 2 (Chen et al. 2019)",
    "lama": "inpainting of large holes: Fourier convolutions, LaMa; inference (Suvorov et al. 2022)",
    "gfpgan": "restoration of faces: a U-Net steers StyleGAN2, without custom operators; inference (Wang et al. 2021)",
    "synthesis": "images from edges, colour, texture or masks; inpainting (Nazeri et al. 2019)",
    "spade": "images from semantic maps, norms modulated by the map; inference (Park et al. 2019)",
}
"""Name of a family and its module -> description. Kept here so that listing the families needs no torch."""


def get_family(name: str) -> AnyFamily:
    """The family of a name, a key of FAMILIES. Raises RequestError for an unknown name."""
    if name not in FAMILIES:
        raise RequestError(f"there is no family {name!r}; choose one of {', '.join(FAMILIES)}")
    return cast("AnyFamily", importlib.import_module(f"ganrt.models.{name}").FAMILY)


def build_generator(name: str, config: Mapping[str, Any]) -> torch.nn.Module:
    """Build a generator with fresh weights.

    Args:
        name: a key of FAMILIES.
        config: settings of the family; those left out take their defaults.

    Raises RequestError for an unknown family or setting, or a value out of bounds.
    """
    family = get_family(name)
    return family.generator(family.configure(config))


_MODULES = {
    "AnyFamily": "family",
    "Family": "family",
    "Layout": "family",
    "Shapes": "family",
    "SkipRandomWeights": "uninitialized",
    "State": "family",
    "fold": "parametrize",
    "fold_layer": "parametrize",
    "init_kaiming": "upscaling",
    "read_checkpoint": "unpickle",
    "read_state": "unpickle",
}
"""Public name -> the module of this package that defines it; these need torch."""

__getattr__ = lazy_exports(__name__, _MODULES)
