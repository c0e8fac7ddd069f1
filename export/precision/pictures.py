"""The user's pictures, cut into crops: half of the files to calibrate on, the other half for golden samples.

An input of free size gets crops at native resolution, since `transform` feeds it pictures as they are. An input of one
fixed size gets the whole photograph, scaled down and cut to the input's aspect ratio, because its users prepare their
pictures so; further crops of the same file show parts of it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import PIL.Image

from ganrt.errors import ArtifactError, RequestError
from ganrt.feeds import Size
from ganrt.images import MODES, Pictures, list_picture_files, read_picture
from ganrt.spec import Image, Spec
from ganrt.synthetic import CLASS_MAPS, INSTANCE_MAPS, MASKS

Crops: TypeAlias = dict[str, Pictures]
"""Name of an image input -> uint8 (N, H, W, C), the same N for all. Inputs that take no photographs are missing."""
Group: TypeAlias = tuple[Image, ...]
"""Image inputs that get the same part of a picture: one, and those that are `like` it."""
_Row: TypeAlias = dict[str, Pictures]
"""The inputs of one sample: name -> uint8 HWC."""
Window: TypeAlias = tuple[slice, slice]
"""Rows and columns."""

CALIBRATION = 16
"""Crops to calibrate on, and most files that they are cut from."""
HELD_OUT = 8
"""Held-out crops of all sizes together (rounded up), and most files that they are cut from."""
_TRIED = 16
"""One crop in four is the flattest of so many, because a lower precision shows on flat parts first; another is the one
with the most contrast, because that has the largest values."""


class PictureCrops(NamedTuple):
    """Crops of the pictures in a folder. The same folder gives the same crops."""

    calibration: Crops
    """Of the first size."""
    held_out: tuple[Crops, ...]
    """Of each size, cut from other files; from another part of the picture where there is only one."""
    files: int
    """Picture files in the folder, going by their names."""
    used: tuple[int, int]
    """Number of files that calibration crops and held-out crops are cut from."""
    skipped: tuple[str, ...]
    """Why a file could not be read, one sentence each that names it."""

    def __str__(self) -> str:
        shown, held = (sum(map(_count_rows, crops)) for crops in ([self.calibration], self.held_out))
        one, other = self.used
        others = f"{other} other file{'s' if other > 1 else ''}"
        if one + other > self.files - len(self.skipped):
            others = "another part of it"
        text = f"{shown} crops from {one} of {self.files} picture files; {held} from {others} are held out"
        return f"{text}; {len(self.skipped)} could not be read" if self.skipped else text


def read_crops(
    folder: Path, spec: Spec, sizes: Sequence[Mapping[str, Size]], progress: Callable[[str], None]
) -> PictureCrops:
    """Read pictures and cut them into crops.

    Args:
        folder: PNG, JPEG and WebP files, subfolders included.
        spec: inputs of the model. Masks and label maps, going by their roles, get no crops unless the model has no
            other image inputs.
        sizes: picture sizes of a proof (`ganrt.golden.proof_sizes`): name of an image input -> size of its crops. The
            first are those of the crops to calibrate on.
        progress: called with a line of text for each file that cannot be read and is skipped.

    Several image inputs get different files in turn; those that are `like` another get the same part of the same file.
    Pictures smaller than a crop are continued by reflection. Raises RequestError when the model takes no pictures,
    ArtifactError when no file can be read.
    """
    groups = _group_inputs(spec)
    if not groups:
        raise RequestError(f"pictures to calibrate on were given, but this {spec.family} model takes none")
    files = sorted(list_picture_files(folder), key=lambda path: _hash(path.relative_to(folder)))

    def make_halves(expected: int) -> tuple[_Half, _Half]:
        per_size = -(-HELD_OUT // len(sizes))
        return _Half(groups, sizes[:1], CALIBRATION, -(-expected // 2)), _Half(groups, sizes, per_size, expected // 2)

    calibration, held_out = make_halves(len(files))
    transparent = any(item.channels == 4 for group in groups for item in group)
    skipped: list[str] = []
    single: Pictures | None = None
    for path in files:
        if len(calibration.files) == CALIBRATION:
            break
        try:
            picture = read_picture(path, 4 if transparent else 3)
        except ArtifactError as error:
            skipped.append(str(error))
            progress(f"skipped: {error}")
            continue
        single = None if calibration.files else picture
        fewer = len(held_out.files) < min(HELD_OUT, len(calibration.files))
        (held_out if fewer else calibration).add_file(picture, path.name)
    if single is not None:
        calibration, held_out = make_halves(1)
        for half, part in zip((calibration, held_out), _split_picture(single), strict=True):
            half.add_file(part, "")
    if not calibration.files:
        raise ArtifactError(f"{folder} holds no pictures to calibrate on; give it PNG, JPEG or WebP files")
    used = len(calibration.files), len(held_out.files)
    return PictureCrops(calibration.arrange()[0], held_out.arrange(), len(files), used, tuple(skipped))


def takes_photographs(item: Image) -> bool:
    """Whether photographs are what an image input takes, going by its role and channels."""
    return item.channels in MODES and item.role.lower() not in (*CLASS_MAPS, *INSTANCE_MAPS, *MASKS)


def _group_inputs(spec: Spec) -> list[Group]:
    """The inputs to fill with pictures, in the order of the Spec."""
    filled = [item for item in spec.images if takes_photographs(item)]
    filled = filled or [item for item in spec.images if item.channels in MODES]
    roots: dict[str, str] = {}
    groups: dict[str, Group] = {}
    for item in spec.images:
        roots[item.name] = item.name if item.like is None else roots[item.like]
        if item in filled:
            groups[roots[item.name]] = (*groups.get(roots[item.name], ()), item)
    return list(groups.values())


class _Half:
    """The files to calibrate on, or those that are held out, cut into crops.

    Args:
        count: samples to make for each size, each size from further files.
        expected: number of files. If fewer can be read, there are fewer samples.
    """

    def __init__(self, groups: Sequence[Group], sizes: Sequence[Mapping[str, Size]], count: int, expected: int) -> None:
        self.files: list[list[list[_Row]]] = []
        """Of each file, for each size: its crops."""
        self._groups, self._sizes, self._count = groups, sizes, count
        self._each = -(-count // max(1, min(count, expected)))

    def add_file(self, picture: Pictures, name: str) -> None:
        """Cut a picture, uint8 (H, W, C). The name decides where."""
        self.files.append(
            [[self._cut_row(picture, name, sizes, k) for k in range(self._each)] for sizes in self._sizes]
        )

    def _cut_row(self, picture: Pictures, name: str, sizes: Mapping[str, Size], number: int) -> _Row:
        row: _Row = {}
        for index, group in enumerate(self._groups):
            size, fixed = sizes[group[0].name], group[0].size
            chance = random.Random(f"{name} {size} {index} {number}")
            if fixed is None:
                part = _choose_part(picture, size, chance, (len(self.files) + number) % 4)
            else:
                part = _choose_scaled_part(picture, fixed, chance, number)
            row |= {item.name: _fit_part(part, item) for item in group}
        return row

    def arrange(self) -> tuple[Crops, ...]:
        """Make the samples of each size, from the files in turn; each group of inputs is one file ahead of the one
        before."""
        rows = range(min(self._count, self._each * len(self.files)))
        return tuple(
            {
                item.name: np.stack([self._find_row(size, row, index)[item.name] for row in rows])
                for index, group in enumerate(self._groups)
                for item in group
            }
            for size in range(len(self._sizes))
        )

    def _find_row(self, size: int, row: int, ahead: int) -> _Row:
        every = len(self.files)
        return self.files[(size * self._count + row + ahead) % every][size][row // every]


def _choose_part(picture: Pictures, size: Size, chance: random.Random, kind: int) -> Pictures:
    """A part at native resolution: for kind 1 the one of _TRIED with the most contrast, for kind 3 with the least.
    Smaller pictures are continued by reflection first."""
    missing = [max(0, side - have) for side, have in zip(size, picture.shape, strict=False)]
    if any(missing):
        picture = np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
    tried = [picture[_choose_window(picture, size, chance)] for _ in range(_TRIED if kind in (1, 3) else 1)]
    return (max if kind == 1 else min)(tried, key=lambda part: float(part.std(axis=(0, 1)).sum()))


def _choose_scaled_part(picture: Pictures, size: Size, chance: random.Random, number: int) -> Pictures:
    """As much of the picture as has the aspect ratio of `size`; for later crops of it half as much or more of each
    side, but not less than `size` where there is that much."""
    height, width = picture.shape[:2]
    fits = min(height / size[0], width / size[1])
    scale = fits if number == 0 else max(min(fits, 1.0), fits * (0.5 + chance.random() / 2))
    sides = (min(height, max(1, round(size[0] * scale))), min(width, max(1, round(size[1] * scale))))
    return picture[_choose_window(picture, sides, chance)]


def _choose_window(picture: Pictures, size: Size, chance: random.Random) -> Window:
    tops = [int(chance.random() * (have - side + 1)) for side, have in zip(size, picture.shape, strict=False)]
    return slice(tops[0], tops[0] + size[0]), slice(tops[1], tops[1] + size[1])


def _fit_part(part: Pictures, item: Image) -> Pictures:
    """The part in the size and the channels of an input. Values of label maps are not mixed."""
    image = PIL.Image.fromarray(part).convert(MODES[item.channels])
    if item.size is not None and item.size != part.shape[:2]:
        kinds = PIL.Image.Resampling
        image = image.resize(item.size[::-1], kinds.BICUBIC if takes_photographs(item) else kinds.NEAREST)
    return np.asarray(image).reshape(image.height, image.width, item.channels)


def _split_picture(picture: Pictures) -> tuple[Pictures, Pictures]:
    """Both halves of a picture, cut across its longer side; twice the picture if that has one pixel."""
    axis = int(picture.shape[1] > picture.shape[0])
    middle = picture.shape[axis] // 2
    one, other = np.split(picture, [middle], axis) if middle else (picture, picture)
    return one, other


def _hash(path: Path) -> bytes:
    """The place of a file in the order that they are used in: mixed, and new files do not change it for the others."""
    return hashlib.sha256(path.as_posix().encode(errors="surrogateescape")).digest()


def _count_rows(crops: Crops) -> int:
    return len(next(iter(crops.values())))
