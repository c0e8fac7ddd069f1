"""`export` of a module in memory: what it makes, what it leaves unchanged, and what it rejects."""

from __future__ import annotations

import sys
import threading
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import openvino
import pytest
import torch
from fakes.gpu import OURS, Start, start
from torch import Tensor, nn

import ganrt
from ganrt.errors import CheckpointError, MachineError, MissingLibraryError, RequestError
from ganrt.export import export
from ganrt.export.sources import open_source

__all__ = ["start"]
SPEC = ganrt.Spec("tiny", (ganrt.Latent("z", (6,)),), ganrt.Output(1, (-1.0, 1.0), (8, 8)))


class Tiny(nn.Module):
    """z (N, 6) -> images (N, 1, 8, 8), with the layers that conversion and linting would change in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Linear(6, 64), nn.BatchNorm2d(4)
        self.last = nn.utils.spectral_norm(nn.ConvTranspose2d(4, 1, 2, 2))

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.last(self.norm(self.first(z).reshape(-1, 4, 4, 4))))


def trained() -> Tiny:
    """After two steps in training mode, when the weight under spectral norm is a tensor with a history."""
    module = Tiny()
    for _ in range(2):
        module(torch.randn(8, 6)).square().mean().backward()
    return module


def state_of(module: nn.Module) -> dict[str, Any]:
    """Everything of a module that an export might change."""
    return {
        "tensors": {
            name: (id(value), value.detach().clone()) for name, value in module.state_dict(keep_vars=True).items()
        },
        "gradients": {name: (p.requires_grad, p.grad is not None) for name, p in module.named_parameters()},
        "modes": [part.training for part in module.modules()],
        "types": {name: (value.dtype, value.device) for name, value in module.state_dict().items()},
        "hooks": [len(part._forward_pre_hooks) + len(part._forward_hooks) for part in module.modules()],
        "parts": [id(part) for part in module.modules()],
    }


def test_the_callers_module_stays_as_it_is(tmp_path: Path) -> None:
    module = trained()
    before, numbers = state_of(module), torch.get_rng_state()
    export(module, tmp_path / "tiny.ganrt", spec=SPEC)
    after = state_of(module)
    tensors, unchanged = after.pop("tensors"), before.pop("tensors")
    assert after == before
    for name, (identity, value) in unchanged.items():
        assert tensors[name][0] == identity and torch.equal(tensors[name][1], value), name
    assert torch.equal(torch.get_rng_state(), numbers)


def test_the_bundle_makes_the_modules_images(tmp_path: Path) -> None:
    module = trained()
    bundle = export(module, str(tmp_path / "tiny.ganrt"), spec=SPEC)
    z = torch.randn(5, 6)
    with ganrt.load(bundle.folder) as generator, torch.no_grad():
        assert np.abs(generator(z=z.numpy()) - module.eval()(z).numpy()).max() < 1e-5


def test_the_provenance_names_the_class_and_a_digest(tmp_path: Path) -> None:
    first = open_source(Tiny(), spec=SPEC).origin
    assert first["name"] == "Tiny in memory" and len(first["sha256"]) == 64 and set(first) == {"name", "sha256"}
    assert open_source(Tiny(), spec=SPEC).origin == first
    other = Tiny()
    with torch.no_grad():
        other.first.bias[0] += 1
    assert open_source(other, spec=SPEC).origin["sha256"] != first["sha256"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_become_float32(dtype: torch.dtype) -> None:
    module = Tiny().to(dtype)
    copied = open_source(module, spec=SPEC).module
    assert {value.dtype for value in copied.parameters()} == {torch.float32}
    assert {value.dtype for value in module.parameters()} == {dtype}


def test_wrappers_for_training_are_unwrapped() -> None:
    module = Tiny()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.compile imports what torch deprecates
        compiled = cast(nn.Module, torch.compile(module))
    for wrapper in (nn.DataParallel(module), nn.DataParallel(nn.DataParallel(module)), compiled):
        assert open_source(wrapper, spec=SPEC).origin["name"] == "Tiny in memory"


class Locked(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        return torch.jit.script(nn.Linear(6, 1))


def diverged() -> nn.Module:
    module = Tiny()
    with torch.no_grad():
        module.first.weight[0, 0] = torch.inf
    return module


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (Tiny(), {}, RequestError, r"Tiny in memory came with no spec; .* spec=ganrt\.Spec"),
        (Tiny(), {"spec": {"z": 6}}, RequestError, "came with a dict as its spec"),
        (Tiny(), {"spec": SPEC, "config": {"size": 8}}, RequestError, "config= is for checkpoints and factories"),
        ("x.pth", {"spec": SPEC}, RequestError, r"x\.pth brings its own Spec, so leave spec= out"),
        (Path("x.pth"), {}, RequestError, r"x\.pth is neither a RUN folder"),
        (Tiny().state_dict(), {"spec": SPEC}, RequestError, "source is a OrderedDict; pass a path"),
        (Tiny, {"spec": SPEC}, RequestError, r"source is a type; pass .* a torch\.nn\.Module"),
        (
            scripted(),
            {"spec": SPEC},
            RequestError,
            "is a TorchScript module; pass the module that it was made of",
        ),
        (
            Locked(),
            {"spec": SPEC},
            RequestError,
            r"Locked in memory cannot be copied .*; pass 'package\.module:factory'",
        ),
        (
            diverged(),
            {"spec": SPEC},
            CheckpointError,
            r"Tiny in memory: first\.weight holds values that are not finite",
        ),
    ],
)
def test_sources_that_are_rejected(
    source: Any, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        export(source, tmp_path / "no.ganrt", **options)
    assert list(tmp_path.iterdir()) == []


def test_complex_weights_stay_complex() -> None:
    class Filtered(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.turn = nn.Parameter(torch.tensor([1j]))

    module = Filtered()
    assert torch.equal(dict(open_source(module, spec=SPEC).module.named_parameters())["turn"], torch.tensor([1j]))
    module.turn.data = torch.tensor([complex(0, float("nan"))])
    with pytest.raises(CheckpointError, match="turn holds values that are not finite"):
        open_source(module, spec=SPEC)


def test_weights_without_a_shape_are_named() -> None:
    module = nn.Sequential(nn.Identity(), nn.LazyConv2d(3, 3))
    with pytest.raises(CheckpointError, match=r"Sequential in memory: 1\.weight has no shape yet, as in LazyConv2d"):
        open_source(module, spec=SPEC)


def test_one_call_makes_a_bundle_and_its_engines(start: Start, tmp_path: Path) -> None:
    machine = start()
    lines: list[str] = []
    options = machine.engines.EngineOptions(batches=(2,))
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    bundle = export(
        *(Tiny(), tmp_path / "tiny.ganrt"),
        spec=SPEC,
        precisions=("fp16", "bf16") if has_bf16 else ("fp16",),
        engine=options,
        progress=lines.append,
    )
    assert machine.trt.builds == 1 and "building an engine of fp16-traced; this takes minutes" in lines
    proofs = {name: [p.backend for p in variant.proofs] for name, variant in bundle.variants.items()}
    assert "tensorrt" in proofs["fp16-traced"] and "tensorrt" not in proofs["fp32"]
    with ganrt.load(bundle.folder, "tensorrt", precision="fp16") as generator:
        assert generator.sample(2, seed=1).shape == (2, 8, 8, 1)


def test_an_engine_that_cannot_be_built_is_known_first(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(precision: str, error: type[Exception], message: str) -> None:
        lines: list[str] = []
        with pytest.raises(error, match=message):
            export(Tiny(), tmp_path / "no.ganrt", spec=SPEC, precisions=precision, engine=True, progress=lines.append)
        assert lines == [] and list(tmp_path.iterdir()) == []

    for module in OURS:
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    fail("fp32", MissingLibraryError, r"pip install .*ganrt\[tensorrt\]")
    start()
    fail("bf16", RequestError, "engines have no bf16; choose fp32, fp16 or int8")
    monkeypatch.setattr("ganrt.machine._NVIDIA_NODES", ())
    fail("fp32", MachineError, "this machine has no NVIDIA GPU; leave engine= out")
