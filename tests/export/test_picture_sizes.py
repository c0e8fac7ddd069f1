"""Modules that take pictures of any size: what their bundles are proven on, and the pictures that users give."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

import ganrt
from ganrt.bundle import Bundle
from ganrt.errors import RequestError
from ganrt.export import export

PHOTO = ganrt.Image("photo", "content", 3, (0.0, 1.0), multiple_of=2)
MASK = ganrt.Image("hole", "mask", 1, (0.0, 1.0), multiple_of=2, like="photo")
SPEC = ganrt.Spec("fill", (PHOTO, MASK), ganrt.Output(3, (0.0, 1.0), None))


class Fill(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(4, 8, 2, 2), nn.ConvTranspose2d(8, 3, 2, 2)

    def forward(self, photo: Tensor, hole: Tensor) -> Tensor:
        return torch.sigmoid(self.up(torch.relu(self.down(torch.cat([photo * (1 - hole), hole], 1)))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for k, size in enumerate([(150, 200), (130, 90), (160, 160)]):
        PIL.Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{k}.png")
    (folder / "broken.jpg").write_bytes(b"not a picture")
    return folder


def test_given_pictures_are_golden_samples_and_on_the_card(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    out = tmp_path / "fill.ganrt"
    bundle = export(Fill().eval(), out, spec=SPEC, pictures=folder, progress=lines.append)
    golden = bundle.read_golden()
    assert golden is not None
    first, *others = golden.groups
    given = [group for group in others if group.has_given_pictures]
    assert [group.sizes["photo"] for group in golden.groups] == [(48, 64), (114, 70), (38, 102), (48, 64), (114, 70)]
    assert len(given) == 2 and not first.has_given_pictures
    for group in given:
        assert group.pictures["photo"].dtype == np.uint8 and group.sizes["hole"] == group.sizes["photo"]
        assert set(np.unique(group.pictures["hole"])) == {0.0, 1.0}  # no photograph is a mask
    count = sum(len(group.images) for group in given)
    card = (out / Bundle.CARD).read_text()
    assert f"12 golden samples of 64 x 48, 70 x 114, 102 x 38 pixels and {count} of the given pictures" in card
    assert any(line.startswith("skipped: ") and "broken.jpg" in line for line in lines)
    assert any(line.startswith("made 12 golden samples") and "GMACs" in line for line in lines)
    proof = bundle.variants["fp32"].proofs[0]
    assert proof.passed and proof.samples == 12 + count
    with ganrt.load(out) as generator, PIL.Image.open(folder / "1.png") as picture:
        made = generator.transform(photo=picture, hole=np.zeros((130, 90), np.uint8))
    assert made.shape == (130, 90, 3)


def test_a_module_that_needs_larger_multiples_is_rejected(tmp_path: Path) -> None:
    spec = ganrt.Spec(
        "fill",
        (ganrt.Image("photo", "content", 3, (0.0, 1.0)), ganrt.Image("hole", "mask", 1, (0.0, 1.0), like="photo")),
        ganrt.Output(3, (0.0, 1.0), None),
    )
    with pytest.raises(RequestError, match="Give photo and hole multiple_of=2 in the Spec"):
        export(Fill().eval(), tmp_path / "x.ganrt", spec=spec)
    assert not (tmp_path / "x.ganrt").exists()


def test_wrong_images_are_traced_to_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganrt.export import faithful

    def trace_wrongly(*arguments: Any) -> Any:
        model = trace(*arguments)
        node = next(node for node in model.graph if node.name == "down/Conv")
        weight = node.inputs[1]
        assert weight is not None and weight.const_value is not None
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(0.5))
        return model

    trace = faithful.trace
    monkeypatch.setattr(faithful, "trace", trace_wrongly)
    with pytest.raises(
        ganrt.VerificationError, match=r"does not make the original's images: .* values first differ in down"
    ):
        export(Fill().eval(), tmp_path / "x.ganrt", spec=SPEC, backends="onnxruntime")


class Padding(nn.Module):
    """Pads pictures to multiples of 8, if they are none: the branch does not run at the size that is traced first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(3, 8, 8, 8), nn.ConvTranspose2d(8, 3, 8, 8)

    def forward(self, photo: Tensor) -> Tensor:
        height, width = photo.shape[2:]
        down, right = (8 - height % 8) % 8, (8 - width % 8) % 8
        if down or right:
            photo = nn.functional.pad(photo, (0, right, 0, down), "reflect")
        return torch.sigmoid(self.up(torch.relu(self.down(photo))))[:, :, :height, :width]


def test_a_branch_for_some_sizes_is_part_of_the_graph(tmp_path: Path) -> None:
    spec = ganrt.Spec("pad", (ganrt.Image("photo", "content", 3, (0.0, 1.0)),), ganrt.Output(3, (0.0, 1.0), None))
    module = Padding().eval()
    export(module, tmp_path / "pad.ganrt", spec=spec, backends="onnxruntime")
    rng = np.random.default_rng(0)
    with ganrt.load(tmp_path / "pad.ganrt") as generator:
        for size in ((32, 40), (33, 40), (32, 47), (29, 51)):
            picture = rng.integers(0, 256, (*size, 3), np.uint8)
            made = generator.transform(picture)
            with torch.inference_mode():
                images = module(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
            wanted = images[0].permute(1, 2, 0).numpy() * 255
            assert np.abs(made - wanted).max() <= 0.501
