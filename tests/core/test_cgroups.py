"""Limits of control groups, read from trees of files as the kernel and container runtimes lay them out."""

from pathlib import Path

import pytest

from ganrt.cgroups import read_cpu_quota, read_memory_limit

V2 = "31 23 0:28 {root} {point} rw,relatime - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {root} {point} rw,relatime shared:9 - cgroup cgroup rw,{controllers}"
OTHER = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw"


def make_tree(root: Path, groups: str, mounts: list[str], files: dict[str, str]) -> Path:
    """Write the files of /proc and the limits, and return `root`."""
    every = {"proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join([OTHER, *mounts]) + "\n", **files}
    for name, text in every.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def make_v2(root: Path, files: dict[str, str], group: str = "/", mounted: str = "/") -> Path:
    mount = V2.format(root=mounted, point="/sys/fs/cgroup")
    return make_tree(root, f"0::{group}\n", [mount], {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


def make_v1(root: Path, quotas: dict[str, tuple[str, str]], group: str = "/", mounted: str = "/") -> Path:
    """`quotas`: folder below the mount point -> quota and period."""
    point = "/sys/fs/cgroup/cpu,cpuacct"
    mount = V1.format(root=mounted, point=point, controllers="cpu,cpuacct")
    files = {
        f"{point[1:]}/{folder}/cpu.cfs_{name}_us": text
        for folder, pair in quotas.items()
        for name, text in zip(("quota", "period"), pair, strict=True)
    }
    return make_tree(root, f"7:memory:/else\n4:cpu,cpuacct:{group}\n1:name=systemd:/x\n", [mount], files)


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("50000 100000\n", 0.5),
        ("150000 100000", 1.5),
        ("30000 20000", 1.5),
        ("250000", 2.5),
        ("max 100000", None),
        ("max", None),
        ("0 100000", None),
        ("100000 0", None),
        ("", None),
        ("many 100000", None),
        ("-5 100000", None),
    ],
)
def test_version_2(tmp_path: Path, text: str, quota: float | None) -> None:
    assert read_cpu_quota(make_v2(tmp_path, {"cpu.max": text})) == quota


@pytest.mark.parametrize(
    ("quota", "period", "found"),
    [
        ("50000\n", "100000\n", 0.5),
        ("1600000", "100000", 16.0),
        ("-1", "100000", None),
        ("0", "100000", None),
        ("100000", "0", None),
        ("100000", "", None),
    ],
)
def test_version_1(tmp_path: Path, quota: str, period: str, found: float | None) -> None:
    assert read_cpu_quota(make_v1(tmp_path, {"": (quota, period)})) == found


def test_a_quota_without_its_period_sets_no_limit(tmp_path: Path) -> None:
    root = make_v1(tmp_path, {"": ("100000", "100000")})
    (root / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us").unlink()
    assert read_cpu_quota(root) is None


def test_the_smallest_quota_of_the_group_and_its_ancestors_counts(tmp_path: Path) -> None:
    files = {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000", "cpu.max": "max 100000"}
    files |= {"a/b/c/cpu.max": "100 100000", "z/cpu.max": "100 100000"}  # of a child and of a stranger
    assert read_cpu_quota(make_v2(tmp_path / "v2", files, "/a/b")) == 2.0
    quotas = {"a/b": ("400000", "100000"), "a": ("300000", "100000"), "z": ("100", "100000")}
    assert read_cpu_quota(make_v1(tmp_path / "v1", quotas, "/a/b")) == 3.0


@pytest.mark.parametrize(
    ("group", "mounted"),
    [
        ("/docker/0123", "/docker/0123"),  # the host's path, and a mount of the container's own group
        ("/docker/0123", "/kubepods/x"),  # the host's path, which is not below what is mounted
        ("/docker/0123", "/"),  # a path that does not exist in the mount
        ("/docker/0123", "/docker/01"),  # a name that begins with another
        ("/../../elsewhere", "/"),  # outside of the namespace
        ("/gone (deleted)", "/"),
    ],
)
def test_in_a_container_the_mount_point_shows_its_group(tmp_path: Path, group: str, mounted: str) -> None:
    (tmp_path / "v2").mkdir()
    assert read_cpu_quota(make_v2(tmp_path / "v2", {"cpu.max": "150000 100000"}, group, mounted)) == 1.5
    assert read_cpu_quota(make_v1(tmp_path / "v1", {"": ("150000", "100000")}, group, mounted)) == 1.5


def test_nothing_outside_of_the_mount_is_read(tmp_path: Path) -> None:
    root = make_v2(tmp_path, {"cpu.max": "150000 100000", "../cpu.max": "100 100000"}, "/../elsewhere")
    assert read_cpu_quota(root) == 1.5


def test_a_group_below_the_mounted_one_is_found(tmp_path: Path) -> None:
    root = make_v2(tmp_path, {"inner/cpu.max": "50000 100000", "cpu.max": "max"}, "/pod/inner", "/pod")
    assert read_cpu_quota(root) == 0.5


def test_both_versions_at_once(tmp_path: Path) -> None:
    """A hybrid system mounts version 2 beside version 1; the controller is in one of them."""
    mounts = [
        V1.format(root="/", point="/sys/fs/cgroup/cpu", controllers="cpu"),
        V1.format(root="/", point="/sys/fs/cgroup/cpuset", controllers="cpuset"),
        V2.format(root="/", point="/sys/fs/cgroup/unified"),
    ]
    files = {
        "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000",
        "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us": "1",
        "sys/fs/cgroup/cpuset/x/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/unified/cgroup.procs": "1",
    }
    assert read_cpu_quota(make_tree(tmp_path, "3:cpuset:/x\n1:cpu:/x\n0::/\n", mounts, files)) == 0.5


def test_a_mount_point_with_a_space_and_a_group_with_a_colon(tmp_path: Path) -> None:
    mount = V2.format(root="/", point="/sys/fs/my\\040groups")
    files = {"sys/fs/my groups/a:b/cpu.max": "150000 100000"}
    assert read_cpu_quota(make_tree(tmp_path, "0::/a:b\n", [mount], files)) == 1.5


@pytest.mark.parametrize("missing", ["proc/self/cgroup", "proc/self/mountinfo", "sys/fs/cgroup/cpu.max"])
def test_files_that_cannot_be_read_set_no_limit(tmp_path: Path, missing: str) -> None:
    root = make_v2(tmp_path, {"cpu.max": "50000 100000"})
    assert read_cpu_quota(root) == 0.5
    (root / missing).unlink()
    assert read_cpu_quota(root) is None
    (root / missing).mkdir()
    assert read_cpu_quota(root) is None


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    root = make_v2(tmp_path, {"cpu.max": "50000 100000"})
    for name, junk in (("cgroup", b"\xff\nx:y\n::\n"), ("mountinfo", b"\xff - \n1 2 3 - cgroup2 a b\n - cgroup\n")):
        path = root / "proc/self" / name
        path.write_bytes(junk + path.read_bytes())
    assert read_cpu_quota(root) == 0.5


def test_the_memory_limit(tmp_path: Path) -> None:
    files = {"a/memory.max": "max\n", "memory.max": "2147483648\n"}
    assert read_memory_limit(make_v2(tmp_path / "v2", files, "/a")) == 2**31
    mount = V1.format(root="/", point="/sys/fs/cgroup/memory", controllers="memory")
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1073741824",
    }
    assert read_memory_limit(make_tree(tmp_path / "v1", "4:memory:/a\n", [mount], files)) == 2**30
    assert read_memory_limit(make_tree(tmp_path / "v1", "4:memory:/\n", [mount], files)) is None
