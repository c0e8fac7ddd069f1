"""Modules that return several things by name: the one that the Spec's output is named after is the image."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_generators import LATENT, Apply, Tiny, only, ready
from torch import Tensor, nn

import ganrt
from ganrt.errors import RequestError
from ganrt.export import export
from ganrt.export.lint.dry_run import check_dry_run

MODULE = ready(Tiny(nn.Identity()))


class OutputObject(collections.OrderedDict):  # type: ignore[type-arg]
    """As diffusers and transformers return them."""

    def __init__(self, sample: Tensor) -> None:
        super().__init__(sample=sample)
        self.sample = sample


@dataclass
class Made:
    sample: Tensor
    mask: Tensor | None = None


Pair = collections.namedtuple("Pair", ["mask", "sample"])
RESULTS: dict[str, Any] = {
    "dict": lambda x: {"mask": x[:, :1] * 0, "sample": x, 3: x},
    "output object": lambda x: OutputObject(x),
    "dataclass": lambda x: Made(x),
    "named tuple": lambda x: Pair(1 - x, x),  # of which both could be the image
}


class Returning(nn.Module):
    def __init__(self, result: Any, inner: nn.Module = MODULE) -> None:
        super().__init__()
        self.inner, self.result = inner, Apply(result)

    def forward(self, z: Tensor) -> Any:
        return self.result(self.inner(z))


def spec_of(name: str) -> ganrt.Spec:
    return ganrt.Spec("tiny", (LATENT,), ganrt.Output(1, (-1.0, 1.0), (8, 8), name=name))


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_the_one_of_the_output_s_name_is_taken(result: Any) -> None:
    module, _, findings = check_dry_run(ready(Returning(result)), spec_of("sample"))
    only(findings, "forward", "fixed", "forward", "sample (2, 1, 8, 8)", "; sample is taken")
    z = torch.randn(3, 6)
    assert torch.equal(module(z), MODULE(z))


def test_what_is_returned_is_listed() -> None:
    _, _, findings = check_dry_run(ready(Returning(RESULTS["dict"])), spec_of("sample"))
    assert findings[0].text == "returns a dict with mask (2, 1, 8, 8), sample (2, 1, 8, 8); sample is taken"


@pytest.mark.parametrize("result", [Made, RESULTS["dict"], RESULTS["named tuple"]], ids=["dataclass", "dict", "tuple"])
def test_without_that_name_the_names_are_told(result: Any) -> None:
    _, _, findings = check_dry_run(ready(Returning(result)), spec_of("image"))
    first = "sample" if result is Made else "mask"
    only(
        findings,
        "forward",
        "rejected",
        "forward",
        f"with {'mask' if result is not Made else 'sample'} (2, 1, 8, 8), ",
        ", and none is a tensor named 'image', as the output of the Spec is; name it in the Spec, as in ",
        f'Output(..., name="{first}"), or wrap the module in one that returns the pictures alone',
    )


def test_what_is_no_tensor_is_no_image() -> None:
    module = ready(Returning(lambda x: {"image": [x], "size": 8}))
    _, _, findings = check_dry_run(module, spec_of("image"))
    only(
        findings,
        "forward",
        "rejected",
        "forward",
        "returns a dict with image, size, and none is a tensor named 'image', as the output of the Spec is; wrap the",
    )


@pytest.mark.parametrize("result", [RESULTS["dict"], RESULTS["named tuple"]], ids=["dict", "tuple"])
def test_a_network_of_one_image_at_a_time_returns_it_by_name(tmp_path: Path, result: Any) -> None:
    class Frozen(nn.Module):
        def forward(self, z: Tensor) -> Any:
            return MODULE(z.reshape(1, 6))

    module = Returning(result, Frozen())
    bundle = export(module, tmp_path / "x.ganrt", spec=spec_of("sample"), batch=1, backends="onnxruntime")
    z = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    with ganrt.load(bundle) as generator, torch.no_grad():
        np.testing.assert_allclose(generator(z=z), MODULE(torch.from_numpy(z)), atol=1e-5)


def test_a_module_that_returns_a_dict_is_exported_or_told(tmp_path: Path) -> None:
    module = Returning(RESULTS["output object"])
    with pytest.raises(RequestError, match=r'returns a OutputObject with sample .*Output\(..., name="sample"\)'):
        export(module, tmp_path / "x.ganrt", spec=spec_of("image"), backends="onnxruntime")
    bundle = export(module, tmp_path / "x.ganrt", spec=spec_of("sample"), backends="onnxruntime")
    with ganrt.load(bundle) as generator:
        assert generator.sample(3).shape == (3, 8, 8, 1)
