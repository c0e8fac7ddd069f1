"""Random numbers that a module draws inside forward, such as StyleGAN's noise, are found and turned into inputs.

In a graph they would be an operator whose seed the backends ignore. As inputs of the Spec they are drawn like a latent,
so that seed and number of a sample make one picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ganrt.feeds import Feeds
from ganrt.spec import Latent, Spec

from ..source_lines import SourceLine, watch_lines
from .findings import Wrapper


class RandomCall(NamedTuple):
    """One call that drew random numbers."""

    where: str
    """Path of the module that called."""
    function: str
    shape: tuple[int, ...]
    """() if it is unknown."""
    replaceable: bool
    """Whether it was a call of _DRAWING with torch's own generator, in float32."""
    line: SourceLine | None = None
    """What called it in the user's code."""

    @property
    def distribution(self) -> Literal["normal", "uniform"]:
        return "uniform" if self.function in ("rand", "rand_like", "uniform_") else "normal"


_DRAWING = {
    torch.randn: "randn",
    torch.randn_like: "randn_like",
    Tensor.normal_: "normal_",
    torch.rand: "rand",
    torch.rand_like: "rand_like",
    torch.normal: "normal",
    Tensor.uniform_: "uniform_",
}
"""Functions that draw standard normal numbers, or uniform ones from 0 to 1, and may scale them."""
_IN_PLACE = ("normal_", "uniform_")


class RandomCallRecorder(TorchFunctionMode):
    """Records the draws of a forward pass that are calls of _DRAWING.

    Args:
        where: gives the path of the module that is running.
        aside: a context for such calls; other observers take no notice of what happens inside.
        line: gives the line of the user's code that is running.
    """

    def __init__(
        self,
        where: Callable[[], str],
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
        line: Callable[[], SourceLine | None] = lambda: None,
    ) -> None:
        super().__init__()
        self._where, self._aside, self._line = where, aside, line
        self.random_calls: list[RandomCall] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = _DRAWING.get(func)
        if name is None:
            return func(*args, **kwargs)
        with self._aside():
            drawn = func(*args, **kwargs)
        plain = kwargs.get("generator") is None and drawn.dtype == torch.float32
        self.random_calls.append(RandomCall(self._where(), name, tuple(drawn.shape), plain, self._line()))
        return drawn


class _Replay(TorchFunctionMode):
    """Answers calls of _DRAWING with given numbers, in the order of the calls."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()
        self._given = iter(given)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = _DRAWING.get(func)
        if name is None:
            return func(*args, **(kwargs or {}))
        numbers = next(self._given)
        if name == "normal":
            return _scale_normal(numbers, *args, **(kwargs or {}))
        return _fill(args[0], numbers, name, *args[1:], **(kwargs or {})) if name in _IN_PLACE else numbers


def _fill(target: Tensor, numbers: Tensor, name: str, *args: float, **kwargs: float) -> Tensor:
    """What normal_(mean, std) and uniform_(from, to) do, with standard numbers that are there already."""
    start, scale = ("mean", "std") if name == "normal_" else ("from", "to")
    given = dict(zip((start, scale), args, strict=False)) | kwargs
    low, high = given.get(start, 0.0), given.get(scale, 1.0)
    return target.copy_(numbers * (high if name == "normal_" else high - low) + low)


def _scale_normal(
    numbers: Tensor, mean: Tensor | float = 0.0, std: Tensor | float = 1.0, *size: Any, **others: Any
) -> Tensor:
    """What torch.normal makes of its mean and deviation, numbers or tensors, with standard numbers that are there
    already."""
    return numbers * std + mean


def find_irreplaceable(draws: Iterable[RandomCall], rows: int, spec: Spec) -> list[RandomCall]:
    """The calls that draw numbers neither per sample nor for all samples alike, or whose size follows a picture's.

    Args:
        rows: batch size of the run that they were recorded in.
    """
    free = any(item.size is None for item in spec.images)
    return [
        draw
        for draw in draws
        if not draw.replaceable
        or len(draw.shape) < 2
        or (len(draw.shape) > 2 and free)
        or draw.shape[0] not in ((rows,) if draw.function in _IN_PLACE else (1, rows))
    ]


def find_foreign_draw(module: nn.Module, given: Feeds) -> SourceLine | None:
    """The first line of the user's code that draws from the global generator of Python or of NumPy."""
    found: list[SourceLine | None] = []
    last = read_foreign_generators()

    def look(line: SourceLine | None) -> None:
        if not found and read_foreign_generators() != last:
            found.append(line)

    with torch.no_grad(), watch_lines(look):
        module(*(torch.from_numpy(array) for array in given.values()))
    return found[0] if found else None


def read_foreign_generators() -> tuple[object, ...]:
    """The states of the global generators of Python and of NumPy."""
    state: Any = np.random.get_state()
    return random.getstate(), state[1].tobytes(), state[2]  # the words, and which of them is next


def add_noise_inputs(module: nn.Module, spec: Spec, draws: Sequence[RandomCall]) -> tuple[nn.Module, Spec]:
    """Returns a module that takes its random numbers as further inputs, and the Spec with these inputs."""
    taken = {item.name for item in spec.inputs} | {spec.output.name}
    free = [name for k in range(len(taken) + len(draws)) if (name := f"noise_{k}") not in taken]
    added = tuple(
        Latent(name, draw.shape[1:], draw.distribution, range=(0.0, 1.0))
        for name, draw in zip(free[: len(draws)], draws, strict=True)
    )
    return NoiseInputs(module, len(added)), Spec(spec.family, (*spec.inputs, *added), spec.output)


class NoiseInputs(Wrapper):
    """Calls a module, whose last `count` inputs are the random numbers that it asks for, in their order."""

    def __init__(self, module: nn.Module, count: int) -> None:
        super().__init__(module)
        self.count = count

    def forward(self, *inputs: Tensor) -> Tensor:
        own = len(inputs) - self.count
        with _Replay(inputs[own:]):
            return cast(Tensor, self.wrapped_by_ganrt(*inputs[:own]))
