"""Measure style transfer and synthesis runs on held-out photographs.

    python -m ganrt.training.evidence.photo_report RUN ... --out docs/training

writes, for each RUN folder of `transformer_net`, `adain` or `synthesis`, its metrics into `photos.json` (entries of
other runs are kept), a sheet of pictures `photos-NAME.png` and the loss curves `photos-NAME-losses.png`. The curves
need the extra `bench`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrt import images
from ganrt.atomic import write_file
from ganrt.errors import MissingLibraryError, RequestError
from ganrt.images import Pictures
from ganrt.models.features import Colour, Edges, Grey, dilate, fill_holes
from ganrt.training.image_synthesis import SynthesisObjective
from ganrt.training.image_tasks import Example
from ganrt.training.masks import NUMBERS, draw_masks
from ganrt.training.perceptual import FeatureExtractor, FilterBank, gram, style_loss
from ganrt.training.photos import draw_crops, load_photos
from ganrt.training.run import RunRecord, read_run
from ganrt.training.style import AdainObjective, StyleObjective
from ganrt.training.style_pictures import load_style_picture

_SEED, _COUNT, _SIDE, _SHOWN = 7, 48, 128, 6
"""Held-out crops that are measured, and the first of them, which are shown."""
_TEXTURES = ("texture1", "texture2", "texture3", "texture4", "texture5")
_LAYERS = (_TEXTURES[:1], (*_TEXTURES, "colour1", "colour3", "colour5"))
"""Content and style of a filter bank that no network was trained with."""


def measure(record: RunRecord) -> tuple[dict[str, Any], Pictures]:
    """Metrics of a run on held-out crops, and a sheet of some of them, uint8 (H, W, C). Raises RequestError for a
    family that is not one of _MEASURES."""
    if record.family not in _MEASURES:
        raise RequestError(f"{record.path} is a run of {record.family}; there are figures for {', '.join(_MEASURES)}")
    photos = load_photos(record.options.data, _SIDE)
    taken = images.from_uint8(draw_crops(photos.held_out, _SIDE, _SEED, 0, _COUNT), (0.0, 1.0))
    with torch.inference_mode():
        figures, rows = _MEASURES[record.family](record, record.load_generator(), torch.from_numpy(taken))
    sheet = torch.stack(rows, 1)[:_SHOWN].flatten(0, 1)
    pictures = images.to_uint8(sheet.numpy(), (0.0, 1.0))
    facts = {"family": record.family, "steps": record.step, "crops": _COUNT, "side": _SIDE}
    return facts | figures, images.make_grid(pictures, columns=len(rows))


def _measure_style(record: RunRecord, module: nn.Module, content: Tensor) -> tuple[dict[str, Any], list[Tensor]]:
    """Style loss of the crops before and after, in the features of training and in independent ones, and how much of
    the content is left."""
    objective = record.options.build_objective()
    assert isinstance(objective, StyleObjective)
    made = (module(255 * content) / 255).clamp(0.0, 1.0)
    recipe = objective.recipe
    style = torch.from_numpy(images.from_uint8(load_style_picture(recipe.style, recipe.style_size)[None], (0.0, 1.0)))
    small = functional.interpolate(style, content.shape[2:], mode="bilinear", antialias=True)
    figures: dict[str, Any] = {}
    other = FeatureExtractor(FilterBank(seed=1), *_LAYERS)
    for name, features in {"training": objective.features, "other": other}.items():
        found = features(style)
        wanted = {layer: gram(found[layer]) for layer in features.style}
        before, after = (
            np.array([float(style_loss(features(x[None]), wanted)) for x in pictures]) for pictures in (content, made)
        )
        fall = {"fall": before.mean() / after.mean(), "median_fall": np.median(before / after)}
        figures[name] = {"style_before": before.mean(), "style_after": after.mean(), **fall}
        figures[name] = {key: float(value) for key, value in figures[name].items()}
    return figures | _measure_content(content, made), [content, small.expand_as(content), made]


def _measure_any_style(record: RunRecord, module: nn.Module, content: Tensor) -> tuple[dict[str, Any], list[Tensor]]:
    """The recipe's style loss of the crops before and after, and how much of the content is left."""
    objective = record.options.build_objective()
    assert isinstance(objective, AdainObjective)
    drawn = torch.rand(len(content), objective.numbers, generator=torch.Generator().manual_seed(_SEED))
    example = objective.make_examples(content, drawn)
    made = module(*example.inputs).clamp(0.0, 1.0)
    before, after = (float(objective.compute_losses(example, x)["style"]) for x in (content, made))
    weight = record.options.recipe["style_weight"]
    figures = {"style_before": before / weight, "style_after": after / weight, "fall": before / after}
    return figures | _measure_content(content, made), [content, example.inputs[1], made]


def _measure_content(content: Tensor, made: Tensor) -> dict[str, float]:
    """How much of the content is left: mean SSIM of the brightness (Wang et al. 2004) and mean correlation of the edge
    maps, 1 for identical pictures."""
    try:
        import skimage.metrics
    except ImportError as error:
        raise MissingLibraryError(error.name or "skimage", "train", "the figures") from error
    luma, edges = ([part(x)[:, 0].numpy() for x in (content, made)] for part in (Grey(), Edges()))
    ssim: Callable[..., float] = skimage.metrics.structural_similarity
    similar = [ssim(a, b, data_range=1.0) for a, b in zip(*luma, strict=True)]
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*edges, strict=True)]
    return {"ssim": float(np.mean(similar)), "edge_correlation": float(np.mean(alike))}


def _measure_synthesis(record: RunRecord, module: nn.Module, crop: Tensor) -> tuple[dict[str, Any], list[Tensor]]:
    """Mean L1 and PSNR of the output, and of baselines that need no network."""
    objective = record.options.build_objective()
    assert isinstance(objective, SynthesisObjective)
    if not objective.masked:
        coarse = Colour(objective.config.pool)(crop)
        made = module(*objective.make_example(crop, None).inputs)
        everywhere = torch.ones_like(crop[:, :1])
        figures = {
            "colour_alone": _measure_error(coarse, crop, everywhere),
            "made": _measure_error(made, crop, everywhere),
        }
        figures["gain"] = 1 - figures["made"]["l1"] / figures["colour_alone"]["l1"]  # type: ignore[assignment]
        return figures, [crop, coarse, Edges()(crop).expand_as(crop), made]
    height, width = crop.shape[2:]
    mask = draw_masks(height, width, torch.rand(len(crop), NUMBERS, generator=torch.Generator().manual_seed(_SEED)))
    example: Example = objective.make_example(crop, mask)
    made, smooth, flat = module(*example.inputs), fill_holes(crop, mask), fill_with_border_mean(crop, mask)
    tried = {"border_mean": flat, "smooth_fill": smooth, "made": made}
    errors = {name: _measure_error(x, crop, mask) for name, x in tried.items()}
    return errors, [crop, crop * (1 - mask), flat, smooth, made]


def fill_with_border_mean(crop: Tensor, mask: Tensor) -> Tensor:
    """Fill the holes of a crop (N, C, H, W) with the mean colour of the known pixels within two pixels of them."""
    border = dilate(mask, 2) - mask
    mean = (crop * border).sum((2, 3), keepdim=True) / border.sum((2, 3), keepdim=True).clamp(min=1.0)
    return crop * (1 - mask) + mean * mask


def _measure_error(made: Tensor, crop: Tensor, mask: Tensor) -> dict[str, float]:
    """L1 (mean over the pixels of the mask) and PSNR in dB (mean over the crops), within the mask."""
    off = (made - crop) * mask
    squares = off.square().sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    psnr = -10 * torch.log10(squares.clamp(min=1e-10))
    return {"l1": float(off.abs().sum() / (3 * mask.sum())), "psnr": float(psnr.mean())}


_MEASURES: dict[str, Callable[[RunRecord, nn.Module, Tensor], tuple[dict[str, Any], list[Tensor]]]] = {
    "transformer_net": _measure_style,
    "adain": _measure_any_style,
    "synthesis": _measure_synthesis,
}


def draw_losses(log: Path, out: Path) -> None:
    """Plot the losses of a run's log.csv into the PNG file `out`. Raises MissingLibraryError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingLibraryError(error.name or "matplotlib", "bench", "the curves") from error
    with log.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    steps = np.array([int(row["step"]) for row in rows])
    names = [name for name in rows[0] if name != "step"] if rows else []
    drawn = Figure(figsize=(3.2 * max(1, len(names)), 2.4), layout="constrained")
    for axes, name in zip(np.ravel(drawn.subplots(1, max(1, len(names)))), names, strict=False):
        axes.plot(steps, [float(row[name]) for row in rows], linewidth=0.8, color="#0072b2")
        axes.set_title(name.removesuffix("_loss"), loc="left")
        axes.set_yscale("log")
        axes.set_xlabel("step")
    drawn.savefig(out, dpi=100, metadata={"Software": None})


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
def main(runs: tuple[Path, ...], out: Path) -> None:
    """Measure RUNS on held-out photographs."""
    file = out / "photos.json"
    table = json.loads(file.read_text()) if file.is_file() else {}
    for run in runs:
        record = read_run(run)
        name = record.path.name
        table[name], sheet = measure(record)
        write_file(out / f"photos-{name}.png", images.encode_png(sheet))
        draw_losses(record.path / "log.csv", out / f"photos-{name}-losses.png")
        click.echo(f"{name}: {json.dumps(table[name])}")
    write_file(file, json.dumps(table, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
