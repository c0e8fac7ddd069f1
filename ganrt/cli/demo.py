"""`demo`: the whole path on real data, from training to a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

import ganrt
from ganrt.atomic import new_folder, write_file
from ganrt.cli.options import FILE, import_extra
from ganrt.cli.terminal import log, open_console, print_proofs
from ganrt.images import Pictures, encode_png, make_grid, resize
from ganrt.weights import find_weights

_DIGITS, _UPSAMPLER = "digits.ganrt", "x4.ganrt"
_CONFIG = {"size": 32, "channels": 1, "width": 16}
_RECIPE: dict[str, Any] = {
    "loss": "hinge",
    "recipe": {"spectral": True},
    "generator_lr": 1e-3,
    "discriminator_lr": 1e-3,
}
_CREDIT = "photograph: vultilion, flickr.com/photos/vultilion/6056698931, CC BY 2.0"
_ROWS, _COLUMNS = slice(76, 364), slice(160, 448)
"""The part of the photograph that is shown."""
_STRIP = 24
"""Height of a line of text in pixels."""


@click.command()
@click.option("--out", default="out/demo", type=FILE, metavar="FOLDER", help="Folder to create or replace.")
@click.option("--steps", default=1200, help="Training steps.")
@click.option("--seconds", default=45.0, help="Seconds to spend on the benchmark.")
def demo(out: Path, steps: int, seconds: float) -> None:
    """Run the whole path on real data in minutes.

    Trains a DCGAN on scanned digits, exports it, verifies it on every backend, samples it and measures it. Also exports
    trained weights of Real-ESRGAN and enlarges a photograph with them.
    """
    training, exporter, measuring = (
        import_extra(f"ganrt.{part}", "train,bench", "the demo") for part in ("training", "export", "bench")
    )
    with new_folder(out, overwrite=True, may_replace=lambda folder: (folder / _DIGITS).is_dir()) as draft:
        digits = draft / _DIGITS
        log("1/6 training a DCGAN on 1,797 scanned digits")
        with use_one_thread():
            training.train(training.TrainingOptions("dcgan", _CONFIG, steps=steps, **_RECIPE), draft / "run")
        log("2/6 exporting it, and 3/6 verifying it on every backend")
        exporter.export(draft / "run", digits, progress=log)
        proven = exporter.verify(digits, backends="reference", progress=log).bundle
        log("4/6 sampling")
        with ganrt.load(digits) as generator:
            pictures = generator.sample(1000, seed=7)
        write_file(draft / "samples.png", encode_png(make_grid(pictures[:100], scale=2)))
        metrics = training.DigitClassifier(32).evaluate(pictures)
        log("5/6 exporting a network with trained weights, and enlarging a photograph")
        exporter.export(find_weights("realesr-animevideov3-fp16"), draft / _UPSAMPLER, progress=log)
        with ganrt.load(draft / _UPSAMPLER) as generator:
            write_file(draft / "photo.png", encode_png(compare_upsampling(generator)))
        log("6/6 measuring every backend")
        report = measuring.measure(digits, seconds=seconds, progress=log)
        report.save(draft / "report.json")
        measuring.write_page(report, digits, draft / "report.html")
    measuring.print_table(report, open_console())
    print_proofs("every backend makes the PyTorch original's pictures", proven.variants["fp32"].proofs)
    _print_end(out, metrics)


@contextmanager
def use_one_thread() -> Iterator[None]:
    """Let PyTorch compute with one thread. For networks this small, more are no faster, and far slower on a busy
    machine; and the weights do not depend on the number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def compare_upsampling(generator: ganrt.Generator) -> Pictures:
    """Make scikit-learn's photograph of a flower four times smaller, and enlarge it again.

    Returns four panels side by side with captions, uint8 HWC: the small picture, bicubic interpolation, the generator's
    picture, the original.
    """
    from sklearn.datasets import load_sample_image

    photo = np.asarray(load_sample_image("flower.jpg"), np.uint8)
    height, width = (side // 4 for side in photo.shape[:2])
    whole = (4 * height, 4 * width)
    original = np.ascontiguousarray(photo[: whole[0], : whole[1]])
    small = resize(original, (height, width))
    panels = {
        "1/4 of the size": small.repeat(4, axis=0).repeat(4, axis=1),
        "enlarged by bicubic interpolation": resize(small, whole),
        "enlarged by the network": generator.transform(small),
        "original": original,
    }
    shown = np.stack([panel[_ROWS, _COLUMNS] for panel in panels.values()])
    return _add_captions(make_grid(shown, columns=len(shown)), list(panels))


def _add_captions(sheet: Pictures, captions: list[str]) -> Pictures:
    """Write a caption below each column of a sheet, and the credit below all."""
    import PIL.Image
    import PIL.ImageDraw

    height, width = sheet.shape[:2]
    image = PIL.Image.fromarray(np.pad(sheet, ((0, 2 * _STRIP), (0, 0), (0, 0)), constant_values=24))
    pen = PIL.ImageDraw.Draw(image)
    for column, caption in enumerate(captions):
        centre = (2 * column + 1) * width / len(captions) / 2
        pen.text((centre, height + _STRIP / 2), caption, "white", anchor="mm", font_size=14)
    pen.text((width - 4, height + 1.5 * _STRIP), _CREDIT, "gray", anchor="rm", font_size=12)
    return np.asarray(image)


def _print_end(out: Path, metrics: Any) -> None:
    """Print what the digits are worth, and what to look at and try next."""
    least = min(range(10), key=metrics.shares.__getitem__)
    click.echo(
        f"\nA classifier trained on the real scans is {metrics.confidence:.1%} sure of 1,000 samples "
        f"({metrics.real_confidence:.1%} on held-out scans);\n"
        f"the rarest digit, {least}, makes up {metrics.shares[least]:.1%}, and the Frechet distance from the scans is "
        f"{metrics.distance:.2f} ({metrics.real_distance:.2f}).\n"
        f"\nLook at {out}/photo.png, {out}/samples.png and {out}/report.html. Then try:\n"
        f"  ganrt transform {out}/{_UPSAMPLER} PICTURE.jpg --out large.jpg\n"
        f"  ganrt sample {out}/{_DIGITS} -n 64 --seed 8 --truncation 1 --out typical.png\n"
        f"  ganrt bench {out}/{_DIGITS} --batch 1 --batch 32\n"
        f"  ganrt train dcgan --data folder:PICTURES --config size=32 --out out/pictures"
    )
