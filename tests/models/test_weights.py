"""The weights that are installed with ganrt: what they are, their license, and that they make ncnn's picture."""

import fnmatch
import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

import ganrt
from ganrt import images
from ganrt.agreement import compare
from ganrt.errors import RequestError
from ganrt.export.sources import recognize
from ganrt.export.tracing import run_original, trace
from ganrt.models import get_family
from ganrt.models.unpickle import read_state
from ganrt.weights import find_weights

ROOT = Path(__file__).parents[2]
NAME = "realesr-animevideov3-fp16"
EXACT = 130.0
"""Lowest PSNR in dB against ncnn, which sums in another order. It was 142.5 dB for both, and 144.4 dB in float64. The
published float32 biases, not rounded to float16, give a picture about 84 dB away."""


@pytest.fixture
def case() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An image and the output that ncnn computed, float32 NCHW (tests/data/README.md)."""
    with np.load(ROOT / "tests/data/ncnn/realesr-animevideov3.npz") as arrays:
        return images.from_uint8(arrays["picture"][None], (0.0, 1.0)), arrays["output"][None]


def test_the_family_is_recognized_and_nothing_but_the_published_network_is_in_the_file() -> None:
    state = read_state(find_weights(NAME))
    found = recognize(state, find_weights(NAME))
    assert (found.family.name, found.config) == ("srvgg", get_family("srvgg").configure({}))
    assert {tensor.dtype for tensor in load_file(find_weights(NAME)).values()} == {torch.float16}


def test_pytorch_and_onnxruntime_make_the_picture_of_ncnn(
    case: tuple[NDArray[np.float32], NDArray[np.float32]], tmp_path: Path
) -> None:
    """The picture is higher than wide, and its size is not the one that was traced."""
    given, expected = case
    found = recognize(read_state(find_weights(NAME)), find_weights(NAME))
    module = found.family.generator(found.config).eval().requires_grad_(False)
    module.load_state_dict(found.state)
    assert compare(run_original(module, {"low_res": given}), expected, (0.0, 1.0)).psnr.min() >= EXACT
    ir.save(trace(module, found.family.spec(found.config)), tmp_path / "model.onnx")
    with ganrt.load(tmp_path / "model.onnx", "onnxruntime", unproven=True) as generator:
        assert compare(generator(low_res=given), expected, (0.0, 1.0)).psnr.min() >= EXACT


def test_unknown_weights_are_rejected_with_the_names_there_are() -> None:
    with pytest.raises(RequestError, match=rf"no weights '\.\./x'; choose one of {NAME}$"):
        find_weights("../x")


def test_every_file_of_the_weights_is_installed_and_their_license_is_declared() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    data = re.findall(r'"([^"]+)"', re.findall(r'^"ganrt\.weights" = \[(.+)\]$', project, re.MULTILINE)[0])
    files = {path.name for path in (ROOT / "ganrt/weights").iterdir() if path.is_file() and path.suffix != ".py"}
    assert files and {name for name in files if not any(fnmatch.fnmatch(name, glob) for glob in data)} == set()
    assert '"ganrt/weights/LICENSE"' in project and "Copyright (c) 2021, Xintao Wang" in (
        ROOT / "ganrt/weights/LICENSE"
    ).read_text(encoding="utf-8")
