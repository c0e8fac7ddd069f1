"""JSON from clients: what is read, and that everything else is rejected before it costs anything."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganrt.errors import RequestError, TooLargeError
from ganrt.serve import json_body
from ganrt.serve.json_body import parse_json

MANY = 2**20
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.lists(st.sampled_from('"\\[]{},:01eE.-+ntu d8cba\n') | st.sampled_from(["NaN", "\\ud8", '"a":', "é"])))
def test_what_is_read_is_json_that_can_be_written_and_all_else_is_a_wrong_request(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        found = parse_json(text.encode())
    except RequestError:
        return
    assert json.loads(text) == found
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON is expected, but the request has none"),
        (b" ", "the request is not JSON: Expecting value: line 1 column 2 (char 1)"),
        (b"{'a': 1}", "the request is not JSON: Expecting property name enclosed in double quotes"),
        (b"[1] 2", "the request is not JSON: Extra data: line 1 column 5 (char 4)"),
        (b'"\xff"', "the JSON of the request is not UTF-8: invalid start byte at byte 1"),
        ('"a"'.encode("utf-16"), "the JSON of the request is not UTF-8: invalid start byte at byte 0"),
        (b"\xef\xbb\xbf1", "the request is not JSON: Unexpected UTF-8 BOM"),
        (b'"a\nb"', "the request is not JSON: Invalid control character"),
        (b'{"a": {"c": 1, "b": 2, "b": 1}}', "the JSON of the request has the key 'b' twice in an object"),
        (b'{"a": 1, "\\u0061": 2}', "the JSON of the request has the key 'a' twice in an object"),
        (b"[NaN]", "the request is not JSON: NaN is not a JSON number"),
        (b"-Infinity", "the request is not JSON: -Infinity is not a JSON number"),
        (b"[1e999]", "the JSON of the request has the number 1e999, which float64 cannot hold"),
        (b"-1e400", "the JSON of the request has the number -1e400, which float64 cannot hold"),
        (b"1" * 1001, "the JSON of the request has a number of more than 1000 digits"),
        (b"0." + b"1" * 5000, "the JSON of the request has a number of more than 1000 digits"),
        (b"[" * 101 + b"]" * 101, "the JSON of the request is nested 101 deep; 100 is the limit"),
        (b'{"a":' * 100_000, "the JSON of the request is nested 100000 deep; 100 is the limit"),
        (b'[{"a":' * 51 + b"1" + b"}]" * 51, "the JSON of the request is nested 102 deep; 100 is the limit"),
        (rb'"\ud83d"', r"the JSON of the request has \ud83d without its other half: it is not text"),
        (rb'"\uDE00x"', r"the JSON of the request has \uDE00 without its other half: it is not text"),
        (rb'"\ud83d\\\ude00"', r"the JSON of the request has \ud83d without its other half: it is not text"),
        (rb'"\ud83d\ud83d\ude00"', r"the JSON of the request has \ud83d without its other half: it is not text"),
    ],
)
def test_a_wrong_text_is_rejected_with_its_reason(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=f"^{re.escape(message)}") as raised:
        parse_json(body)
    assert not isinstance(raised.value, TooLargeError)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100 + b"]" * 100,
        b"[" + b"[]," * 200 + b"{}]",
        b'"' + b"[{" * 200 + b'"',
        rb'["\"[[", "' + b"[" * 101 + b'"]',
        rb'["\\", "' + b"[" * 101 + b'"]',
        b"[" + b"1" * 1000 + b"," + b"1" * 1000 + b"]",
        b'"' + b"1" * 2000 + b'"',
        rb'"\ud83d\ude00 \\ud83d"',
        b'"' + b"A" * 3 * MANY + b'"',
        b"[" + b'"A",' * (MANY // 4) + b"1]",
    ],
)
def test_a_text_within_the_limits_is_read(body: bytes) -> None:
    assert parse_json(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * (MANY // 2) + b"1]",
        b" " * (MANY + 1),
        b"[" + b'"",' * (MANY // 3) + b"1]",
        b'"' * (MANY + 1),
        b'"' * 2**26,
    ],
)
def test_many_numbers_are_too_large(body: bytes) -> None:
    message = "longer than 1048576 bytes without its strings; use binary tensors for many numbers, or send fewer"
    with pytest.raises(TooLargeError, match=message):
        parse_json(body)


@pytest.mark.parametrize("body", [b'"' + b"\\" * (MANY + 1), rb"\"" * 2**24])
def test_many_backslashes_are_too_large(body: bytes) -> None:
    with pytest.raises(TooLargeError, match=r"^the JSON of the request has more than 1048576 backslashes$"):
        parse_json(body)


def test_a_text_of_the_largest_size_is_read() -> None:
    assert parse_json(b" " * (MANY - 1) + b"7") == 7


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b"\\" * MANY,
        b'"' + rb"\"" * MANY,
        b"\\" * MANY,
        b'"' + rb"\ud83d\ude00" * (MANY // 2),
        b"[" + (b"1" * 1000 + b",") * 1000,
        b'"' * MANY,
        b"]" * (MANY - 1),
        b'["' + b"x" * 2**24,
    ],
)
def test_a_hostile_text_is_rejected_in_linear_time(body: bytes) -> None:
    """A quadratic step would take hours."""
    with pytest.raises(RequestError, match="not JSON"):
        parse_json(body)


def test_nothing_is_built_from_a_text_above_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body.json, "loads", pytest.fail)
    for body in (b" " * (MANY + 1), b"[" * 101, b"1" * 1001):
        with pytest.raises(RequestError):
            parse_json(body)
