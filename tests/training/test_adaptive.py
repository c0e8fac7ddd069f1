"""The chance of an augmentation."""

from __future__ import annotations

import pytest

from ganrt.training.adaptive import EVERY, AdaptiveProbability


def test_the_chance_rises_while_the_discriminator_is_too_sure_and_falls_when_it_is_not() -> None:
    chance = AdaptiveProbability(target=0.6, images=1000)
    for _ in range(2 * EVERY):
        chance.observe(0.9, 10)
    assert chance.value == pytest.approx(2 * EVERY * 10 / 1000)
    for _ in range(EVERY):
        chance.observe(0.3, 10)
    assert chance.value == pytest.approx(EVERY * 10 / 1000)
    for _ in range(EVERY):
        chance.observe(0.6, 10)
    assert chance.value == pytest.approx(EVERY * 10 / 1000)


def test_it_changes_after_every_few_updates_by_the_mean_over_their_images() -> None:
    chance = AdaptiveProbability(target=0.5, images=100)
    for sign, count in ((-1.0, 2), (1.0, 4), (1.0, 4)):
        chance.observe(sign, count)
        assert chance.value == 0
    chance.observe(1.0, 2)  # the mean over 12 images is 2 / 3, that over 4 updates would be the target
    assert chance.value == pytest.approx(0.12)


def test_it_is_a_probability() -> None:
    chance = AdaptiveProbability(target=0.6, images=10)
    for sign, expected in ((1.0, 1.0), (-1.0, 0.0)):
        for _ in range(2 * EVERY):
            chance.observe(sign, 8)
        assert chance.value == expected


def test_its_state_goes_on_where_it_was() -> None:
    signs = [0.9, -0.2, 0.7, 1.0, 0.4, 0.9, 0.9]
    whole, first = AdaptiveProbability(0.6, 100), AdaptiveProbability(0.6, 100)
    for sign in signs:
        whole.observe(sign, 3)
    for sign in signs[:5]:
        first.observe(sign, 3)
    second = AdaptiveProbability(0.6, 100)
    second.load_state_dict(first.state_dict())
    for sign in signs[5:]:
        second.observe(sign, 3)
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("wrong", [{"value": 1.5}, {"updates": EVERY}, {"signs": -9.0}])
def test_a_state_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    state = {**AdaptiveProbability(0.6, 100).state_dict(), **wrong}
    with pytest.raises(ValueError, match="the chance of an augmentation is"):
        AdaptiveProbability(0.6, 100).load_state_dict(state)
