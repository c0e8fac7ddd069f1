"""Files and folders appear complete or not at all, even if their writer is killed."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ganrt.atomic import check_output, list_drafts, new_draft, new_folder, shorten_name, write_file
from ganrt.errors import MachineError, RequestError

KILLED = """
import os, signal, sys
from pathlib import Path
from ganrt import atomic

os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
atomic.write_file(Path(sys.argv[1]), b"new" * 10**5)
"""

KILLED_IN_FOLDER = """
import os, signal, sys
from pathlib import Path
from ganrt import atomic

with atomic.new_folder(Path(sys.argv[1]), True, lambda _: True) as draft:
    (draft / "part").write_bytes(b"new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def anything(folder: Path) -> bool:
    """For tests in which every folder may be replaced."""
    return True


def run_killed(script: str, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", script, path], check=False)
    assert done.returncode == -signal.SIGKILL


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def visible(folder: Path) -> list[str]:
    return [name for name in names(folder) if not name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "kept"), [("x" * 255, 245), ("x" * 246, 245), ("x" * 245, 245), ("é" * 127, 122), ("é" * 122, 122)]
)
def test_names_that_leave_no_room_for_those_of_drafts(tmp_path: Path, name: str, kept: int) -> None:
    run_killed(KILLED, tmp_path / name)
    ((begun, draft),) = list_drafts(tmp_path)
    assert begun == shorten_name(name) == name[:kept] and draft.exists()
    write_file(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"


def test_a_file_is_written_with_the_usual_permissions(tmp_path: Path) -> None:
    write_file(tmp_path / "new" / "file.json", b"content")
    (tmp_path / "plain").write_bytes(b"")
    path = tmp_path / "new" / "file.json"
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert names(tmp_path / "new") == ["file.json"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        write_file(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("existing", [True, False])
def test_a_killed_writer_leaves_the_old_file(existing: bool, tmp_path: Path) -> None:
    if existing:
        (tmp_path / "file").write_bytes(b"old")
    run_killed(KILLED, tmp_path / "file")
    assert visible(tmp_path) == (["file"] if existing else [])
    assert not existing or (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("existing", [True, False])
def test_a_killed_writer_leaves_the_old_folder(existing: bool, tmp_path: Path) -> None:
    if existing:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "old").touch()
    run_killed(KILLED_IN_FOLDER, tmp_path / "folder")
    assert visible(tmp_path) == (["folder"] if existing else [])
    assert not existing or names(tmp_path / "folder") == ["old"]


@pytest.mark.parametrize("name", ["folder", "folder/file/below", "new\0line", "x" * 300])
def test_a_file_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(MachineError, match="cannot be written"):
        write_file(tmp_path / name, b"content")
    assert names(tmp_path) == ["folder"]


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    with new_folder(path) as draft:
        (draft / "file").write_text("content")
        assert visible(path.parent) == []
    assert (path / "file").read_text() == "content"
    assert names(path.parent) == ["folder"]
    (tmp_path / "plain").mkdir()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(RequestError, match="exists already; choose another name, or add --overwrite"), new_folder(path):
        pytest.fail("the work must not begin")
    with new_folder(path, True, anything) as draft:
        (draft / "new").touch()
    assert names(path) == ["new"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_folder(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(error), new_folder(path, True, anything) as draft:
        (draft / "new").touch()
        raise error
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(RequestError, match="exists already"), new_folder(path):
        path.mkdir()
    assert names(tmp_path) == ["folder"]


def test_the_old_folder_is_restored_if_the_new_one_cannot_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(MachineError, match="cannot be written"), new_folder(path, True, anything) as draft:
        draft.rmdir()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("name", [".", "..", "work", "work/.."])
def test_the_current_folder_is_never_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    path = Path(name) if name.startswith(".") else tmp_path / name
    with (
        pytest.raises(RequestError, match="is or contains the current folder"),
        new_folder(path, True, anything),
    ):
        pytest.fail("the work must not begin")


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_files_and_links_at_the_path_are_kept(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.touch() if kind == "file" else path.symlink_to("nowhere")
    with pytest.raises(RequestError, match="exists already"):
        check_output(path, overwrite=False)
    with pytest.raises(RequestError, match="is not a folder, so it is not replaced"), new_folder(path, True, anything):
        pytest.fail("the work must not begin")
    assert path.is_symlink() or path.is_file()


def test_only_folders_of_the_command_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with new_folder(path, overwrite=True) as draft:  # an empty folder may be replaced
        (draft / "thesis.tex").touch()
    with pytest.raises(RequestError, match="was not made by this command"), new_folder(path, overwrite=True):
        pytest.fail("the work must not begin")
    assert names(path) == ["thesis.tex"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with new_folder(tmp_path / "link", overwrite=True) as draft:
        (draft / "new").touch()
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "real") == ["new"]


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a file, so it is not replaced"):
        check_output(tmp_path, overwrite=True)


def test_an_unwritable_path_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "below", tmp_path / ("x" * 300), Path("/proc/out.json")):
        with pytest.raises(MachineError, match="cannot be written"):
            check_output(path, overwrite=False)


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be written"), new_folder(tmp_path / "file" / "folder"):
        pytest.fail("the work must not begin")


def test_a_draft_folder_is_gone_in_the_end(tmp_path: Path) -> None:
    """But for what was moved out of it."""
    with new_draft(tmp_path / "below" / "made") as draft:
        (draft / "a").write_bytes(b"a")
        (draft / "b").write_bytes(b"b")
        (draft / "a").replace(tmp_path / "a")
    with (
        pytest.raises(MachineError, match=r"made cannot be written: No such file"),
        new_draft(tmp_path / "made") as draft,
    ):
        (draft / "nowhere" / "a").write_bytes(b"a")
    with pytest.raises(MachineError, match="cannot be written"), new_draft(tmp_path / "a" / "made"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "below"]
