"""The scripts of examples/ run as they are, and make what they promise."""

import io
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from fastapi.testclient import TestClient

import ganrt
from ganrt.bundle import Bundle
from ganrt.images import read_picture

FOLDER = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the scripts run and write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name: str) -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / name), run_name="__main__")


def test_a_gan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = run("own_gan.py")["pictures"]
    assert pictures.shape == (64, 32, 32, 3) and pictures.std() > 20
    assert read_picture(folder / "my_gan.png", 3).shape == (530, 530, 3)
    assert "fp32-phases on onnxruntime: worst sample" in capsys.readouterr().out


def test_a_conditional_gan(folder: Path) -> None:
    made = run("conditional_gan.py")
    assert made["difference"] <= 1
    np.testing.assert_array_equal(made["mixed"][3], made["threes"][3])
    assert not np.array_equal(made["mixed"][0], made["threes"][0])


def test_image_to_image(folder: Path) -> None:
    made = run("image_to_image.py")
    assert made["picture"].shape == (120, 160, 3)
    assert np.abs(made["tiled"].astype(int) - made["picture"]).max() <= 1
    assert not np.array_equal(made["stronger"], made["picture"])


def test_truncation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("truncation.py")
    for line in capsys.readouterr().out.splitlines():
        varied, typical = (float(words.split()[0]) for words in line.split(" by ")[1:])
        assert typical < 0.6 * varied


def test_a_service_with_fastapi(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLE", str(bundle.path))
    app = run("serve_with_fastapi.py")["app"]
    with TestClient(app) as client, ThreadPoolExecutor(8) as callers, ganrt.load(bundle) as generator:
        answers = list(callers.map(lambda seed: client.get(f"/pictures/{seed}"), range(24)))
        for seed, answer in enumerate(answers):
            made = np.asarray(PIL.Image.open(io.BytesIO(answer.content)))
            np.testing.assert_array_equal(made, generator.sample(1, seed=seed)[0])
        wrong = client.get("/pictures/-1")
        assert wrong.status_code == 400 and "seed is -1" in wrong.json()["detail"]


def test_every_example_is_run_here() -> None:
    source = Path(__file__).read_text()
    assert [file.name for file in FOLDER.glob("*.py") if f'run("{file.name}")' not in source] == []
