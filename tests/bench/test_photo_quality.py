"""What variants lose on whole photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ganrt.bench.photo_quality import main, measure_photos
from ganrt.bundle import Bundle
from ganrt.errors import RequestError
from ganrt.export import export
from ganrt.images import encode_png, list_picture_files


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in "abc":
        (folder / f"{name}.png").write_bytes(encode_png(random.integers(0, 256, (19, 30, 3), np.uint8)))
    return folder


def test_variants_are_compared_with_the_traced_graph(espcn: Bundle, photos: Path, tmp_path: Path) -> None:
    made = export(
        str(espcn.folder / Bundle.WEIGHTS),
        tmp_path / "x.ganrt",
        precisions=("fp32", "int8"),
        quality=20.0,
        pictures=photos,
    )
    found = {quality.variant: quality for quality in measure_photos(made, list_picture_files(photos), "onnxruntime")}
    assert set(found) == set(made.variants) - {"fp32"}
    low = next(quality for name, quality in found.items() if name.startswith("int8"))
    assert len(low.psnr) == 3 and all(20 < psnr < 80 for psnr in low.psnr) and len(low.flat.texture) == 3
    result = CliRunner().invoke(main, [str(made.folder), str(photos), "--backend", "onnxruntime"])
    assert result.exit_code == 0 and f"| {low.variant} | {min(low.psnr):.1f} dB |" in result.output


def test_other_models_have_no_photographs(bundles: dict[str, Bundle], photos: Path) -> None:
    with pytest.raises(RequestError, match="this dcgan model does not take one picture of any size"):
        list(measure_photos(bundles["dcgan"], list_picture_files(photos), "onnxruntime"))
