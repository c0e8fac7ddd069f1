"""`ganrt stylize` on the command line."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from click.testing import CliRunner, Result

from ganrt import images
from ganrt.cli.main import main


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    """A photograph of 48 x 32 pixels, and a style."""
    content, style = tmp_path / "astronaut.png", tmp_path / "tissue.png"
    content.write_bytes(images.encode_png(images.resize(skimage.data.astronaut(), (32, 48))))
    style.write_bytes(images.encode_png(images.resize(skimage.data.immunohistochemistry(), (40, 40))))
    return content, style


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["stylize", *map(str, arguments)])


def read(file: Path) -> images.Pictures:
    import PIL.Image

    return np.asarray(PIL.Image.open(file))


def test_a_photograph_takes_on_the_colors_of_the_style(photos: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    done = run(*photos, "--out", out, "--steps", 20)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"{out}, 48 x 32 pixels\n")
    assert 5 <= done.stderr.count("loss") <= 12  # not a line for each of the steps
    content, style, painted = (read(file).mean((0, 1)) for file in (*photos, out))
    assert np.abs(painted - style).max() < 0.5 * np.abs(content - style).max()


def test_the_options_reach_the_optimization(photos: tuple[Path, Path], tmp_path: Path) -> None:
    outs = [tmp_path / f"{name}.png" for name in ("content", "plain", "noise")]
    settings = [["--style-weight", 0], [], ["--seed", 3]]
    for out, chosen in zip(outs, settings, strict=True):
        assert run(*photos, "--out", out, "--steps", 3, "--size", 24, *chosen).exit_code == 0
    unchanged, plain, noise = map(read, outs)
    assert unchanged.shape == (16, 24, 3)
    np.testing.assert_array_equal(unchanged, images.resize(read(photos[0]), (16, 24)))  # the content is its own optimum
    assert not np.array_equal(unchanged, plain) and not np.array_equal(plain, noise)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "x.jpg"], 2, "x.jpg must end in .png"),
        (["--out", "x.png", "--steps", "0"], 2, "steps is 0"),
        (["--out", "x.png", "--weights", "none.pth"], 3, "none.pth cannot be read"),
        (["--out", "x.png", "--device", "tpu"], 2, "no device 'tpu'"),
        (["--out", "/proc/x.png"], 3, "cannot be written"),
    ],
)
def test_requests_that_are_wrong(
    arguments: list[str], code: int, message: str, photos: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos[0].parent)
    done = run(*photos, *arguments)
    assert done.exit_code == code, done.output
    assert message in done.stderr and "Traceback" not in done.output
    assert not Path("x.png").exists()


def test_pictures_that_cannot_be_used_or_replaced(photos: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(photos[0], tmp_path / "none.png", "--out", tmp_path / "x.png")
    assert done.exit_code == 3 and "none.png cannot be read" in done.stderr
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    done = run(*photos, "--out", taken)
    assert done.exit_code == 2 and "--overwrite" in done.stderr and taken.read_bytes() == b"mine"
    assert run(*photos, "--out", taken, "--steps", 1, "--overwrite").exit_code == 0
