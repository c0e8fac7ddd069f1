"""The command `ganrt transform`."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner, Result

import ganrt
from ganrt import atomic
from ganrt.bundle import Bundle
from ganrt.cli import picture_pipeline
from ganrt.cli.main import main
from ganrt.folder_lock import lock_folder
from ganrt.images import encode_png, read_picture
from ganrt.photos.reader import read_photo

PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encode_png(PHOTO))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["transform", *map(str, arguments)])


def test_the_command(espcn: Bundle, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    PIL.Image.fromarray(PHOTO[:20]).save(other)
    out = tmp_path / "made"
    done = run(espcn.folder, photo, other, "--out", out, "--tile", 16, "--backend", "onnxruntime", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert f"2 pictures by onnxruntime (cpu) in {out}" in done.stdout
    assert {path.name for path in out.iterdir()} == {"photo.png", "other.jpg"}
    assert read_picture(out / "other.jpg", 3).shape == (40, 128, 3)
    with ganrt.load(espcn.folder, "onnxruntime") as generator:
        assert np.array_equal(read_picture(out / "photo.png", 3), generator.transform(photo))
    again = run(espcn.folder, photo, "--out", out)
    assert again.exit_code == 2 and "photo.png exists already" in again.stderr
    assert run(espcn.folder, photo, "--out", out, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--set", "strength"], 2, "--set strength is not of the form name=value"),
        (["--set", "strength=much"], 2, "--set strength=much: 'much' is not a number"),
        (["--set", "strength=0.5"], 2, "no input 'strength'"),
        (["--input", "style"], 2, "--input style is not of the form name=value"),
        (["--input", "luma=photo.png"], 2, "luma was given twice"),
        (["--input", "luma=absent.png"], 3, "absent.png cannot be read: No such file or directory"),
        (["--tile", "-1"], 2, "tile is -1"),
        (["--seed", "7"], 2, "seed was given, but nothing is drawn for this espcn model: leave it out"),
        (["--labels", "1"], 2, "labels were given, but this espcn model has no classes: leave them out"),
        (["--backend", "nonsense"], 2, "nonsense"),
        (["absent.png"], 3, "absent.png cannot be read"),
        (["--out", "."], 2, "is the picture itself; choose another folder"),
        (["elsewhere/photo.png"], 2, "would both be written as made/photo.png: rename one"),
        (["--quality", "80"], 2, "--quality is for jpeg, webp, avif, and no picture is written as one; leave it out"),
        (["--quality", "0", "--format", "jpeg"], 2, "--quality is 0; it is 1 to 100"),
        (["--depth", "12"], 2, "depth is 12; it must be 8 or 16"),
        (["--max-pixels", "3000"], 3, "photo.png has 64 x 48 pixels; at most 3000 are read"),
        (["--max-side", "0"], 2, "--max-side is 0; it must be"),
        (["--skip-existing"], 2, "--skip-existing leaves files that --overwrite replaces; leave one of them out"),
    ],
)
def test_requests_that_the_command_refuses(
    espcn: Bundle, photo: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(photo.parent)
    out = [] if "--out" in options else ["--out", "made"]
    done = run(espcn.folder, photo, *out, "--overwrite", *options)
    assert isinstance(done.exception, SystemExit) and done.exit_code == code
    assert message in done.stderr and "Traceback" not in done.output
    assert photo.read_bytes() == encode_png(PHOTO)


def write_photos(folder: Path, count: int) -> None:
    """Write PNG files with opacity into two subfolders."""
    random = np.random.default_rng(1)
    for k in range(count):
        path = folder / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(random.integers(1, 256, (12, 10 + k, 4), np.uint8)))


def read_folder(folder: Path) -> dict[str, bytes]:
    """Name -> content of all files, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def whole(espcn: Bundle, tmp_path: Path) -> dict[str, bytes]:
    """What the command makes of the folder `photos`."""
    write_photos(tmp_path / "photos", 5)
    assert run(espcn.folder, tmp_path / "photos", "--out", tmp_path / "whole").exit_code == 0
    return read_folder(tmp_path / "whole")


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Interrupt the command when it writes another file after its record and the first `count` pictures: one thread
    makes them in order."""
    left, write_file = [count + 1], atomic.write_file

    def write(path: Path, content: bytes) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        write_file(path, content)

    monkeypatch.setattr(atomic, "write_file", write)
    monkeypatch.setattr(picture_pipeline, "usable_cores", lambda: 0)


def test_a_job_that_was_stopped_continues(
    espcn: Bundle, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "made"
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        assert run(espcn.folder, tmp_path / "photos", "--out", out).exit_code == 130
    times = {name: (out / name).stat().st_mtime_ns for name in read_folder(out) if name in whole}
    assert len(times) == 2
    refused = run(espcn.folder, tmp_path / "photos", "--out", out, "--max-side", 8)
    assert refused.exit_code == 2
    assert "holds the beginning of another job, with max-side 'None' instead of '8'" in refused.stderr
    renamed = run(espcn.folder, tmp_path / "photos", "--out", out, "--suffix", "_2x")
    assert "holds the beginning of another job, with suffix '' instead of '_2x'" in renamed.stderr
    again = run(espcn.folder, tmp_path / "photos", "--out", out)
    assert again.exit_code == 0 and "3 pictures by" in again.stdout and "2 pictures were there already" in again.stdout
    assert read_folder(out) == whole
    assert all((out / name).stat().st_mtime_ns == time for name, time in times.items())


def test_other_pictures_are_another_job(
    espcn: Bundle, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "made"
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        run(espcn.folder, tmp_path / "photos", "--out", out)
    (tmp_path / "photos" / "a" / "0.png").unlink()
    refused = run(espcn.folder, tmp_path / "photos", "--out", out)
    assert refused.exit_code == 2 and "holds the beginning of another job, with the list of pictures" in refused.stderr
    assert "or --skip-existing to keep the files that are there" in refused.stderr
    assert run(espcn.folder, tmp_path / "photos", "--out", out, "--skip-existing").exit_code == 0
    assert set(read_folder(out)) == set(whole)


def test_a_picture_that_changed_meanwhile_is_made_again(
    espcn: Bundle, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, changed = tmp_path / "made", tmp_path / "photos" / "a" / "0.png"
    with monkeypatch.context() as patched:
        stop_after(patched, 4)
        run(espcn.folder, tmp_path / "photos", "--out", out)
    changed.write_bytes(encode_png(np.ones((12, 10, 4), np.uint8)))
    later = (out / "a" / "0.png").stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(later, later))
    assert "2 pictures by" in run(espcn.folder, tmp_path / "photos", "--out", out).stdout
    assert (read_photo(out / "a" / "0.png").frames[0].join()[..., 3] == 1).all()


def test_existing_files_are_left_or_replaced_as_asked(espcn: Bundle, whole: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "made"
    (out / "a").mkdir(parents=True)
    (out / "a" / "0.png").write_bytes(b"mine")
    refused = run(espcn.folder, tmp_path / "photos", "--out", out)
    assert refused.exit_code == 2
    assert "a/0.png exists already; choose another name, or add --skip-existing to leave such" in refused.stderr
    assert read_folder(out) == {"a/0.png": b"mine"}
    assert "4 pictures by" in run(espcn.folder, tmp_path / "photos", "--out", out, "--skip-existing").stdout
    assert read_folder(out) == whole | {"a/0.png": b"mine"}
    assert "5 pictures by" in run(espcn.folder, tmp_path / "photos", "--out", out, "--overwrite").stdout
    assert read_folder(out) == whole


def test_a_picture_that_fails_ends_the_job_or_is_listed(espcn: Bundle, whole: dict[str, bytes], tmp_path: Path) -> None:
    out, broken = tmp_path / "made", tmp_path / "photos" / "a" / "1 broken.png"
    broken.write_bytes(b"no picture")
    failed = run(espcn.folder, tmp_path / "photos", "--out", out)
    assert failed.exit_code == 3 and f"error: {broken} is in none of the formats that are read: PNG" in failed.stderr
    going = run(espcn.folder, tmp_path / "photos", "--out", out, "--keep-going")
    assert going.exit_code == 1 and f"failed: {broken} is in none of the formats that are read" in going.stderr
    assert {name: content for name, content in read_folder(out).items() if name in whole} == whole
    broken.write_bytes(whole["a/0.png"])
    again = run(espcn.folder, tmp_path / "photos", "--out", out)
    assert again.exit_code == 0 and "1 picture by" in again.stdout
    assert set(read_folder(out)) == {*whole, "a/1 broken.png"}


def test_one_picture_becomes_the_file_that_is_named(espcn: Bundle, tmp_path: Path) -> None:
    write_photos(tmp_path, 1)
    done = run(espcn.folder, tmp_path / "a" / "0.png", "--out", tmp_path / "made.webp")
    assert done.exit_code == 0 and "1 picture by" in done.stdout
    assert read_photo(tmp_path / "made.webp").metadata.format == "WEBP"
    refused = run(espcn.folder, tmp_path / "a" / "0.png", "--out", tmp_path / "made.jpg")
    assert refused.exit_code == 2
    assert "made.jpg: JPEG cannot hold opacity; choose png, webp, avif, tiff" in refused.stderr
    assert not (tmp_path / "made.jpg").exists()


def test_format_quality_suffix_and_side(espcn: Bundle, photo: Path, tmp_path: Path) -> None:
    options = ["--format", "jpeg", "--suffix", "_2x", "--max-side", 16, "--overwrite"]
    path = tmp_path / "made" / "photo_2x.jpg"
    sizes = []
    for quality in (10, 95):
        assert run(espcn.folder, photo, "--out", path.parent, *options, "--quality", quality).exit_code == 0
        sizes.append(path.stat().st_size)
    assert sizes[1] > 1.5 * sizes[0]
    assert read_photo(path).frames[0].color.shape == (24, 32, 3)


def test_a_log_has_lines_with_rate_and_time_left(espcn: Bundle, whole: dict[str, bytes], tmp_path: Path) -> None:
    done = run(espcn.folder, tmp_path / "photos", "--out", tmp_path / "made")
    lines = [line for line in done.stderr.splitlines() if " of 5 pictures" in line]
    assert [line.split(" ")[0] for line in lines] == ["1", "2", "3", "4", "5"]
    assert re.fullmatch(r"3 of 5 pictures(, \S+ pictures/s)?(, \d+ s left)?: 4.png", lines[2])


def test_a_signal_ends_the_job_behind_a_picture(
    espcn: Bundle, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write_file = tmp_path / "made", atomic.write_file

    def write(path: Path, content: bytes) -> None:
        write_file(path, content)
        if path.name == "0.png":
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(picture_pipeline, "usable_cores", lambda: 1)
        patched.setattr(atomic, "write_file", write)
        stopped = run(espcn.folder, tmp_path / "photos", "--out", out)
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; the same command continues" in stopped.stderr
    made = [name for name in read_folder(out) if name in whole]
    assert f"{len(made)} picture" in stopped.stdout and len(made) < 5
    assert run(espcn.folder, tmp_path / "photos", "--out", out).exit_code == 0
    assert read_folder(out) == whole


@pytest.mark.parametrize("stop", ["signal", "kill"])
def test_a_job_that_replaces_files_and_is_stopped_replaces_the_others_when_it_continues(
    espcn: Bundle, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    out, write_file = tmp_path / "made", atomic.write_file
    assert run(espcn.folder, tmp_path / "photos", "--out", out, "--max-side", 5).exit_code == 0
    for name in read_folder(out):
        os.utime(out / name, ns=((out / name).stat().st_mtime_ns - 10**9,) * 2)
    old = read_folder(out)

    def write(path: Path, content: bytes) -> None:
        write_file(path, content)
        if path.name == "0.png":
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(picture_pipeline, "usable_cores", lambda: 1)
        if stop == "signal":
            patched.setattr(atomic, "write_file", write)
        else:
            stop_after(patched, 2)
        stopped = run(espcn.folder, tmp_path / "photos", "--out", out, "--overwrite")
    assert stopped.exit_code == (128 + signal.SIGTERM if stop == "signal" else 130)
    assert stop == "kill" or "the same command without --overwrite continues" in stopped.stderr
    left = [name for name, content in read_folder(out).items() if content == old.get(name)]
    assert 0 < len(left) < 5
    again = run(espcn.folder, tmp_path / "photos", "--out", out)
    assert again.exit_code == 0 and f"{len(left)} picture" in again.stdout
    assert read_folder(out) == whole


def test_what_was_left_as_it_is_stays_when_a_job_continues(
    espcn: Bundle, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "made"
    (out / "b").mkdir(parents=True)
    (out / "b" / "3.png").write_bytes(b"mine")
    os.utime(out / "b" / "3.png", (1, 1))
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        assert run(espcn.folder, tmp_path / "photos", "--out", out, "--skip-existing").exit_code == 130
    assert run(espcn.folder, tmp_path / "photos", "--out", out).exit_code == 0
    assert read_folder(out) == whole | {"b/3.png": b"mine"}


def test_a_picture_that_was_replaced_by_an_older_one_is_made_again(
    espcn: Bundle, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, changed = tmp_path / "made", tmp_path / "photos" / "a" / "0.png"
    with monkeypatch.context() as patched:
        stop_after(patched, 4)
        run(espcn.folder, tmp_path / "photos", "--out", out)
    time.sleep(0.02)  # the clock of a file system ticks a hundred times a second
    changed.write_bytes(encode_png(np.ones((12, 10, 4), np.uint8)))
    os.utime(changed, ns=(10**9, 10**9))
    assert "2 pictures by" in run(espcn.folder, tmp_path / "photos", "--out", out).stdout
    assert (read_photo(out / "a" / "0.png").frames[0].join()[..., 3] == 1).all()


@pytest.mark.parametrize(("content", "found"), [(b"", "Expecting value"), (b"[]", "no object")])
def test_a_damaged_record(espcn: Bundle, photo: Path, tmp_path: Path, content: bytes, found: str) -> None:
    out = tmp_path / "made"
    out.mkdir()
    (out / ".ganrt-job.json").write_bytes(content)
    refused = run(espcn.folder, photo, "--out", out)
    assert refused.exit_code == 3
    assert re.search(rf"job\.json is damaged: {found}.*; choose another --out, or add --overwrite", refused.stderr)


def test_a_folder_is_no_file_that_exists(espcn: Bundle, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "made" / "photo.png").mkdir(parents=True)
    refused = run(espcn.folder, photo, "--out", tmp_path / "made", "--skip-existing")
    assert refused.exit_code == 3 and "photo.png cannot be written: Is a directory" in refused.stderr


def test_names_that_are_no_text(espcn: Bundle, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "photos" / "a" / "0.png").rename(tmp_path / "photos" / name)
    done = run(espcn.folder, tmp_path / "photos", "--out", tmp_path / "made")
    assert done.exit_code == 0, done.output
    assert set(read_folder(tmp_path / "made")) == {name, "b/1.png"}


def test_what_a_killed_process_had_begun_is_removed(espcn: Bundle, whole: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "made" / "a").mkdir(parents=True)
    long = "x" * 251 + ".png"
    (tmp_path / "photos" / "a" / long).write_bytes(encode_png(PHOTO))
    for name in (".0.png.0123abcd", ".mine.png.0123abcd", f".{long[:245]}.0123abcd"):
        (tmp_path / "made" / "a" / name).write_bytes(b"half")
    assert run(espcn.folder, tmp_path / "photos", "--out", tmp_path / "made").exit_code == 0
    made = read_folder(tmp_path / "made")
    assert made.pop(f"a/{long}")
    assert made == whole | {"a/.mine.png.0123abcd": b"half"}


def test_two_jobs_in_one_folder(espcn: Bundle, whole: dict[str, bytes], tmp_path: Path) -> None:
    with lock_folder(tmp_path / "whole"):
        refused = run(espcn.folder, tmp_path / "photos", "--out", tmp_path / "whole", "--overwrite")
    assert refused.exit_code == 2 and "another process is writing" in refused.stderr


def test_files_that_are_not_read_are_said(espcn: Bundle, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    for name in ("c.heic", "d.heic", "notes"):
        (tmp_path / "photos" / name).touch()
    (tmp_path / "photos" / "link").symlink_to(tmp_path)
    done = run(espcn.folder, tmp_path / "photos", "--out", tmp_path / "made")
    counts = "1 without ending, 2 .heic, 1 link to a folder; give each link to a folder as a source"
    assert f"{tmp_path / 'photos'}: skipped 4 files of other kinds: {counts}" in done.stderr


def test_a_quality_is_of_the_formats_that_have_one(espcn: Bundle, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    PIL.Image.fromarray(PHOTO).save(other)
    sizes = []
    for quality in (10, 95):
        done = run(espcn.folder, photo, other, "--out", tmp_path / f"made{quality}", "--quality", quality)
        assert done.exit_code == 0, done.stderr
        sizes.append([(tmp_path / f"made{quality}" / name).stat().st_size for name in ("photo.png", "other.jpg")])
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] < sizes[1][1]
