"""`POST /v1/images` and `GET /v1/models`."""

import base64
import io
from dataclasses import replace
from functools import cache
from typing import Any

import httpx
import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from helpers.http_server import Running

import ganrt
from ganrt.feeds import Array
from ganrt.images import make_grid, to_uint8
from ganrt.interpolation import interpolate
from ganrt.sample_request import find_truncations


def decode(answer: httpx.Response) -> Array:
    """Return the picture or the array of an answer."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "application/x-npy":
        return np.load(io.BytesIO(answer.content), allow_pickle=False)
    array = np.asarray(PIL.Image.open(io.BytesIO(answer.content)))
    return array if array.ndim == 3 else array[..., None]


def write(array: Array, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


def photo(height: int = 9, width: int = 14, channels: int = 3) -> Array:
    array = np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8)
    return array[..., 0] if channels == 1 else array


@pytest.mark.parametrize("form", ["png", "webp", "npy"])
def test_a_picture_of_a_seed(server: Running, generators: dict[str, ganrt.Generator], form: str) -> None:
    answer = server.post({"model": "dcgan", "seed": 7, "index": 3, "format": form})
    made = decode(answer)
    expected = generators["dcgan"].sample(1, seed=7, start=3)
    np.testing.assert_array_equal(made if form == "npy" else made[None], expected)
    headers = answer.headers
    assert (headers["x-ganrt-model"], headers["x-ganrt-seed"], headers["x-ganrt-index"]) == ("dcgan", "7", "3")
    assert headers["x-ganrt-batch"] == "rows=1;requests=1" and "x-ganrt-label" not in headers
    assert [part.split(";")[0] for part in headers["server-timing"].split(", ")] == ["queue", "compute", "encode"]


def test_the_first_model_answers_if_none_is_named(server: Running, generators: dict[str, ganrt.Generator]) -> None:
    np.testing.assert_array_equal(decode(server.post({}))[None], generators["dcgan"].sample(1))


def test_seeds_that_javascript_cannot_count(server: Running, generators: dict[str, ganrt.Generator]) -> None:
    answer = server.post({"seed": str(2**64 - 1), "index": str(2**63), "format": "npy"})
    np.testing.assert_array_equal(decode(answer), generators["dcgan"].sample(1, seed=2**64 - 1, start=2**63))
    assert answer.headers["x-ganrt-seed"] == str(2**64 - 1)


def test_values_per_picture(server: Running, generators: dict[str, ganrt.Generator]) -> None:
    body = {
        "model": "classes",
        "seed": [1, "2", 3],
        "label": [6, None, 0],
        "truncation": [0.5, None, 1],
        "format": "npy",
    }
    answer, generator = server.post(body), generators["classes"]
    wanted: dict[str, Any] = {"seed": [1, 2, 3], "labels": [6, None, 0], "truncation": [0.5, None, 1.0]}
    np.testing.assert_array_equal(decode(answer), generator.sample(**wanted))
    draw = generator.draw(**wanted)
    assert draw.labels is not None
    assert answer.headers["x-ganrt-label"] == ",".join(map(str, draw.labels.tolist()))
    assert answer.headers["x-ganrt-seed"] == "1,2,3"


def test_several_pictures_are_a_grid(server: Running, generators: dict[str, ganrt.Generator]) -> None:
    np.testing.assert_array_equal(decode(server.post({"n": 5})), make_grid(generators["dcgan"].sample(5)))


def test_headers_do_not_list_a_hundred_pictures(server: Running) -> None:
    answer = server.post({"n": 65, "format": "npy"})
    assert decode(answer).shape[0] == 65 and "x-ganrt-seed" not in answer.headers
    assert "x-ganrt-seed" in server.post({"n": 64, "format": "npy"}).headers


@pytest.mark.parametrize("amount", [0.0, 0.3, [0.0, 0.5, 1.0]])
def test_between_two_seeds(server: Running, generators: dict[str, ganrt.Generator], amount: Any) -> None:
    generator, rows = generators["classes"], 3 if isinstance(amount, list) else 1
    body = {"model": "classes", "n": rows, "seed": [4] * rows, "label": 2, "to_seed": "9", "amount": amount}
    answer = server.post({**body, "format": "npy"})
    first = generator.draw(rows, seed=[4] * rows, labels=2)
    second = replace(first, seeds=np.full(rows, 9, np.uint64))
    feeds = interpolate(generator.spec, first, second, np.broadcast_to(np.asarray(amount, float), (rows,)))
    np.testing.assert_array_equal(decode(answer), to_uint8(generator(**feeds), generator.spec.output.range))
    assert answer.headers["x-ganrt-seed"] == ",".join(["4"] * rows)
    if amount == 0.0:
        np.testing.assert_array_equal(decode(answer), generator.sample(1, seed=4, labels=2))


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "image/png"),
        ("image/webp", "image/webp"),
        ("image/webp, image/*;q=0.8", "image/png"),
        ("text/html, application/x-npy", "application/x-npy"),
        ("application/*", "application/x-npy"),
        ("image/png;q=0, image/webp", "image/webp"),
    ],
)
def test_the_format_is_negotiated(server: Running, accept: str, media_type: str) -> None:
    assert server.post({}, headers={"Accept": accept}).headers["content-type"] == media_type


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_transformed(server: Running, generators: dict[str, ganrt.Generator], form: str) -> None:
    content = write(photo(), form)
    sent = {"Content-Type": f"image/{form.lower()}"}
    answer = server.client.post("/v1/images?model=espcn&format=png", content=content, headers=sent)
    expected = generators["espcn"].transform(PIL.Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decode(answer), expected)
    name = generators["espcn"].spec.images[0].name
    body = {"model": "espcn", "pictures": {name: base64.b64encode(content).decode()}}
    np.testing.assert_array_equal(decode(server.post(body)), expected)
    assert "x-ganrt-seed" not in answer.headers


@pytest.mark.parametrize("out", ["png", "webp"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept(server: Running, generators: dict[str, ganrt.Generator], out: str, mode: str) -> None:
    array = photo(channels=4)
    array[:4, :5, 3], array[4:, 5:, 3] = 0, 255
    image = PIL.Image.fromarray(array)
    if mode == "P":
        image = image.quantize(16)
    elif mode == "LA":
        image = image.convert("LA")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    answer = server.client.post(
        f"/v1/images?model=espcn&format={out}", content=buffer.getvalue(), headers={"Content-Type": "image/png"}
    )
    made = decode(answer)
    assert made.shape == (18, 28, 4)
    opacity = np.asarray(image.convert("RGBA"))[..., 3]
    enlarged = PIL.Image.fromarray(opacity.astype(np.float32)).resize((28, 18), PIL.Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(made[..., 3], np.rint(np.asarray(enlarged).clip(0, 255)))
    np.testing.assert_array_equal(made, generators["espcn"].transform(image.convert("RGBA")))


@cache  # it holds the time when it was made
def profile(space: str = "sRGB") -> bytes:
    return PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile(space)).tobytes()  # type: ignore[arg-type]


def test_the_profile_is_applied(server: Running, generators: dict[str, ganrt.Generator]) -> None:
    """One with red and green exchanged."""
    swapped = bytearray(profile())
    red, green = swapped.find(b"rXYZ"), swapped.find(b"gXYZ")
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    content = write(photo(), "PNG", icc_profile=bytes(swapped))
    answer = server.client.post("/v1/images?model=espcn", content=content, headers={"Content-Type": "image/png"})
    with PIL.Image.open(io.BytesIO(answer.content)) as made:
        assert "icc_profile" not in made.info
    np.testing.assert_array_equal(decode(answer), generators["espcn"].transform(photo()[..., [1, 0, 2]]))


def test_a_profile_that_does_not_describe_the_picture_is_rejected(server: Running) -> None:
    """One of L*a*b* in an RGB file."""
    content = write(photo(), "PNG", icc_profile=profile("LAB"))
    answer = server.client.post("/v1/images?model=espcn", content=content, headers={"Content-Type": "image/png"})
    assert answer.status_code == 400
    assert "its color profile is for Lab, and its pixels are RGB" in answer.json()["error"]


def test_the_orientation_is_applied(server: Running, generators: dict[str, ganrt.Generator]) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    content = write(photo(), "JPEG", exif=exif.tobytes())
    answer = server.client.post("/v1/images?model=espcn", content=content, headers={"Content-Type": "image/jpeg"})
    assert decode(answer).shape == (28, 18, 3)
    np.testing.assert_array_equal(decode(answer), generators["espcn"].transform(PIL.Image.open(io.BytesIO(content))))


def test_the_models_are_described(server: Running) -> None:
    models = {model["name"]: model for model in server.client.get("/v1/models").json()["models"]}
    assert list(models) == ["dcgan", "classes", "espcn"]
    classes = models["classes"]
    assert classes["kind"] == "sample" and classes["classes"] == 7 and classes["interpolates"] and classes["seeded"]
    low, high = find_truncations(next(model.spec for model in server.models if model.name == "classes")) or (0, 0)
    assert classes["truncation"] == {"low": low, "high": None if high == float("inf") else high}
    assert classes["latents"] == [{"name": "z", "shape": [8], "distribution": "normal"}]
    assert classes["psnr"] > 60 and classes["backend"] == "openvino" and classes["output"]["size"] == [32, 32]
    espcn = models["espcn"]
    assert espcn["kind"] == "transform" and not espcn["seeded"] and not espcn["interpolates"]
    assert espcn["pictures"][0]["role"] == "luma" and espcn["output"] == {"channels": 1, "size": None, "scale": 2}


PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"seed": -1}, 400, "seed: it must be a whole number from 0 to 2^64 - 1, or its decimal digits (found -1)"),
        ({"seed": "x"}, 400, "seed: it must be a whole number from 0 to 2^64 - 1, or its decimal digits (found 'x')"),
        ({"seed": "18446744073709551616"}, 400, "or its decimal digits (found '18446744073709551616')"),
        ({"seed": 1.5}, 400, "seed: it must be a whole number from 0 to 2^64 - 1, or its decimal digits (found 1.5)"),
        ({"seed": [1, 2], "n": 3}, 400, "seed has 2 entries and n is 3; give one value, or one per image"),
        ({"n": 0}, 400, "n: input should be greater than or equal to 1"),
        ({"n": 10**12}, 413, "1000000000000 pictures of 16 x 16 pixels were asked for; at most 67108864 pixels"),
        ({"n": 5000}, 413, "5000 pictures were asked for; at most 4096 are made in one request"),
        ({"model": "x"}, 404, "there is no model 'x'; this server has dcgan, classes, espcn"),
        ({"model": "../../etc/passwd"}, 404, "there is no model"),
        ({"label": 3}, 400, "labels were given, but this dcgan model has no classes"),
        ({"model": "classes", "label": 7}, 400, "label is 7; this model's classes are the whole numbers 0 to 6"),
        ({"truncation": -1}, 400, "truncation is -1"),
        ({"inputs": {"strength": 1}}, 400, "this dcgan model has no number 'strength'"),
        ({"pictures": {"a": "AAAA"}}, 400, "this model has no picture 'a'; it has none"),
        ({"model": "espcn", "pictures": {"a": "AAAA"}}, 400, "this model has no picture 'a'; it has"),
        ({"model": "espcn"}, 400, "is missing; this espcn model takes"),
        ({"model": "espcn", "seed": 3}, 400, "seed was given, but nothing is drawn for this request"),
        ({"pictures": {"a": "?"}}, 400, "the picture 'a' is not valid base64"),
        ({"amount": 0.5}, 400, "amount was given without to_seed"),
        ({"to_seed": 1, "amount": [0.1, 0.2]}, 400, "amount has 2 entries for 1 picture; give one value, or one each"),
        ({"tile": 16}, 400, "tile was given, but this dcgan model takes no picture"),
        ({"colour": 1}, 400, "there is no field 'colour'; the fields are amount, format"),
        ({"format": "gif"}, 400, "format: input should be 'png', 'webp' or 'npy' (found 'gif')"),
        ({"timeout": 0}, 400, "timeout: input should be greater than 0"),
        ([], 400, "the body is not a JSON object"),
    ],
)
def test_wrong_requests(server: Running, body: Any, status: int, message: str) -> None:
    answer = server.post(body)
    assert answer.status_code == status and message in answer.json()["error"]


@pytest.mark.parametrize(
    ("query", "content", "headers", "status", "message"),
    [
        ("", b"hello", {"Content-Type": "text/plain"}, 415, "the Content-Type is 'text/plain'; send one of"),
        ("", b"{}", {}, 415, "the Content-Type is ''"),
        ("", write(photo()), PNG, 400, "this dcgan model takes no picture; send JSON"),
        ("?model=espcn", b"hello", PNG, 400, "is not a PNG, JPEG, WEBP file"),
        ("?model=espcn", write(photo())[:60], PNG, 400, "cannot be read"),
        ("?model=espcn", b"", PNG, 400, "is not a PNG, JPEG, WEBP file"),
        ("?model=espcn&strength=1", write(photo()), PNG, 400, "this espcn model has no number 'strength'"),
        (
            "?model=espcn&tile=x",
            write(photo()),
            PNG,
            400,
            "the query parameter 'tile' is 'x'; it must be a whole number",
        ),
        ("?model=espcn&tile=2&tile=4", write(photo()), PNG, 400, "the query parameter 'tile' was given more than once"),
        ("?model=espcn&n=2", write(photo()), PNG, 400, "n is 2, but"),
        (
            "?seed=1",
            b"{}",
            {"Content-Type": "application/json"},
            400,
            "the query parameter 'seed' belongs into the JSON",
        ),
        (
            "",
            b"{}",
            {"Content-Type": "application/json", "Accept": "text/html"},
            406,
            "Accept allows none of image/png",
        ),
    ],
)
def test_wrong_bodies(
    server: Running, query: str, content: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    answer = server.client.post(f"/v1/images{query}", content=content, headers=headers)
    assert answer.status_code == status and message in answer.json()["error"]


def test_an_animation_is_rejected(server: Running) -> None:
    frames = [PIL.Image.fromarray(photo()), PIL.Image.fromarray(255 - photo())]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    answer = server.client.post(
        "/v1/images?model=espcn", content=buffer.getvalue(), headers={"Content-Type": "image/webp"}
    )
    assert answer.status_code == 400 and "is an animation; send one picture" in answer.json()["error"]


def test_a_picture_of_too_many_pixels_is_rejected_by_its_header(server: Running) -> None:
    content = write(np.zeros((9000, 9000), np.uint8))
    answer = server.client.post("/v1/images?model=espcn", content=content, headers=PNG)
    assert answer.status_code == 413 and "has 9000 x 9000 pixels; at most 67108864 are read" in answer.json()["error"]
    content = write(np.zeros((5000, 5000), np.uint8))
    answer = server.client.post("/v1/images?model=espcn", content=content, headers=PNG)
    assert answer.status_code == 413 and "1 picture of 10000 x 10000 pixels" in answer.json()["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/images", 405), ("GET", "/v3", 404)])
def test_what_is_not_there(server: Running, method: str, path: str, status: int) -> None:
    answer = server.client.request(method, path)
    assert answer.status_code == status and answer.json()["error"]
