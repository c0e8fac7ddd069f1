"""The folder of a job."""

import errno
import fcntl
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ganrt.errors import MachineError, RequestError
from ganrt.folder_lock import hold_work_folder, lock_folder
from ganrt.images import encode_png
from ganrt.shards import clear_folder, is_unused, remove_drafts, was_made_by_jobs

MADE = ["shard-000000.tar", "shard-1000000.npz", "shard-000002.parquet", "00000007.png", "job.json", ".ganrt-job.json"]
DRAFTS = [".shard-000001.tar.0123abcd", ".00000008.png.01234567", ".job.json.deadbeef"]
OTHERS = ["shard-00.tar", "photo.png", "shard-000000.txt", ".shard-000001.tar.swp", "0000007.png"]


def fill(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).write_bytes(b"x")
    for name in ("shard-000003", ".shard-000004.0123abcd"):
        (folder / name).mkdir()
        (folder / name / "00000001.png").write_bytes(b"x")


def test_drafts_are_removed_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, [*MADE, *DRAFTS, *OTHERS])
    remove_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*MADE, *OTHERS, "shard-000003"}


def test_what_a_job_made_is_removed_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, [*MADE, *DRAFTS, *OTHERS])
    clear_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(OTHERS)


PICTURE = encode_png(np.zeros((2, 2, 3), np.uint8), {"seed": "1", "bundle": "abc"})
RECORD = json.dumps({"bundle": "abc", "libraries": {}}).encode()


def fill_as_a_job(folder: Path) -> None:
    fill(folder, [*MADE, *DRAFTS])
    (folder / "shard-000003" / "00000001.png").write_bytes(PICTURE)
    (folder / "00000007.png").write_bytes(PICTURE)
    (folder / "00000009.png").touch()
    for name in ("job.json", ".ganrt-job.json"):
        (folder / name).write_bytes(RECORD)


def test_a_folder_of_shards_is_known_from_others(tmp_path: Path) -> None:
    assert is_unused(tmp_path)
    (tmp_path / DRAFTS[0]).touch()
    assert is_unused(tmp_path) and was_made_by_jobs(tmp_path)
    fill_as_a_job(tmp_path)
    assert was_made_by_jobs(tmp_path) and not is_unused(tmp_path)
    for name in OTHERS:
        (tmp_path / name).touch()
        assert not was_made_by_jobs(tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("20240101.png", encode_png(np.zeros((2, 2, 3), np.uint8))),  # a date
        ("shard-000003/caption.txt", b"mine"),
        ("shard-000003/00000002.png", b"mine"),
        ("shard-000003/00000002.png/a", b"mine"),
        ("00000002.png/a", b"mine"),
        ("job.json", b'{"name": "mine"}'),
        ("job.json", b"[]"),
        ("job.json", b"not JSON"),
    ],
)
def test_files_of_others_that_are_named_alike_are_not_overwritten(name: str, content: bytes, tmp_path: Path) -> None:
    fill_as_a_job(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    assert not was_made_by_jobs(tmp_path)


def test_shards_without_a_record_are_those_of_others(tmp_path: Path) -> None:
    for name, is_ours in {"shard-000000.tar": False, "00000007.png": True}.items():
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        (tmp_path / name).write_bytes(PICTURE)
        assert was_made_by_jobs(tmp_path) == is_ours, name
    (tmp_path / "shard-000003").mkdir()
    (tmp_path / "shard-000003" / "00000001.png").write_bytes(PICTURE)
    assert not was_made_by_jobs(tmp_path)
    (tmp_path / "job.json").write_bytes(RECORD)
    assert was_made_by_jobs(tmp_path)
    (tmp_path / "00000008.png").symlink_to(tmp_path / "00000007.png")
    assert not was_made_by_jobs(tmp_path)


@pytest.mark.parametrize("steps", range(5))
def test_what_a_clearing_that_was_killed_leaves_is_no_job_and_can_be_overwritten(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_as_a_job(tmp_path)
    unlink, left = Path.unlink, steps

    def stop(path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        unlink(path)

    monkeypatch.setattr(Path, "unlink", stop)
    with pytest.raises(KeyboardInterrupt):
        clear_folder(tmp_path)
    assert not (tmp_path / "job.json").exists() and not (tmp_path / ".ganrt-job.json").exists()
    assert was_made_by_jobs(tmp_path) and not is_unused(tmp_path)


def test_one_process_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(RequestError, match="another process is writing"), lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path):
        pass


def test_a_file_system_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock_folder(tmp_path):
        pass


def test_a_work_folder_is_made_and_removed_if_it_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / ".parts"
    with (
        hold_work_folder(folder, tmp_path / "a"),
        pytest.raises(RequestError, match=r"another process is writing .*/a; wait for it"),
        hold_work_folder(folder, tmp_path / "a"),
    ):
        pass
    assert not folder.exists()
    with hold_work_folder(folder, tmp_path / "a"):
        (folder / "kept").touch()
    assert folder.exists()
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="file cannot be written"), hold_work_folder(tmp_path / "file", tmp_path):
        pass


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_folder_that_was_removed_before_it_was_locked_is_not_held(
    made_anew: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the process that held it, between the opening and the lock of another."""
    folder, flock = tmp_path / ".parts", fcntl.flock
    times = 0

    def remove_first(opened: int, how: int) -> None:
        nonlocal times
        times += 1
        if times == 1:
            folder.rmdir()
            if made_anew:
                folder.mkdir()
        flock(opened, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with hold_work_folder(folder, tmp_path / "a"):
        assert times == 2 and folder.exists()
        with pytest.raises(RequestError), lock_folder(folder):
            pass
