"""Bodies of requests: limits of size and time, and compression, from a hand-made ASGI server."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from ganrt.errors import MediaTypeError, OverloadedError, RequestError, TooLargeError
from ganrt.serve.bodies import SlowBodyError, read_body

TEXT = b"The quick brown fox jumps over the lazy dog. " * 20
LIMIT = 1000
assert len(TEXT) <= LIMIT


class Client:
    """Sends chunks; counts what was taken, and hangs or disconnects instead of the end."""

    def __init__(self, chunks: Iterable[bytes], end: str = "") -> None:
        self.chunks: Iterator[bytes] = iter(chunks)
        self.end = end
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        chunk = next(self.chunks, None)
        if chunk is not None:
            self.taken += len(chunk)
            return {"type": "http.request", "body": chunk, "more_body": True}
        if self.end == "hang":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"} if self.end == "disconnect" else {"type": "http.request"}


def read(
    client: Client, *headers: tuple[str, str], limit: int = LIMIT, timeout_s: float = 60.0, **others: Any
) -> bytes:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, client.receive)
    return asyncio.run(read_body(request, limit, timeout_s, **others))


def compress(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(data) + packer.flush()


def encode(encoding: str) -> tuple[str, str]:
    return "Content-Encoding", encoding


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "members": (
        "gzip",
        lambda data: gzip.compress(data[:7], mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(data[7:], mtime=0),
    ),
    "zlib": ("deflate", zlib.compress),
    "small-window": ("deflate", lambda data: compress(data, 9)),
    "raw": ("deflate", lambda data: compress(data, -15)),
    "stored": ("deflate", lambda data: zlib.compress(data, 0)),
}
"""Kind -> Content-Encoding, and what makes such data."""


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("kind", PACKERS)
def test_a_body_is_read_in_any_chunks(kind: str, size: int) -> None:
    encoding, pack = PACKERS[kind]
    data = pack(TEXT)
    chunks = [data[k : k + size] for k in range(0, len(data), size)]
    assert read(Client(chunks), encode(encoding), ("Content-Length", str(len(data)))) == TEXT


@given(st.binary(max_size=300), st.sampled_from(sorted(PACKERS)), st.lists(st.integers(0, 400), max_size=4))
def test_any_bytes_are_read_as_they_were_packed(data: bytes, kind: str, cuts: list[int]) -> None:
    encoding, pack = PACKERS[kind]
    packed = pack(data)
    edges = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    chunks = [packed[start:end] for start, end in pairwise(edges)]
    assert read(Client(chunks), encode(encoding)) == data


@pytest.mark.parametrize("headers", [[], [""], ["Identity"]])
def test_a_body_without_an_encoding_is_read_as_it_is(headers: list[str]) -> None:
    assert read(Client([b"", b"a", b"b"]), *map(encode, headers)) == b"ab"
    assert read(Client([]), *map(encode, headers)) == b""


@pytest.mark.parametrize("encoding", ["GZIP", "x-gzip", " gzip "])
def test_gzip_has_several_spellings(encoding: str) -> None:
    assert read(Client([gzip.compress(TEXT, mtime=0)]), encode(encoding)) == TEXT


@pytest.mark.parametrize(
    ("encodings", "found"),
    [
        (["br"], "br"),
        (["zstd"], "zstd"),
        (["gzip, gzip"], "gzip, gzip"),
        (["deflate", "gzip"], "deflate,gzip"),
        (["identity, gzip"], "identity, gzip"),
    ],
)
def test_other_encodings_are_named_before_anything_is_read(encodings: list[str], found: str) -> None:
    client = Client([TEXT])
    message = f"^the body has the Content-Encoding '{found}'; gzip or deflate is read, or none$"
    with pytest.raises(MediaTypeError, match=message):
        read(client, *map(encode, encodings))
    assert client.taken == 0


@pytest.mark.parametrize("length", ["1001", "0001001", "9" * 5000])
def test_a_body_that_says_it_is_too_large_is_not_read(length: str) -> None:
    client = Client([TEXT])
    with pytest.raises(TooLargeError, match=r"^the body is larger than 1000 bytes, the limit of this server$"):
        read(client, ("Content-Length", length))
    assert client.taken == 0


@pytest.mark.parametrize("length", ["0", "00", "0001000", "0" * 5000])
def test_a_length_within_the_limit_is_allowed(length: str) -> None:
    assert read(Client([b"a" * LIMIT]), ("Content-Length", length)) == b"a" * LIMIT


@pytest.mark.parametrize("length", ["", "-1", "1e3", "²"])
def test_a_length_that_is_no_number_is_rejected(length: str) -> None:
    with pytest.raises(RequestError, match=r"^the header Content-Length is '.*'; it must be a number of bytes$"):
        read(Client([TEXT]), ("Content-Length", length))


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_body_without_a_length_is_read_up_to_the_limit(encoding: str) -> None:
    client = Client([bytes(700)] * 100 if encoding == "identity" else [gzip.compress(b"", mtime=0)] * 100)
    with pytest.raises(TooLargeError, match=r"^the body is larger than 1000 bytes, the limit of this server$"):
        read(client, encode(encoding))
    assert LIMIT < client.taken <= LIMIT + 700


@pytest.mark.parametrize("kind", PACKERS)
def test_a_body_of_the_largest_size_is_read_and_one_byte_more_is_not(kind: str) -> None:
    encoding, pack = PACKERS[kind]
    assert read(Client([pack(bytes(100_000))]), encode(encoding), limit=101_000)[-1:] == b"\x00"
    for size in (100_000, 200_000):  # with and without the end of the data
        limit = 99_999 if kind == "stored" else size - 1
        with pytest.raises(TooLargeError, match=rf"^the body is larger than {limit} bytes"):
            read(Client([pack(bytes(size))]), encode(encoding), limit=limit)
    assert len(read(Client([gzip.compress(bytes(LIMIT))]), encode("gzip"))) == LIMIT


@pytest.mark.parametrize("kind", ["gzip", "members", "zlib", "raw"])
def test_a_bomb_is_not_inflated_beyond_the_limit(kind: str) -> None:
    encoding, pack = PACKERS[kind]
    bomb = pack(bytes(2**26))
    tracemalloc.start()
    try:
        with pytest.raises(
            TooLargeError, match=r"^the body is larger than 1000000 bytes when it is decompressed, the limit"
        ):
            read(Client([bomb]), encode(encoding), limit=10**6)
        assert tracemalloc.get_traced_memory()[1] < 4 * 10**6
    finally:
        tracemalloc.stop()


def test_tiny_chunks_do_not_take_much_more_memory_than_the_body() -> None:
    """A list of them would: an object for each."""

    def read_chunks() -> bytes:
        return read(Client(bytes(2) for _ in range(20_000)), limit=40_000)

    read_chunks()  # imports what it needs
    tracemalloc.start()
    try:
        assert len(read_chunks()) == 40_000
        assert tracemalloc.get_traced_memory()[1] < 600_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("encoding", "data", "message"),
    [
        (
            "gzip",
            TEXT[:50],
            "the gzip data of the body are damaged: Error -3 while decompressing data: incorrect header check",
        ),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"x" * 20, "the gzip data of the body are damaged"),
        (
            "gzip",
            gzip.compress(TEXT, mtime=0)[:-8] + bytes(8),
            "the gzip data of the body are damaged: Error -3 .* data check",
        ),
        ("gzip", zlib.compress(TEXT), "the gzip data of the body are damaged"),
        ("deflate", zlib.compress(TEXT)[:-4] + bytes(4), "the deflate data of the body are damaged"),
        ("deflate", b"\xff\xff", "the deflate data of the body are damaged"),
        ("deflate", zlib.compress(TEXT) + b"x", "bytes follow the end of the deflate data of the body$"),
        ("deflate", compress(TEXT, -15) + b"x", "bytes follow the end of the deflate data of the body$"),
        ("gzip", b"", "the body ends in the middle of its gzip data$"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-1], "the body ends in the middle of its gzip data$"),
        (
            "gzip",
            gzip.compress(TEXT, mtime=0) + gzip.compress(TEXT, mtime=0)[:5],
            "the body ends in the middle of its gzip data$",
        ),
        ("deflate", b"", "the body ends in the middle of its deflate data$"),
        ("deflate", b"x", "the body ends in the middle of its deflate data$"),
        ("deflate", compress(TEXT, -15)[:-1], "the body ends in the middle of its deflate data$"),
    ],
)
def test_damaged_data_are_a_wrong_request(encoding: str, data: bytes, message: str) -> None:
    for chunks in ([data], [data[k : k + 1] for k in range(len(data))]):
        with pytest.raises(RequestError, match=f"^{message}"):
            read(Client(chunks), encode(encoding), limit=10**4)


@given(st.binary(max_size=60), st.sampled_from(["gzip", "deflate"]), st.integers(0, 40))
def test_any_data_are_a_wrong_request_or_a_body(data: bytes, encoding: str, kept: int) -> None:
    start = (gzip.compress(TEXT, mtime=0) if encoding == "gzip" else zlib.compress(TEXT))[:kept]
    try:
        read(Client([start + data]), encode(encoding))
    except RequestError as error:
        assert str(error)


@pytest.mark.parametrize("kind", PACKERS)
def test_the_memory_that_a_body_takes_is_told_as_it_grows(kind: str) -> None:
    encoding, pack = PACKERS[kind]
    grown: list[int] = []
    packed = pack(TEXT)
    half = len(packed) // 2
    assert read(Client([packed[:half], packed[half:]]), encode(encoding), reserve=grown.append) == TEXT
    assert len(grown) > 1 and sum(grown) == len(TEXT) and min(grown) >= 0


def test_a_body_for_which_there_is_no_memory_is_not_read() -> None:
    def refuse(_: int) -> None:
        raise OverloadedError("too many bodies", 1.0)

    client = Client([TEXT, TEXT])
    with pytest.raises(OverloadedError, match=r"^too many bodies$"):
        read(client, reserve=refuse, limit=10**6)
    assert client.taken == len(TEXT)


def test_members_are_counted() -> None:
    member = gzip.compress(b"a", mtime=0)
    assert read(Client([member * 1000]), encode("gzip"), limit=10**6) == b"a" * 1000
    for chunks in ([member * 1001], [member] * 1001):
        with pytest.raises(RequestError, match=r"^the body has more than 1000 gzip members$"):
            read(Client(chunks), encode("gzip"), limit=10**6)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_body_that_does_not_end_is_given_up(encoding: str) -> None:
    client = Client([gzip.compress(TEXT, mtime=0)[:10]], end="hang")
    with pytest.raises(SlowBodyError, match=r"^the body did not arrive within 0\.01 seconds; 10 bytes did$") as raised:
        read(client, encode(encoding), timeout_s=0.01)
    assert isinstance(raised.value, RequestError)


def test_the_time_is_that_of_the_whole_body() -> None:
    """A client that sends a byte now and then is never idle for long."""

    class Dripping(Client):
        async def receive(self) -> dict[str, Any]:
            await asyncio.sleep(0.01)
            return await super().receive()

    with pytest.raises(SlowBodyError):
        read(Dripping(b"x" for _ in range(LIMIT)), timeout_s=0.1)


def test_a_client_that_goes_away_is_no_wrong_request() -> None:
    with pytest.raises(ClientDisconnect):
        read(Client([TEXT], end="disconnect"))


def test_a_cancelled_reader_is_cancelled() -> None:
    """The server shuts down; the time limit must not hide that."""

    async def cancel() -> None:
        request = Request({"type": "http", "headers": []}, Client([], end="hang").receive)
        reading: Awaitable[bytes] = read_body(request, LIMIT, 60.0)
        task = asyncio.ensure_future(reading)
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
