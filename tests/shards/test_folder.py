"""The folder of a job."""

import errno
import fcntl
from pathlib import Path

import pytest

from ganrt.errors import RequestError
from ganrt.folder_lock import lock_folder
from ganrt.shards import clear_folder, holds_only_pictures, is_unused, remove_drafts

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


def test_what_a_job_made_is_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, [*MADE, *DRAFTS, *OTHERS])
    removed: list[str] = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path: (removed.append(path.name), unlink(path)))
    clear_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(OTHERS)
    assert set(removed[:2]) == {"job.json", ".ganrt-job.json"}, "a rest is not taken for a job"


def test_a_folder_of_shards_is_known_from_others(tmp_path: Path) -> None:
    assert is_unused(tmp_path)
    (tmp_path / DRAFTS[0]).touch()
    assert is_unused(tmp_path) and holds_only_pictures(tmp_path)
    fill(tmp_path, [*MADE, *DRAFTS])
    assert holds_only_pictures(tmp_path) and not is_unused(tmp_path)
    for name in OTHERS:
        (tmp_path / name).touch()
        assert not holds_only_pictures(tmp_path)
        (tmp_path / name).unlink()


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
