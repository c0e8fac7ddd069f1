"""Untrusted JSON becomes a dataclass, or an error that names the field."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganrt.errors import ArtifactError, BundleError, RequestError
from ganrt.json_reader import decode, parse_json, read_json


class Pair(NamedTuple):
    value: float
    low: float | None


@dataclass(frozen=True)
class Inner:
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RequestError(f"size is {self.size}; it must be from 1")


@dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["a", "b"]
    inner: Inner
    sides: tuple[int, int]
    values: tuple[float, ...]
    pairs: Mapping[int, Pair]
    mixed: int | str = 0
    maybe: bool | None = None
    anything: Any = None
    words: dict[str, str] = field(default_factory=dict)


GOOD: dict[str, Any] = {
    "name": "x",
    "kind": "a",
    "inner": {"size": 3},
    "sides": [1, 2],
    "values": [1, 2.5],
    "pairs": {"8": [1.5, None]},
}


def test_every_kind_of_field_is_read() -> None:
    assert decode(Outer, GOOD | {"mixed": "no", "maybe": True, "words": {"a": "b"}}, "x") == Outer(
        *("x", "a", Inner(3), (1, 2), (1.0, 2.5), {8: Pair(1.5, None)}, "no", True, None, {"a": "b"})
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "thing.name is 3, where str is expected"),
        ({"kind": "c"}, r"thing.kind is 'c', where typing.Literal\['a', 'b'\] is expected"),
        ({"inner": []}, r"thing.inner is \[\], where an object is expected"),
        ({"inner": {}}, "thing.inner lacks size"),
        ({"inner": {"size": 0}}, "thing.inner is not valid: size is 0; it must be from 1"),
        ({"inner": {"size": True}}, "thing.inner.size is True, where int is expected"),
        ({"inner": {"size": 1.0}}, "thing.inner.size is 1.0, where int is expected"),
        ({"sides": [1]}, r"thing.sides is \[1\], where a list of 2 is expected"),
        ({"sides": "12"}, "thing.sides is '12', where a list is expected"),
        ({"values": [1, None]}, r"thing.values\[1\] is None, where float is expected"),
        ({"values": [10**400]}, r"thing.values\[0\] is 10+, where float is expected"),
        ({"pairs": {"8": [1]}}, r"thing.pairs.8 is \[1\], where a list of 2 is expected"),
        ({"pairs": {"08": [1, 1]}}, "a key of thing.pairs is '08', where a whole number is expected"),
        ({"pairs": {"-1": [1, 1]}}, "a key of thing.pairs is '-1', where a whole number is expected"),
        ({"mixed": None}, "thing.mixed is None, where str is expected"),
        ({"maybe": 0}, "thing.maybe is 0, where bool is expected"),
        ({"colour": 1}, r"thing has the unknown keys \['colour'\]; a newer ganrt may have written it"),
        ({"words": {"a": 1}}, "thing.words.a is 1, where str is expected"),
    ],
)
def test_the_field_that_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=f"^{message}"):
        decode(Outer, GOOD | changes, "thing", BundleError)


def test_all_missing_fields_are_named() -> None:
    with pytest.raises(ArtifactError, match=r"^thing lacks name, kind, inner, sides, values, pairs$"):
        decode(Outer, {}, "thing")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON))
def test_anything_else_is_read_or_rejected_and_never_changed(changes: dict[str, Any]) -> None:
    raw = json.loads(json.dumps(GOOD | changes))
    try:
        read = decode(Outer, raw, "thing")
    except ArtifactError as error:
        assert str(error).startswith(("thing", "a key of thing"))
    else:
        plain = json.loads(json.dumps({k: v for k, v in asdict(read).items() if k in raw}))
        assert plain == raw


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": 1}')
    assert read_json(path, 8) == {"a": 1}
    with pytest.raises(BundleError, match=r"x\.json is larger than 7 bytes"):
        read_json(path, 7, BundleError)
    with pytest.raises(ArtifactError, match=r"cannot be read: Is a directory"):
        read_json(tmp_path, 7)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": NaN}', b"[-Infinity]", b"[" * 100_000])
def test_invalid_json_is_rejected(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"^it is damaged: "):
        parse_json(content, "it", BundleError)
