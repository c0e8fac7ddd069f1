"""Limits that a container sets through Linux control groups, version 1 and 2.

The limits of a group hold for all groups below it, so the smallest on the way from the group of this process up to the
mount point counts. Files that cannot be read, or that hold something else, set no limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_UNLIMITED = 2**60
"""Version 1 has no word for "no limit" of memory, but writes the largest multiple of a page."""


class _Mount(NamedTuple):
    version: int
    root: str
    """The group that is seen at the mount point; in a container often the container's own."""
    point: str


def read_cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many processors' worth of time this process may use, such as 1.5; None without a quota.

    Args:
        root: the folder that holds `proc` and the mount points.
    """
    quotas = []
    for version, folder in _iterate_folders(root, "cpu"):
        if version == 2:
            quota, period = [*(_read_words(folder / "cpu.max") or ["max"]), "100000"][:2]
        else:
            quota, period = ((*_read_words(folder / f"cpu.cfs_{name}_us"), "")[0] for name in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):  # "max" and "-1" mean none
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def read_memory_limit(root: Path = Path("/")) -> int | None:
    """Return how many bytes of memory this process and those of its group may use together; None without a limit.

    Args:
        root: the folder that holds `proc` and the mount points.
    """
    found = (
        _read_words(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        for version, folder in _iterate_folders(root, "memory")
    )
    limits = (int(words[0]) for words in found if words and words[0].isdecimal())
    return min((limit for limit in limits if 0 < limit < _UNLIMITED), default=None)


def _iterate_folders(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of the group of this process and of each of its ancestors that can be seen."""
    groups = _read_groups(root / "proc/self/cgroup", controller)
    for mount in _read_mounts(root / "proc/self/mountinfo", controller):
        if mount.version not in groups:
            continue
        try:
            below = PurePosixPath(groups[mount.version]).relative_to(mount.root)
        except ValueError:  # the path is the host's, and the mount shows the container's groups alone
            below = PurePosixPath()
        if ".." in below.parts:  # outside of what this namespace shows
            below = PurePosixPath()
        point = root / mount.point.lstrip("/")
        yield from ((mount.version, point / part) for part in (below, *below.parents))


def _read_groups(path: Path, controller: str) -> dict[int, str]:
    """Version -> the path of this process's group. Lines are `NUMBER:CONTROLLERS:PATH`, in version 2 `0::PATH`."""
    groups = {}
    for line in _read_text(path).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if line.startswith("0::"):
            groups[2] = group
        elif controller in controllers.split(","):
            groups[1] = group
    return groups


def _read_mounts(path: Path, controller: str) -> Iterator[_Mount]:
    """Yield the mounts of a controller. Lines are `ID PARENT DEVICE ROOT POINT OPTIONS ... - TYPE SOURCE OPTIONS`."""
    for line in _read_text(path).splitlines():
        left, dash, right = line.partition(" - ")
        fields, last = left.split(" "), right.split(" ")
        if not dash or len(fields) < 5 or len(last) < 3:
            continue
        root, point = (re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text) for text in fields[3:5])
        if last[0] == "cgroup2":
            yield _Mount(2, root, point)
        elif last[0] == "cgroup" and controller in last[2].split(","):
            yield _Mount(1, root, point)


def _read_words(path: Path) -> list[str]:
    return _read_text(path).split()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
