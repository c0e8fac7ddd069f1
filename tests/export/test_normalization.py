"""Networks that take and make normalized colours, BGR and opacity: exported, proven, and used."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import ganrt
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.errors import RequestError
from ganrt.export import export
from ganrt.export.contact_sheet import draw_contact_sheet
from ganrt.export.precision.pictures import read_crops
from ganrt.feeds import Feeds
from ganrt.golden import Golden
from ganrt.images import Pictures
from ganrt.proving import GoldenComparison, compare_with_golden

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CAFFE: dict[str, Any] = {"mean": (103.939, 116.779, 123.68), "order": "bgr"}
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (24, 36, 4), np.uint8)


class Sharpened(nn.Module):
    """Smooths each channel, turns the range round, and knows nothing of normalization: x in 0 to 1, RGB."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, padding_mode="replicate")
        with torch.no_grad():
            self.conv.weight.copy_(torch.softmax(torch.randn(channels, 1, 9), -1).reshape(channels, 1, 3, 3))
            self.conv.bias.fill_(0.0)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return 1 - self.conv(x)


class Foreign(nn.Module):
    """`Sharpened` behind what a framework of another kind feeds it: BGR of 0 to 255 without its mean, and normalized
    colours on the way out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Sharpened()
        self.mean, self.back, self.spread = (
            nn.Buffer(torch.tensor(numbers).view(1, 3, 1, 1)) for numbers in (CAFFE["mean"], *IMAGENET.values())
        )

    def forward(self, x: Tensor) -> Tensor:
        made = self.inner(((x + self.mean) / 255).flip(1))
        return (made - self.back) / self.spread


def spec_of(channels: int = 3, made: dict[str, Any] | None = None, **taken: Any) -> ganrt.Spec:
    picture = ganrt.Image("x", "content", channels, taken.pop("range", (0.0, 1.0)), **taken)
    return ganrt.Spec("foreign", (picture,), ganrt.Output(channels, (0.0, 1.0), None, **(made or {})))


FOREIGN = spec_of(made=IMAGENET, range=(0.0, 255.0), **CAFFE)
BACKENDS = ("onnxruntime", "pytorch")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Read-only."""
    out = tmp_path_factory.mktemp("normalized") / "foreign.ganrt"
    return export(Foreign(), out, spec=FOREIGN, precisions=("fp32", "fp16", "int8"), backends="onnxruntime")


def sharpen(pictures: Pictures) -> Any:
    """What `Sharpened` makes of pictures of the levels 0 to 255, in float64."""
    values = torch.from_numpy(pictures).double().permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        made = Sharpened(pictures.shape[-1]).double()(values)
    return (made * 255).permute(0, 2, 3, 1).numpy()


def test_a_foreign_network_makes_the_pictures_of_the_plain_one(foreign: Bundle) -> None:
    assert Bundle.read(foreign.path).spec == FOREIGN
    for variant in foreign.variants:
        precision = foreign.variant(variant).precision
        with ganrt.load(foreign, "onnxruntime", variant=variant) as generator:
            made = generator.transform(PHOTO[..., :3])
        error = np.abs(made - sharpen(PHOTO[None, ..., :3])[0]).max()
        assert error <= {"fp32": 0.501, "fp16": 1.5, "int8": 16.0}[precision], variant


def test_a_proof_is_in_levels_of_the_picture(foreign: Bundle) -> None:
    """So an int8 variant passes by what it changes in pictures, although the network's values span 4.4 instead of 1."""
    proofs = {variant: foreign.variant(variant).proofs[0] for variant in foreign.variants}
    assert all(proof.passed for proof in proofs.values())
    golden = foreign.read_golden()
    assert golden is not None
    assert min(group.images.min() for group in golden.groups) < -1.5


def test_raw_values_are_those_of_the_network(foreign: Bundle) -> None:
    x = RNG.uniform(-100, 150, (2, 3, 12, 16)).astype(np.float32)
    with ganrt.load(foreign, "onnxruntime") as generator, torch.no_grad():
        np.testing.assert_allclose(generator(x=x), Foreign()(torch.from_numpy(x)), atol=1e-5)


def test_the_command_line_and_the_card_tell_it(foreign: Bundle) -> None:
    told = CliRunner().invoke(main, ["info", str(foreign.path)]).output
    assert "takes x: picture (content), 3 channels, values 0 to 255, normalized by mean (103.939, 116.779" in told
    assert "  the network makes values 0 to 1, normalized by mean (0.485, 0.456, 0.406) and std (0.229" in told
    card = " ".join(foreign.locate("README.md").read_text().split())
    assert "in the order BGR" in card and "What it computes has values 0 to 1, normalized by mean (0.485" in card


def test_without_a_normalization_nothing_is_told(bundle: Bundle) -> None:
    assert "the network makes" not in CliRunner().invoke(main, ["info", str(bundle.path)]).output
    assert "What it computes" not in bundle.locate("README.md").read_text()


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """RGBA in and out. Read-only."""
    out = tmp_path_factory.mktemp("clear") / "clear.ganrt"
    return export(Sharpened(4), out, spec=spec_of(4, {"reach": 1}), backends="onnxruntime")


@pytest.mark.parametrize("form", ["png", "webp"])
def test_opacity_goes_in_and_comes_out(clear: Bundle, tmp_path: Path, form: str) -> None:
    photo, out = tmp_path / f"photo.{form}", tmp_path / "out"
    lossless: dict[str, Any] = {"lossless": True, "exact": True} if form == "webp" else {}
    visible = PHOTO.copy()  # what nobody sees is filled in
    visible[..., 3] = visible[..., 3].clip(1)
    PIL.Image.fromarray(visible).save(photo, **lossless)
    done = CliRunner().invoke(main, ["transform", str(clear.path), str(photo), "--out", str(out)])
    assert done.exit_code == 0, done.output
    with PIL.Image.open(out / photo.name) as made:
        assert made.mode == "RGBA"
        assert np.abs(np.asarray(made) - sharpen(visible[None])[0]).max() <= 0.501


def test_a_file_without_opacity_is_opaque(clear: Bundle) -> None:
    opaque = np.dstack([PHOTO[..., :3], np.full((24, 36), 255, np.uint8)])
    with ganrt.load(clear) as generator:
        made = generator.transform(PIL.Image.fromarray(PHOTO[..., :3]))
        np.testing.assert_array_equal(made, generator.transform(opaque))
        assert generator.transform(PHOTO[None]).shape == (1, 24, 36, 4)
        with pytest.raises(RequestError, match=r"x is an array of shape \(24, 36, 3\); this input takes \(H, W, 4\)"):
            generator.transform(PHOTO[..., :3])


def test_samples_of_a_transparent_generator_are_a_transparent_grid(tmp_path: Path) -> None:
    class Stickers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(6, 4 * 64)

        def forward(self, z: Tensor) -> Tensor:
            return torch.sigmoid(3 * self.layer(z)).reshape(-1, 4, 8, 8)

    output = ganrt.Output(4, (0.0, 1.0), (8, 8), order="bgr")
    spec = ganrt.Spec("stickers", (ganrt.Latent("z", (6,)),), output)
    bundle = export(Stickers(), tmp_path / "s.ganrt", spec=spec, backends=BACKENDS)
    grid = tmp_path / "grid.png"
    done = CliRunner().invoke(main, ["sample", str(bundle.path), "-n", "2", "--seed", "7", "--out", str(grid)])
    assert done.exit_code == 0, done.output
    with ganrt.load(bundle) as generator:
        made = generator.sample(2, seed=7)
        raw = generator(z=generator_latents(generator, 2))
    assert made.shape == (2, 8, 8, 4)
    np.testing.assert_allclose(made / 255, raw[:, [2, 1, 0, 3]].transpose(0, 2, 3, 1), atol=0.6 / 255)
    with PIL.Image.open(grid) as sheet:
        assert sheet.mode == "RGBA" and sheet.getpixel((0, 0))[3] == 0  # type: ignore[index]
        np.testing.assert_array_equal(np.asarray(sheet)[2:66:8, 2:66:8], made[0])


def generator_latents(generator: ganrt.Generator, count: int) -> Any:
    from ganrt.feeds import draw_feeds

    return draw_feeds(generator.spec, 7, 0, count)["z"]


def test_pictures_to_calibrate_on_have_opacity_where_it_is_taken(tmp_path: Path) -> None:
    PIL.Image.fromarray(PHOTO).save(tmp_path / "a.png")
    PIL.Image.fromarray(PHOTO[..., :3]).save(tmp_path / "b.png")
    inputs = (ganrt.Image("x", "content", 4, (0.0, 1.0)), ganrt.Image("y", "style", 3, (0.0, 1.0)))
    spec = ganrt.Spec("s", (*inputs, ganrt.Image("g", "other", 1, (0.0, 1.0))), ganrt.Output(4, (0.0, 1.0), None))
    crops = read_crops(tmp_path, spec, [dict.fromkeys(("x", "y", "g"), (24, 36))] * 2, lambda _: None)
    taken = [*crops.calibration["x"], *crops.held_out[0]["x"]]
    assert sorted({int(crop[..., 3].min()) for crop in taken})[-1] == 255 and len({crop.shape for crop in taken}) == 1
    assert any((crop == PHOTO).all() for crop in taken)
    assert crops.calibration["y"].shape[1:] == (24, 36, 3) and crops.calibration["g"].shape[1:] == (24, 36, 1)


def test_a_contact_sheet_shows_a_difference_of_opacity() -> None:
    """Originals and images over a checkerboard, their difference opaque; with normalized BGR as with plain RGB."""
    from fakes.sessions import FakeSession

    sheets = []
    for fields in ({}, IMAGENET_ALPHA):
        spec = ganrt.Spec("s", (ganrt.Latent("z", (6,)),), ganrt.Output(4, (0.0, 1.0), (8, 8), **fields))

        class Clear(FakeSession):
            shift = 0.0
            own = spec

            def run(self, feeds: Feeds) -> Any:
                from ganrt.levels import find_levels, normalize

                colour = np.array([0.8, 0.4, 0.2, 0.6 - self.shift]).reshape(4, 1, 1) * np.ones((4, 8, 8))
                plain = colour + 0.01 * feeds["z"][:, :1, None, None]
                return normalize(plain.astype(np.float32), find_levels(self.own.output))

        session = Clear(spec)
        golden = Golden.make(spec, session.run)
        session.shift = 0.2
        compared: GoldenComparison = compare_with_golden(session, spec, golden)
        sheets.append(draw_contact_sheet(compared, spec.output))
    assert sheets[0].shape[-1] == 3
    np.testing.assert_allclose(sheets[0].astype(int), sheets[1], atol=1)
    scale = 12
    cell = 8 * scale + 2
    assert sheets[0][2 + scale, 2 * cell + 2 + scale].tolist() == [255] * 3
    assert sheets[0][2, 2].tolist() != sheets[0][2, 2 + cell].tolist()


IMAGENET_ALPHA: dict[str, Any] = {
    "mean": (0.406, 0.456, 0.485, 0.0),
    "std": (0.225, 0.224, 0.229, 1.0),
    "order": "bgr",
}
