"""Checkpoints of well-known projects, exported as they are, make the pictures that the projects' own code made."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers.golden_cases import GoldenCase, load_golden_case

import ganrt
from ganrt.export import export
from ganrt.export.sources import open_source

BACKENDS = ["onnxruntime", "openvino", "pytorch"]
_SHARE = 1e-4
"""Of the range of the original's output: how far others may be from it."""


class Row(NamedTuple):
    """What a golden case is exported as."""

    family: str
    config: Mapping[str, Any] = {}
    """What a checkpoint does not tell."""
    inputs: Mapping[str, Any] = {}
    """Inputs that the case does not hold, such as a truncation."""
    names: Mapping[str, str] = {}
    """Name of an input of the case -> its name in the Spec."""
    border: int = 0
    """Pixels on each side of the made pictures that the case's output lacks, because its project leaves the padding to
    those who call the network."""

    def read_inputs(self, case: GoldenCase) -> dict[str, np.ndarray]:
        """All inputs by their names in the Spec."""
        return {**{self.names.get(name, name): rows for name, rows in case.inputs.items()}, **self.inputs}

    def check_output(self, found: np.ndarray, case: GoldenCase) -> None:
        """Assert that pictures are the project's."""
        height, width = found.shape[2:]
        inside = found[:, :, self.border : height - self.border, self.border : width - self.border]
        assert inside.shape == case.output.shape
        assert np.abs(inside - case.output).max() < _SHARE * np.ptp(case.output)


LOW_RES = {"image": "low_res"}

CASES: dict[str, Row] = {
    "pix2pix_unet128": Row("pix2pix"),
    "cyclegan_resnet6": Row("cyclegan"),
    "cyclegan_resnet6_batch": Row("cyclegan"),
    "cut_resnet9": Row("cyclegan"),
    "animegan2": Row("animegan"),
    "stylegan2": Row("stylegan2", inputs={"truncation": np.full(3, 1.0, np.float32)}),
    "stylegan2_cond": Row("stylegan2", {"noise": "none", "cutoff": "4"}, {"truncation": np.full(3, 0.7, np.float32)}),
    "rosinality_stylegan2_32": Row("stylegan2", inputs={"truncation": np.full(3, 0.7, np.float32)}),
    "stylegan3_t": Row("stylegan3", inputs={"truncation": np.ones(2, np.float32)}),
    "stylegan3_r": Row("stylegan3", inputs={"truncation": np.full(2, 0.7, np.float32)}),
    "r3gan_32": Row("r3gan"),
    "spade_normal": Row("spade", {"crop_size": "64"}),
    "realcugan_2x": Row("upcunet", names=LOW_RES),
    "realcugan_3x_pro": Row("upcunet", names=LOW_RES),
    "realcugan_4x": Row("upcunet", names=LOW_RES),
    "waifu2x_upcunet": Row("upcunet", {"tile": (68, 64)}, names=LOW_RES),
    "waifu2x_upconv7": Row("upconv7", names=LOW_RES, border=14),
    "span_x4": Row("span", names=LOW_RES),
    "gfpgan_clean_64": Row("gfpgan", names={"image": "picture"}),
    "lama_ffc": Row("lama", names={"image": "picture"}),
}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], GoldenCase]:
    folder, made = tmp_path_factory.mktemp("golden"), dict[str, GoldenCase]()
    return lambda name: made.setdefault(name, load_golden_case(name, folder))


@pytest.mark.parametrize("name", CASES)
def test_the_module_makes_the_projects_own_pictures(load: Callable[[str], GoldenCase], name: str) -> None:
    row, case = CASES[name], load(name)
    source = open_source(str(case.checkpoint), row.config)
    assert source.model is not None and source.model["family"] == row.family
    given = row.read_inputs(case)
    assert list(given) == [item.name for item in source.spec.inputs]
    with torch.inference_mode():
        found = source.module(*(torch.from_numpy(value) for value in given.values())).numpy()
    row.check_output(found, case)


@pytest.mark.parametrize("name", CASES)
def test_images_do_not_depend_on_their_batch(load: Callable[[str], GoldenCase], name: str) -> None:
    row, case = CASES[name], load(name)
    """In float64: what rounding changes is far below what another sample would."""
    module = open_source(str(case.checkpoint), row.config).module.double()
    given = [torch.from_numpy(value) for value in row.read_inputs(case).values()]
    given = [value.double() if value.is_floating_point() else value for value in given]
    with torch.inference_mode():
        others = [0.5 * (value.flip(-1) if value.ndim > 1 else value) for value in given]
        together = module(*map(torch.cat, zip(given, others, strict=True)))
        alone = torch.cat([module(*(value[k : k + 1] for value in given)) for k in range(len(case.output))])
    assert (together[: len(alone)] - alone).abs().max() < 1e-4 * _SHARE * np.ptp(case.output)
    assert (together[len(alone) :] - alone).abs().max() > _SHARE * np.ptp(case.output)


@pytest.mark.parametrize("name", CASES)
def test_a_bundle_makes_them_on_every_backend(load: Callable[[str], GoldenCase], name: str, tmp_path: Path) -> None:
    row, case = CASES[name], load(name)
    export(str(case.checkpoint), tmp_path / "golden.ganrt", config=row.config, backends="onnxruntime")
    for backend in BACKENDS:
        with ganrt.load(tmp_path / "golden.ganrt", backend, unproven=True) as generator:
            row.check_output(generator(**row.read_inputs(case)), case)
