"""Shards are read back by readers that are not ours: NumPy, tarfile, pyarrow, Pillow."""

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest
from fakes.sessions import CLASSES, SPEC, FakeSession

from ganrt.errors import MissingLibraryError
from ganrt.generator import Generator
from ganrt.images import Pictures
from ganrt.sample_request import SampleRequest, check_request
from ganrt.shards import FORMATS, ShardJob, open_format, write_shards
from ganrt.spec import Spec

ROWS, SIZE = 45, 40
"""The first shard is computed in two batches."""


def make_job(spec: Spec, request: SampleRequest, name: str, folder: Path) -> Generator:
    generator = Generator(spec, FakeSession(spec))
    job = ShardJob(request, SIZE, open_format(name))
    write_shards(generator, job, job.list_shards(), folder)
    return generator


def decode(content: bytes) -> Pictures:
    with PIL.Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        array = np.asarray(image)
    return array.reshape(*array.shape[:2], -1)


def read_npz(folder: Path) -> tuple[list[Pictures], list[dict[str, Any]]]:
    pictures, rows = [], []
    for path in sorted(folder.glob("shard-*.npz")):
        with np.load(path) as file:
            pictures += list(file["images"])
            for row in range(len(file["images"])):
                names = {"seeds": "seed", "indices": "index", "labels": "label", "truncation": "truncation"}
                about = {name: file[key][row].item() for key, name in names.items() if key in file}
                rows.append({name: value for name, value in about.items() if value == value})
    return pictures, rows


def read_webdataset(folder: Path) -> tuple[list[Pictures], list[dict[str, Any]]]:
    """As the webdataset library does: files that follow each other and have one name up to the first dot."""
    samples: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("shard-*.tar")):
        with tarfile.open(path) as tar:
            last = ""
            for member in tar:
                key, _, suffix = member.name.partition(".")
                assert key == last or key not in samples, "the files of a sample follow each other"
                last, file = key, tar.extractfile(member)
                assert file is not None and member.isreg()
                samples.setdefault(key, {})[suffix] = file.read()
    rows = [json.loads(files["json"]) for files in samples.values()]
    for files, row in zip(samples.values(), rows, strict=True):
        assert ("cls" in files) == ("label" in row) and int(files.get("cls", 0)) == row.get("label", 0)
    assert list(samples) == [f"{row['index']:09d}" for row in rows]
    return [decode(files["png"]) for files in samples.values()], rows


def read_parquet(folder: Path) -> tuple[list[Pictures], list[dict[str, Any]]]:
    pictures, rows = [], []
    for path in sorted(folder.glob("shard-*.parquet")):
        for row in pyarrow.parquet.read_table(path).to_pylist():
            image = row.pop("image")
            assert image["path"] == f"{row['index']:09d}.png"
            pictures.append(decode(image["bytes"]))
            rows.append({name: value for name, value in row.items() if value is not None})
    return pictures, rows


def read_png(folder: Path) -> tuple[list[Pictures], list[dict[str, Any]]]:
    pictures, rows = [], []
    for path in sorted(folder.glob("shard-*/*.png")):
        with PIL.Image.open(path) as image:
            text = dict(image.text)  # type: ignore[attr-defined]
            assert text.pop("bundle") == "" and path.name == f"{int(text['index']):08d}.png"
        pictures.append(decode(path.read_bytes()))
        rows.append({name: json.loads(value) for name, value in text.items()})
    return pictures, rows


READERS = {"npz": read_npz, "webdataset": read_webdataset, "parquet": read_parquet, "png": read_png}
REQUESTS = {
    "classes": (CLASSES, check_request(CLASSES, ROWS, 7, 3)),
    "truncation": (SPEC, check_request(SPEC, ROWS, 2**64 - 1, 2**40, truncation=[None, 0.5, 0.25] * 15)),
}


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_shard_is_read_as_what_sample_makes(name: str, kind: str, tmp_path: Path) -> None:
    spec, request = REQUESTS[kind]
    generator = make_job(spec, request, name, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    pictures, rows = READERS[name](tmp_path)
    draw = generator.draw(ROWS, request.seed, request.start, truncation=request.truncation)
    assert np.array_equal(np.stack(pictures), generator.make(draw))
    for row, about in enumerate(rows):
        assert about["seed"] == draw.seeds[row] and about["index"] == draw.indices[row]
        assert about.get("label") == (None if draw.labels is None else draw.labels[row])
        chosen = None if draw.truncation is None or np.isnan(draw.truncation[row]) else draw.truncation[row]
        assert about.get("truncation") == chosen


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_shard_has_the_same_bytes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the time, and whoever makes it."""
    for folder, now in (("a", 1.6e9), ("b", 1.8e9)):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr("time.time", lambda now=now: now)
        make_job(*REQUESTS["classes"], name, tmp_path / folder)
    first, second = (
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in (tmp_path / folder).rglob("*.*")}
        for folder in ("a", "b")
    )
    assert first == second and len(first) >= 2


def test_a_tar_file_is_the_one_that_tarfile_writes(tmp_path: Path) -> None:
    """Byte for byte, from its members."""
    make_job(*REQUESTS["classes"], "webdataset", tmp_path)
    path = tmp_path / "shard-000000.tar"
    buffer = io.BytesIO()
    with tarfile.open(path) as tar, tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as copy:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
            plain = tarfile.TarInfo(member.name)
            plain.size = member.size
            copy.addfile(plain, tar.extractfile(member))
    assert buffer.getvalue() == path.read_bytes()


def test_a_parquet_file_has_the_types_of_datasets(tmp_path: Path) -> None:
    """Those that the `datasets` library writes and reads: with them `image` is decoded."""
    make_job(*REQUESTS["classes"], "parquet", tmp_path)
    schema = pyarrow.parquet.read_schema(tmp_path / "shard-000000.parquet")
    assert str(schema.field("image").type) == "struct<bytes: binary, path: string>"
    assert json.loads(schema.metadata[b"huggingface"]) == {
        "info": {
            "features": {
                "image": {"_type": "Image"},
                "seed": {"dtype": "uint64", "_type": "Value"},
                "index": {"dtype": "uint64", "_type": "Value"},
                "label": {"dtype": "int64", "_type": "Value"},
            }
        }
    }
    (tmp_path / "b").mkdir()
    make_job(*REQUESTS["truncation"], "parquet", tmp_path / "b")
    schema = pyarrow.parquet.read_schema(tmp_path / "b" / "shard-000000.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["truncation"] == {"dtype": "float64", "_type": "Value"} and "label" not in features


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "ganrt.shards.parquet", raising=False)
    with pytest.raises(MissingLibraryError, match=r'parquet needs pyarrow.*: pip install "ganrt\[parquet\]"'):
        open_format("parquet")
