"""Compare super-resolution runs with bicubic upsampling on held-out photographs.

    python -m ganrt.training.evidence.super_resolution_report RUN ... --out docs/training

writes `super_resolution.json` and `super_resolution.png`: details of the held-out photographs of `photos`, upsampled by
each run. All runs must have the same scale.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from ganrt import images
from ganrt.atomic import write_file
from ganrt.errors import RequestError
from ganrt.images import Pictures
from ganrt.training.photos import load_photos
from ganrt.training.run import read_run
from ganrt.training.super_resolution import downsample, luma

_DETAIL = 72
"""Side of the details shown, in pixels of the photograph."""
_ZOOM = 3
"""Each pixel of a detail is shown as a square of this side."""
Grey = NDArray[np.float64]


def measure(made: Pictures, photo: Pictures, border: int) -> dict[str, float]:
    """Compare an upsampled picture with the photograph, both RGB uint8 (H, W, 3), leaving out a border in pixels.

    Returns `psnr` in dB and `ssim` of the luma, as super-resolution papers report them, and `sharpness`: the contrast
    between neighbouring pixels, as a share of the photograph's.
    """
    ours, theirs = (_compute_luma(picture)[border:-border, border:-border] for picture in (made, photo))
    error = float(np.square(ours - theirs).mean())
    similarity = structural_similarity(  # type: ignore[no-untyped-call]
        ours, theirs, data_range=255.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return {
        "psnr": 10 * float(np.log10(255**2 / error)),
        "ssim": float(similarity),
        "sharpness": _contrast(ours) / _contrast(theirs),
    }


def _compute_luma(picture: Pictures) -> Grey:
    """Y of YCbCr, 16 to 235, as MATLAB's rgb2ycbcr computes it, but not rounded."""
    pixels = torch.from_numpy(images.from_uint8(picture[None], (0.0, 1.0))).double()
    return np.asarray(255 * luma(pixels)[0, 0].numpy(), np.float64)


def _contrast(grey: Grey) -> float:
    return float(np.sqrt(np.square(np.diff(grey, axis=0)).mean() + np.square(np.diff(grey, axis=1)).mean()))


def upsample(module: nn.Module, small: Tensor) -> Pictures:
    """RGB (1, 3, h, w) in [0, 1] through a generator: uint8 (H, W, 3)."""
    with torch.inference_mode():
        made: Pictures = images.to_uint8(module(small).numpy(), (0.0, 1.0))[0]
    return made


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
def main(runs: tuple[Path, ...], out: Path) -> None:
    """Measure how well RUNS upsample."""
    records = [read_run(run) for run in runs]
    scales = {run.config.get("scale") for run in records}
    (scale,) = scales if len(scales) == 1 else (None,)
    if not isinstance(scale, int) or any(run.options.spec.output.channels != 3 for run in records):
        raise RequestError("the runs do not all upsample colour pictures by the same scale; compare runs that do")
    modules = {run.path.name: run.load_generator() for run in records}
    table: dict[str, list[dict[str, Any]]] = {}
    sheet: list[Pictures] = []
    for photo in (_crop_to_multiple(photo, scale) for photo in load_photos("photos", 1).held_out):
        small = downsample(torch.from_numpy(images.from_uint8(photo[None], (0.0, 1.0))), scale)
        low = images.to_uint8(small.numpy(), (0.0, 1.0))[0]
        made = {"bicubic": images.resize(low, photo.shape[:2])}
        made |= {name: upsample(module, small) for name, module in modules.items()}
        for name, picture in made.items():
            table.setdefault(name, []).append(measure(picture, photo, scale))
        sheet += _cut_details([*made.values(), photo])
    means = {
        name: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {"photographs": rows}
        for name, rows in table.items()
    }
    write_file(out / "super_resolution.json", json.dumps({"scale": scale, "mean": means}, indent=1).encode() + b"\n")
    shown = images.make_grid(np.stack(sheet), columns=len(records) + 2, scale=_ZOOM)
    write_file(out / "super_resolution.png", images.encode_png(shown))
    for name, found in means.items():
        click.echo(f"| {name} | {found['psnr']:.2f} dB | {found['ssim']:.4f} | {found['sharpness']:.0%} |")


def _crop_to_multiple(photo: Pictures, scale: int) -> Pictures:
    """The largest crop from the top left corner whose sides are multiples of the scale."""
    height, width = (side - side % scale for side in photo.shape[:2])
    return photo[:height, :width]


def _cut_details(pictures: list[Pictures]) -> list[Pictures]:
    """The same detail of each, where the last picture, the photograph, has the most contrast."""
    photo = _compute_luma(pictures[-1])
    places = [(y, x) for y in range(0, len(photo) - _DETAIL, 24) for x in range(0, photo.shape[1] - _DETAIL, 24)]
    top, left = max(places, key=lambda at: _contrast(photo[at[0] : at[0] + _DETAIL, at[1] : at[1] + _DETAIL]))
    return [picture[top : top + _DETAIL, left : left + _DETAIL] for picture in pictures]


if __name__ == "__main__":
    main()
