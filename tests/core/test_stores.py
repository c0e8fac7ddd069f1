"""Files of a bundle are checked when they are used: those that are not need not be there, and cost nothing."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ganrt
from ganrt import stores
from ganrt.bundle import Bundle
from ganrt.cache import cache_folder
from ganrt.errors import BundleError, MachineError, RequestError
from ganrt.stores import MANIFEST, FileDigest, FolderStore, Store, open_store
from ganrt.zip_store import write_zip


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of a bundle that a test may damage."""
    return Path(shutil.copytree(bundle.folder, tmp_path / "tiny.ganrt"))


@pytest.fixture
def archive(folder: Path) -> Path:
    """The same in one file."""
    write_zip(folder, sorted(path.name for path in folder.iterdir()), folder.with_suffix(".zip"))
    return folder.with_suffix(".zip")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was hashed."""
    counts: Counter[str] = Counter()
    original = stores.hash_file

    def count(path: Path) -> str:
        counts[path.name] += 1
        return original(path)

    monkeypatch.setattr(stores, "hash_file", count)
    return counts


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_reading_a_bundle_hashes_nothing_and_loading_it_each_used_file_once(folder: Path, hashed: Counter[str]) -> None:
    Bundle.read(folder)
    assert not hashed
    ganrt.load(folder, "onnxruntime", variant="fp32").close()
    assert hashed == {"model.onnx": 1}  # the bundle's record has the proof, so the golden samples are not read
    ganrt.load(folder, "onnxruntime", variant="fp32", threads=1).close()
    assert hashed == {"model.onnx": 2, "golden.npz": 1}  # these options are proven first
    hashed.clear()
    ganrt.load(folder, "pytorch").close()
    assert hashed == {"weights.safetensors": 1}


def test_a_graph_that_two_backends_try_is_hashed_once(
    folder: Path, hashed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganrt.backends import onnxruntime

    opened = onnxruntime._open_session

    def fail(bundle: Bundle, *arguments: Any) -> None:
        opened(bundle, *arguments)
        raise MachineError("broken today")

    monkeypatch.setattr(onnxruntime, "_open_session", fail)
    with ganrt.load(folder, variant="fp32") as generator:
        assert generator.session.backend == "openvino"
    assert hashed == {"model.onnx": 1}


def test_a_bare_file_is_hashed_once(folder: Path, hashed: Counter[str]) -> None:
    ganrt.load(folder / "model.onnx", "onnxruntime", unproven=True).close()
    assert hashed == {"model.onnx": 1}


def test_a_file_that_changes_after_it_was_checked_is_checked_again(folder: Path) -> None:
    bundle = Bundle.read(folder)
    path = bundle.onnx("fp32")
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(BundleError, match=r"model\.onnx has \d+ bytes; the manifest lists"):
        bundle.onnx("fp32")
    path.write_bytes(content)
    assert bundle.onnx("fp32") == path


@pytest.mark.parametrize("kind", ["edited", "missing"])
def test_a_bundle_loads_whatever_happened_to_files_that_are_not_used(kind: str, folder: Path) -> None:
    """Hubs edit cards; people and git-lfs leave out pictures, weights and graphs."""
    with ganrt.load(folder, "onnxruntime", variant="fp32") as generator:
        wanted = generator.sample(3, seed=7)
    for path in folder.iterdir():
        if path.name in (MANIFEST, "model.onnx"):
            continue
        if kind == "edited":
            change(path)
        else:
            path.unlink()
    with ganrt.load(folder, "onnxruntime", variant="fp32") as generator:
        np.testing.assert_array_equal(generator.sample(3, seed=7), wanted)


@pytest.mark.parametrize(
    ("name", "backend", "options"),
    [
        ("model.onnx", "onnxruntime", {"variant": "fp32"}),
        ("model.onnx", "openvino", {"variant": "fp32"}),
        ("model.onnx", "reference", {"variant": "fp32"}),
        ("weights.safetensors", "pytorch", {}),
        ("golden.npz", "onnxruntime", {"variant": "fp32", "threads": 1}),  # options that are not proven yet
    ],
)
def test_a_bundle_does_not_load_with_a_changed_file_that_is_used(
    name: str, backend: str, options: dict[str, object], folder: Path
) -> None:
    change(folder / name)
    with pytest.raises(BundleError, match=rf"{name.replace('.', '[.]')} was changed after the bundle was written"):
        ganrt.load(folder, backend, **options)  # type: ignore[arg-type]
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name.replace('.', '[.]')} cannot be read \(No such file"):
        ganrt.load(folder, backend, **options)  # type: ignore[arg-type]


def test_load_goes_on_without_a_stripped_variant_and_says_why(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Bundle.read(folder).in_precision("fp32") == ["fp32", "fp32-phases"]
    (folder / "model.onnx").unlink()
    with caplog.at_level(logging.WARNING), ganrt.load(folder, "onnxruntime") as generator:
        assert generator.info.config.variant == "fp32-phases"
    assert "onnxruntime is skipped" in caplog.text and "cannot be read (No such file" in caplog.text


def test_external_data_is_checked_with_its_graph(folder: Path) -> None:
    (folder / "model.onnx.data").write_bytes(b"weights")
    bundle = Bundle.read(folder).with_files("model.onnx.data")
    assert bundle.list_graph_files("fp32") == ["model.onnx", "model.onnx.data"]
    assert bundle.onnx("fp32") == folder / "model.onnx"
    (folder / "model.onnx.data").write_bytes(b"other weights")
    with pytest.raises(BundleError, match=r"model\.onnx\.data has 13 bytes; the manifest lists 7"):
        bundle.onnx("fp32")


def test_a_file_that_is_not_listed_is_not_used(folder: Path) -> None:
    (folder / "extra.bin").touch()
    with pytest.raises(BundleError, match=r"tiny\.ganrt has no extra\.bin: its manifest does not list it"):
        Bundle.read(folder).locate("extra.bin")


def test_all_damage_is_found_at_once(folder: Path) -> None:
    change(folder / "golden.npz")
    (folder / "README.md").unlink()
    found = Bundle.read(folder).find_damage()
    assert set(found) == {"golden.npz", "README.md"}
    assert "was changed" in str(found["golden.npz"]) and "cannot be read" in str(found["README.md"])


def test_stores_are_equal_by_their_path(folder: Path, archive: Path) -> None:
    assert open_store(folder) == open_store(str(folder)) == FolderStore(folder) != FolderStore(folder.parent)
    assert len({open_store(folder), open_store(folder), open_store(archive)}) == 2
    assert repr(open_store(archive)) == f"ZipStore('{archive}')"


def test_a_path_that_does_not_depend_on_the_current_folder(
    folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for path in (Path(folder.name), Path(archive.name), Path(folder.name) / "model.onnx"):
        store = open_store(path)
        assert store.path == path and store.resolve().path == path.resolve() and type(store.resolve()) is type(store)


# --- one file ---------------------------------------------------------------------------------------------------------


def test_one_file_loads_like_its_folder(folder: Path, archive: Path, hashed: Counter[str]) -> None:
    with ganrt.load(folder, "onnxruntime") as whole, ganrt.load(archive, "onnxruntime") as packed:
        np.testing.assert_array_equal(whole.sample(5, seed=3), packed.sample(5, seed=3))
        assert packed.info.bundle == archive and packed.info.digest == whole.info.digest
        assert packed.info.proof == whole.info.proof is not None
    name = Path(Bundle.read(folder).variants[whole.info.config.variant].file).name
    assert hashed == {name: 2}  # the folder's, and the extracted one
    ganrt.load(archive, "onnxruntime").close()
    assert hashed == {name: 3}  # it was extracted already, and is checked


def test_only_what_is_used_is_extracted_to_the_cache(archive: Path) -> None:
    bundle = Bundle.read(archive)
    assert not cache_folder("bundles").exists() or not list(cache_folder("bundles").iterdir())
    path = bundle.onnx("fp32")
    assert path.parent.parent == cache_folder("bundles") and [p.name for p in path.parent.iterdir()] == ["model.onnx"]
    assert bundle.store.exists("README.md") and not bundle.store.exists("nothing")


def test_a_damaged_file_in_the_cache_is_extracted_again(archive: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = Bundle.read(archive).onnx("fp32")
    content = path.read_bytes()
    change(path)
    with caplog.at_level(logging.WARNING):
        assert Bundle.read(archive).onnx("fp32").read_bytes() == content
    assert "it is extracted again" in caplog.text


def test_without_a_cache_files_are_extracted_for_this_process_alone(
    archive: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no folder"))
    with caplog.at_level(logging.INFO):
        bundle = Bundle.read(archive)
        path = bundle.onnx("fp32")
        bundle.read_golden()
    assert caplog.text.count("is extracted for this process alone") == 1
    assert path.is_file()
    del bundle
    assert not path.parent.exists()


def test_a_fork_does_not_remove_the_files_of_its_parent(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "no folder").touch()
    script = (
        "import os, sys; from ganrt import Bundle\n"
        f"bundle = Bundle.read({str(archive)!r}); path = bundle.onnx('fp32')\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit()\n"
        "os.waitpid(child, 0); print(path.exists(), path.parent)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"XDG_CACHE_HOME": str(tmp_path / "no folder"), "PATH": "/usr/bin:/bin"},
    )
    exists, _, path = done.stdout.strip().partition(" ")
    assert exists == "True" and not Path(path).exists()


def rewrite(archive: Path, members: Iterator[tuple[zipfile.ZipInfo, bytes]]) -> None:
    kept = list(members)
    with zipfile.ZipFile(archive, "w") as file:
        for info, content in kept:
            file.writestr(info, content)


def list_members(archive: Path) -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
    with zipfile.ZipFile(archive) as file:
        yield from [(info, file.read(info)) for info in file.infolist()]


def compress(archive: Path) -> None:
    for info, _ in (members := list(list_members(archive))):
        info.compress_type = zipfile.ZIP_DEFLATED
    rewrite(archive, iter(members))


def add(name: str) -> Callable[[Path], None]:
    return lambda archive: rewrite(archive, iter([*list_members(archive), (zipfile.ZipInfo(name), b"x")]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (add("../evil"), r"holds '\.\./evil', which its manifest does not list"),
        (add("/etc/passwd"), r"holds '/etc/passwd', which its manifest does not list"),
        (add("sub/model.onnx"), "holds 'sub/model.onnx', which its manifest does not list"),
        (add("model.onnx"), "holds 'model.onnx' twice"),
        (add(MANIFEST), r"holds 'ganrt\.json' twice"),
        (compress, "is compressed or encrypted; a bundle's files are stored as they are"),
        (lambda archive: rewrite(archive, iter([])), r"is not a bundle: it has no ganrt\.json"),
        (
            lambda archive: rewrite(
                archive, ((i, c + b"x" if i.filename == "model.onnx" else c) for i, c in list_members(archive))
            ),
            r"model\.onnx in .* has \d+ bytes; the manifest lists \d+",
        ),
        (
            lambda archive: rewrite(
                archive, ((i, b"\0" * (2**24 + 1) if i.filename == MANIFEST else c) for i, c in list_members(archive))
            ),
            r"ganrt\.json in .* is larger than 16777216 bytes",
        ),
    ],
)
def test_a_hostile_archive_is_rejected_before_anything_is_extracted(
    damage: Callable[[Path], None], message: str, archive: Path, cache: Path
) -> None:
    damage(archive)
    with pytest.raises(BundleError, match=message):
        Bundle.read(archive)
    assert not (cache / "ganrt").exists()


def test_files_that_overlap_are_rejected(archive: Path) -> None:
    """Many entries of one large file: a small archive that would fill a disk."""
    before = archive.stat().st_size
    with zipfile.ZipFile(archive, "a") as file:
        large = max(file.infolist(), key=lambda info: info.file_size)
        file.filelist += [_copy_entry(large, f"copy{k}") for k in range(40)]
        file._didModify = True  # type: ignore[attr-defined]
    assert archive.stat().st_size < 2 * before
    with pytest.raises(BundleError, match="is damaged: its files overlap"):
        Bundle.read(archive)


def _copy_entry(large: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    copy = zipfile.ZipInfo(name)
    copy.header_offset, copy.CRC = large.header_offset, large.CRC
    copy.file_size = copy.compress_size = large.file_size
    return copy


def test_every_flipped_byte_of_an_archive_is_found_or_harmless(archive: Path) -> None:
    content = archive.read_bytes()
    wanted = Bundle.read(archive).onnx("fp32").read_bytes()
    for place in np.unique(np.linspace(0, len(content) - 1, 60).astype(int)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        archive.write_bytes(damaged)
        try:
            found = Bundle.read(archive)
            for name in found.files:
                found.locate(name)
        except BundleError:
            continue
        assert found.onnx("fp32").read_bytes() == wanted


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\3\4 and nothing else")
    with pytest.raises(BundleError, match=r"x\.zip is not a bundle: there is a file where"):
        Bundle.read(tmp_path / "x.zip")


def test_one_file_cannot_be_changed(archive: Path) -> None:
    bundle = Bundle.read(archive)
    assert not bundle.store.writable
    with pytest.raises(RequestError, match=r"tiny\.zip cannot be changed: only a bundle that is a folder can"):
        bundle.write_manifest()


def test_a_missing_member_is_named_when_it_is_used(archive: Path) -> None:
    rewrite(archive, (member for member in list_members(archive) if member[0].filename != "golden.npz"))
    bundle = Bundle.read(archive)
    bundle.onnx("fp32")
    with pytest.raises(BundleError, match=r"tiny\.zip holds no golden\.npz, which its manifest lists"):
        bundle.read_golden()


def test_an_archive_that_is_replaced_while_it_is_used(archive: Path) -> None:
    bundle = Bundle.read(archive)
    rewrite(archive, ((i, c + b"x" if i.filename == "model.onnx" else c) for i, c in list_members(archive)))
    with pytest.raises(BundleError, match="was changed while it was in use: load it again"):
        bundle.onnx("fp32")


class Shelf(Store):
    """A store of another kind, as a package for another hub would write it."""

    def __init__(self, folder: Path, to: Path) -> None:
        super().__init__("shelf://tiny")
        self._from, self._to = folder, to

    def read_manifest(self) -> bytes:
        return (self._from / MANIFEST).read_bytes()

    def exists(self, name: str) -> bool:
        return (self._from / name).exists()

    def fetch(self, name: str, digest: FileDigest) -> Path:
        return Path(shutil.copy(self._from / name, self._to / name))


def test_a_store_of_another_kind_fetches_what_is_used(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    from dataclasses import replace

    bundle = replace(Bundle.read(folder), store=Shelf(folder, tmp_path / "to"))
    with ganrt.load(bundle, "onnxruntime", variant="fp32") as generator:
        assert generator.info.bundle == "shelf://tiny" and generator.sample(1).shape[0] == 1
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["model.onnx"]
    assert bundle.store.resolve() is bundle.store
    change(folder / "weights.safetensors")
    with pytest.raises(BundleError, match="was changed"):
        ganrt.load(bundle, "pytorch")
