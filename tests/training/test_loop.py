"""The loop, end to end on tiny networks: repeatable, resumable, averaged, reported, and on several processes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.optional import unwrap
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from ganrt import feeds, images
from ganrt.errors import ArtifactError, CheckpointError, MachineError, RequestError
from ganrt.models import build_generator, get_family
from ganrt.models.family import Family
from ganrt.models.parametrize import apply_spectral_norm
from ganrt.spec import Label, Latent, Output, Spec
from ganrt.training import LOSSES, TrainingOptions, load_images, read_run, train
from ganrt.training.data import shuffle_indices
from ganrt.training.loop import _build_fabric, _load_data
from ganrt.training.networks import Networks
from ganrt.training.trainer import Trainer

QUIET = Console(quiet=True)
DCGAN = {"size": 16, "channels": 1, "width": 4, "latent": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """21 grey pictures: no multiple of any batch size here."""
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    pictures = np.random.default_rng(0).integers(0, 256, (21, 16, 16), np.uint8)
    np.savez(path, images=pictures, labels=np.arange(21) % 3)
    return str(path)


@pytest.fixture
def options(data: str) -> TrainingOptions:
    return TrainingOptions(
        "dcgan", DCGAN, data, steps=6, batch=8, ema=0.9, seed=5, sample_every=3, checkpoint_every=3, log_every=1
    )


class ClassGenerator(nn.Module):
    """(N, 4) latents, (N, 3) one-hot classes -> (N, 1, 16, 16)."""

    def __init__(self, config: object) -> None:
        super().__init__()
        self.main = nn.Linear(7, 256)

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.main(torch.cat([z, y], dim=1)).tanh().unflatten(1, (1, 16, 16))


class ClassDiscriminator(nn.Module):
    def __init__(self, config: object) -> None:
        super().__init__()
        self.main = nn.Linear(256, 3)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.seen.append(y)
        return self.main(x.flatten(1)).gather(1, y[:, None])[:, 0]


@dataclass(frozen=True)
class ClassConfig:
    channels: int = 1


@pytest.fixture
def classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conditional family, `classes`, that is trained with spectral norm."""
    spec = Spec("classes", (Latent("z", (4,)), Label("y", 3, "one_hot")), Output(1, (-1.0, 1.0), (16, 16)))
    family = Family(
        "classes",
        ClassConfig,
        ClassGenerator,
        lambda config: spec,
        (),
        ClassDiscriminator,
        lambda config: apply_spectral_norm(ClassGenerator(config)),
    )
    for module in ("networks", "options"):
        monkeypatch.setattr(
            f"ganrt.training.{module}.get_family", lambda name: family if name == "classes" else get_family(name)
        )


def everything(run: Path) -> dict[str, Any]:
    """All tensors and numbers of a checkpoint by their path in it, and the bytes of every other result."""
    found: dict[str, Any] = {name: (run / name).read_bytes() for name in ("generator.safetensors", "log.csv")}
    found |= {path.name: path.read_bytes() for path in (run / "samples").iterdir()}

    def walk(where: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{where}.{key}", inner)
        elif isinstance(value, torch.Tensor):
            found[where] = (value.dtype, value.stride(), value.numpy().tobytes())
        else:
            found[where] = value

    walk("", torch.load(run / "checkpoint.pt", weights_only=True))
    return found


def test_a_seed_makes_a_run_repeatable(options: TrainingOptions, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(options, tmp_path / name, console=QUIET)
    train(replace(options, seed=6), tmp_path / "c", console=QUIET)
    assert everything(tmp_path / "a") == everything(tmp_path / "b")
    assert (tmp_path / "a" / "run.json").read_bytes() == (tmp_path / "b" / "run.json").read_bytes()
    assert (tmp_path / "a" / "generator.safetensors").read_bytes() != (
        tmp_path / "c" / "generator.safetensors"
    ).read_bytes()


MLP: dict[str, Any] = {"family": "mlp", "config": {"size": 16, "channels": 1}}
WAYS = {
    "dcgan": {},
    "mlp": MLP,
    "clipped": {"loss": "wgan", "critic_steps": 2},
    "penalised": {"loss": "wgan-gp", "critic_steps": 2, "augment": ("color", "translation", "cutout")},
    "packed": {"loss": "hinge", "packing": 2, "orthogonal": 1e-4},
    "in parts": {"accumulate": 2, "critic_steps": 2, "precision": "bf16-mixed"},
    "penalised in bf16": {"loss": "wgan-gp", "critic_steps": 1, "precision": "bf16-mixed"},
    "conditional": {"family": "classes", "config": {}, "loss": "hinge"},
    "growing": {
        "family": "progan",
        "config": {"widths": (4, 4, 4), "channels": 1, "latent": 4},
        "loss": "wgan-gp-drift",
        "recipe": {"stage_images": 16},
    },
    "adaptive": {"augment": ("color", "cutout"), "recipe": {"ada": 0.6, "ada_images": 100}},
    "changed discriminator": {"loss": "hinge", "recipe": {"deviation": True, "spectral": True}},
}
"""Ways to train, by what is special about them."""


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_equals_one_that_was_not_stopped(
    way: str, options: TrainingOptions, tmp_path: Path, classes: None
) -> None:
    changes: dict[str, Any] = {"critic_steps": 0, "betas": (), **WAYS[way]}
    options = replace(options, **changes)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(options, whole, console=QUIET)
    assert train(replace(options, steps=3), parts, console=QUIET).step == 3
    assert everything(parts) != everything(whole)
    record = train(options, parts, resume=True, console=QUIET)
    assert record.step == 6 and record == read_run(parts)
    assert everything(parts) == everything(whole)
    assert (parts / "run.json").read_bytes() == (whole / "run.json").read_bytes()


def test_a_run_killed_between_two_checkpoints_takes_the_lost_steps_again(
    options: TrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(options, tmp_path / "whole", console=QUIET)
    steps = iter(range(5))
    real_step = Trainer.step

    def killed(trainer: Trainer) -> torch.Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return real_step(trainer)

    monkeypatch.setattr(Trainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(options, tmp_path / "killed", console=QUIET)
    monkeypatch.undo()
    assert read_run(tmp_path / "killed").step == 3
    train(options, tmp_path / "killed", resume=True, console=QUIET)
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")


def test_a_run_killed_while_it_saved_is_made_whole(options: TrainingOptions, tmp_path: Path) -> None:
    """The checkpoint is replaced first, so it may be ahead of the rest."""
    run = tmp_path / "run"
    train(replace(options, steps=3), run, console=QUIET)
    old = {name: (run / name).read_bytes() for name in ("run.json", "generator.safetensors")}
    train(options, run, resume=True, console=QUIET)
    expected = everything(run)
    for name, content in old.items():
        (run / name).write_bytes(content)
    assert read_run(run).step == 3
    assert train(options, run, resume=True, console=QUIET).step == read_run(run).step == 6
    assert everything(run) == expected


def test_what_a_run_leaves(options: TrainingOptions, tmp_path: Path) -> None:
    record = train(replace(options, steps=7), tmp_path / "run", console=QUIET)
    assert record == read_run(tmp_path / "run") and record.step == 7
    assert record.data.name == options.data and record.data.count == 21
    files = sorted(str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert files == ["checkpoint.pt", "generator.safetensors", "log.csv", "run.json"] + [
        f"samples/00000{step}.png" for step in (3, 6, 7)
    ]
    header, *rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert header == "step,discriminator_loss,generator_loss,real_logit,fake_logit"
    assert [row.split(",")[0] for row in rows] == [str(step) for step in range(1, 8)]
    assert np.isfinite([[float(value) for value in row.split(",")] for row in rows]).all()


def test_the_sheet_shows_what_sampling_the_seed_gives(options: TrainingOptions, tmp_path: Path) -> None:
    record = train(options, tmp_path / "run", console=QUIET)
    module = build_generator(record.family, record.config)
    module.load_state_dict(load_file(record.weights))
    latents = feeds.draw_feeds(options.spec, options.seed, 0, 64)["z"]
    with torch.inference_mode():
        made = module.eval()(torch.from_numpy(latents)).numpy()
    sheet = images.make_grid(images.to_uint8(made, (-1.0, 1.0)))
    shown = images.read_picture(tmp_path / "run" / "samples" / "000006.png", 1)
    assert np.abs(shown.astype(int) - sheet.astype(int)).max() <= 1


def trainer_of(options: TrainingOptions) -> Trainer:
    return Trainer(options, _load_data(options), Networks(options), _build_fabric(options))


def test_the_average_follows_its_recurrence_buffers_too(options: TrainingOptions) -> None:
    trainer = trainer_of(options)
    networks = trainer.networks
    expected: dict[str, np.ndarray] = {}
    for step in range(5):
        trainer.step()
        for key, tensor in networks.generator.state_dict().items():
            now = tensor.numpy().astype(np.float64)
            expected[key] = now if step == 0 else 0.9 * expected[key] + 0.1 * now
    found = networks.folded_weights()
    assert found.keys() == expected.keys()
    assert any("running_var" in key for key in found)
    for key, tensor in found.items():
        if key.endswith("num_batches_tracked"):
            assert tensor.dtype == torch.int64 and 1 <= tensor.item() <= 5
        else:
            np.testing.assert_allclose(tensor.numpy(), expected[key], rtol=1e-5, atol=1e-6)


def test_one_step_is_the_algorithm_of_the_article(options: TrainingOptions) -> None:
    """Against a plain loop: Adam on the discriminator with real and fake batches, then on the generator."""
    trainer = trainer_of(options)
    plain = Networks(options)
    discriminator, optimizer = unwrap(plain.discriminator), unwrap(plain.discriminator_optimizer)
    loss = LOSSES[options.loss]
    data = load_images(options.data, 16, 1)
    for step in range(2):
        order = shuffle_indices(options.seed, len(data), step * options.batch, options.batch)
        real = torch.from_numpy(images.from_uint8(data.pictures[order], (-1.0, 1.0)))
        latents = feeds.draw_feeds(options.spec, options.seed, 2**63 + step * options.batch, options.batch)["z"]
        fake = plain.generator(torch.from_numpy(latents))
        discriminator.zero_grad()
        loss.discriminator(discriminator(real), discriminator(fake.detach())).backward()
        optimizer.step()
        plain.generator.zero_grad()
        loss.generator(discriminator(fake)).backward()
        plain.generator_optimizer.step()
        trainer.step()
    for name in ("generator", "discriminator"):
        found, expected = (getattr(networks, name).state_dict() for networks in (trainer.networks, plain))
        for key in expected:
            if "running" not in key and "num_batches" not in key:
                torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-5)


def test_every_critic_step_has_images_of_its_own_and_clips_first(
    options: TrainingOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(replace(options, loss="wgan", critic_steps=3, betas=()))
    numbers: list[int] = []
    draw_part = Trainer._draw_part

    def record(*place: Any) -> Any:
        part = draw_part(trainer, *place)
        numbers.append(part.first)
        return part

    monkeypatch.setattr(trainer, "_draw_part", record)
    for _ in range(2):
        trainer.step()
    assert numbers == [0, 8, 16, 24, 32, 40]
    for parameter in unwrap(trainer.networks.discriminator).parameters():  # one step of Adam after the last clipping
        assert parameter.abs().max() <= 0.01 + 10 * options.discriminator_lr


def test_parts_of_a_batch_add_up_to_it(options: TrainingOptions) -> None:
    """Without batch norm, accumulated gradients are those of the whole batch."""
    whole = replace(options, **MLP, loss="wgan-gp", critic_steps=2, betas=())
    trainers = [trainer_of(whole), trainer_of(replace(whole, accumulate=4))]
    for _ in range(2):
        values = [trainer.step() for trainer in trainers]
    torch.testing.assert_close(*values, rtol=1e-3, atol=1e-4)


def test_both_networks_get_the_classes_of_the_data(options: TrainingOptions, classes: None) -> None:
    trainer = trainer_of(replace(options, family="classes", config={}))
    asked = []
    trainer.networks.generator.register_forward_pre_hook(lambda module, inputs: asked.append(inputs[1]))
    trainer.step()
    order = shuffle_indices(options.seed, 21, 0, options.batch)
    expected = torch.from_numpy(order % 3)
    discriminator: Any = trainer.networks.discriminator
    assert [y.argmax(dim=1).tolist() for y in asked] == [expected.tolist()]
    assert [y.tolist() for y in discriminator.seen] == [expected.tolist()] * 3


def test_what_is_trained_with_spectral_norm_is_written_without(
    options: TrainingOptions, classes: None, tmp_path: Path
) -> None:
    trainer = trainer_of(replace(options, family="classes", config={}))
    for _ in range(3):
        trainer.step()
    networks = trainer.networks
    vectors = dict(networks.average.module.named_buffers()), dict(networks.generator.named_buffers())
    assert vectors[0] and all(torch.equal(vectors[0][name], vectors[1][name]) for name in vectors[1])
    plain = ClassGenerator(None)
    plain.load_state_dict(networks.folded_weights(), strict=True)
    inputs = trainer._draw_inputs(0, 5)
    with torch.inference_mode():
        torch.testing.assert_close(plain(*inputs), networks.average(*inputs))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "classes learns 3 classes, but .* has no labels; add the array `labels`"),
        (np.arange(21), "has labels from 0 to 20; this classes learns 0 to 2"),
    ],
)
def test_a_conditional_family_needs_the_labels_of_its_classes(
    labels: Any, message: str, options: TrainingOptions, classes: None, tmp_path: Path
) -> None:
    arrays = {} if labels is None else {"labels": labels}
    np.savez(tmp_path / "x.npz", images=np.zeros((21, 16, 16), np.uint8), **arrays)
    with pytest.raises(RequestError, match=message):
        train(replace(options, family="classes", config={}, data=str(tmp_path / "x.npz")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_packing_and_classes_do_not_go_together(options: TrainingOptions, classes: None) -> None:
    with pytest.raises(RequestError, match="classes has classes, and packing needs images without"):
        replace(options, family="classes", config={}, packing=2)


def test_a_batch_larger_than_the_data(options: TrainingOptions, tmp_path: Path) -> None:
    assert train(replace(options, batch=64, steps=1), tmp_path / "run", console=QUIET).step == 1


def test_the_printed_minimax_loss_trains_too(options: TrainingOptions, tmp_path: Path) -> None:
    train(replace(options, loss="minimax"), tmp_path / "run", console=QUIET)
    last = (tmp_path / "run" / "log.csv").read_text().splitlines()[-1].split(",")
    assert float(last[2]) < 0  # the generator's loss is -softplus


def test_a_run_that_exists_is_not_replaced(options: TrainingOptions, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RequestError, match=r"run exists already; choose another name, or add --resume"):
        train(options, tmp_path / "run", console=QUIET)
    assert list((tmp_path / "run").iterdir()) == []


def test_resuming_what_is_not_there(options: TrainingOptions, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no training run"):
        train(options, tmp_path / "run", resume=True, console=QUIET)
    assert list(tmp_path.iterdir()) == []


def test_resuming_with_other_options_or_data(options: TrainingOptions, data: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    mine = tmp_path / "mine.npz"
    mine.write_bytes(Path(data).read_bytes())
    options = replace(options, data=str(mine))
    train(options, run, console=QUIET)
    before = everything(run)
    with pytest.raises(RequestError, match="batch was 8, is now 16; seed was 5, is now 1"):
        train(replace(options, batch=16, seed=1), run, resume=True, console=QUIET)
    with pytest.raises(RequestError, match="has taken 6 steps already; 2 were asked for in all"):
        train(replace(options, steps=2), run, resume=True, console=QUIET)
    np.savez(mine, images=np.zeros((21, 16, 16), np.uint8))
    with pytest.raises(RequestError, match=r"was trained on other pictures: .* then, .* now"):
        train(replace(options, steps=9), run, resume=True, console=QUIET)
    assert everything(run) == before


def test_bad_data_leaves_nothing_behind(options: TrainingOptions, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a folder"):
        train(replace(options, data=f"folder:{tmp_path / 'no'}"), tmp_path / "run", console=QUIET)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(options: TrainingOptions, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written: Not a directory"):
        train(options, tmp_path / "file" / "run", console=QUIET)


def test_more_gpus_than_there_are(options: TrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MachineError, match="training was to run on 2 CUDA devices; torch finds 1"):
        train(replace(options, device="cuda", devices=2), tmp_path / "run", console=QUIET)


def test_divergence_is_told_and_the_last_checkpoint_kept(
    options: TrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(replace(options, steps=3), run, console=QUIET)
    before = everything(run)
    real_step = Trainer.step

    def poisoned(trainer: Trainer) -> torch.Tensor:
        with torch.no_grad():
            next(unwrap(trainer.networks.discriminator).parameters()).fill_(torch.nan)
        return real_step(trainer)

    monkeypatch.setattr(Trainer, "step", poisoned)
    message = "diverged by step 4: the weights are not finite. Use smaller learning rates; .* the checkpoint of step 3"
    with pytest.raises(RequestError, match=message):
        train(options, run, resume=True, console=QUIET)
    assert everything(run) == before


def test_a_log_gets_plain_lines(options: TrainingOptions, tmp_path: Path) -> None:
    shown = io.StringIO()
    train(
        replace(options, steps=40, sample_every=40, checkpoint_every=40), tmp_path / "run", console=Console(file=shown)
    )
    lines = shown.getvalue().splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("step 40/40  discriminator ") and lines[-1].endswith(" steps/s")
    assert "\x1b" not in shown.getvalue()


def test_a_terminal_gets_a_bar(options: TrainingOptions, tmp_path: Path) -> None:
    shown = io.StringIO()
    train(options, tmp_path / "run", console=Console(file=shown, force_terminal=True, width=120))
    assert "training" in shown.getvalue() and "6/6" in shown.getvalue() and "discriminator" in shown.getvalue()


SCRIPT = """
import json, sys
from pathlib import Path
from ganrt.training import TrainingOptions, train

train(TrainingOptions.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]))
print("and then", flush=True)
"""


@pytest.mark.parametrize("loss", ["non-saturating", "wgan-gp"])
def test_two_processes_do_the_work_of_one(loss: str, data: str, tmp_path: Path) -> None:
    """Without batch norm the gradients of two half batches average to those of the whole one."""
    options = TrainingOptions(**MLP, data=data, loss=loss, critic_steps=1, steps=4, batch=8, log_every=1, device="cpu")
    one, two = tmp_path / "one", tmp_path / "two"
    train(options, one, console=QUIET)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [
        sys.executable,
        "-W",
        "default",
        str(script),
        json.dumps(replace(options, devices=2).to_dict()),
        str(two),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "and then\n"
    assert done.stderr.count("step 4/4") == 1
    assert sorted(p.name for p in two.rglob("*")) == sorted(p.name for p in one.rglob("*"))
    first, second = (np.loadtxt(run / "log.csv", delimiter=",", skiprows=1) for run in (one, two))
    np.testing.assert_allclose(first, second, rtol=2e-3, atol=2e-4)
