"""The linter of exports: a tiny generator for each fault, what is said of it, and that mending changes no picture."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import ganrt
from ganrt.bundle import Bundle
from ganrt.cli import main
from ganrt.errors import RequestError
from ganrt.export import export
from ganrt.export.findings import Finding, places, settle
from ganrt.export.freezing import freezing_module
from ganrt.export.lint import check_module
from ganrt.export.lint_graph import check_graph
from ganrt.export.rehearsal import rehearse
from ganrt.export.tracing import trace
from ganrt.models import build_generator, get_family
from ganrt.models.parametrize import equalize

LATENT = ganrt.Latent("z", (6,))


class Tiny(nn.Module):
    """z (N, 6) -> pictures (N, 1, 8, 8), with a layer under test in the middle, on (N, 4, 4, 4)."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = nn.Linear(6, 64), middle, nn.ConvTranspose2d(4, 1, 2, 2)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.last(self.middle(self.first(z).reshape(-1, 4, 4, 4))))


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def spec(*inputs: Any) -> ganrt.Spec:
    return ganrt.Spec("tiny", (LATENT, *inputs), ganrt.Output(1, (-1.0, 1.0), (8, 8)))


def ready(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def tiny(middle: nn.Module | Callable[[Tensor], Any]) -> nn.Module:
    return ready(Tiny(middle if isinstance(middle, nn.Module) else Apply(middle)))


def only(findings: list[Finding], rule: str, level: str, where: str, *words: str) -> None:
    assert [(f.rule, f.level, f.where) for f in findings] == [(rule, level, where)], findings
    for word in words:
        assert word in findings[0].text


def in_graph(module: nn.Module, of: ganrt.Spec | None = None) -> tuple[ir.Model, list[Finding]]:
    found: list[Finding] = []
    of = of or spec()
    freezing = functools.partial(freezing_module, module, of)
    return trace(module, of, inspect_raw=lambda raw: found.extend(check_graph(raw, of, freezing))), found


def old(norm: Callable[..., nn.Module], layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the old kind is the old kind
        made = norm(layer)
    made.train()(torch.randn(2, 4, 4, 4))  # leaves the weight as the last training step computed it
    return made


def custom(layer: nn.Conv2d) -> nn.Conv2d:
    equalize(layer)
    return layer


COMPUTED = {
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, 1, 1)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 3, 1, 1)),
    "equalized scale": lambda: custom(nn.Conv2d(4, 4, 3, 1, 1)),
    "old spectral norm": lambda: old(torch.nn.utils.spectral_norm, nn.Conv2d(4, 4, 3, 1, 1)),
    "old weight norm": lambda: old(torch.nn.utils.weight_norm, nn.Conv2d(4, 4, 3, 1, 1)),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights_become_plain_ones(kind: str) -> None:
    module, z = tiny(COMPUTED[kind]()), torch.randn(3, 6)
    before = module(z)
    only(check_module(module), "computed weights", "mended", "middle", kind.removeprefix("old "), "folded")
    assert torch.equal(module(z), before)
    assert sorted(dict(module.middle.named_parameters())) == ["bias", "weight"]
    assert not any(p.requires_grad for p in module.parameters())
    assert check_module(module) == []


def test_a_parametrized_copy_stays_as_it_is() -> None:
    """Copies share the class that a parametrization made."""
    module = tiny(COMPUTED["spectral norm"]())
    other, z = copy.deepcopy(module), torch.randn(3, 6)
    before = other(z)
    check_module(module)
    assert torch.equal(other(z), before)


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_with_running_statistics_becomes_batch_norm(affine: bool) -> None:
    module, z = tiny(nn.Sequential(nn.InstanceNorm2d(4, affine=affine, track_running_stats=True))), torch.randn(3, 6)
    for value in module.middle.state_dict().values():
        value.copy_(torch.rand(value.shape) + 1)
    before = module(z)
    only(check_module(module), "instance norm with running statistics", "mended", "middle.0", "batch norm")
    assert torch.equal(module(z), before)
    assert type(module.middle[0]) is nn.BatchNorm2d


class Keeping(Tiny):
    """What people write who want batch norm to go on as in training."""

    def train(self, mode: bool = True) -> Keeping:
        super().train(mode)
        self.middle.train()
        return self


def test_training_mode_is_left() -> None:
    module = ready(Keeping(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5))))
    only(check_module(module), "training mode", "mended", "middle.0, middle.1", "after eval()")
    assert not any(part.training for part in module.modules())
    assert rehearse(module, spec()).findings == []


def test_batch_norm_without_statistics_is_refused() -> None:
    found = check_module(tiny(nn.BatchNorm2d(4, track_running_stats=False)))
    only(found, "batch statistics", "refused", "middle", "InstanceNorm2d(affine=True)", "track_running_stats=True")


def norms(biases: tuple[float, float], means: tuple[float, float]) -> nn.Module:
    made = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    for norm, bias, mean in zip(made, biases, means, strict=True):
        nn.init.constant_(norm.bias, bias)
        norm.running_mean.fill_(mean)
    return tiny(made)


def test_statistics_that_an_average_left_behind() -> None:
    for faulty, where in ((norms((0.1, 0.2), (0, 0)), "middle.0, middle.1"), (norms((0, 0), (0.3, 0)), "middle.1")):
        only(check_module(faulty), "statistics never measured", "named", where, "EMA")
    assert check_module(norms((0, 0), (0, 0))) == []  # never trained
    assert check_module(norms((0.1, 0.2), (0.3, 0.4))) == []


@pytest.mark.parametrize(
    ("padding", "words"), [(1, "TensorRT's parser compute it"), (0, "two more layers in TensorRT")]
)
def test_output_padding_is_named(padding: int, words: str) -> None:
    layer = nn.ConvTranspose2d(4, 4, 3, 2, padding, output_padding=1)
    only(check_module(tiny(layer)), "output_padding", "named", "middle", words)


def test_advice_on_output_padding_is_right() -> None:
    """A larger kernel with zeros at its end is the same layer."""
    layer, x = nn.ConvTranspose2d(4, 4, 3, 2, 0, output_padding=1), torch.randn(2, 4, 4, 4)
    larger = nn.ConvTranspose2d(4, 4, 4, 2, 0)
    larger.weight.data, larger.bias = F.pad(layer.weight.data, (0, 1, 0, 1)), layer.bias
    torch.testing.assert_close(larger(x), layer(x))


class Drawn(nn.Module):
    """Noise as StyleGAN ports add it, in every way of drawing that can be an input."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.3 * torch.randn(x.shape[0], 1, 4, 4)
        x = x + x.new_empty(x.shape[0], 4, 1, 1).normal_(0.5, std=0.2)
        x = x * (1 + torch.rand_like(x))
        return x + torch.empty_like(x).uniform_(-1, 3) + torch.randn(1, 4, 4, 4)


def test_noise_becomes_inputs_and_stays_the_same_noise() -> None:
    module = tiny(Drawn())
    mended, wider, found = rehearse(module, spec())
    only(found, "random numbers", "mended", "middle", "the inputs noise_0 to noise_4 of the Spec", "register_buffer")
    shapes = [(1, 4, 4), (4, 1, 1), (4, 4, 4), (4, 4, 4), (4, 4, 4)]
    kinds = ["normal", "normal", "uniform", "uniform", "normal"]
    added = wider.inputs[1:]
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
    torch.testing.assert_close(mended(z, *noise), wanted, rtol=1e-6, atol=1e-6)


def test_a_latent_that_is_no_input_becomes_one() -> None:
    class Own(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(torch.randn(z.shape[0], 6))

    _, wider, found = rehearse(ready(Own(nn.Identity())), spec())
    assert wider.inputs[1] == ganrt.Latent("noise_0", (6,), range=(0.0, 1.0))
    assert [(f.level, f.where) for f in found] == [("mended", "the module itself"), ("named", "z")]


def test_names_of_noise_do_not_collide() -> None:
    class Two(Tiny):
        def forward(self, z: Tensor, noise_0: Tensor) -> Tensor:
            return super().forward(z + noise_0)

    _, wider, _ = rehearse(ready(Two(Drawn())), spec(ganrt.Latent("noise_0", (6,))))
    assert [item.name for item in wider.inputs] == ["z", *(f"noise_{k}" for k in range(6))]


def seeded(x: Tensor) -> Tensor:
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def numpy_noise(x: Tensor) -> Tensor:
    return x + torch.from_numpy(np.random.default_rng().normal(size=(1, 4, 1, 1)).astype(np.float32))


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (lambda x: F.dropout(x, 0.5), ("F.dropout with training=self.training",)),
        (lambda x: x + torch.randint(0, 9, x.shape), ("(randint)", "ganrt.Latent", "register_buffer")),
        (lambda x: x + torch.randn(4, 4), ("(randn)", "ganrt.Latent")),  # no side of the batch
        (lambda x: x + torch.randn(1, 4, 4, 4).view(4, 4, 4), ("(randn)",)),  # one for all, and used as such
        (seeded, ("(randn)", "register_buffer")),
    ],
)
def test_other_random_numbers_are_refused(middle: Any, words: tuple[str, ...]) -> None:
    only(rehearse(tiny(middle), spec()).findings, "random numbers", "refused", "middle", *words)


def test_random_numbers_of_others_are_refused() -> None:
    found = rehearse(tiny(numpy_noise), spec()).findings
    only(found, "random numbers", "refused", "forward", "two pictures of one input", "not PyTorch's")


def test_noise_of_the_size_of_a_picture_is_refused() -> None:
    free = ganrt.Spec("tiny", (ganrt.Image("x", "content", 1, (0.0, 1.0)),), ganrt.Output(1, (0.0, 1.0), None))
    found = rehearse(ready(Apply(lambda x: x + torch.randn_like(x))), free).findings
    only(found, "random numbers", "refused", "the module itself", "(randn_like) for pictures of any size", "a size")


def test_functional_batch_statistics_are_found_where_they_are() -> None:
    for middle in (
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: x - x.mean(0, keepdim=True),
        lambda x: x + x[:1],  # everybody gets the first sample
        lambda x: x + (x - x.mean(0)).square().mean().log() * 0,  # no number of one sample
    ):
        found = rehearse(tiny(nn.Sequential(nn.Identity(), Apply(middle))), spec()).findings
        only(found, "batch statistics", "refused", "middle.1", "other samples of its batch")


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
        (lambda x: x.reshape(2, 4, 4, 4), "middle", "fails with one: RuntimeError: shape '[2, 4, 4, 4]' is invalid"),
        (lambda x: x + torch.ones(2, 4, 4, 4), "middle", "makes (2, 1, 8, 8) of a batch of 1"),
        (lambda x: x[:1], "forward", "makes (1, 1, 8, 8) of a batch of 2"),
        (lambda x: x.view(1, 4, 4, 4), "middle", "takes a single sample, and fails with 2: RuntimeError"),
        (Modulated(), "middle", "fused_modconv=False"),
    ],
)
def test_a_frozen_batch_size_is_refused(middle: Any, where: str, words: str) -> None:
    only(rehearse(tiny(middle), spec()).findings, "frozen batch size", "refused", where, words)


@pytest.mark.parametrize(
    "freezes", [lambda x: torch.stack([row * 2 for row in x]), lambda x: x + torch.zeros(len(x), 4, 4, 4)]
)
def test_a_batch_that_only_tracing_freezes_is_refused(freezes: Callable[[Tensor], Tensor]) -> None:
    module = tiny(nn.Sequential(nn.ReLU(), Apply(freezes)))
    assert rehearse(module, spec()).findings == []
    found = in_graph(module)[1]
    only(found, "frozen batch size", "refused", "middle.1", "a batch of 2 only; a loop over the batch")


@pytest.mark.parametrize(
    ("freezes", "where", "words"),
    [
        (lambda x: x + torch.zeros(1, 1, int(x.shape[2]), 1), "1", "takes x with height 48 only"),
        (lambda x: x.reshape(-1, 1, x.shape[2], 64), "forward", "makes pictures with width 64 whatever"),
        (lambda x: F.interpolate(x, size=(40, 40)), "forward", "makes pictures with height 40 and width 40 whatever"),
    ],
)
def test_a_frozen_picture_size_is_refused(freezes: Callable[[Tensor], Tensor], where: str, words: str) -> None:
    free = ganrt.Spec("tiny", (ganrt.Image("x", "content", 1, (0.0, 1.0)),), ganrt.Output(1, (0.0, 1.0), None))
    module = ready(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), Apply(freezes)))
    assert rehearse(module, free).findings == []
    only(in_graph(module, free)[1], "frozen picture size", "refused", where, words)


class Drifting(nn.Module):
    """A spectral norm of somebody's own, which goes on estimating in evaluation mode."""

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
        (tiny(lambda x: x * 0), (), "inputs without influence", "z", "same whatever goes in"),
        (tiny(lambda x: x.half().float()), (), "precision", "middle", "computes in float16; leave autocast"),
        (ready(Apply(lambda z: (z, None))), (), "forward", "forward", "returns a tuple"),
        (ready(Apply(lambda z: {"x": z})), (), "forward", "forward", "returns a dict"),
    ],
)
def test_what_else_is_refused(module: nn.Module, inputs: Any, rule: str, where: str, words: str) -> None:
    only(rehearse(module, spec(*inputs)).findings, rule, "refused", where, words)


@pytest.mark.parametrize(
    "unused",
    [ganrt.Latent("y", (2,)), ganrt.Label("y", 5), ganrt.Label("y", 5, "one_hot"), ganrt.Scalar("y", (0.0, 1.0), 1.0)],
)
def test_an_input_without_influence_is_named(unused: Any) -> None:
    class Two(Tiny):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return super().forward(z)

    class Using(Tiny):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return super().forward(z + y.reshape(len(y), -1).float().mean(1, keepdim=True) ** 2)

    only(rehearse(ready(Two(nn.Identity())), spec(unused)).findings, "inputs without influence", "named", "y")
    if unused != ganrt.Label("y", 5, "one_hot"):  # whose mean is the same for all classes
        assert rehearse(ready(Using(nn.Identity())), spec(unused)).findings == []


CLEAN: dict[str, dict[str, Any]] = {
    "dcgan": {"size": 16, "width": 4, "latent": 6, "channels": 1},
    "resnet": {"size": 32, "width": 2},
    "progan": {"widths": (8, 4, 4), "latent": 6},
    "transformer_net": {"width": 4},
}


@pytest.mark.parametrize("name", CLEAN)
def test_families_are_clean(name: str) -> None:
    family = get_family(name)
    config = family.configure(CLEAN[name])
    module, made = ready(family.generator(config)), family.spec(config)
    assert check_module(module) == []
    same, unchanged, found = rehearse(module, made)
    assert (found, unchanged) == ([], made)
    assert same is module


def test_looking_leaves_no_trace() -> None:
    """Hooks and the state of the random generator are as they were."""
    module, state = tiny(nn.BatchNorm2d(4)), torch.get_rng_state()
    rehearse(module, spec())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_one_picture_of_several_results_is_taken() -> None:
    class Several(Tiny):
        def forward(self, z: Tensor) -> Any:
            return z, super().forward(z + 0.1 * torch.randn_like(z)), None

    module = ready(Several(Drifting()))
    found = rehearse(module, spec()).findings
    assert [(f.rule, f.level, f.where) for f in found] == [
        ("state", "refused", "middle.u"),
        ("forward", "mended", "forward"),
        ("random numbers", "mended", "the module itself"),
    ]
    module.middle = Modulated()
    mended, wider, found = rehearse(module, spec())
    assert found[-1].where == "middle"  # wrapped twice, and named as the user knows it
    module.middle = nn.Identity()
    mended, wider, found = rehearse(module, spec())
    assert "item 1 is taken" in found[0].text
    z, noise = torch.randn(3, 6), torch.randn(3, 6)
    assert torch.equal(mended(z, noise), Tiny.forward(module, z + 0.1 * noise))
    assert [item.name for item in wider.inputs] == ["z", "noise_0"]


def test_values_that_python_reads_are_named() -> None:
    module = tiny(lambda x: x * 2 if x.abs().max() > 100 else x)
    only(rehearse(module, spec()).findings, "values read in Python", "named", "middle", "condition", "torch.where")


class OwnNorm(nn.Conv2d):
    """A spectral norm as training code has it that does not use PyTorch's."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        u = flat @ F.normalize(flat.sum(0), dim=0)
        return F.conv2d(x, self.weight / u.norm(), self.bias, padding=1)


def test_weights_that_the_graph_would_compute_become_plain_ones() -> None:
    module = tiny(nn.Sequential(OwnNorm(4, 40, 3), OwnNorm(40, 40, 3), OwnNorm(40, 4, 3)))
    model, found = in_graph(module)
    # The exporter does the small ones by itself.
    only(found, "computed weights", "mended", "middle.1", "computed once")
    assert [node.op_type for node in model.graph if node.op_type != "Reshape"] == [
        "Gemm",
        *["Conv"] * 3,
        "ConvTranspose",
        "Tanh",
    ]
    z = torch.randn(3, 6)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"z": z.numpy()})[0], module(z).numpy(), atol=1e-5)


def test_places_stay_short() -> None:
    assert places(["", "a"]) == "the module itself, a"
    assert places([f"b.{k}" for k in range(9)]) == "b.0, b.1, b.2 and 6 more"


def test_all_refusals_are_told_at_once() -> None:
    findings = [Finding("r", f"m{k}", "is wrong", level) for k, level in enumerate(("refused", "named", "refused"))]
    told: list[str] = []
    with pytest.raises(RequestError, match=r"^faces:make was not exported; .*\n  m0: is wrong\n  m2: is wrong$"):
        settle(findings, "faces:make", told.append)
    assert told == ["named: m1: is wrong"]


FACTORIES = """
import torch, ganrt
from torch import nn
SPEC = ganrt.Spec("tiny", (ganrt.Latent("z", (6,)),), ganrt.Output(1, (-1.0, 1.0), (8, 8)))
class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 64))
        self.norm = nn.InstanceNorm2d(4, track_running_stats=True)
        self.last = nn.ConvTranspose2d(4, 1, 2, 2)
    def forward(self, z):
        x = self.norm(self.first(z).reshape(-1, 4, 4, 4))
        return torch.tanh(self.last(x + torch.randn(x.shape[0], 1, 4, 4)))
def noisy():
    return Noisy(), SPEC
def refused():
    module = Noisy()
    module.norm = nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False), nn.AlphaDropout())
    module.norm[1].forward = nn.functional.dropout
    return module, SPEC
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"lint_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_mended_generator_is_exported_and_proven(factories: str, tmp_path: Path) -> None:
    out = tmp_path / "noisy.ganrt"
    told: list[str] = []
    bundle: Bundle = export(f"{factories}:noisy", out, progress=told.append)
    assert [item.name for item in bundle.spec.inputs] == ["z", "noise_0"]
    kinds = ["computed weights", "instance norm with running statistics", "random numbers"]
    assert [finding["rule"] for finding in bundle.provenance["lint"]] == kinds
    lines = [f"mended: {finding['where']}: {finding['text']}" for finding in bundle.provenance["lint"]]
    assert [line for line in told if line.startswith("mended")] == lines
    shown = CliRunner().invoke(main, ["info", str(out)]).stdout
    assert all(f"  {line}\n" in shown for line in lines)
    with ganrt.load(out, "onnxruntime") as generator:
        images = generator.sample(4, seed=3)
        assert np.array_equal(images[1:], generator.sample(3, seed=3, start=1))
        z = np.zeros((2, 6), np.float32)
        noise = np.random.default_rng(0).normal(size=(2, 1, 4, 4)).astype(np.float32)
        assert np.ptp(generator(z=z, noise_0=noise), axis=0).max() > 0.01


def test_checkpoints_of_families_are_looked_at(tmp_path: Path) -> None:
    module = build_generator("dcgan", CLEAN["dcgan"])
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.bias)
    torch.save(module.state_dict(), tmp_path / "ema.pth")
    bundle = export(str(tmp_path / "ema.pth"), tmp_path / "ema.ganrt")
    assert [finding["rule"] for finding in bundle.provenance["lint"]] == ["statistics never measured"]


def test_refusals_end_the_command(factories: str, tmp_path: Path) -> None:
    out = tmp_path / "no.ganrt"
    done = CliRunner().invoke(main, ["export", f"{factories}:refused", "--out", str(out)])
    assert done.exit_code == 2
    assert "mended: first: spectral norm was folded into plain weights" in done.stderr
    for line in ("norm.0: batch norm without running statistics", "norm.1: drops values at random"):
        assert f"\n  {line}" in done.stderr
    assert "draws random" not in done.stderr  # the noise would have become an input
    assert not out.exists()


def test_info_of_a_manifest_that_says_something_else(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.provenance["lint"] == []
    for lint, shown in ((7, ""), ([3, {"level": "named"}], "  named: ?: ?\n")):
        made = Bundle(bundle.folder, bundle.spec, bundle.variants, bundle.files, bundle.model, {"lint": lint})
        from ganrt.about import print_about

        runner = CliRunner()
        with runner.isolation() as (out, *_):
            print_about(made, str(tmp_path))
            assert shown in out.getvalue().decode()
