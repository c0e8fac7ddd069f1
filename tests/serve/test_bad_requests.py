"""Requests that are wrong, hostile or damaged: each gets its status, and the server goes on making pictures."""

import base64
import gzip
import io
import json
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
from helpers.http_server import Running, run_server, serve_bundles
from helpers.raw_http import Reply, exchange, make_get, make_post, open_socket, parse_reply, read_all, read_reply
from helpers.server_process import ServerProcess

import ganrt
from ganrt.serve.desk import Desk

HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNK = b'a\r\n{"seed":1}\r\n0\r\n\r\n'
OURS = re.compile(
    rf"Traceback|\.py:|line \d+, in|site-packages|{Path(ganrt.__file__).parents[1]}|/tmp/|0x[0-9a-f]{{8}}"
)
"""What no client may learn."""


def check_reply(server: Running, reply: Reply, status: int) -> None:
    """Check the status of an answer, that an error is JSON and says nothing of the machine, and the server's health."""
    assert reply.status == status, reply
    if status >= 400:
        assert "content-type: application/json" in reply.head.lower(), reply
        error = json.loads(reply.body[: reply.body.index(b"}") + 1])["error"]
        assert error and not OURS.search(error)
    assert server.post({"seed": 1}).status_code == 200


RAW = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n\r\n", 400),
    "nothing": (b"\r\n\r\n\r\n", 400),
    "no target": (b"GET\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "no version": (b"GET / HTTP/x\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404),
    "no Host": (make_get(headers=CLOSE), 400),
    "HTTP/1.0 without Host": (b"GET /v1/models HTTP/1.0\r\n\r\n", 200),
    "two Hosts": (make_get(headers=b"Host: a\r\nHost: b\r\n" + CLOSE), 400),
    "Host that is no host": (make_get(headers=b"Host: [\r\n" + CLOSE), 200),
    "Host with a path": (make_get(b"/nothing", b"Host: a/page/\r\n" + CLOSE), 404),
    "head of 1 MB": (make_get(headers=HOST + b"A: " + b"a" * 10**6 + b"\r\n"), 400),
    "50,000 headers": (make_get(headers=HOST + b"A: b\r\n" * 50_000), 400),
    "space before the colon": (make_get(headers=HOST + b"A : b\r\n"), 400),
    "NUL in a header": (make_get(headers=HOST + b"A: b\x00c\r\n"), 400),
    "CR in a header": (make_get(headers=HOST + b"A: b\rc\r\n"), 400),
    "NUL in the target": (make_get(b"/page/\x00"), 400),
    "escaped NUL": (make_get(b"/page/index.html%00"), 404),
    "escaped line feed": (make_get(b"/metrics%0A"), 404),
    "path of a source": (make_get(b"/page/%2e%2e/app.py"), 404),
    "path of a source, escaped": (make_get(b"/page/..%2f..%2fapp.py"), 404),
    "path of a file": (make_get(b"/page/%2fetc%2fpasswd"), 404),
    "path of a folder": (make_get(b"/page/"), 404),
    "path that is not UTF-8": (make_get(b"/page/%ff%fe"), 404),
    "path with half a character": (make_get(b"/v1/%ed%a0%80"), 404),
    "path with a slash at its end": (make_get(b"/v1/models/", b"Host: elsewhere\r\n" + CLOSE), 404),
    "absolute target": (make_get(b"http://localhost/v1/models"), 404),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 404),
    "CONNECT": (b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 404),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 405),
    "unknown method": (b"FOO /v1/models HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 405),
    "WebSocket": (make_get(b"/", HOST + b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n"), 200),
    "HTTP/2 upgrade": (make_get(b"/", HOST + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n"), 200),
    "two equal lengths": (make_post(headers=b"Content-Length: 10\r\nContent-Type: application/json\r\n"), 200),
    "two lengths": (make_post(headers=b"Content-Length: 11\r\n"), 400),
    "length and chunks": (make_post(CHUNK, headers=CHUNKED, length=b"Content-Length: 3\r\n"), 400),
    "unknown transfer encoding": (make_post(CHUNK, length=b"Transfer-Encoding: gzip, chunked\r\n"), 400),
    "two transfer encodings": (make_post(CHUNK, length=CHUNKED + b"Transfer-Encoding: identity\r\n"), 400),
    "chunk without a size": (make_post(b"zz\r\n" + CHUNK, length=CHUNKED), 400),
    "chunk longer than its size": (make_post(b'9\r\n{"seed":1}\r\n0\r\n\r\n', length=CHUNKED), 400),
    "chunk of 2^120 bytes": (make_post(b"f" * 30 + b"\r\n", length=CHUNKED), 400),
    "negative length": (make_post(length=b"Content-Length: -1\r\n"), 400),
    "length with a sign": (make_post(length=b"Content-Length: +10\r\n"), 400),
    "hexadecimal length": (make_post(length=b"Content-Length: 0xa\r\n"), 400),
    "length of 50 digits": (make_post(length=b"Content-Length: " + b"9" * 50 + b"\r\n"), 400),
    "length above the limit": (make_post(length=b"Content-Length: 33554433\r\n"), 413),
    "length that is too small": (make_post(length=b"Content-Length: 4\r\n"), 400),
    "unknown expectation": (make_post(headers=b"Content-Type: application/json\r\nExpect: more\r\n"), 200),
    "many query keys": (make_post(path=f"/v1/images?{'a&' * 7000}", headers=b"Content-Type: image/png\r\n"), 400),
    "unload": (make_post(path="/v2/repository/models/dcgan/unload"), 404),
    "load": (make_post(path="/v2/repository/models/dcgan/load"), 404),
    "shutdown": (make_post(path="/shutdown"), 404),
}
"""What is sent, and the status of the answer."""


@pytest.mark.parametrize("case", RAW)
def test_what_no_client_library_sends(server: Running, case: str) -> None:
    sent, status = RAW[case]
    check_reply(server, exchange(server.address, sent), status)


JSON_BODIES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "not JSON": (b"seed=1", 400),
    "not UTF-8": (b'{"model":"\xff"}', 400),
    "a list": (b"[]", 400),
    "a key twice": (b'{"seed":1,"seed":2}', 400),
    "NaN": (b'{"truncation":NaN}', 400),
    "Infinity": (b'{"truncation":-Infinity}', 400),
    "1e999": (b'{"truncation":1e999}', 400),
    "100,000 digits": (b'{"seed":' + b"1" * 100_000 + b"}", 400),
    "100,000 lists": (b"[" * 100_000, 400),
    "100,000 objects": (b'{"a":' * 100_000, 400),
    "half a character": (b'{"model":"\\ud800"}', 400),
    "a million seeds": (b'{"seed":[' + b"0," * 10**6 + b"0]}", 413),
    "10^18 pictures": (b'{"n":1000000000000000000}', 413),
    "a model with control characters": (b'{"model":"a\\u0000\\r\\nX: y"}', 404),
    "a long name": (b'{"model":"' + b"a" * 10**6 + b'"}', 404),
    "a path as a name": (b'{"model":"../../etc/passwd"}', 404),
}


@pytest.mark.parametrize("case", JSON_BODIES)
def test_wrong_json(server: Running, case: str) -> None:
    body, status = JSON_BODIES[case]
    check_reply(server, exchange(server.address, make_post(body)), status)


def infer(server: Running, body: Any, tail: bytes = b"", **headers: str) -> Reply:
    """Send an inference request; `tail` follows the JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()).encode()
    path = "/v2/models/dcgan/infer"
    return exchange(server.address, make_post(content + tail, path=path, headers=lines))


def tensor(**changes: Any) -> dict[str, Any]:
    """Return a request for a picture of one seed, changed."""
    return {"inputs": [{"name": "seed", "datatype": "UINT64", "shape": [1], "data": [1], **changes}]}


BINARY = {"parameters": {"binary_data_size": 8}, "data": None}
INFERENCES: dict[str, tuple[Any, int]] = {
    "empty": (b"", 400),
    "a list": ([], 400),
    "no inputs": ({"inputs": []}, 200),
    "unknown input": (tensor(name="x"), 400),
    "an input twice": ({"inputs": tensor()["inputs"] * 2}, 400),
    "unknown output": ({**tensor(), "outputs": [{"name": "x"}]}, 400),
    "an output twice": ({**tensor(), "outputs": [{"name": "seed"}, {"name": "seed"}]}, 400),
    "wrong datatype": (tensor(datatype="BYTES"), 400),
    "floats for whole numbers": (tensor(datatype="FP32", data=[0.5]), 400),
    "2^63 seeds": (tensor(shape=[2**63]), 400),
    "a shape whose product overflows": (tensor(shape=[2**32, 2**32]), 400),
    "a shape that is empty and huge": (tensor(shape=[0, 2**31]), 400),
    "a negative shape": (tensor(shape=[-1]), 400),
    "no pictures": (tensor(shape=[0], data=[]), 400),
    "more than the most rows": (tensor(shape=[5000], data=[0] * 5000), 413),
    "more than the most values as JSON": (tensor(shape=[4096], data=[0] * 4096), 413),
    "line ends in the id": ({**tensor(), "id": "a\r\nX-Evil: 1"}, 400),
    "a long id": ({**tensor(), "id": "a" * 201}, 400),
    "an id with a quote": ({**tensor(), "id": 'a"b'}, 200),
    "shared memory": (tensor(parameters={"shared_memory_region": "a"}, data=None), 400),
    "100,000 lists as data": (b'{"inputs":[{"name":"seed","shape":[1],"datatype":"UINT64","data":' + b"[" * 10**5, 400),
}


@pytest.mark.parametrize("case", INFERENCES)
def test_wrong_inferences(server: Running, case: str) -> None:
    body, status = INFERENCES[case]
    reply = infer(server, body)
    check_reply(server, reply, status)
    assert "x-evil" not in reply.head.lower()


SEED = struct.pack("<Q", 1)
LENGTH = len(json.dumps(tensor(**BINARY)))


@pytest.mark.parametrize(
    ("length", "tail", "status"),
    [
        (str(LENGTH), SEED, 200),
        (None, SEED, 400),
        ("", SEED, 400),
        ("-1", SEED, 400),
        ("x", SEED, 400),
        (f"+{LENGTH}", SEED, 400),
        ("9" * 5000, SEED, 400),
        (str(LENGTH + 9), SEED, 400),
        (str(LENGTH), SEED[:7], 400),
        (str(LENGTH), SEED + b"x", 400),
        (str(LENGTH), b"", 400),
    ],
)
def test_wrong_lengths_of_binary_data(server: Running, length: str | None, tail: bytes, status: int) -> None:
    headers = {} if length is None else {"Inference_Header_Content_Length": length}
    check_reply(server, infer(server, tensor(**BINARY), tail, **headers), status)


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", gzip.compress(b'{"seed":1}', mtime=0), 200),
        ("deflate", zlib.compress(b'{"seed":1}'), 200),
        ("identity", b'{"seed":1}', 200),
        ("gzip", b'{"seed":1}', 400),
        ("gzip", gzip.compress(b'{"seed":1}', mtime=0)[:-1], 400),
        ("gzip", gzip.compress(bytes(2**25 + 1)), 413),
        ("br", b"x", 415),
        ("zstd", b"x", 415),
        ("gzip, gzip", b"x", 415),
    ],
)
def test_encodings_of_a_body(server: Running, encoding: str, body: bytes, status: int) -> None:
    headers = b"Content-Type: application/json\r\nContent-Encoding: %b\r\n" % encoding.encode()
    check_reply(server, exchange(server.address, make_post(body, headers=headers)), status)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v2/models/x/infer", 404), ("/v2/models/dcgan/versions/2/infer", 404), ("/v2/models/..%2F..%2Fetc/infer", 404)],
)
def test_paths_of_models_that_are_not_there(server: Running, path: str, status: int) -> None:
    check_reply(server, exchange(server.address, make_post(path=path)), status)


def test_a_body_is_asked_for_only_if_it_is_read(server: Running) -> None:
    expect = b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
    with open_socket(server.address) as connection:
        connection.sendall(make_post(headers=expect)[: -len(b'{"seed":1}')])
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b'{"seed":1}')
        assert parse_reply(read_all(connection)).status == 200
    too_long = make_post(b"", headers=expect, length=b"Content-Length: 99999999\r\n")
    check_reply(server, exchange(server.address, too_long), 413)


def test_a_second_request_on_a_connection_is_not_part_of_the_first(server: Running) -> None:
    """A length that is too small: its rest is a request, which is answered as such."""
    with open_socket(server.address) as connection:
        connection.sendall(
            make_post(b'{"seed":1}' + make_get(b"/nothing"), length=b"Content-Length: 10\r\n", close=False)
        )
        assert read_reply(connection).status == 200
        assert read_reply(connection).status == 404


def test_a_request_with_two_lengths_ends_the_connection(server: Running) -> None:
    """What follows may be a request to this server and part of the body to a proxy before it."""
    smuggled = make_post(CHUNK + make_get(), headers=CHUNKED, length=b"Content-Length: 200\r\n", close=False)
    reply = exchange(server.address, smuggled)
    check_reply(server, reply, 400)
    assert reply.body.endswith(b"}")


def test_damaged_chunks_after_the_answer(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with open_socket(server.address) as connection:
        head = make_post(b"", path="/v2/models/x/infer", length=CHUNKED, close=False)
        connection.sendall(head)
        assert read_reply(connection).status == 404
        connection.sendall(b"zz\r\n")
        assert read_all(connection) == b""
    assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request received."]


def test_damaged_chunks_while_the_body_is_read(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with open_socket(server.address) as connection:
        connection.sendall(make_post(b"1\r\n{\r\n", length=CHUNKED))
        time.sleep(0.1)  # until the server waits for the next chunk
        connection.sendall(b"zz\r\n")
        check_reply(server, parse_reply(read_all(connection)), 400)
    assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request received."]


@pytest.mark.parametrize("failure", [RuntimeError("/secret/path"), AssertionError()])
def test_defects_of_the_server_are_told_to_its_log_alone(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(Desk, "answer", fail)
        reply = exchange(server.address, make_post())
    check_reply(server, reply, 500)
    assert "its log says why" in reply.body.decode()
    assert any(record.exc_info and record.exc_info[1] is failure for record in caplog.records)
    assert 'ganrt_requests_total{model="dcgan",status="500"' in server.client.get("/metrics").text


TOKEN = "s3cret-token"
RIGHT = f"Authorization: Bearer {TOKEN}\r\n".encode()


@pytest.fixture(scope="module")
def secured(served_bundles: dict[str, Path]) -> Iterator[Running]:
    """A server with a token."""
    with run_server(serve_bundles({"dcgan": served_bundles["dcgan"]}, token=TOKEN)) as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (RIGHT, 200),
        (b"Authorization: bearer   %b  \r\n" % TOKEN.encode(), 200),
        (b"", 401),
        (b"Authorization: \r\n", 401),
        (b"Authorization: Bearer\r\n", 401),
        (b"Authorization: Bearer %b\r\n" % TOKEN[:-1].encode(), 401),
        (b"Authorization: Bearer %bx\r\n" % TOKEN.encode(), 401),
        (b"Authorization: %b\r\n" % TOKEN.encode(), 401),
        (b"Authorization: Basic %b\r\n" % base64.b64encode(TOKEN.encode()), 401),
        (b"Authorization: Bearer \xff\xfe\r\n", 401),
        ("Authorization: Bearer \uff533cret-token\r\n".encode(), 401),
        (RIGHT + b"Authorization: Bearer x\r\n", 401),
        (RIGHT + RIGHT, 401),
        (b"X-Token: %b\r\n" % TOKEN.encode(), 401),
    ],
)
def test_tokens(secured: Running, headers: bytes, status: int) -> None:
    reply = exchange(secured.address, make_get(headers=HOST + CLOSE + headers))
    assert reply.status == status
    assert status == 200 or "www-authenticate: bearer" in reply.head.lower()


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"/", b"localhost", 200),
        (b"/page/index.html", b"localhost", 200),
        (b"/v2/health/live", b"localhost", 200),
        (b"/v2/health/ready", b"localhost", 200),
        (b"/v1/models", b"localhost/page/", 401),
        (b"/v1/models", b"localhost/page/?", 401),
        (b"/v1/models", b"localhost/v2/health/live#", 401),
        (b"/v1/models?/page/", b"localhost", 401),
        (b"//page/../v1/models", b"localhost", 401),
        (b"/page/../v1/models", b"localhost", 404),
        (b"/page/%2e%2e/v1/models", b"localhost", 404),
        (b"/v2/health/live/../../models", b"localhost", 401),
        (b"/v2/health/live%0a", b"localhost", 401),
        (b"/metrics", b"localhost", 401),
        (b"/openapi.json", b"localhost", 401),
        (b"/v2", b"localhost", 401),
        (b"/nothing", b"localhost", 401),
    ],
)
def test_what_needs_no_token(secured: Running, target: bytes, host: bytes, status: int) -> None:
    assert exchange(secured.address, make_get(target, b"Host: %b\r\n%b" % (host, CLOSE))).status == status


def test_a_body_without_a_token_is_not_read(secured: Running) -> None:
    with open_socket(secured.address) as connection:
        connection.sendall(make_post(b"", length=b"Content-Length: 1000000\r\n", close=False))
        assert read_reply(connection).status == 401


# One server in a process of its own, whose memory is measured. Its limits are small, so that attacks are quick.

LIMIT = 4 * 2**20
"""Bytes of a body and pixels of a picture, about."""
PIXELS = 1500


@pytest.fixture(scope="module")
def alone(served_bundles: dict[str, Path]) -> Iterator[ServerProcess]:
    limits = ("--max-body", "4", "--max-pixels", "4", "--access-log")
    with ServerProcess(*(f"{name}={served_bundles[name]}" for name in ("dcgan", "espcn")), *limits) as server:
        yield server.await_ready()


def read_memory(pid: int, name: str) -> int:
    """Return `VmRSS` (bytes in memory now) or `VmHWM` (at most)."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc", str(pid), "status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def write_png(width: int, height: int, data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a grey PNG file whose header may lie about its data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data, 9)), (b"IEND", b"")]
    written = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def write_photo(form: str, side: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.zeros((side, side, 4), np.uint8)).save(buffer, form)
    return buffer.getvalue()


def ask(server: ServerProcess, content: Any, path: str = "/v1/images", **headers: str) -> int:
    """Send a body and return the status."""
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"http://{server.address}{path}", content=content, headers=lines, timeout=60.0).status_code


PNG = "image/png"
PHOTO = "/v1/images?model=espcn"
ATTACKS: dict[str, tuple[int, int, Callable[[ServerProcess], int]]] = {
    "gzip bomb of 256 MiB": (
        413,
        3 * LIMIT,
        lambda server: ask(server, gzip.compress(bytes(2**28), 1)[: LIMIT - 1], Content_Encoding="gzip"),
    ),
    "64 MiB in chunks": (413, 3 * LIMIT, lambda server: ask_in_chunks(server, 64 * 2**20)),
    "header of 4 Gpixels": (
        413,
        LIMIT,
        lambda server: ask(server, write_png(65_535, 65_535, b""), PHOTO, Content_Type=PNG),
    ),
    "pixels in a header alone": (
        400,
        40 * PIXELS**2,
        lambda server: ask(server, write_png(PIXELS, PIXELS, b"x"), PHOTO, Content_Type=PNG),
    ),
    "colour profile of 64 MiB": (
        400,
        3 * LIMIT,
        lambda server: ask(
            server,
            write_png(4, 4, bytes(20), (b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26), 9))),
            PHOTO,
            Content_Type=PNG,
        ),
    ),
    "more pixels than the limit": (
        413,
        LIMIT,
        lambda server: ask(server, write_photo("PNG", 2100), PHOTO, Content_Type=PNG),
    ),
    "result above the limit": (
        413,
        40 * PIXELS**2,
        lambda server: ask(server, write_photo("WEBP", PIXELS), PHOTO, Content_Type="image/webp"),
    ),
    "shape of 2^31 values": (
        400,
        LIMIT,
        lambda server: ask(server, json.dumps(tensor(shape=[2**31])), "/v2/models/dcgan/infer"),
    ),
    "latents whose size overflows": (
        400,
        LIMIT,
        lambda server: ask(
            server,
            json.dumps(tensor(name="z", datatype="FP32", shape=[2**30, 2**30], **BINARY)),
            "/v2/models/dcgan/infer",
            Inference_Header_Content_Length="120",
        ),
    ),
    "2^60 pictures": (413, LIMIT, lambda server: ask(server, b'{"n":1152921504606846976}', Content_Type=APPLICATION)),
    "500,000 seeds": (
        413,
        16 * LIMIT,
        lambda server: ask(server, b'{"seed":[' + b"1," * 500_000 + b"1]}", Content_Type=APPLICATION),
    ),
}
"""Status, most bytes by which the memory of the server may grow meanwhile, and the attack."""
APPLICATION = "application/json"


def ask_in_chunks(server: ServerProcess, size: int) -> int:
    """Send a body without a length; the server may answer before it is sent."""
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    return exchange(server.address, make_post(b"", length=CHUNKED), *[chunk] * (size // 2**16)).status


@pytest.mark.parametrize("attack", ATTACKS)
def test_memory_stays_within_the_limits(alone: ServerProcess, attack: str) -> None:
    status, growth, send = ATTACKS[attack]
    assert alone.post({"seed": 1}).status_code == 200
    before = read_memory(alone.pid, "VmRSS")
    Path("/proc", str(alone.pid), "clear_refs").write_text("5")  # forgets the peak
    assert send(alone) == status
    assert read_memory(alone.pid, "VmHWM") - before < growth
    assert alone.post({"seed": 1}).status_code == 200


def test_a_path_cannot_write_lines_into_the_access_log(alone: ServerProcess) -> None:
    for target in (b"/v1/models%0d%0aINFO:%20forged", b"/v1/%1b[2Jforged", b"/?a=%0aforged"):
        exchange(alone.address, make_get(target))
    assert alone.post({"seed": 1}).status_code == 200
    logged = [line for line in alone.errors if "forged" in line]
    assert len(logged) == 3
    assert all(line.isprintable() and " - " in line and '"GET /' in line for line in logged)
