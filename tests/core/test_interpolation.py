"""Latents between those of two samples."""

from dataclasses import replace

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC, UPSCALER

from ganrt.errors import RequestError
from ganrt.feeds import draw_rows
from ganrt.interpolation import interpolate
from ganrt.sample_request import Draw, check_request
from ganrt.spec import Label, Latent, Output, Spec

PLANE = Spec("plane", (Latent("z", (2,)),), Output(1, (0.0, 1.0), (4, 4)))


def draws(spec: Spec, rows: int) -> tuple[Draw, Draw]:
    first = check_request(spec, rows, 3).take_rows(0, rows)
    return first, replace(first, seeds=first.seeds + np.uint64(8))


def test_the_ends_are_the_two_samples() -> None:
    first, second = draws(SPEC, 5)
    np.testing.assert_array_equal(interpolate(SPEC, first, second, np.zeros(5))["z"], draw_rows(SPEC, first)["z"])
    ends = interpolate(SPEC, first, second, np.ones(5))["z"]
    np.testing.assert_allclose(ends, draw_rows(SPEC, second)["z"], rtol=1e-6)


def test_normal_latents_turn_by_equal_angles_and_their_length_changes_smoothly() -> None:
    rows = 9
    first, second = draws(PLANE, 1)
    together = [Draw(draw.seeds.repeat(rows), draw.indices.repeat(rows)) for draw in (first, second)]
    made = interpolate(PLANE, together[0], together[1], np.linspace(0, 1, rows))["z"].astype(np.float64)
    units = [draw_rows(PLANE, draw)["z"][0].astype(np.float64) for draw in (first, second)]
    angle = np.arccos(units[0] @ units[1] / np.prod([np.linalg.norm(unit) for unit in units]))
    expected = [
        (np.sin((1 - t) * angle) * units[0] + np.sin(t * angle) * units[1]) / np.sin(angle)
        for t in np.linspace(0, 1, rows)
    ]
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_the_middle_of_two_long_normal_latents_is_as_long_as_they_are() -> None:
    spec = Spec("long", (Latent("z", (4096,)),), Output(1, (0.0, 1.0), (4, 4)))
    first, second = draws(spec, 1)
    length = np.linalg.norm(interpolate(spec, first, second, np.full(1, 0.5))["z"])
    assert 60 < length < 68  # sqrt(4096) is 64; the middle of a line would have a length of 45


def test_parallel_latents_are_interpolated_on_a_line() -> None:
    first, _ = draws(SPEC, 2)
    made = interpolate(SPEC, first, first, np.full(2, 0.3))["z"]
    np.testing.assert_allclose(made, draw_rows(SPEC, first)["z"], rtol=1e-6)


def test_uniform_latents_are_interpolated_on_a_line_and_the_rest_is_the_first_draw_s() -> None:
    first, second = draws(CLASSES, 4)
    made = interpolate(CLASSES, first, second, np.full(4, 0.25))
    one, two = draw_rows(CLASSES, first), draw_rows(CLASSES, second)
    np.testing.assert_allclose(made["z"], 0.75 * one["z"] + 0.25 * two["z"], rtol=1e-5)
    np.testing.assert_array_equal(made["y"], one["y"])
    np.testing.assert_array_equal(made["strength"], one["strength"])
    assert not np.array_equal(made["noise"], one["noise"])


def test_models_without_latents_are_rejected() -> None:
    spec = Spec("classes", (Label("y", 10),), Output(1, (0.0, 1.0), (4, 4)))
    with pytest.raises(RequestError, match="this classes model has no latents to interpolate"):
        interpolate(spec, *draws(spec, 1), np.zeros(1))
    with pytest.raises(RequestError, match="no latents"):
        interpolate(UPSCALER, *draws(SPEC, 1), np.zeros(1))
