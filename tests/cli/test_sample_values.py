"""Ranges, files of values, and pictures of every class."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC

from ganrt.cli import parsing
from ganrt.cli.parsing import parse_values
from ganrt.cli.sample_values import choose_rows
from ganrt.errors import ArtifactError, RequestError
from ganrt.sample_request import check_request


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (None, None),
        ("3", 3),
        ("-3", -3),
        ("3,1,4", [3, 1, 4]),
        ("0-3", [0, 1, 2, 3]),
        ("3-3", [3]),
        ("0-3,7", [0, 1, 2, 3, 7]),
        ("7,-8", [7, -8]),
        ("18446744073709551614-18446744073709551615", [2**64 - 2, 2**64 - 1]),
    ],
)
def test_values_and_ranges(text: str | None, values: object) -> None:
    assert parse_values(text, "--labels", int) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9-0", "--labels 9-0: the range 9-0 is empty; the lower number comes first"),
        ("0-", "--labels 0- is not a whole number, or several separated by commas"),
        ("0--3", "--labels 0--3 is not a whole number"),
        ("a-b", "--labels a-b is not a whole number"),
        ("0-99999999999999999999", "--labels 0-99999999999999999999: more than 10000000 values; make several jobs"),
        ("0-5000000,0-5000000", "more than 10000000 values"),
        ("1_0", "--labels 1_0 is not a whole number"),
        ("", "--labels '' is not a whole number, or several separated by commas"),
    ],
)
def test_values_that_are_wrong(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_values(text, "--labels", int)
    assert parse_values("0.5,1e-3", "--truncation", float) == [0.5, 0.001]
    with pytest.raises(RequestError, match="--truncation 0-3 is not a number"):
        parse_values("0-3", "--truncation", float)


@pytest.mark.parametrize(
    "content", ["1\n2\n\n3\n", "1,2,3", "1 2\t3", "1-3", "1,\n2,3,\n", "\n1\r\n2-3", "\ufeff1\r\n2,3"]
)
def test_values_in_a_file(content: str, tmp_path: Path) -> None:
    path = tmp_path / "values.txt"
    path.write_bytes(content.encode())
    assert parse_values(f"@{path}", "--seed", int) == [1, 2, 3]


def test_the_number_of_values_is_checked_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MOST_VALUES", 4)
    assert parse_values("5-8", "--seed", int) == [5, 6, 7, 8]
    for text in ("5-9", "1,5-8", "1-4,9", "1,2,3,4,5"):
        with pytest.raises(RequestError, match="more than 4 values"):
            parse_values(text, "--seed", int)
    monkeypatch.undo()
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="more than 10000000 values"):
            parse_values("0-18446744073709551615", "--seed", int)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_one_value_in_a_file_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("5\n")
    assert parse_values(f"@{tmp_path / 'one'}", "--seed", int) == [5]
    (tmp_path / "one").write_text("0.5\n")
    assert parse_values(f"@{tmp_path / 'one'}", "--truncation", float) == [0.5]


def test_files_that_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "values.txt"
    for content, message in {
        b"1\n2\nthree 4\n": r"--seed @.*values.txt, line 3: 'three' is not a whole number",
        b"1\n\xff\n": r"line 2: '.' is not a whole number",
        b"1\n9-0": r"line 2: '9-0': the range 9-0 is empty",
        b" \n\n": r"--seed @.*values.txt holds no values",
        b"0-99999999": r"line 1: '0-99999999': more than 10000000 values",
    }.items():
        path.write_bytes(content)
        with pytest.raises(RequestError, match=message):
            parse_values(f"@{path}", "--seed", int)
    with pytest.raises(ArtifactError, match=r"none.txt cannot be read: No such file"):
        parse_values(f"@{tmp_path / 'none.txt'}", "--seed", int)
    monkeypatch.setattr(parsing, "_LARGEST_FILE", 4)
    with pytest.raises(ArtifactError, match=r"values.txt is larger than 4 bytes"):
        parse_values(f"@{path}", "--seed", int)


def choose(count: int | None = None, each: int | None = None, spec: Any = CLASSES, **given: Any) -> tuple[Any, Any]:
    values = {"seed": 0, "start": 0, "labels": None, "truncation": None, **given}
    count, labels = choose_rows(spec, count, values, each)
    return count, labels.tolist() if isinstance(labels, np.ndarray) else labels


def test_how_many_pictures_there_are() -> None:
    assert choose() == (64, None) and choose(3) == (3, None) and choose(labels=4) == (64, 4)
    assert choose(labels=[1, 2]) == (None, [1, 2]) and choose(seed=[1, 2]) == (None, None)
    assert choose(5, labels=[1, 2]) == (5, [1, 2, 1, 2, 1]), "classes are repeated in turn"
    assert choose(2, labels=[1, 2]) == (2, [1, 2])


def test_fewer_pictures_than_classes_are_refused() -> None:
    count, labels = choose(1, labels=[1, 2])
    with pytest.raises(RequestError, match="labels has 2 entries and n is 1; give one value, or one per image"):
        check_request(CLASSES, count, labels=labels)


def test_every_class() -> None:
    assert choose(each=2) == (20, [label for label in range(10) for _ in range(2)])
    assert choose(each=1, seed=[1] * 10) == (10, list(range(10)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"each": 2, "count": 20}, "--each-class says how many pictures there are and of which classes; leave -n out"),
        ({"each": 2, "labels": 3}, "leave --labels out"),
        ({"each": 2, "spec": SPEC}, "--each-class was given, but this fake model has no classes: use -n"),
        ({"each": 0}, "--each-class is 0; for 10 classes it is a whole number from 1 to 1000000"),
        ({"each": 1_000_001}, "--each-class is 1000001"),
        ({"count": 20, "labels": [1, 10]}, r"labels\[1\] is 10; this model's classes are the whole numbers 0 to 9"),
        ({"count": 10**7 + 1, "labels": [1, 2]}, "repeated for up to 10000000 pictures, and -n is 10000001"),
        ({"count": 20, "labels": [1, 2], "spec": SPEC}, "no classes: leave them out"),
    ],
)
def test_requests_that_contradict_themselves(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        choose(**given)
