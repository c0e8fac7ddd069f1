"""`verify` checks every file, used or not, and leaves a card that somebody edited alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ganrt
from ganrt.bundle import Bundle
from ganrt.errors import BundleError
from ganrt.export import verify


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of a bundle that a test may damage."""
    return Path(shutil.copytree(bundle.folder, tmp_path / "tiny.ganrt"))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "weights.safetensors"])
def test_a_changed_file_is_found_though_no_backend_would_use_it(name: str, folder: Path) -> None:
    damage(folder / name)
    before = (folder / "ganrt.json").read_bytes()
    with pytest.raises(BundleError, match=rf"{name.replace('.', '[.]')} has \d+ bytes; the manifest lists \d+"):
        verify(folder, backends="onnxruntime")
    assert (folder / "ganrt.json").read_bytes() == before


def test_all_damaged_files_are_named_at_once(folder: Path) -> None:
    damage(folder / "golden.npz")
    (folder / "weights.safetensors").unlink()
    (folder / "README.md").unlink()
    with pytest.raises(BundleError, match=r"tiny\.ganrt has 2 damaged files:\n- .*\n- ") as caught:
        verify(folder, backends="onnxruntime")
    assert "golden.npz has" in str(caught.value) and "weights.safetensors cannot be read" in str(caught.value)
    assert "README.md" not in str(caught.value)


def test_an_edited_card_is_reported_and_kept(folder: Path) -> None:
    """Model hubs edit cards, and so do people."""
    card = folder / "README.md"
    edited = card.read_text() + "\nThe generator of my thesis.\n"
    card.write_text(edited)
    listed = Bundle.read(folder).files["README.md"]
    lines: list[str] = []
    assert verify(folder, backends="onnxruntime", progress=lines.append).passed
    assert any("README.md has" in line and "no backend uses it" in line for line in lines)
    assert card.read_text() == edited and Bundle.read(folder).files["README.md"] == listed
    lines.clear()
    verify(folder, backends="onnxruntime", progress=lines.append)
    assert any("README.md has" in line for line in lines) and card.read_text() == edited
    ganrt.load(folder, "onnxruntime").close()


def test_pictures_and_a_card_that_are_missing_are_written_again(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        if path.suffix in (".png", ".md"):
            path.unlink()
    lines: list[str] = []
    assert verify(folder, backends="onnxruntime", progress=lines.append).passed
    assert any("samples.png cannot be read" in line for line in lines)
    left = {path.name for path in folder.iterdir()}
    assert {"README.md", "samples.png"} <= left and all("onnxruntime" not in name for name in before - left)
    assert not any(name in left for name in Bundle.read(folder).find_damage())
