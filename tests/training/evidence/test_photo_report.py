"""Figures of networks trained on photographs, on tiny runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from ganrt import images
from ganrt.errors import RequestError
from ganrt.training import TrainingOptions, train
from ganrt.training.evidence import photo_report
from ganrt.training.run import RunRecord

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_report, "_COUNT", 4)
    monkeypatch.setattr(photo_report, "_SIDE", 64)


def run(family: str, folder: Path, **options: object) -> RunRecord:
    made = TrainingOptions(family, steps=1, batch=1, **options)  # type: ignore[arg-type]
    return train(made, folder / f"{family}-{len(list(folder.iterdir()))}", console=QUIET)


def test_the_mean_of_the_border_fills_the_hole() -> None:
    crop = torch.zeros(1, 3, 16, 16)
    crop[..., :8] = 1
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    filled = photo_report.fill_with_border_mean(crop, mask)
    assert torch.equal(filled * (1 - mask), crop * (1 - mask))
    torch.testing.assert_close(filled[..., 5, 5], torch.full((1, 3), 0.5))


def test_a_model_that_changes_nothing_gains_nothing(tmp_path: Path) -> None:
    """A residual model after one tiny step is the coarse colour still."""
    config = {"features": "edges,colour", "width": 1, "blocks": 0, "residual": True, "extract": True}
    figures, sheet = photo_report.measure(run("synthesis", tmp_path, config=config, generator_lr=1e-9))
    assert figures["gain"] == pytest.approx(0, abs=0.01)
    assert figures["colour_alone"]["l1"] == pytest.approx(figures["made"]["l1"], rel=0.01)
    assert sheet.dtype == np.uint8 and sheet.shape[1] == 4 * 66 + 2


def test_the_smooth_fill_is_what_an_untrained_inpainting_model_makes(tmp_path: Path) -> None:
    config = {"features": "colour,mask", "width": 1, "blocks": 0, "residual": True, "extract": True}
    figures, _ = photo_report.measure(run("synthesis", tmp_path, config=config, generator_lr=1e-9))
    assert figures["made"]["psnr"] == pytest.approx(figures["smooth_fill"]["psnr"], abs=0.1)
    assert figures["border_mean"]["psnr"] < figures["smooth_fill"]["psnr"]


def test_figures_of_several_runs_are_kept_in_one_file(tmp_path: Path) -> None:
    recipe = {"crop": 32, "style_size": 32}
    style = run("transformer_net", tmp_path, config={"width": 1, "blocks": 1}, recipe=recipe, log_every=1)
    out = tmp_path / "out"
    out.mkdir()
    (out / "photos.json").write_text('{"before": {}}')
    result = CliRunner().invoke(photo_report.main, [str(style.path), "--out", str(out)], catch_exceptions=False)
    table = json.loads((out / "photos.json").read_text())
    assert result.exit_code == 0 and set(table) == {"before", style.path.name}
    figures = table[style.path.name]
    assert figures["training"]["fall"] == pytest.approx(
        figures["training"]["style_before"] / figures["training"]["style_after"]
    )
    assert -1 <= figures["ssim"] <= 1 and -1 <= figures["edge_correlation"] <= 1
    for name in ("", "-losses"):
        assert images.read_picture(out / f"photos-{style.path.name}{name}.png", 3).std() > 1


def test_there_are_no_figures_of_other_families(tmp_path: Path) -> None:
    record = run("mlp", tmp_path, config={"size": 16, "channels": 1, "latent": 2})
    with pytest.raises(RequestError, match="is a run of mlp; there are figures for transformer_net, adain, synthesis"):
        photo_report.measure(record)
