"""Jobs that are killed, and what is looked for in the pictures they made."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ganrt
from ganrt.bench.jobs import kill
from ganrt.bench.jobs.folder import find_made, inspect, write_pictures
from ganrt.bench.jobs.picture_kinds import make_kinds
from ganrt.bundle import Bundle
from ganrt.errors import MachineError
from ganrt.photos.reader import ReadOptions, read_photo

KINDS = {kind.name: kind for kind in make_kinds(3)}
SLOW = """
import pathlib, sys, time
for k in range(6):
    path = pathlib.Path(sys.argv[1], f"{k}.txt")
    if not path.exists():
        path.write_text(str(k))
        time.sleep(0.3)
"""
"""A job that continues where it was stopped."""


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_shows_what_it_says(name: str) -> None:
    kind = KINDS[name]
    photo = read_photo(kind.content, ReadOptions(16))
    assert len(photo.frames) == len(kind.frames)
    for frame, wanted in zip(photo.frames, kind.frames, strict=True):
        found = frame.join()
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
        seen = wanted[..., -1:] > 0 if wanted.shape[2] in (2, 4) else np.True_
        difference = np.abs(found.astype(float) - wanted).mean(where=np.broadcast_to(seen, found.shape))
        assert difference <= (1 if kind.exact else 6) * (np.iinfo(found.dtype).max // 255)


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    made = [write_pictures(tmp_path / name, len(KINDS) + 2) for name in "ab"]
    assert len(made[0]) == len(KINDS) + 2
    assert kill.hash_folder(tmp_path / "a") == kill.hash_folder(tmp_path / "b")


def test_losses_are_found(espcn: Bundle) -> None:
    with ganrt.load(espcn.folder, "onnxruntime", device="cpu") as generator:

        def find_problems(name: str, other: str) -> tuple[str, ...]:
            """What is lost if the picture that is made of one kind was made of another."""
            made = generator.transform_photo(read_photo(KINDS[other].content, ReadOptions(16)))
            return inspect(generator, KINDS[name], made, name).problems

        for name in ("hidden_black.png", "animation.png", "rgb16.png", "orientation6.jpg"):
            assert find_problems(name, name) == ()
        assert "opacity lost" in find_problems("hidden_black.png", "palette.png")
        assert "opacity added" in find_problems("palette.png", "hidden_black.png")
        assert "3 frames instead of 1" in find_problems("rgb.png", "animation.png")
        assert "16 bits" in find_problems("rgb.png", "rgb16.png")
        assert "EXIF description lost" in find_problems("orientation3.jpg", "photo.jpg")
        assert "pixels per inch lost" in find_problems("rgb.png", "profile.png")
        assert any("pixels" in problem for problem in find_problems("orientation3.jpg", "orientation6.jpg"))
        assert any("differs by" in problem for problem in find_problems("rgb.png", "profile.png"))
        other = replace(KINDS["animation.png"], content=KINDS["pages.tif"].content)
        made = generator.transform_photo(read_photo(KINDS["animation.png"].content))
        assert "times of frames changed" in inspect(generator, other, made, "x").problems


@pytest.mark.parametrize(("there", "found"), [(["a.gif.png", "a.png"], "a.gif.png"), (["a.png"], "a.png")])
def test_the_file_that_was_made_of_a_source(tmp_path: Path, there: list[str], found: str) -> None:
    for name in there:
        (tmp_path / name).touch()
    assert find_made(tmp_path, Path("a.gif")) == tmp_path / found


def test_a_command_is_killed_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill, "_make_command", lambda words: [sys.executable, "-c", SLOW, *words])
    counts = kill.run_and_kill([str(tmp_path)], lambda: len(list(tmp_path.iterdir())), 6, 2, seed=0)
    assert len(counts) == 2 and 0 < counts[0] <= counts[1] < 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{k}.txt" for k in range(6)]


def test_commands_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill, "_make_command", lambda words: [sys.executable, "-c", "import sys; sys.exit('no')"])
    with pytest.raises(MachineError, match="ganrt sample ended with 1: no"):
        kill.run_command(["sample"])
    with pytest.raises(MachineError, match="ganrt sample ended with 1 before it was killed"):
        kill.run_and_kill(["sample"], lambda: 0, 6, 1, seed=0)
