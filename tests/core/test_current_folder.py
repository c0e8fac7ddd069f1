"""A current folder that was deleted is replaced for as long as a library starts."""

from pathlib import Path

import pytest

from ganrt.current_folder import existing_current_folder


def test_a_folder_that_exists_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with existing_current_folder():
        assert Path.cwd() == tmp_path
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("fails", [False, True])
def test_a_deleted_one_is_the_root_until_the_end(fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted = tmp_path / "deleted"
    deleted.mkdir()
    monkeypatch.chdir(deleted)
    number = Path().stat().st_ino
    deleted.rmdir()
    try:
        with existing_current_folder():
            assert Path.cwd() == Path("/")
            if fails:
                raise ImportError
    except ImportError:
        assert fails
    assert Path().stat().st_ino == number
    with pytest.raises(FileNotFoundError):
        Path.cwd()
