"""NVIDIA's client, as it comes, with JSON and with binary tensors."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.http_server import Running
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

import ganrt
from ganrt import __version__
from ganrt.feeds import Array
from ganrt.images import to_uint8

KINDS = {"seed": np.uint64, "index": np.uint64, "label": np.int64, "truncation": np.float64}


@pytest.fixture
def client(server: Running) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.address, concurrency=20) as client:
        yield client


def give(name: str, values: Any, binary: bool = True) -> InferInput:
    array = np.asarray(values, KINDS.get(name)) if name in KINDS else values
    tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def test_health_and_metadata(client: InferenceServerClient, generators: dict[str, ganrt.Generator]) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata() == {
        "name": "ganrt",
        "version": __version__,
        "extensions": ["binary_tensor_data"],
    }
    for name in generators:
        assert client.is_model_ready(name) and client.is_model_ready(name, "1")
        assert client.get_model_metadata(name)["versions"] == ["1"]
    assert not client.is_model_ready("other")
    found = client.get_model_metadata("classes")
    assert [(item["name"], item["datatype"], item["shape"]) for item in found["inputs"]] == [
        ("seed", "UINT64", [-1]),
        ("index", "UINT64", [-1]),
        ("label", "INT64", [-1]),
        ("truncation", "FP64", [-1]),
        ("z", "FP32", [-1, 8]),
    ]
    assert [(item["name"], item["datatype"], item["shape"]) for item in found["outputs"]] == [
        ("image", "UINT8", [-1, 32, 32, 3]),
        ("seed", "UINT64", [-1]),
        ("index", "UINT64", [-1]),
        ("label", "INT64", [-1]),
    ]
    picture = client.get_model_metadata("espcn")["inputs"][0]
    assert picture["shape"] == [-1, -1, -1, 1] and picture["parameters"] == {"optional": False}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_pictures_of_seeds(
    client: InferenceServerClient, generators: dict[str, ganrt.Generator], binary: bool, compression: str | None
) -> None:
    seeds, indices, labels = [7, 2**64 - 1, 7], [0, 3, 2**63], [1, 6, 0]
    given = [give("seed", seeds, binary), give("index", indices, binary), give("label", labels, binary)]
    names = ("image", "seed", "label")
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in names]
    result = client.infer(
        "classes", given, outputs=outputs, request_id="a 1", request_compression_algorithm=compression
    )
    np.testing.assert_array_equal(
        result.as_numpy("image"), generators["classes"].sample(seed=seeds, start=indices, labels=labels)
    )
    np.testing.assert_array_equal(result.as_numpy("seed"), np.array(seeds, np.uint64))
    np.testing.assert_array_equal(result.as_numpy("label"), labels)
    response = result.get_response()
    assert response["id"] == "a 1" and response["model_name"] == "classes" and len(response["outputs"]) == 3


def test_raw_latents(client: InferenceServerClient, generators: dict[str, ganrt.Generator]) -> None:
    generator = generators["dcgan"]
    z = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    made = client.infer("dcgan", [give("z", z)]).as_numpy("image")
    np.testing.assert_array_equal(made, to_uint8(generator(z=z), generator.spec.output.range))
    labels = np.array([0, 1, 2, 3, 4])
    conditional = generators["classes"]
    made = client.infer("classes", [give("z", z), give("label", labels)]).as_numpy("image")
    expected = conditional(z=z, **{conditional.spec.inputs[1].name: labels})
    np.testing.assert_array_equal(made, to_uint8(expected, conditional.spec.output.range))


def test_pictures_in_and_out(client: InferenceServerClient, generators: dict[str, ganrt.Generator]) -> None:
    generator = generators["espcn"]
    name = generator.spec.images[0].name
    photos = np.random.default_rng(0).integers(0, 256, (2, 11, 8, 3), np.uint8)
    made = client.infer("espcn", [give(name, photos)]).as_numpy(generator.spec.output.name)
    np.testing.assert_array_equal(made, generator.transform(photos))


def test_a_hundred_mixed_requests_at_a_time(
    client: InferenceServerClient, generators: dict[str, ganrt.Generator]
) -> None:
    """Each gets byte for byte the pictures of `Generator.sample`."""
    random = np.random.default_rng(3)
    asked: list[tuple[str, dict[str, Array]]] = []
    for k in range(100):
        rows = int(random.integers(1, 6))
        given: dict[str, Array] = {"seed": random.integers(0, 2**64, rows, np.uint64)}
        if k % 2:
            given["index"] = random.integers(0, 2**64, rows, np.uint64)
        if k % 3 == 0:
            given["truncation"] = random.uniform(0.2, 2.0, rows)
        if k % 5 == 0:
            given["label"] = random.integers(0, 7, rows)
        asked.append(("classes" if k % 5 < 3 else "dcgan", given))
    pending = [
        client.async_infer(name, [give(key, array, binary=k % 4 > 0) for key, array in given.items()])
        for k, (name, given) in enumerate(asked)
        if name == "classes" or "label" not in given
    ]
    results = [request.get_result() for request in pending]
    for (name, given), result in zip(asked, results, strict=True):
        arguments: dict[str, Any] = {
            {"index": "start", "label": "labels"}.get(key, key): array for key, array in given.items()
        }
        if "start" not in arguments:
            arguments["start"] = np.zeros(len(given["seed"]), np.uint64)
        np.testing.assert_array_equal(result.as_numpy("image"), generators[name].sample(**arguments))


@pytest.mark.parametrize(
    ("model", "version", "given", "message"),
    [
        ("nothing", "", {"seed": [1]}, "there is no model 'nothing'; this server has dcgan, classes, espcn"),
        ("dcgan", "2", {"seed": [1]}, "the model dcgan has no version '2'; it has 1"),
        ("dcgan", "", {"label": [1]}, "has no classes"),
        ("dcgan", "", {"seed": [1, 2], "index": [1]}, "index has 1 entry and seed has 2"),
        ("dcgan", "", {"y": np.zeros(1, np.float32)}, "this model has no input 'y'; its inputs are seed, index"),
        ("dcgan", "", {"z": np.zeros((1, 9), np.float32)}, r"z has shape \(1, 9\)"),
        ("dcgan", "", {"z": np.zeros((1, 8), np.float32), "seed": [1]}, "seed was given, but nothing is drawn"),
        ("dcgan", "", {"seed": [[1, 2]]}, r"input 'seed' has the shape \[1, 2\]; it takes one value per picture"),
        ("classes", "", {"label": [7]}, r"label\[0\] is 7; this model's classes are the whole numbers 0 to 6"),
        ("espcn", "", {"seed": [1]}, "seed was given, but nothing is drawn"),
    ],
)
def test_errors_reach_the_client(
    client: InferenceServerClient, model: str, version: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message) as raised:
        client.infer(model, [give(name, values) for name, values in given.items()], model_version=version)
    assert raised.value.status() in ("400", "404")


def test_a_timeout_is_a_parameter(client: InferenceServerClient) -> None:
    assert client.infer("dcgan", [give("seed", [1])], timeout=5_000_000).as_numpy("image").shape == (1, 16, 16, 3)
