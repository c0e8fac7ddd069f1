"""The cache folders: their files are trusted, so others must not be able to write to them."""

import errno
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ganrt import cache as module
from ganrt.cache import cache_folder, check_cache, find_cache_folder, find_optional_folder, write_cached_file
from ganrt.errors import MachineError, MissingLibraryError
from ganrt.stores import FolderStore


def test_a_folder_is_private_to_its_user(cache: Path) -> None:
    assert find_cache_folder("proofs") is None
    folder = cache_folder("proofs")
    assert folder == cache / "ganrt" / "proofs" == find_cache_folder("proofs")
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("open_folder", [cache_folder, find_cache_folder])
def test_a_folder_that_others_can_write_to_is_rejected(open_folder: object, mode: int) -> None:
    cache_folder("tuned").chmod(mode)
    with pytest.raises(MachineError, match=r"tuned, the cache of tuned, .* is writable by others, .* chmod 700"):
        open_folder("tuned")  # type: ignore[operator]


def test_a_folder_that_others_can_read_is_accepted() -> None:
    cache_folder("tuned").chmod(0o755)
    assert find_cache_folder("tuned") is not None


def test_a_folder_of_another_user_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder("engines")
    monkeypatch.setattr(module.os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(MachineError, match="belongs to another user"):
        cache_folder("engines")


def test_a_folder_that_cannot_be_created_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    with pytest.raises(MachineError, match=r"the cache of proofs, cannot be created: Not a directory"):
        cache_folder("proofs")


def test_without_platformdirs_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(MissingLibraryError, match=r"the cache of engines needs platformdirs.*ganrt\[tensorrt\]"):
        cache_folder("engines", "tensorrt")


def test_the_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANRT_CACHE", str(tmp_path / "own"))
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert cache_folder("proofs") == tmp_path / "own" / "proofs"


def test_an_empty_name_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANRT_CACHE", "")
    assert cache_folder("proofs") == cache / "ganrt" / "proofs"


@pytest.mark.parametrize("name", ["here", "./here", "~/here"])
def test_the_name_must_be_absolute(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANRT_CACHE", name)
    with pytest.raises(MachineError, match=f"GANRT_CACHE is '{name}', which is not an absolute path"):
        cache_folder("proofs")


@pytest.mark.parametrize("version", ["raises", "returns a relative path"])
def test_without_a_home_folder_the_variable_is_named(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What platformdirs does depends on its version."""
    import platformdirs

    def find(_: str) -> Path:
        if version == "raises":
            raise RuntimeError("could not determine the home directory")
        return Path("~/.cache/ganrt")

    monkeypatch.setattr(platformdirs, "user_cache_path", find)
    for open_folder in (cache_folder, find_cache_folder):
        with pytest.raises(MachineError, match=r"the user \d+ has no home folder, .*: set GANRT_CACHE to one"):
            open_folder("engines")


@pytest.mark.parametrize("kind", ["a file", "below a file"])
def test_what_is_no_folder_is_not_found(kind: str, cache: Path) -> None:
    root = cache / "ganrt"
    if kind == "a file":
        root.mkdir()
        root /= "proofs"
    root.touch()
    assert find_cache_folder("proofs") is None
    with pytest.raises(MachineError, match="the cache of proofs, cannot be created"):
        cache_folder("proofs")


def test_a_folder_that_was_removed_is_made_again(cache: Path) -> None:
    write_cached_file("proofs", "a", b"1")
    shutil.rmtree(cache)
    assert find_optional_folder("proofs") is None
    write_cached_file("proofs", "a", b"2")
    found = find_optional_folder("proofs")
    assert found is not None and (found / "a").read_bytes() == b"2"


def test_a_folder_that_vanishes_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder("proofs")
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: shutil.rmtree(module.cache_root(), ignore_errors=True))
    with pytest.raises(MachineError, match="the cache of proofs, cannot be created: No such file"):
        cache_folder("proofs")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_one_warning(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    for name in ("a", "b"):
        write_cached_file("proofs", name, b"")
    (warning,) = caplog.records
    assert warning.levelname == "WARNING"
    assert f"/proofs/a cannot be written: {os.strerror(number)}" in warning.message
    assert list(cache_folder("proofs").iterdir()) == []


def test_a_second_problem_is_information(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("proofs", "tuned"):
        cache_folder(name).chmod(0o777)
    with caplog.at_level(logging.INFO):
        assert find_optional_folder("tuned") is None
        write_cached_file("proofs", "x", b"")
        assert find_optional_folder("proofs") is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
    assert "the cache of tuned" in caplog.records[0].message and "the cache of proofs" in caplog.records[1].message
    assert "ganrt works without it: it proves a variant at every load" in caplog.text


WRITE_AND_READ = """
import sys
from ganrt.cache import cache_folder, write_cached_file
for number in range(300):
    write_cached_file("proofs", "shared", sys.argv[1].encode() * 100_000)
    content = (cache_folder("proofs") / "shared").read_bytes()
    assert len(content) == 100_000 and len(set(content)) == 1, content[:9]
"""


def test_two_processes_may_write_at_once() -> None:
    """Both start without a folder; a reader never sees half a file, or one of two writers."""
    command = [sys.executable, "-W", "error", "-c", WRITE_AND_READ]
    both = [subprocess.Popen([*command, letter], stderr=subprocess.PIPE, text=True) for letter in "ab"]
    assert [process.communicate(timeout=60)[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert [path.name for path in cache_folder("proofs").iterdir()] == ["shared"]


def test_the_check_creates_nothing(cache: Path) -> None:
    check_cache()
    assert list(cache.iterdir()) == []
    (cache / "ganrt").touch()
    with pytest.raises(MachineError, match=r"ganrt/proofs, the cache of proofs, cannot be written: .*/ganrt does not"):
        check_cache()


@pytest.mark.parametrize("name", module.OPTIONAL)
def test_the_check_looks_at_both(name: str) -> None:
    for each in module.OPTIONAL:
        cache_folder(each)
    check_cache()
    cache_folder(name).chmod(0o722)
    with pytest.raises(MachineError, match=f"the cache of {name}, belongs to another user or is writable by others"):
        check_cache()


def test_the_check_finds_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache_folder("tuned")
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == folder and mode & os.W_OK))
    with pytest.raises(MachineError, match=r"the cache of tuned, cannot be written: .*/tuned does not allow it"):
        check_cache()


def test_proofs_and_tuned_records_that_others_can_write_are_not_trusted(caplog: pytest.LogCaptureFixture) -> None:
    from fakes.sessions import SPEC

    from ganrt.bundle import Bundle, Variant
    from ganrt.trust import _read_proof
    from ganrt.tuned import find_record

    for name in ("proofs", "tuned"):
        folder = cache_folder(name)
        (folder / f"{'0' * 64}.json").write_text("{}")
        folder.chmod(0o777)
    with caplog.at_level(logging.INFO):
        assert _read_proof("0" * 64) is None
        assert find_record(Bundle(FolderStore(Path()), SPEC, {"fp32": Variant("model.onnx", 20, "fp32")}, {})) is None
    assert "the cache of proofs, belongs to another" in caplog.text
    assert "the cache of tuned, belongs to another" in caplog.text
    assert caplog.text.count("WARNING") == 1
