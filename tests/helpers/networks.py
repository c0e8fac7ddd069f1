"""Small networks of the families, as Spec and compute function."""

from typing import Any

import torch

from ganrt.feeds import Feeds, check_inputs
from ganrt.images import Floats
from ganrt.models import get_family
from ganrt.spec import Spec


def build_network(name: str, seed: int = 0, **values: Any) -> tuple[Spec, Any]:
    """Spec of a family with these settings, and a function that runs its generator with random weights."""
    family = get_family(name)
    config = family.configure(values)
    torch.manual_seed(seed)
    module = family.generator(config).eval()
    spec = family.spec(config)

    def compute(feeds: Feeds) -> Floats:
        with torch.inference_mode():
            return module(*(torch.from_numpy(array) for array in check_inputs(spec, feeds).values())).numpy()

    return spec, compute
