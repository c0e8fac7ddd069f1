"""Which files `ganrt transform` reads and writes."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

from ganrt.cli.picture_tasks import BROKEN_LINK, LINK_TO_FOLDER, NO_FILE, Task, count_skipped, plan_tasks
from ganrt.errors import ArtifactError, RequestError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def plan(*sources: str, out: str = "out", form: str | None = None, suffix: str = "") -> dict[str, str]:
    tasks = plan_tasks([Path(source) for source in sources], Path(out), form, suffix)
    return {task.source.as_posix(): task.target.as_posix() for task in tasks}


def test_a_folder_keeps_its_structure(folder: Path) -> None:
    write("in/b.png", "in/a.JPG", "in/deep/er/c.webp", "in/notes.txt", "in/scan.tiff", "in/old.bmp", "in/dance.gif")
    assert list(plan("in").items()) == [
        ("in/a.JPG", "out/a.JPG"),
        ("in/b.png", "out/b.png"),
        ("in/dance.gif", "out/dance.png"),
        ("in/deep/er/c.webp", "out/deep/er/c.webp"),
        ("in/old.bmp", "out/old.png"),
        ("in/scan.tiff", "out/scan.tiff"),
    ]
    assert plan("in/deep", form="avif", suffix="_4x") == {"in/deep/er/c.webp": "out/er/c_4x.avif"}


def test_what_a_job_has_made_in_its_source_is_no_source(folder: Path) -> None:
    write("in/a.png", "in/made/a.png")
    assert plan("in", out="in/made") == {"in/a.png": "in/made/a.png"}


def test_the_folder_above_may_be_written(folder: Path) -> None:
    write("in/a.png", "in/b/c.png")
    assert plan("in", out=".") == {"in/a.png": "a.png", "in/b/c.png": "b/c.png"}


@pytest.mark.parametrize(
    ("out", "target"), [("made.png", "made.png"), ("made", "made/a.jpg"), ("new.d", "new.d/a.jpg")]
)
def test_one_picture_may_name_its_file(folder: Path, out: str, target: str) -> None:
    write("a.jpg")
    assert plan("a.jpg", out=out) == {"a.jpg": target}


def test_a_folder_may_end_like_a_picture(folder: Path) -> None:
    write("a.jpg", "made.png/old.png")
    assert plan("a.jpg", out="made.png") == {"a.jpg": "made.png/a.jpg"}


def test_pictures_of_one_name_keep_their_endings(folder: Path) -> None:
    write("in/a.gif", "in/a.bmp", "in/a.png", "in/b.gif")
    assert plan("in", suffix="_4x") == {
        "in/a.bmp": "out/a_4x.bmp.png",
        "in/a.gif": "out/a_4x.gif.png",
        "in/a.png": "out/a_4x.png",
        "in/b.gif": "out/b_4x.png",
    }


@pytest.mark.parametrize("ending", [".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".tif", ".tiff"])
def test_the_ending_decides_the_format(ending: str) -> None:
    forms = {".png": "png", ".apng": "png", ".webp": "webp", ".avif": "avif", ".tif": "tiff", ".tiff": "tiff"}
    assert Task(Path("a"), Path(f"a{ending.upper()}")).format == forms.get(ending, "jpeg")


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        (["in", "a.jpg"], {"out": "x.png"}, "x.png is the name of one picture; for several, --out is a folder"),
        (["in"], {"out": "x.png"}, "x.png is the name of one picture; for several, --out is a folder"),
        (["a.jpg"], {"out": "x.png", "form": "webp"}, "x.png does not end as webp files do; leave --format out"),
        (["in", "other"], {}, "in/a.png and other/a.png would both be written as out/a.png: rename one"),
        (["in", "in/a.png"], {}, "in/a.png was given twice; give each picture once"),
        (["a.jpg"], {"out": "."}, "a.jpg is the picture itself; choose another folder, or add --suffix"),
        (["a.jpg"], {"out": "a.jpg"}, "a.jpg is the picture itself"),
        (["in"], {"out": "./in", "suffix": "_4x"}, "in is the folder of the pictures itself; choose another --out"),
    ],
)
def test_plans_that_would_lose_a_picture(
    folder: Path, sources: list[str], options: dict[str, str], message: str
) -> None:
    write("a.jpg", "in/a.png", "other/a.png")
    with pytest.raises(RequestError, match=message):
        plan(*sources, **options)


def test_hidden_files_are_no_sources_and_others_are_counted(folder: Path) -> None:
    write("in/a.png", "in/._a.png", "in/.thumbnails/b.png", "in/c.HEIC", "in/d/e.heic", "in/Makefile")
    assert plan("in") == {"in/a.png": "out/a.png"}
    assert count_skipped(Path("in")) == {".heic": 2, "": 1}


def test_links_and_what_is_no_file_are_counted(folder: Path) -> None:
    write("in/a.png", "elsewhere/b.png", "elsewhere/.hidden.png")
    Path("in/folder.png").symlink_to("../elsewhere")
    Path("in/file.png").symlink_to("../elsewhere/b.png")
    Path("in/nothing.png").symlink_to("absent.png")
    Path("in/.nothing.png").symlink_to("absent.png")
    os.mkfifo("in/pipe.png")
    assert plan("in") == {"in/a.png": "out/a.png", "in/file.png": "out/file.png"}
    assert count_skipped(Path("in")) == {LINK_TO_FOLDER: 1, BROKEN_LINK: 1, NO_FILE: 1}


def test_a_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("in/a.png", "in/closed/b.png")
    scan = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ArtifactError, match=r"^in/closed cannot be read: Permission denied$"):
        plan("in")


@pytest.mark.parametrize(
    ("sources", "out", "suffix", "message"),
    [
        (["a.png"], "made.bmp", "", "made.bmp cannot be written: .bmp files are only read; end it in .png, .apng"),
        (["a.png", "b.png"], "made.GIF", "", "made.GIF cannot be written: .gif files are only read"),
        (["a.png"], "out", "/x", "--suffix /x holds a slash"),
        (["a.png"], "out", "x" * 251, "a.png would get a name of more than 255 bytes; rename it, or shorten --suffix"),
        (["a.png"], "out", "é" * 126, "a.png would get a name of more than 255 bytes; rename it, or shorten --suffix"),
        (["a.png", "out/a_4x.png"], "out", "_4x", "a.png would be written as out/a_4x.png, which is a source too"),
    ],
)
def test_names_that_cannot_be_written(folder: Path, sources: list[str], out: str, suffix: str, message: str) -> None:
    write(*sources)
    with pytest.raises(RequestError, match=f"^{re.escape(message)}"):
        plan(*sources, out=out, suffix=suffix)


def test_the_longest_names(folder: Path) -> None:
    write("a.png")
    ((_, target),) = plan("a.png", suffix="x" * 250).items()
    assert len(Path(target).name) == 255
    write("folder.bmp/old.png")
    assert plan("a.png", out="folder.bmp") == {"a.png": "folder.bmp/a.png"}


def test_a_folder_without_pictures(folder: Path) -> None:
    write("in/notes.txt")
    with pytest.raises(ArtifactError, match=r"in holds no pictures: no file in it ends in \.png"):
        plan("in")
