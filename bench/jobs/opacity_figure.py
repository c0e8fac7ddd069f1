"""Draw what becomes of the color under transparent pixels.

    python -m ganrt.bench.jobs.opacity_figure BUNDLE FIGURE.png

A disc on transparent ground, once with black and once with white hidden under it: enlarged color and opacity apart, and
by `Generator.transform`, on a ground of the disc's own color, where an edge of another color shows.
"""

from __future__ import annotations

from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

import ganrt
from ganrt.images import Pictures, resize

mpl.use("Agg")
import matplotlib.pyplot as plt

_SIDE = 40
_COLOR = (236, 112, 56)


def draw_disc(hidden: int) -> Pictures:
    """RGB and opacity, uint8 (H, W, 4), with a level of grey where nothing is seen."""
    down, across = np.mgrid[0:_SIDE, 0:_SIDE] - (_SIDE - 1) / 2
    opacity = (_SIDE / 3 - np.hypot(down, across) + 0.5).clip(0, 1)
    disc = np.full((_SIDE, _SIDE, 4), hidden, np.uint8)
    disc[opacity > 0, :3] = _COLOR
    disc[..., 3] = np.rint(opacity * 255)
    return disc


def put_on_ground(picture: Pictures) -> NDArray[np.float64]:
    """What is seen on a ground of the disc's color, 0 to 1."""
    opacity = picture[..., 3:] / 255
    ground = np.array(_COLOR) / 255
    return picture[..., :3] / 255 * opacity + ground * (1 - opacity)


@click.command()
@click.argument("bundle")
@click.argument("figure", type=click.Path(path_type=Path))
def main(bundle: str, figure: Path) -> None:
    """Draw the figure."""
    with ganrt.load(bundle) as generator:
        panels = {}
        for name, hidden in (("black", 0), ("white", 255)):
            disc = draw_disc(hidden)
            color = generator.transform(np.ascontiguousarray(disc[..., :3]))
            apart = np.dstack([color, resize(disc[..., 3:], color.shape[:2])])
            panels[f"{name} hidden, color enlarged as it is"] = apart
            panels[f"{name} hidden, by ganrt"] = generator.transform(disc)
    drawing, axes = plt.subplots(1, len(panels), figsize=(12, 3.3))
    for axis, (title, picture) in zip(axes, panels.items(), strict=True):
        axis.imshow(put_on_ground(picture))
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    drawing.tight_layout()
    drawing.savefig(figure, dpi=100)


if __name__ == "__main__":
    main()
