"""Generator families: one file each, imported when named.

To add one: a file here that ends in `FAMILY = Family(...)`, one row in FAMILIES, and its test. Everything else
(training, checkpoints, export, proof, sampling) works on the Family and its Spec.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ganrt.errors import RequestError

if TYPE_CHECKING:
    import torch

    from ganrt.models.family import AnyFamily

FAMILIES = {
    "mlp": "fully connected generator, strided-convolution discriminator (Goodfellow et al. 2014)",
    "dcgan": "transposed convolutions with batch norm, 32 or 64 pixels (Radford et al. 2016)",
}
"""Name, which is also the module's, -> one line. Kept here so that listing them needs no torch."""


def get_family(name: str) -> AnyFamily:
    """Raises RequestError for an unknown name."""
    if name not in FAMILIES:
        raise RequestError(f"there is no family {name!r}; choose one of {', '.join(FAMILIES)}")
    return cast("AnyFamily", importlib.import_module(f"ganrt.models.{name}").FAMILY)


def build_generator(name: str, config: Mapping[str, Any]) -> torch.nn.Module:
    """A generator with fresh weights. Raises RequestError for an unknown family or a config it does not take."""
    family = get_family(name)
    return family.generator(family.configure(config))
