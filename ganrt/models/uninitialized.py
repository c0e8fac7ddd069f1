"""Modules built without random initial weights, for a checkpoint that replaces all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_RANDOM = (torch.Tensor.normal_, torch.Tensor.uniform_)
"""What the initialisers of torch draw with, where they do not hand themselves over as a whole."""


class SkipRandomWeights(TorchFunctionMode):
    """Inside, parameters keep the memory that they are made of where an initialiser of `torch.nn.init` would draw
    random numbers. Buffers, and constants such as the ones of norms, are computed as always.

    Only for modules whose parameters are all loaded afterwards: until then they are arbitrary.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RANDOM or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
