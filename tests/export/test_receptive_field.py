"""The receptive field that is measured is the one that the layers have."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ganrt.export.sources import has_reach, measure_reach
from ganrt.feeds import Feeds
from ganrt.images import Floats
from ganrt.spec import Image, Output, Spec


def make_run(module: nn.Module) -> Callable[[Feeds], Floats]:
    def run(given: Feeds) -> Floats:
        with torch.inference_mode():
            images: Floats = module(*map(torch.from_numpy, given.values())).numpy()
        return images

    return run


def make_spec(scale: int = 1, multiple_of: int = 1) -> Spec:
    return Spec(
        "x", (Image("x", "content", 3, (0.0, 1.0), multiple_of=multiple_of),), Output(3, (0.0, 1.0), None, scale, "y")
    )


class Halving(nn.Module):
    """Halved and doubled again: the reach depends on where a pixel is."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 3, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(functional.interpolate(self.down(x), scale_factor=2.0))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_convolutions_add_up() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=4, dilation=4))
    spec, run = make_spec(), make_run(layers)
    assert measure_reach(spec, run) == 2 + 4
    assert has_reach(spec, run, 6) and not has_reach(spec, run, 4)


def test_upsampled_pixels_count_as_pixels_of_the_input() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    assert measure_reach(make_spec(scale=2), make_run(layers)) == 1


def test_every_place_modulo_the_stride_is_tried() -> None:
    spec, run = make_spec(multiple_of=2), make_run(Halving())
    reach = measure_reach(spec, run)
    assert reach == 3
    assert has_reach(spec, run, reach)


@pytest.mark.parametrize("layer", [nn.InstanceNorm2d(3), nn.AdaptiveAvgPool2d(1)])
def test_what_looks_at_the_whole_picture_has_none(layer: nn.Module) -> None:
    class Whole(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + layer(x)

    assert measure_reach(make_spec(), make_run(Whole())) is None


def test_a_field_wider_than_the_first_picture_is_measured_on_a_larger_one() -> None:
    assert measure_reach(make_spec(), make_run(nn.Conv2d(3, 3, 3, padding=40, dilation=40))) == 40


def test_a_reach_that_is_too_short_does_not_pass() -> None:
    run = make_run(nn.Conv2d(3, 3, 9, padding=4))
    assert [has_reach(make_spec(), run, reach) for reach in (1, 3, 4, 9)] == [False, False, True, True]
    assert np.isfinite(run({"x": np.zeros((1, 3, 8, 8), np.float32)})).all()


@pytest.mark.parametrize("fields", [{}, {"mean": (0.5, 0.0, 1.0), "std": (0.01, 3.0, 0.2), "order": "bgr"}])
def test_the_field_of_a_network_of_normalized_colours_is_the_same(fields: dict[str, Any]) -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    spec = Spec("x", (Image("x", "content", 3, (0.0, 1.0), **fields),), Output(3, (0.0, 1.0), None, name="y", **fields))
    assert measure_reach(spec, make_run(chain.eval())) == 3


class Shifted(nn.Module):
    """A function of a picture, and of the picture moved down, weighted."""

    def __init__(self, rows: int, weight: float, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.rows, self.weight, self.function = rows, weight, function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved = functional.pad(self.function(x), (0, 0, self.rows, 0))[:, :, : x.shape[2]]
        return x + self.weight * moved


def test_what_a_rectifier_hides_of_brighter_pixels_is_found_by_darker_ones() -> None:
    run = make_run(Shifted(3, 1.0, lambda x: functional.relu(0.05 - x)))
    assert measure_reach(make_spec(), run) == 3


def test_a_weak_influence_from_afar_counts() -> None:
    run = make_run(Shifted(10, 1e-3, lambda x: x))
    assert not has_reach(make_spec(), run, 5) and has_reach(make_spec(), run, 10)
