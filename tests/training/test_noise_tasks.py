"""What recipes make of training on noise: networks that grow, an adapted chance, other discriminators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import nn

from ganrt.errors import CheckpointError, RequestError
from ganrt.export.sources import open_source
from ganrt.models.progan import fade
from ganrt.training import TrainingImages, TrainingOptions, train
from ganrt.training.growing import GrowingTrainer
from ganrt.training.growth import Growth
from ganrt.training.networks import Networks
from ganrt.training.trainer import Trainer

QUIET = Console(quiet=True)
PROGAN: dict[str, Any] = {"widths": (4, 4, 4), "channels": 1, "latent": 4}
DCGAN: dict[str, Any] = {"size": 16, "channels": 1, "width": 4, "latent": 8}


@pytest.fixture(scope="module")
def data() -> TrainingImages:
    pictures = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 1), np.uint8)
    return TrainingImages(pictures, None, "noise")


def growing(data: TrainingImages, **changes: Any) -> GrowingTrainer:
    options = TrainingOptions("progan", PROGAN, loss="wgan-gp-drift", batch=8, recipe={"stage_images": 32, **changes})
    assert options.growth is not None
    return GrowingTrainer(options, data, Networks(options), Fabric(accelerator="cpu", devices=1), options.growth)


def adversarial(data: TrainingImages, options: TrainingOptions) -> Trainer:
    return Trainer(options, data, Networks(options), Fabric(accelerator="cpu", devices=1))


def test_a_recipe_is_a_schedule_in_steps() -> None:
    options = TrainingOptions("progan", PROGAN, batch=8, recipe={"stage_images": 80, "fade": 0.25})
    assert options.growth == Growth(last=2, fade=2, hold=8)
    assert TrainingOptions("progan", PROGAN, recipe={"stage_images": 0}).growth == Growth(last=0, fade=0, hold=1)
    paper = TrainingOptions("progan", batch=16).growth
    assert paper is not None and paper.hold * 16 == paper.fade * 16 == 600_000 and paper.last == 6
    assert TrainingOptions("dcgan").growth is None


def test_all_three_networks_are_at_the_stage_of_the_step_and_compute_no_more(data: TrainingImages) -> None:
    trainer = growing(data)
    networks = trainer.networks
    assert networks.discriminator is not None
    seen = []
    for _ in range(8):
        before = [parameter.detach().clone() for parameter in networks.generator.parameters()]
        stage, alpha = trainer.growth.stage_at(networks.step)
        trainer.step()
        modules: tuple[Any, ...] = (networks.generator, networks.average.module, networks.discriminator)
        for module in modules:
            assert (module.stage, module.alpha) == (stage, alpha)
        after = dict(zip(networks.generator.named_parameters(), before, strict=True))
        seen.append(
            {name.split(".")[1] for (name, new), old in after.items() if "blocks" in name and (new != old).any()}
        )
    # The first step of a fade leaves the new block alone: its share is 0.
    assert seen == [set(), set(), set(), {"0"}, {"0"}, {"0"}, {"0"}, {"0", "1"}]


def test_the_discriminator_sees_real_images_faded(data: TrainingImages) -> None:
    trainer = growing(data)
    trainer.networks.step = 3
    trainer.step()
    plain = adversarial(data, trainer.options)
    real = plain._draw_part(5, 0, keep=False).real
    assert (trainer._stage, trainer._alpha) == (1, 0.5)
    assert torch.equal(trainer._draw_part(5, 0, keep=False).real, fade(real, 1, 0.5))
    assert not torch.equal(fade(real, 1, 0.5), real)


def test_both_optimizers_begin_anew_with_every_stage(data: TrainingImages) -> None:
    trainer = growing(data)
    counts = []
    for _ in range(8):
        trainer.step()
        states = [optimizer.state.values() for optimizer in (trainer.networks.generator_optimizer,)]
        counts.append(max(int(state["step"]) for values in states for state in values))
    assert counts == [1, 2, 1, 2, 3, 4, 1, 2]  # stages start at the steps 0, 2 and 6


def test_the_loss_does_not_jump_when_a_stage_begins(data: TrainingImages) -> None:
    """On the same images and weights, the first step of a fade measures what the old stage would have; with the
    gradient penalty in it, which is what images of the stage's own size would change."""
    trainer = growing(data, stage_images=16_000)
    trainer.networks.step = trainer.growth.starts[1] - 1
    trainer.step()

    def loss(stage: int, alpha: float) -> float:
        for network in trainer._growing:
            network.stage, network.alpha = stage, alpha
        trainer._stage, trainer._alpha = stage, alpha
        return trainer._compute_discriminator_loss(trainer._draw_part(0, 0, keep=False))[0].item()

    old = loss(0, 1.0)
    assert loss(1, 0.0) == pytest.approx(old, rel=1e-5)
    assert loss(1, 1.0) != pytest.approx(old, rel=1e-2)


def test_a_run_that_still_grows_is_not_exported(data: TrainingImages, tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, images=data.pictures)
    options = TrainingOptions("progan", PROGAN, str(file), "wgan-gp-drift", {"stage_images": 16}, steps=3, batch=8)
    train(options, tmp_path / "run", console=QUIET)
    with pytest.raises(
        CheckpointError, match="has taken 3 steps, and its networks grow until step 4: train it further"
    ):
        open_source(str(tmp_path / "run"), {})
    train(replace(options, steps=4), tmp_path / "run", resume=True, console=QUIET)
    assert open_source(str(tmp_path / "run"), {}).spec == options.spec


def test_the_chance_follows_the_logits_of_real_images(data: TrainingImages) -> None:
    recipe = {"ada": 0.6, "ada_images": 64}
    trainer = adversarial(data, TrainingOptions("dcgan", DCGAN, batch=8, augment=("color",), recipe=recipe))
    chance = trainer.networks.probability
    assert chance is not None
    values = []
    for sign in (1.0, -1.0):
        last = [part for part in trainer.bare_discriminator.modules() if isinstance(part, nn.Conv2d)][-1]
        last.register_forward_hook(lambda module, inputs, output, sign=sign: output * 0 + sign)
        for _ in range(4):
            trainer.step()
        values.append(chance.value)
    assert values == [0.5, 0.0]


def test_the_chance_decides_what_the_discriminator_sees(data: TrainingImages) -> None:
    trainer = adversarial(data, TrainingOptions("dcgan", DCGAN, batch=8, augment=("cutout",), recipe={"ada": 0.6}))
    assert trainer.networks.probability is not None
    pictures = torch.ones(200, 1, 16, 16)
    for value, low, high in ((0.0, 0, 0), (0.3, 40, 80), (1.0, 200, 200)):
        trainer.networks.probability.value = value
        changed = (trainer._augment_and_pack(pictures, 0, "real") != pictures).flatten(1).any(1)
        assert low <= int(changed.sum()) <= high


@pytest.mark.parametrize("family", ["dcgan", "mlp"])
def test_a_discriminator_that_is_told_the_deviation_minds_a_batch_without_any(family: str) -> None:
    config = DCGAN if family == "dcgan" else {"size": 16, "channels": 1}
    options = TrainingOptions(family, config, recipe={"deviation": True})
    told, plain = Networks(options).discriminator, Networks(replace(options, recipe={})).discriminator
    assert told is not None and plain is not None
    images = torch.randn(4, 1, 16, 16)
    same = images[:1].expand(4, -1, -1, -1)
    for net, minds in ((told, True), (plain, False)):
        net.eval()
        assert (not torch.allclose(net(images)[0], net(same)[0], atol=1e-5)) == minds
    count = sum(parameter.numel() for parameter in told.parameters())
    more = {"dcgan": 4 * 4, "mlp": 1}[family]
    assert count - sum(parameter.numel() for parameter in plain.parameters()) == more


def test_spectral_norm_takes_the_place_of_batch_norm() -> None:
    net = Networks(TrainingOptions("dcgan", DCGAN, loss="hinge", recipe={"spectral": True})).discriminator
    assert net is not None and not any(isinstance(part, nn.BatchNorm2d) for part in net.modules())
    for _ in range(30):
        net(torch.randn(2, 1, 16, 16))
    net.eval()
    layers = [part for part in net.modules() if isinstance(part, nn.Conv2d)]
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2) == pytest.approx(1, abs=0.02)
    assert len(layers) == 3


@pytest.mark.parametrize(
    ("family", "recipe", "message"),
    [
        (
            "resnet",
            {"spectral": True},
            "the discriminator of resnet normalises its weights already; leave out spectral",
        ),
        ("progan", {"deviation": True}, "deviation needs a discriminator that ends in a plain layer; leave it out"),
    ],
)
def test_changes_that_do_not_suit_a_discriminator(family: str, recipe: dict[str, Any], message: str) -> None:
    config = {"size": 32, "width": 4, "discriminator_width": 4} if family == "resnet" else PROGAN
    with pytest.raises(RequestError, match=message):
        Networks(TrainingOptions(family, config, recipe=recipe))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {"ada": 1.0}, "augment": ("color",)}, "ada is 1.0; it must be at least 0 and below 1"),
        ({"recipe": {"ada_images": 0}}, "ada_images is 0; it must be a whole number from 1"),
        ({"recipe": {"ada": 0.6}}, "ada is 0.6, but there is no augment whose chance it could adapt"),
        (
            {"recipe": {"ada": 0.6}, "augment": ("color",), "loss": "lsgan"},
            "ada needs logits that are above 0 for real images; those of lsgan need not be",
        ),
        ({"recipe": {"stage_images": 8}}, "the recipe of dcgan has no setting 'stage_images'"),
        ({"halve_every": 5}, "dcgan is trained at one learning rate; leave out halve_every"),
        ({"family": "progan", "recipe": {"stage_images": -1}}, "stage_images is -1; it must be a whole number from 0"),
        ({"family": "progan", "recipe": {"fade": 1}}, "fade is 1.0; it must be at least 0 and below 1"),
        ({"family": "progan", "devices": 2}, "progan grows on one device; 2 were asked for"),
    ],
)
def test_recipes_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TrainingOptions(**{"family": "dcgan", **change})
