"""The demo: everything that it names is there, and the photograph's picture shows what its captions say."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ganrt.bundle import Bundle
from ganrt.cli.demo import compare_upsampling, use_one_thread
from ganrt.cli.main import main
from ganrt.images import Pictures, read_picture, resize


class Repeating:
    """Upsamples by repeating pixels, in place of a `Generator`."""

    def transform(self, picture: Pictures) -> Pictures:
        self.given = picture
        return picture.repeat(4, axis=0).repeat(4, axis=1)[..., ::-1]


def test_the_panels_are_the_same_part_of_the_photograph() -> None:
    from sklearn.datasets import load_sample_image

    generator = Repeating()
    sheet = compare_upsampling(cast(Any, generator))
    small, bicubic, network, original = (sheet[2:290, 2 + 290 * k : 290 * (k + 1)] for k in range(4))
    assert np.array_equal(original, load_sample_image("flower.jpg")[76:364, 160:448])
    assert np.array_equal(small, generator.given.repeat(4, axis=0).repeat(4, axis=1)[76:364, 160:448])
    assert np.array_equal(network, small[..., ::-1])
    assert np.array_equal(bicubic, resize(generator.given, (424, 640))[76:364, 160:448])
    captions = [sheet[292:316, 290 * k : 290 * (k + 1)] for k in range(4)]
    assert all((caption > 200).any() for caption in captions)


def test_the_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with pytest.raises(RuntimeError, match="diverged"), use_one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError("diverged")
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_everything_the_demo_names_is_there(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = CliRunner().invoke(main, ["demo", "--out", str(out), "--steps", "2", "--seconds", "1"])
    assert done.exit_code == 0, done.output
    names = ("photo.png", "samples.png", "report.html", "digits.ganrt", "x4.ganrt")
    assert [name for name in names if f"{out}/{name}" not in done.stdout or not (out / name).exists()] == []
    assert all(Bundle.read(out / name).variants["fp32"].proofs for name in names if name.endswith(".ganrt"))
    assert read_picture(out / "photo.png", 3).shape == (340, 1162, 3)
