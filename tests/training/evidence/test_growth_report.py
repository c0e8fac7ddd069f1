"""Jumps of a loss that are known, and the command on a tiny run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from ganrt import images
from ganrt.errors import RequestError
from ganrt.training import TrainingOptions, train
from ganrt.training.evidence import growth_report
from ganrt.training.growth import Growth

GROWTH = Growth(last=2, fade=400, hold=400)
STEPS = np.arange(10, 3001, 10)


def loss_with(jump_at: int, height: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=len(STEPS))
    return noise + height * (jump_at < STEPS)


def test_a_jump_is_found_where_it_is() -> None:
    found, usual = growth_report.find_jumps(GROWTH, STEPS, loss_with(1200, 5.0))
    assert [(jump.what, jump.step) for jump in found] == [
        ("stage 1 begins", 400),
        ("stage 2 begins", 1200),
        ("stage 1 is whole", 800),
        ("stage 2 is whole", 1600),
    ]
    assert [jump.step for jump in found if not jump.ordinary and jump.deviations > 3] == [1200]
    assert found[1].change == pytest.approx(5, abs=1.5) and found[1].deviations == pytest.approx(5, abs=2)
    assert 0.3 < usual < 1.5  # two means of 10 differ by 0.45 standard deviations


def test_a_steady_loss_has_no_jump() -> None:
    found, usual = growth_report.find_jumps(GROWTH, STEPS, loss_with(0, 0.0))
    assert max(jump.deviations for jump in found) < 2 * usual
    found, _ = growth_report.find_jumps(Growth(last=1, fade=0, hold=400), STEPS, loss_with(0, 0.0))
    assert [jump.what for jump in found] == ["stage 1 begins"]


def test_a_run_that_is_too_short_has_no_yardstick() -> None:
    with pytest.raises(RequestError, match="no step of the run is 100 steps away from every change; train it longer"):
        growth_report.find_jumps(Growth(last=1, fade=50, hold=50), STEPS[:20], loss_with(0, 0.0)[:20])


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth_report, "_WINDOW", 2)
    config = {"widths": (2, 2, 2), "channels": 1, "latent": 3}
    options = TrainingOptions(
        "progan", config, "digits", "wgan-gp-drift", {"stage_images": 16}, 12, 8, sample_every=1, log_every=1
    )
    train(options, tmp_path / "run", console=Console(quiet=True))
    done = CliRunner().invoke(growth_report.main, [str(tmp_path / "run"), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    body = json.loads((tmp_path / "progan.json").read_text())
    assert [jump["step"] for jump in body["jumps"]] == [1, 3, 2, 4] and len(body["shares"]) == 10
    sheets = images.read_picture(tmp_path / "progan-stages.png", 1)
    one = images.read_picture(tmp_path / "run" / "samples" / "000001.png", 1)
    assert sheets.shape[1] == 3 * one.shape[1] + 12 and np.array_equal(sheets[:, : one.shape[1]], one)
    assert images.read_picture(tmp_path / "progan.png", 3).std() > 1


def test_a_run_that_still_grows_is_refused(tmp_path: Path) -> None:
    config = {"widths": (2, 2, 2), "channels": 1, "latent": 3}
    train(TrainingOptions("progan", config, "digits", steps=1, batch=8), tmp_path / "run", console=Console(quiet=True))
    done = CliRunner().invoke(growth_report.main, [str(tmp_path / "run"), "--out", str(tmp_path)])
    assert isinstance(done.exception, RequestError) and "has not grown to its full size" in str(done.exception)
