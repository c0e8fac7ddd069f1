"""What the linter finds by running a module, on a tiny generator for each fault; fixed ones draw the same pictures."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_generators import Apply, Tiny, only, ready, spec, tiny
from torch import Tensor, nn

import ganrt
from ganrt.export.lint.dry_run import check_dry_run
from ganrt.export.lint.findings import RowByRow


class Drawn(nn.Module):
    """Noise as StyleGAN ports add it, in every way of drawing that can be an input."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.3 * torch.randn(x.shape[0], 1, 4, 4)
        x = x + x.new_empty(x.shape[0], 4, 1, 1).normal_(0.5, std=0.2)
        x = x * (1 + torch.rand_like(x))
        return x + torch.empty_like(x).uniform_(-1, 3) + torch.randn(1, 4, 4, 4)


def test_noise_becomes_inputs_and_stays_the_same_noise() -> None:
    module = tiny(Drawn())
    fixed, wider, found = check_dry_run(module, spec())
    only(found, "random numbers", "fixed", "middle", "the inputs noise_0 to noise_4 of the Spec", "register_buffer")
    shapes = [(1, 4, 4), (4, 1, 1), (4, 4, 4), (4, 4, 4), (4, 4, 4)]
    kinds = ["normal", "normal", "uniform", "uniform", "normal"]
    added = [item for item in wider.inputs[1:] if isinstance(item, ganrt.Latent)]
    assert [(item.name, item.shape, item.distribution) for item in added] == [
        (f"noise_{k}", *pair) for k, pair in enumerate(zip(shapes, kinds, strict=True))
    ]
    assert all(item.range == (0.0, 1.0) for item in added)
    z = torch.randn(3, 6)
    torch.manual_seed(5)
    wanted = module(z)
    torch.manual_seed(5)
    draw = {"normal": torch.randn, "uniform": torch.rand}
    noise = [draw[kind](3 if k < 4 else 1, *shape) for k, (kind, shape) in enumerate(zip(kinds, shapes, strict=True))]
    torch.testing.assert_close(fixed(z, *noise), wanted, rtol=1e-6, atol=1e-6)


def test_a_latent_that_is_no_input_becomes_one() -> None:
    class Own(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(torch.randn(z.shape[0], 6))

    _, wider, found = check_dry_run(ready(Own(nn.Identity())), spec())
    assert wider.inputs[1] == ganrt.Latent("noise_0", (6,), range=(0.0, 1.0))
    assert [(f.severity, f.where) for f in found] == [("fixed", "the module itself"), ("warning", "z")]


def test_names_of_noise_do_not_collide() -> None:
    class Two(Tiny):
        def forward(self, z: Tensor, noise_0: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(z + noise_0)

    _, wider, _ = check_dry_run(ready(Two(Drawn())), spec(ganrt.Latent("noise_0", (6,))))
    assert [item.name for item in wider.inputs] == ["z", *(f"noise_{k}" for k in range(6))]


def seeded(x: Tensor) -> Tensor:
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def numpy_noise(x: Tensor) -> Tensor:
    return x + torch.from_numpy(np.random.default_rng().normal(size=(1, 4, 1, 1)).astype(np.float32))


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (lambda x: F.dropout(x, 0.5), ("F.dropout with training=self.training",)),
        (lambda x: x + torch.randint(0, 9, x.shape), ("(randint)", "no input of a Spec", "register_buffer")),
        (lambda x: x + torch.randn(4, 4), ("(randn)", "ganrt.Latent")),  # no side of the batch
        (lambda x: x + torch.randn(1, 4, 4, 4).view(4, 4, 4), ("(randn)",)),  # one for all, and used as such
        (seeded, ("(randn)", "register_buffer")),
    ],
)
def test_other_random_numbers_are_rejected(middle: Any, words: tuple[str, ...]) -> None:
    only(check_dry_run(tiny(middle), spec()).findings, "random numbers", "rejected", "middle", *words)


def test_random_numbers_of_others_are_rejected() -> None:
    found = check_dry_run(tiny(numpy_noise), spec()).findings
    only(found, "random numbers", "rejected", "forward", "two pictures of one input", "not PyTorch's")


@pytest.mark.parametrize("seed", range(6))
def test_random_numbers_of_few_values_are_rejected(seed: int) -> None:
    """Some are drawn again, and then two pictures are equal."""
    random.seed(seed)
    found = check_dry_run(tiny(lambda x: x * random.randint(1, 2)), spec()).findings
    only(found, "random numbers", "rejected", "forward", "two pictures of one input", "not PyTorch's")


def test_noise_of_the_size_of_a_picture_is_rejected() -> None:
    free = ganrt.Spec("tiny", (ganrt.Image("x", "content", 1, (0.0, 1.0)),), ganrt.Output(1, (0.0, 1.0), None))
    found = check_dry_run(ready(Apply(lambda x: x + torch.randn_like(x))), free).findings
    only(found, "random numbers", "rejected", "the module itself", "(randn_like) for pictures of any size", "a size")


def test_functional_batch_statistics_are_found_where_they_are() -> None:
    for middle in (
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: x - x.mean(0, keepdim=True),
        lambda x: x + x[:1],  # everybody gets the first sample
        lambda x: x + (x - x.mean(0)).square().mean().log() * 0,  # no number of one sample
    ):
        found = check_dry_run(tiny(nn.Sequential(nn.Identity(), Apply(middle))), spec()).findings
        only(found, "batch statistics", "rejected", "middle.1", "other samples of its batch")


def test_code_that_mixes_samples_is_named_and_not_the_layer_behind_it() -> None:
    for mix in (lambda x: x.reshape(4, 4, 4, -1).permute(3, 0, 1, 2), lambda x: x - x.min(0)[0]):
        middle = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        module = tiny(Mixing(middle, mix))
        found = check_dry_run(module, spec()).findings
        where = "forward of middle before middle.inner"
        only(found, "batch statistics", "rejected", where, "keep the samples apart there", "every view, reshape")
    works_in_place = tiny(nn.Sequential(nn.Identity(), Apply(lambda x: x.sub_(x.mean(0)))))
    found = check_dry_run(works_in_place, spec()).findings
    only(found, "batch statistics", "rejected", "middle.1", "take statistics over each sample")


class Mixing(nn.Module):
    """A function before other layers."""

    def __init__(self, inner: nn.Module, mix: Any) -> None:
        super().__init__()
        self.inner, self.mix = inner, mix

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.mix(x))


class Modulated(nn.Module):
    """StyleGAN2's modulated convolution, all samples in one: a group for each."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        weight = self.weight[None] * x.mean((2, 3))[:, None, :, None, None]
        flat = F.conv2d(x.reshape(1, n * 4, 4, 4), weight.reshape(n * 4, 4, 3, 3), padding=1, groups=n)
        return flat.reshape(n, 4, 4, 4)


@pytest.mark.parametrize(
    ("middle", "where", "words"),
    [
        (
            lambda x: x.reshape(2, 4, 4, 4),
            "middle",
            "fails with one sample: RuntimeError: shape",
        ),
        (lambda x: x + torch.ones(2, 4, 4, 4), "middle", "makes (2, 1, 8, 8) of a batch of 1"),
        (lambda x: x[:1], "forward", "makes (1, 1, 8, 8) of a batch of 2"),
        (lambda x: x.view(1, 4, 4, 4), "middle", "fails with 2 samples, and not with one: RuntimeError"),
        (Modulated(), "middle", "fused_modconv=False"),
    ],
)
def test_a_frozen_batch_size_is_rejected(middle: Any, where: str, words: str) -> None:
    only(check_dry_run(tiny(middle), spec()).findings, "frozen batch size", "rejected", where, words)


def test_a_squeeze_that_takes_the_batch_away_is_named() -> None:
    module = nn.Sequential(tiny(nn.Identity()), Apply(torch.squeeze))
    found = check_dry_run(ready(module), spec()).findings
    only(found, "frozen batch size", "rejected", "1", "makes (8, 8) of a batch of 1, and (2, 8, 8) of 2", "squeeze(1)")
    found = check_dry_run(RowByRow(ready(module)), dataclasses.replace(spec(), single=True)).findings
    only(found, "frozen batch size", "rejected", "forward", "makes (16, 8) of 2 samples", "return (1, C, H, W)")
    assert "--batch 1" not in found[0].text


@pytest.mark.parametrize(
    ("item", "width", "instead"),
    [
        (ganrt.Label("y", 6), 2, 'Label("y", classes=6, encoding="one_hot")'),
        (ganrt.Label("y", 6, "one_hot"), 1, 'Label("y", classes=6)'),
        (ganrt.Latent("y", (6,)), 4, 'Latent("y", shape=(6, 1, 1))'),
        (ganrt.Latent("y", (6, 1, 1)), 2, 'Latent("y", shape=(6,))'),
    ],
)
def test_an_input_of_another_shape_is_found(item: Any, width: int, instead: str) -> None:
    class Strict(Tiny):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
            if y.ndim != width:
                raise ValueError(f"y has {y.ndim} axes")
            return super().forward(z + y.reshape(len(y), -1).float())

    found = check_dry_run(ready(Strict(nn.Identity())), spec(item)).findings
    only(found, "forward", "rejected", "the module itself", f" axes; it runs with {instead} in the Spec")


class Remembering(nn.Module):
    """Adds what it made in the call before."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Any = None

    def forward(self, x: Tensor) -> Tensor:
        made = x if self.before is None else x + 0.5 * self.before
        self.before = made
        return made


class Counting(nn.Module):
    """Makes a little more in every call."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + self.calls / 9)


class Caching(nn.Module):
    """Keeps something that no later call reads."""

    def forward(self, x: Tensor) -> Tensor:
        self.features = x
        return x


def test_what_forward_keeps_for_the_next_call_is_named() -> None:
    for middle, name in ((Remembering(), "before"), (Counting(), "calls")):
        found = check_dry_run(tiny(middle), spec()).findings
        only(found, "state", "rejected", f"middle.{name}", "changes what forward makes in the next call")
    assert check_dry_run(tiny(Caching()), spec()).findings == []


def test_lists_arrays_and_views_are_named() -> None:
    class First(Tiny):
        def forward(self, styles: Any) -> Tensor:
            return torch.tanh(self.last(self.first(styles[0]).reshape(-1, 4, 4, 4)))

    only(check_dry_run(ready(First(nn.Identity())), spec()).findings, "forward", "rejected", "forward", "takes a list")
    found = check_dry_run(ready(nn.Sequential(tiny(nn.Identity()), Apply(lambda x: x.numpy()))), spec()).findings
    only(found, "forward", "rejected", "forward", "returns an array of NumPy; return the tensor, without numpy()")
    found = check_dry_run(tiny(lambda x: x.transpose(0, 1).view(-1).view(4, -1, 4, 4).transpose(0, 1)), spec()).findings
    only(
        found,
        "frozen batch size",
        "rejected",
        "middle",
        "and not with one: ",
        "instead. Write reshape for view, or export",
    )


class Drifting(nn.Module):
    """A spectral norm of somebody's own, which goes on estimating in evaluation mode."""

    u: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("u", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        self.u.mul_(1.1)
        return x * self.u[:, None, None]


@pytest.mark.parametrize(
    ("module", "inputs", "rule", "where", "words"),
    [
        (tiny(Drifting()), (), "state", "middle.u", "only where self.training"),
        (tiny(lambda x: x[:, :3]), (), "forward", "last", "z float32 (2, 6): RuntimeError"),
        (tiny(lambda x: x / 0), (), "forward", "forward", "not finite"),
        (
            tiny(lambda x: x * 0),
            (),
            "inputs without influence",
            "z",
            "different inputs make the same picture; is this the trained generator",
        ),
        (tiny(lambda x: x.half().float()), (), "precision", "middle", "computes in float16; leave autocast"),
        (ready(Apply(lambda z: (z, None))), (), "forward", "forward", "returns a tuple of 2;"),
        (ready(Apply(lambda z: {"x": z})), (), "forward", "forward", "returns a dict with x (2, 6), and none is"),
    ],
)
def test_what_else_is_rejected(module: nn.Module, inputs: Any, rule: str, where: str, words: str) -> None:
    only(check_dry_run(module, spec(*inputs)).findings, rule, "rejected", where, words)


@pytest.mark.parametrize(
    "unused",
    [ganrt.Latent("y", (2,)), ganrt.Label("y", 5), ganrt.Label("y", 5, "one_hot"), ganrt.Scalar("y", (0.0, 1.0), 1.0)],
)
def test_an_input_without_influence_is_named(unused: Any) -> None:
    class Two(Tiny):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(z)

    class Using(Tiny):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(z + y.reshape(len(y), -1).float().mean(1, keepdim=True) ** 2)

    found = check_dry_run(ready(Two(nn.Identity())), spec(unused)).findings
    words = "the two values tried make the same picture; if all values do, leave it out"
    only(found, "inputs without influence", "warning", "y", words)
    if unused != ganrt.Label("y", 5, "one_hot"):  # whose mean is the same for all classes
        assert check_dry_run(ready(Using(nn.Identity())), spec(unused)).findings == []


def test_looking_leaves_no_trace() -> None:
    """Hooks and the state of the random generator are as they were."""
    module, state = tiny(nn.BatchNorm2d(4)), torch.get_rng_state()
    check_dry_run(module, spec())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_one_picture_of_several_results_is_taken() -> None:
    class Several(Tiny):
        def forward(self, z: Tensor) -> Any:
            return z, super().forward(z + 0.1 * torch.randn_like(z)), None

    module = ready(Several(Drifting()))
    found = check_dry_run(module, spec()).findings
    assert [(f.rule, f.severity, f.where) for f in found] == [
        ("state", "rejected", "middle.u"),
        ("forward", "fixed", "forward"),
        ("random numbers", "fixed", "the module itself"),
    ]
    module.middle = Modulated()
    fixed, wider, found = check_dry_run(module, spec())
    assert found[-1].where == "middle"  # wrapped twice, and named as the user knows it
    module.middle = nn.Identity()
    fixed, wider, found = check_dry_run(module, spec())
    assert "item 1 is taken" in found[0].text
    z, noise = torch.randn(3, 6), torch.randn(3, 6)
    assert torch.equal(fixed(z, noise), Tiny.forward(module, z + 0.1 * noise))
    assert [item.name for item in wider.inputs] == ["z", "noise_0"]


def test_values_that_python_reads_are_named() -> None:
    module = tiny(lambda x: x * 2 if x.abs().max() > 100 else x)
    only(
        check_dry_run(module, spec()).findings, "values read in Python", "warning", "middle", "condition", "torch.where"
    )
