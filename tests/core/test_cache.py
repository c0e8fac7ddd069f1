"""The cache folders: their files are trusted, so others must not be able to write to them."""

import logging
import os
import sys
from pathlib import Path

import pytest

from ganrt import cache as module
from ganrt.cache import cache_folder, find_cache_folder
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


def test_proofs_and_tuned_records_that_others_can_write_are_not_trusted(caplog: pytest.LogCaptureFixture) -> None:
    from fakes.sessions import SPEC

    from ganrt.bundle import Bundle, Variant
    from ganrt.trust import _read_proof
    from ganrt.tuned import find_record

    for name in ("proofs", "tuned"):
        folder = cache_folder(name)
        (folder / f"{'0' * 64}.json").write_text("{}")
        folder.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert _read_proof("0" * 64) is None
        assert find_record(Bundle(FolderStore(Path()), SPEC, {"fp32": Variant("model.onnx", 20, "fp32")}, {})) is None
    assert "proving again" in caplog.text and "the tuned record is ignored" in caplog.text
