"""`ganrt sample` into a folder: what is refused, and jobs that are killed, stopped and go on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import ganrt
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.cli.stopping import watch_signals
from ganrt.errors import MachineError
from ganrt.folder_lock import lock_folder
from ganrt.shards import FORMATS, Shard, ShardJob, writer
from ganrt.shards.formats import Content

LOADING = ("--backend", "onnxruntime")
SHARDS = ("-n", "70", "--seed", "7", "--format", "webdataset", "--shard", "20")
FLAT = ("-n", "70", "--seed", "7")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def sample(bundle: Bundle, out: Path, *options: object) -> Result:
    return run("sample", bundle.folder, "--out", out, *LOADING, *options)


def refuse(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code and isinstance(result.exception, SystemExit), result.output
    assert all(word in result.stderr for word in words), result.stderr


def read_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def disturb(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Lets something happen when the batch of a number, from 1, is computed."""
    make_rows = writer.make_rows

    def set_event(number: int, happen: Callable[[], None]) -> None:
        count = 0

        def make(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                happen()
            return make_rows(*arguments)

        monkeypatch.setattr(writer, "make_rows", make)

    return set_event


def test_a_record_says_what_the_shards_are(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "made"
    done = sample(bundle, out, *SHARDS, "--truncation", "0.5")
    assert done.exit_code == 0 and done.stdout == f"70 pictures by onnxruntime (cpu) in {out}\n"
    with ganrt.load(bundle.folder, "onnxruntime") as generator:
        details, digest = dict(generator.info.details), generator.info.digest
    names = [f"shard-{number:06d}.tar" for number in range(4)]
    assert json.loads((out / "job.json").read_text()) == {
        "seed": "7",
        "start": "0",
        "labels": None,
        "truncation": "0.5",
        "each-class": None,
        "n": 70,
        "format": "webdataset",
        "shard": 20,
        "bundle": digest,
        "configuration": "onnxruntime",
        "libraries": details,
        "sizes of batches": [20],
        "ganrt": ganrt.__version__,
        "shards": names,
    }
    assert sorted(path.name for path in out.iterdir()) == ["job.json", *names]


@pytest.mark.parametrize("form", FORMATS)
def test_a_job_that_is_done_is_not_done_again(form: str, bundle: Bundle, tmp_path: Path) -> None:
    options = ("-n", 5, "--format", form)
    assert sample(bundle, tmp_path / "made", *options).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "made").rglob("*")}
    again = sample(bundle, tmp_path / "made", *options)
    assert again.exit_code == 0 and again.stdout == f"{tmp_path / 'made'} is complete: 5 pictures were there already\n"
    shards = [path for path in before if path.name != "job.json"]
    assert [path.stat().st_mtime_ns for path in shards] == [before[path] for path in shards]


def test_a_shard_that_is_gone_is_made_again(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "made"
    sample(bundle, out, *SHARDS)
    whole = read_folder(out)
    (out / "shard-000001.tar").unlink()
    (out / ".shard-000001.tar.0123abcd").write_bytes(b"the draft of a killed process")
    done = sample(bundle, out, *SHARDS)
    assert done.stdout == f"70 pictures by onnxruntime (cpu) in {out}; 50 were there already\n"
    assert read_folder(out) == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", "8"), "with seed '7' instead of '8'"),
        (("--start", "1"), "with start '0' instead of '1'"),
        (("--truncation", "0.5"), "with truncation None instead of '0.5'"),
        (("--format", "npz"), "with format 'webdataset' instead of 'npz'"),
        (("-n", "71"), "with n 70 instead of 71"),
        (("--shard", "10"), "with shard 20 instead of 10"),
        (("--shard", "21"), "with shard 20 instead of 21"),
        (("--threads", "1"), "with configuration 'onnxruntime' instead of 'onnxruntime threads=1'"),
    ],
)
def test_the_folder_of_another_job_is_refused(
    options: tuple[str, ...], words: str, bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    sample(bundle, out, *SHARDS)
    whole = read_folder(out)
    given = dict(zip(SHARDS[::2], SHARDS[1::2], strict=True)) | dict(zip(options[::2], options[1::2], strict=True))
    words_of = [word for pair in given.items() for word in pair]
    result = sample(bundle, out, *words_of)
    refuse(result, 2, f"{out} holds another job, {words}; choose another --out, or add --overwrite")
    (out / "shard-000003.tar").unlink()
    record = json.loads((out / "job.json").read_text())
    del record["shards"]
    (out / "job.json").write_text(json.dumps(record))
    refuse(sample(bundle, out, *words_of), 2, f"{out} holds the beginning of another job, {words}")
    (out / "job.json").write_bytes(whole["job.json"])
    assert read_folder(out) == {name: content for name, content in whole.items() if "3" not in name}


def test_the_folder_of_another_model_is_refused(bundle: Bundle, bundles: dict[str, Bundle], tmp_path: Path) -> None:
    assert sample(bundle, tmp_path / "made", *SHARDS).exit_code == 0
    other = sample(bundles["mlp"], tmp_path / "made", *SHARDS)
    refuse(other, 2, "holds another job, with bundle", "instead of")


def test_values_of_a_file_belong_to_the_job(conditional: Bundle, tmp_path: Path) -> None:
    """The record holds their digest, so that another content of the file is another job."""
    values = tmp_path / "labels.txt"
    values.write_text("1 2 3")
    command = (conditional, tmp_path / "made", "--labels", f"@{values}", "--format", "npz")
    assert sample(*command).exit_code == 0
    record = json.loads((tmp_path / "made" / "job.json").read_text())
    assert record["labels"].startswith("sha256 ") and record["labels"].endswith(" of 3 values") and record["n"] == 3
    values.write_text("1\n2\n3\n")
    assert "is complete" in sample(*command).stdout
    values.write_text("1 2 4")
    refuse(sample(*command), 2, "another job, with labels")
    long = ",".join(["3"] * 101)
    assert sample(conditional, tmp_path / "b", "--labels", long, "--format", "npz").exit_code == 0
    assert json.loads((tmp_path / "b" / "job.json").read_text())["labels"].endswith(" of 101 values")


def test_a_job_that_is_done_is_not_written_again(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder may be on a disk that can only be read."""
    command = (bundle, tmp_path / "made", "-n", 5, "--format", "npz")
    assert sample(*command).exit_code == 0

    def fail(path: Path, content: bytes) -> None:
        raise MachineError(f"{path} cannot be written: Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("ganrt.atomic.write_file", fail)
        assert "is complete" in sample(*command).stdout
        (tmp_path / "made" / "shard-000000.npz").unlink()
        refuse(sample(*command), 3, "Read-only file system")
    assert sample(*command).exit_code == 0


def test_every_class_is_sampled(conditional: Bundle, tmp_path: Path) -> None:
    assert sample(conditional, tmp_path / "a", "--each-class", 2, "--format", "npz").exit_code == 0
    with np.load(tmp_path / "a" / "shard-000000.npz") as file:
        assert file["labels"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert sample(conditional, tmp_path / "b.npz", "-n", 5, "--labels", "1-2").exit_code == 0
    assert np.load(tmp_path / "b.npz")["labels"].tolist() == [1, 2, 1, 2, 1]
    assert sample(conditional, tmp_path / "c.png", "--each-class", 1).stdout.startswith("7 pictures by")


def test_one_picture_is_one_picture(bundle: Bundle, tmp_path: Path) -> None:
    for name in ("a.png", "a.npz", "a"):
        assert sample(bundle, tmp_path / name, "-n", 1).stdout.startswith("1 picture by")
    assert sample(bundle, tmp_path / "b", "-n", 1, "--format", "npz").exit_code == 0
    assert (
        "is complete: 1 picture was there already" in sample(bundle, tmp_path / "b", "-n", 1, "--format", "npz").stdout
    )
    assert sample(bundle, tmp_path / "none", "-n", 0, "--format", "npz").stdout.startswith("0 pictures by")
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["job.json"]


def test_overwrite_starts_anew(bundle: Bundle, tmp_path: Path) -> None:
    """Also from a longer job, of which nothing is left."""
    for options in (("--format", "npz"), ()):
        out = tmp_path / f"made{len(options)}"
        sample(bundle, out, "-n", 70, *options, *(("--shard", 20) if options else ()))
        refuse(sample(bundle, out, "-n", 5, *options), 2, "another job" if options else "exists already")
        assert sample(bundle, out, "-n", 5, *options, "--overwrite").exit_code == 0
        assert sample(bundle, tmp_path / f"new{len(options)}", "-n", 5, *options).exit_code == 0
        assert read_folder(out) == read_folder(tmp_path / f"new{len(options)}")


def test_other_folders_are_left_alone(bundle: Bundle, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    for options in (SHARDS, FLAT):
        refuse(sample(bundle, mine, *options), 2, f"{mine} exists already; choose another name, or add --overwrite")
        refuse(sample(bundle, mine, *options, "--overwrite"), 2, "was not made by this command")
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
    (tmp_path / "file").touch()
    refuse(sample(bundle, tmp_path / "file", *SHARDS), 2, "exists already")
    refuse(sample(bundle, tmp_path / "file" / "below", *SHARDS), 3, "cannot be written")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert sample(bundle, empty, *SHARDS).exit_code == 0
    (mine / "job.json").write_text("[]")
    refuse(sample(bundle, mine, *SHARDS), 3, "job.json is damaged: no object")


@pytest.mark.parametrize(
    ("out", "options", "code", "words"),
    [
        ("made", ("--shard", 10), 2, "--shard is for shards; add --format with one of npz, webdataset, parquet, png"),
        ("made.npz", ("--format", "npz"), 2, "with --format, --out is a folder of shards; "),
        ("made", ("--format", "npz", "--shard", 0), 2, "shards of 0 pictures were asked for"),
        ("made", ("--format", "gif"), 2, "'gif' is not one of 'npz', 'webdataset', 'parquet', 'png'"),
    ],
)
def test_options_that_do_not_fit(
    out: str, options: tuple[object, ...], code: int, words: str, bundle: Bundle, tmp_path: Path
) -> None:
    refuse(sample(bundle, tmp_path / out, *options), code, words)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_takes_pictures_is_refused(espcn: Bundle, tmp_path: Path) -> None:
    refuse(sample(espcn, tmp_path / "made", "-n", 3), 2, "it cannot be sampled from a seed alone")
    assert not (tmp_path / "made").exists()


def test_a_folder_that_another_process_writes_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with lock_folder(tmp_path / "made"):
        refuse(sample(bundle, tmp_path / "made", *SHARDS), 2, "another process is writing")
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(("options", "rows"), [(SHARDS, 20), (FLAT, 1)])
def test_a_signal_ends_a_job_that_goes_on_later(
    number: signal.Signals,
    code: int,
    options: tuple[str, ...],
    rows: int,
    bundle: Bundle,
    tmp_path: Path,
    disturb: Callable[[int, Callable[[], None]], None],
) -> None:
    """`rows` are the pictures of a file."""
    out, before, arrived = tmp_path / "made", signal.getsignal(number), threading.Event()

    def stop() -> None:
        os.kill(os.getpid(), number)
        while signal.getsignal(number) is not before:  # the main thread has not noticed it yet
            arrived.wait(0.001)

    disturb(2, stop)
    stopped = sample(bundle, out, *options)
    there = rows * len([path for path in out.iterdir() if "job.json" not in path.name])
    assert 0 < there < 70
    refuse(stopped, code, f"stopped by {number.name}: {there} of 70 pictures are in {out}; the same command continues")
    assert signal.getsignal(number) is before
    done = sample(bundle, out, *options)
    assert done.exit_code == 0 and done.stdout.endswith(f"in {out}; {there} were there already\n")
    assert sample(bundle, tmp_path / "whole", *options).exit_code == 0
    assert read_folder(out) == read_folder(tmp_path / "whole")


def test_a_job_that_overwrites_goes_on_without_that(
    bundle: Bundle, tmp_path: Path, disturb: Callable[[int, Callable[[], None]], None]
) -> None:
    disturb(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = sample(bundle, tmp_path / "made", *SHARDS, "--overwrite")
    refuse(stopped, 143, "the same command without --overwrite continues")


def test_a_signal_behind_the_last_batch_changes_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ShardJob.write

    def stop(job: ShardJob, folder: Path, shard: Shard, content: Content) -> None:
        if shard.number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        write(job, folder, shard, content)

    monkeypatch.setattr(ShardJob, "write", stop)
    done = sample(bundle, tmp_path / "made", *SHARDS)
    assert done.exit_code == 0 and done.stdout.startswith("70 pictures by onnxruntime"), done.output


def test_the_second_signal_ends_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), watch_signals() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            while not asked.number:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (asked.name, asked.exit_code) == ("SIGINT", 130)


def test_another_thread_gets_no_signals() -> None:
    found: list[int] = []

    def work() -> None:
        with watch_signals() as asked:
            found.append(asked.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]


def test_a_full_disk_is_one_sentence(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "made"
    with monkeypatch.context() as patch:
        patch.setattr("ganrt.shards.job.atomic.write_file", lambda *_: fail())
        patch.setattr(Path, "write_bytes", fail)
        refuse(sample(bundle, out, *SHARDS), 3, "No space left on device")
    assert sample(bundle, out, *SHARDS).exit_code == 0


@pytest.mark.parametrize("options", [("--format", "webdataset", "--shard", "100"), ()])
def test_a_killed_job_goes_on_and_has_the_same_bytes(options: tuple[str, ...], bundle: Bundle, tmp_path: Path) -> None:
    """SIGKILL, at whatever moment it comes."""
    out, command = tmp_path / "made", ("-n", "3000", "--seed", "7", *options)
    words = [str(bundle.folder), "--out", str(out), *LOADING, *command]
    process = subprocess.Popen([sys.executable, "-m", "ganrt", "sample", *words], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (out.is_dir() and len(list(out.iterdir())) > 3):
        time.sleep(0.002)
    process.kill()
    process.wait()
    made = {name: content for name, content in read_folder(out).items() if not name.startswith(".")}
    done = sample(bundle, out, *command)
    assert done.exit_code == 0 and "3000 pictures" in done.stdout, done.output
    assert sample(bundle, tmp_path / "whole", *command).exit_code == 0
    whole = read_folder(tmp_path / "whole")
    made.pop("job.json", None)
    assert read_folder(out) == whole and made.items() <= whole.items() and made


def test_other_batches_make_another_job(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would round otherwise: as when the bundle was tuned meanwhile."""
    assert sample(bundle, tmp_path / "made", *SHARDS).exit_code == 0
    load = ganrt.load

    def load_tuned(*arguments: Any, **options: Any) -> ganrt.Generator:
        generator = load(*arguments, **options)
        generator.seconds = {1: 0.1, 4: 10.0}
        return generator

    monkeypatch.setattr("ganrt.cli.engines.ganrt.load", load_tuned)
    refuse(sample(bundle, tmp_path / "made", *SHARDS), 2, "with sizes of batches [20] instead of [1, 1, 1")
