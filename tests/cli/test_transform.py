"""The command `ganrt transform`."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner, Result

import ganrt
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.images import encode_png, read_picture

PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encode_png(PHOTO))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["transform", *map(str, arguments)])


def test_the_command(espcn: Bundle, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    PIL.Image.fromarray(PHOTO[:20]).save(other)
    out = tmp_path / "made"
    done = run(espcn.folder, photo, other, "--out", out, "--tile", 16, "--backend", "onnxruntime", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert f"2 pictures by onnxruntime (cpu) in {out}" in done.stdout
    assert {path.name for path in out.iterdir()} == {"photo.png", "other.png"}
    assert read_picture(out / "other.png", 3).shape == (40, 128, 3)
    with ganrt.load(espcn.folder, "onnxruntime") as generator:
        assert np.array_equal(read_picture(out / "photo.png", 3), generator.transform(photo))
    again = run(espcn.folder, photo, "--out", out)
    assert again.exit_code == 2 and "photo.png exists already" in again.stderr
    assert run(espcn.folder, photo, "--out", out, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--set", "strength"], 2, "--set strength is not of the form name=value"),
        (["--set", "strength=much"], 2, "--set strength=much: 'much' is not a number"),
        (["--set", "strength=0.5"], 2, "no input 'strength'"),
        (["--input", "style"], 2, "--input style is not of the form name=value"),
        (["--input", "luma=absent.png"], 2, "luma was given twice"),
        (["--tile", "-1"], 2, "tile is -1"),
        (["--seed", "7"], 2, "seed was given, but nothing is drawn for this espcn model: leave it out"),
        (["--labels", "1"], 2, "labels were given, but this espcn model has no classes: leave them out"),
        (["--backend", "nonsense"], 2, "nonsense"),
        (["absent.png"], 3, "absent.png cannot be read"),
        (["--out", "."], 2, "is the picture itself; choose another folder"),
        (["elsewhere/photo.jpg"], 2, "would both be written as photo.png"),
    ],
)
def test_requests_that_the_command_refuses(
    espcn: Bundle, photo: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(photo.parent)
    done = run(espcn.folder, photo, "--out", "made", "--overwrite", *options)
    assert isinstance(done.exception, SystemExit) and done.exit_code == code
    assert message in done.stderr and "Traceback" not in done.output
    assert photo.read_bytes() == encode_png(PHOTO)
