"""Jobs that fail, stop and go on."""

import time
from pathlib import Path

import numpy as np
import pytest
from fakes.sessions import SPEC, FakeSession

from ganrt import atomic
from ganrt.errors import BackendError, MachineError, RequestError
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.images import Pictures, read_picture
from ganrt.sample_request import check_request
from ganrt.shards import FLAT, FORMATS, Shard, ShardFormat, ShardJob, open_format, write_shards
from ganrt.shards.writer import list_parts

ROWS, SIZE = 100, 40
KINDS = [*FORMATS, "flat"]


def make_job(kind: str, rows: int = ROWS) -> ShardJob:
    request = check_request(SPEC, rows, 7, 3)
    return ShardJob(request, 32, FLAT) if kind == "flat" else ShardJob(request, SIZE, open_format(kind))


def read_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_whole(kind: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    job = make_job(kind)
    write_shards(Generator(SPEC, FakeSession()), job, job.list_shards(), folder)
    return read_folder(folder)


class RoundingSession(FakeSession):
    """One whose pictures depend on the batch that they are in, as real ones do to the last digit; fails on demand."""

    def __init__(self, batches: int = 10**6) -> None:
        super().__init__()
        self._left = batches

    def run(self, feeds: Feeds) -> Array:
        self._left -= 1
        if self._left < 0:
            raise BackendError("the device is gone")
        made = super().run(feeds)
        return np.clip(made + 0.02 * len(made), -1, 1).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batches", [0, 1, 2, 3])
def test_a_job_that_failed_goes_on_and_has_the_same_bytes(kind: str, batches: int, tmp_path: Path) -> None:
    job, whole, part = make_job(kind), tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    write_shards(Generator(SPEC, RoundingSession()), job, job.list_shards(), whole)
    with pytest.raises(BackendError, match="the device is gone"):
        write_shards(Generator(SPEC, RoundingSession(batches)), job, job.list_shards(), part)
    made = read_folder(part)
    assert made.items() < read_folder(whole).items()
    assert job.count_present(part) + sum(shard.rows for shard in job.list_missing(part)) == ROWS
    write_shards(Generator(SPEC, RoundingSession()), job, job.list_missing(part), part)
    assert read_folder(part) == read_folder(whole)
    assert job.list_missing(part) == [] and job.count_present(part) == ROWS


@pytest.mark.parametrize("kind", KINDS)
def test_any_shard_can_be_made_anywhere(kind: str, tmp_path: Path) -> None:
    """Two machines, in any order; the union is what one makes."""
    whole = make_whole(kind, tmp_path / "whole")
    job, union = make_job(kind), tmp_path / "union"
    union.mkdir()
    shards = list(job.list_shards())
    for share in (shards[::-2], shards[-2::-2]):
        write_shards(Generator(SPEC, FakeSession()), make_job(kind), share, union)
    assert read_folder(union) == whole


def test_missing_pictures_of_a_folder_are_made_and_others_stay(tmp_path: Path) -> None:
    whole = make_whole("flat", tmp_path / "whole")
    folder, job = tmp_path / "whole", make_job("flat")
    for number in (3, 50, 102):
        (folder / f"{number:08d}.png").unlink()
    (folder / "00000004.png").write_bytes(b"mine")
    (folder / "00000080.png").write_bytes(b"")  # what a machine that lost its power may leave
    assert [shard.number for shard in job.list_missing(folder)] == [0, 1, 2, 3] and job.count_present(folder) == 96
    write_shards(Generator(SPEC, FakeSession()), job, job.list_missing(folder), folder)
    assert read_folder(folder) == {**whole, "00000004.png": b"mine"}
    wanted = Generator(SPEC, FakeSession()).sample(ROWS, 7, 3)
    assert np.array_equal(read_picture(folder / "00000050.png", 3), wanted[47])


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_is_asked_to_stop_drops_what_is_not_complete(kind: str, tmp_path: Path) -> None:
    job, reports, session = make_job(kind), list[tuple[int, str]](), FakeSession()
    whole = make_whole(kind, tmp_path / "whole")
    folder = tmp_path / "made"
    folder.mkdir()

    def report(rows: int, name: str) -> None:
        reports.append((rows, name))

    write_shards(Generator(SPEC, session), job, job.list_shards(), folder, report, lambda: len(reports) == 3)
    last = {"flat": "00000098.png"}.get(kind, job.name_files(Shard(1, SIZE, SIZE))[0])
    sizes = [32, 32, 32] if kind == "flat" else [32, 8, 32]
    assert reports == [(sum(sizes[: k + 1]), reports[k][1]) for k in range(3)] and reports[-1][1] == last
    assert session.batches[:3] == sizes and len(session.batches) <= 4
    assert job.count_present(folder) == (96 if kind == "flat" else SIZE)
    assert read_folder(folder).items() < whole.items()


def test_parts_begin_with_their_shard() -> None:
    parts = list(list_parts([Shard(1, 40, 40), Shard(4, 160, 5)], 32))
    assert [(part.first, part.rows, part.is_last) for part in parts] == [
        (40, 32, False),
        (72, 8, True),
        (160, 5, True),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_an_error_of_the_machine(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(kind)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", fail)
        patch.setattr(Path, "write_bytes", lambda path, content: fail(0))
        with pytest.raises(MachineError, match=r"cannot be written: No space left on device"):
            write_shards(Generator(SPEC, FakeSession()), job, job.list_shards(), tmp_path)
    assert read_folder(tmp_path) == {}, "no drafts are left"
    write_shards(Generator(SPEC, FakeSession()), job, job.list_missing(tmp_path), tmp_path)
    assert job.count_present(tmp_path) == ROWS


def test_pictures_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly they are encoded, few batches wait."""
    monkeypatch.setattr("ganrt.shards.writer.usable_cores", lambda: 1)
    session, ahead = FakeSession(), list[int]()
    encoded = 0

    def encode(rows: object, pictures: Pictures) -> list[bytes]:
        nonlocal encoded
        time.sleep(0.005)  # longer than to compute a batch
        ahead.append(len(session.batches) - encoded)
        encoded += 1
        return [b""] * len(pictures)

    slow = ShardFormat(".tar", encode, lambda rows, encoded: b"".join(encoded))
    job = ShardJob(check_request(SPEC, 32 * 40), 32 * 40, slow)

    def report(rows: int, name: str) -> None:
        ahead.append(rows // 32 - encoded)

    write_shards(Generator(SPEC, session), job, job.list_shards(), tmp_path, report)
    assert len(ahead) == 80 and 1 < max(ahead) <= 6


def test_no_pictures_are_no_shards(tmp_path: Path) -> None:
    job = make_job("npz", 0)
    assert list(job.list_shards()) == [] and job.count_present(tmp_path) == 0


def test_shards_of_a_wrong_size_are_refused() -> None:
    request = check_request(SPEC, 2 * 10**6, 7)
    with pytest.raises(RequestError, match="shards of 0 pictures were asked for; a shard has at least 1"):
        ShardJob(request, 0, open_format("npz"))
    with pytest.raises(RequestError, match="2000000 pictures in shards of 1 are more than 1000000 shards"):
        ShardJob(request, 1, open_format("npz"))
    assert ShardJob(request, 2, open_format("npz")).name_files(Shard(999_999, 0, 2)) == ["shard-999999.npz"]
    ShardJob(request, 1, FLAT)
