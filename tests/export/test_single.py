"""Networks whose batch size is fixed at 1: exported with batch=1, and run one image at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ganrt
from ganrt.errors import BundleError, RequestError
from ganrt.export import export
from ganrt.models import build_generator
from ganrt.spec import Latent, Output, Spec

SPEC = Spec("frozen", (Latent("z", (6,)),), Output(3, (-1.0, 1.0), (8, 8)))


class Frozen(nn.Module):
    """A convolution with the weights of each sample, in a loop over the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.start, self.style = nn.Linear(6, 4 * 16), nn.Linear(6, 4)
        self.weight = nn.Parameter(torch.randn(3, 4, 3, 3) / 3)

    def forward(self, z: Tensor) -> Tensor:
        grid = self.start(z).view(len(z), 4, 4, 4)
        grid = nn.functional.interpolate(grid, scale_factor=2.0)
        styles = self.style(z)
        made = []
        for k in range(int(z.shape[0])):
            weight = self.weight * styles[k][None, :, None, None]
            made.append(nn.functional.conv2d(grid[k : k + 1], weight, padding=1))
        return torch.tanh(torch.cat(made))


def test_the_refusal_names_the_way(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="or export it for one image at a time: --batch 1"):
        export(Frozen().eval(), tmp_path / "x.ganrt", spec=SPEC)


def test_images_are_computed_one_at_a_time(tmp_path: Path) -> None:
    module = Frozen().eval()
    bundle = export(module, tmp_path / "x.ganrt", spec=SPEC, batch=1)
    assert bundle.spec.single
    z = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(z)).numpy()
    proven = {proof.backend for proof in bundle.variants["fp32"].proofs if proof.passed}
    assert {"onnxruntime", "openvino"} <= proven
    for backend in sorted(proven):
        with ganrt.load(bundle.folder, backend) as generator:
            assert generator.session.batch_sizes == (1,)
            np.testing.assert_allclose(generator(z=z), wanted, atol=1e-4)
            assert generator.sample(3, seed=7).shape == (3, 8, 8, 3)


def test_other_batches_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="batch is 4; it is 1, or left out for any batch size"):
        export(Frozen().eval(), tmp_path / "x.ganrt", spec=SPEC, batch=4)
    state = tmp_path / "mlp.pth"
    torch.save(build_generator("mlp", {"size": 16}).state_dict(), state)
    with pytest.raises(RequestError, match="batch is 1, and mlp takes any batch size: leave it out"):
        export(str(state), tmp_path / "x.ganrt", batch=1)


def test_the_spec_tells_it_in_json() -> None:
    single = Spec(SPEC.family, SPEC.inputs, SPEC.output, single=True)
    assert Spec.from_dict(single.to_dict()) == single != SPEC
    assert "single" not in SPEC.to_dict() and Spec.from_dict(SPEC.to_dict()) == SPEC
    with pytest.raises(BundleError, match="single is 2; it must be true or false"):
        Spec.from_dict({**SPEC.to_dict(), "single": 2})
