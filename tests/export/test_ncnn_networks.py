"""Networks in ncnn's files are read into their families, make the pictures that ncnn makes, and are refused where they
compute something else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from helpers.ncnn_networks import WRITERS, build_module, run_with_ncnn, save_network, write_upcunet

from ganrt.agreement import compare
from ganrt.errors import CheckpointError
from ganrt.export.sources import open_source
from ganrt.export.sources.ncnn_file import read_pair
from ganrt.export.sources.ncnn_networks import read_ncnn
from ganrt.export.tracing import trace
from ganrt.models import get_family
from ganrt.ncnn_format import Layer, Network, Number, Parameter, convert_graph

SMALL: list[tuple[str, dict[str, Any]]] = [
    ("srvgg", {"scale": 2, "width": 4, "convs": 0}),
    ("srvgg", {"scale": 4, "width": 4, "convs": 1, "channels": 1, "outscale": 3}),
    ("srvgg", {"scale": 4, "width": 4, "convs": 1, "outscale": 2}),
    ("rrdb", {"width": 4, "growth": 2, "blocks": 1}),
    ("rrdb", {"width": 4, "growth": 2, "blocks": 2, "scale": 2}),
    ("upconv7", {}),
    ("upconv7", {"scale": 1, "channels": 1}),
    ("span", {"scale": 2, "width": 4, "mean": (0.4488, 0.4371, 0.404), "img_range": 2.5}),
    ("span", {"scale": 3, "width": 4, "mean": (0.0, 0.0, 0.0), "img_range": 1.0}),
]
UPCUNETS: list[tuple[str, dict[str, Any], bool]] = [
    ("upcunet", {}, False),
    ("upcunet", {"excite": False, "channels": 1}, False),
    ("upcunet", {"scale": 3}, False),
    ("upcunet", {"scale": 4}, False),
    ("upcunet", {"waifu2x": True}, True),
    ("upcunet", {"waifu2x": True, "scale": 1}, True),
]
"""Family, settings, and whether in the form of waifu2x's files."""
CASES = [*((name, values, False) for name, values in SMALL), *UPCUNETS]
IMG_RANGE = {"BinaryOp": 3}
"""Place of the factor of pictures in a span."""
FAULTS = 25
"""Of a network, at most."""
EXACT = 120.0
"""Lowest PSNR in dB against ncnn, which sums in another order."""
COMMUTE = ("BinaryOp", 0), ("BinaryOp", 2), ("Eltwise", 1)
"""Sums and products, whose inputs may come in any order."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Layers are small, and threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write(name: str, values: dict[str, Any], caffe: bool, folder: Path, **options: Any) -> tuple[Any, Network, Path]:
    module = build_module(name, values)
    network = write_upcunet(module, caffe) if name == "upcunet" else WRITERS[name](module)
    return module, network, save_network(network, folder, **options)


def _read_config(name: str, values: dict[str, Any]) -> dict[str, Any]:
    family = get_family(name)
    return family.settings(family.configure(values))


@pytest.mark.parametrize(("name", "values", "caffe"), CASES)
def test_the_family_makes_the_picture_that_ncnn_makes(
    name: str, values: dict[str, Any], caffe: bool, tmp_path: Path
) -> None:
    pytest.importorskip("ncnn")
    module, network, path = write(name, values, caffe, tmp_path)
    source = open_source(path)
    assert source.model == {"family": name, "config": _read_config(name, values)}
    own = module.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in source.module.state_dict().items())
    size = (60, 64) if name == "upcunet" else (28, 24)
    image = np.random.default_rng(5).uniform(0, 1, (values.get("channels", 3), *size)).astype(np.float32)
    inner: dict[str, Any] = {"upcunet": getattr(source.module, "apply_network", None)}
    inner["upconv7"] = getattr(source.module, "net", None)
    made = inner.get(name, source.module)(torch.from_numpy(image)[None]).numpy()
    expected = run_with_ncnn(path, image, network.layers[0].name, network.layers[-1].name)
    spread = float(expected.max() - expected.min())
    assert spread > 0 and compare(made, expected[None], (0.0, spread)).psnr.min() >= EXACT


def test_what_is_recorded_of_the_files(tmp_path: Path) -> None:
    _, _, path = write("srvgg", {"width": 4, "convs": 1}, False, tmp_path)
    weights = path.with_suffix(".bin")
    source = open_source(weights)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, weights)]
    assert source.origin == {
        "name": "model.param",
        "sha256": digests[0],
        "weights": {"name": "model.bin", "sha256": digests[1]},
    }
    assert source.remarks == ("model.param and model.bin are srvgg for ncnn; the weights are stored in float32",)


def test_float16_is_widened_exactly(tmp_path: Path) -> None:
    """Five values take ten bytes and two of padding. Biases are float32 in such files, too."""
    module, _, path = write(
        "srvgg", {"width": 5, "convs": 1, "channels": 1, "scale": 1}, False, tmp_path, dtype="float16"
    )
    source = open_source(path)
    for key, value in module.state_dict().items():
        stored = value.half().float() if value.ndim == 4 else value
        assert torch.equal(source.module.state_dict()[key], stored)
    assert source.remarks[0].endswith("the weights are stored in float16, used as they are in float32")


@pytest.mark.parametrize("caffe", [False, True])
def test_the_name_of_the_input_tells_the_border_of_2x_and_a_setting_overrules_it(caffe: bool, tmp_path: Path) -> None:
    _, _, path = write("upcunet", {}, caffe, tmp_path)
    source = open_source(path)
    assert source.model is not None and source.model["config"]["waifu2x"] is caffe
    known, other = ("waifu2x's", "false") if caffe else ("Real-CUGAN's", "true")
    assert source.remarks[1] == (
        f"by the name of its input, the border of pictures is {known}; --config waifu2x={other} says otherwise"
    )
    chosen = open_source(path, {"waifu2x": other}).model
    assert chosen is not None and chosen["config"]["waifu2x"] is not caffe


def test_a_network_that_ganrt_wrote_for_devices_comes_back(tmp_path: Path) -> None:
    config = {"width": 4, "convs": 0, "scale": 2}
    module = build_module("srvgg", config)
    family = get_family("srvgg")
    ir.save(trace(module, family.spec(family.configure(config))), tmp_path / "model.onnx")
    source = open_source(save_network(convert_graph(tmp_path / "model.onnx"), tmp_path))
    assert source.model == {"family": "srvgg", "config": _read_config("srvgg", config)}
    own = module.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in source.module.state_dict().items())


def list_faults(network: Network) -> Iterator[tuple[int, Layer]]:
    """Layers with one number changed, or with their inputs in another order, and their place."""
    for place, layer in enumerate(network.layers):
        shape = {"Convolution": (0, 1, 5, 6), "InnerProduct": (0, 1, 2), "Deconvolution": (0, 1, 5, 6)}
        if layer.kind in ("Input", "MemoryData", "PReLU"):
            continue
        for number, value in layer.parameters.items():
            if number in shape.get(layer.kind, ()) or place == IMG_RANGE.get(layer.kind):
                continue  # the weights would not fit, or it is a setting of the family
            for changed in _change(value):
                yield place, replace(layer, parameters={**layer.parameters, number: changed})
        if len(layer.inputs) > 1 and (layer.kind, layer.parameters[0]) not in COMMUTE:
            yield place, replace(layer, inputs=layer.inputs[::-1])
        if layer.kind == "Eltwise" and 1 in layer.parameters:
            yield place, replace(layer, inputs=layer.inputs[::-1])


def _change(value: Parameter) -> list[Parameter]:
    if isinstance(value, Sequence):
        return [(*value[:k], _change_number(value[k]), *value[k + 1 :]) for k in range(len(value))]
    return [_change_number(value)]


def _change_number(value: Number) -> Number:
    return value * 1.1 if isinstance(value, float) else value + 1


@pytest.mark.parametrize(("name", "values"), SMALL)
def test_a_network_that_computes_something_else_is_refused(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    _, network, path = write(name, values, False, tmp_path)
    read_ncnn(read_pair(path))
    faults = list(list_faults(network))
    assert len(faults) > 3
    for place, layer in faults[:: 1 + len(faults) // FAULTS]:
        network.layers[place], before = layer, network.layers[place]
        path.write_text(network.write_param())
        with pytest.raises(CheckpointError):
            read_ncnn(read_pair(path))
        network.layers[place] = before


@pytest.mark.parametrize("caffe", [False, True])
def test_other_u_nets_are_refused(caffe: bool, tmp_path: Path) -> None:
    """Some of the faults: each takes as long as the network."""
    _, network, path = write("upcunet", {}, caffe, tmp_path)
    faults = list(list_faults(network))
    for place, layer in faults[:: len(faults) // 8]:
        network.layers[place], before = layer, network.layers[place]
        path.write_text(network.write_param())
        with pytest.raises(CheckpointError):
            read_ncnn(read_pair(path))
        network.layers[place] = before


def change(network: Network, kind: str, parameters: dict[int, Parameter], which: int = 0) -> None:
    place = [at for at, layer in enumerate(network.layers) if layer.kind == kind][which]
    layer = network.layers[place]
    network.layers[place] = replace(layer, parameters={**layer.parameters, **parameters})


OTHERWISE = "Export the checkpoint or the ONNX file that it was converted from"


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("Eltwise", {1: (0.3, 1.0)}, "but makes other values: a slope, a factor or the order of layers differs"),
        ("Convolution", {4: 2}, "but makes (3, 40, 56) of (3, 8, 12), which is (3, 32, 48) there"),
        ("Convolution", {10: (0.3,)}, "no network of a family has its activation 0 (0.30000001192092896,)"),
        ("Convolution", {9: 3}, "Convolution convolution_1: no network of a family has its activation 3"),
        ("Convolution", {4: -233}, "its parameter 4 is -233; a whole number from 0 to 64 was expected"),
        ("Convolution", {3: (1, 1)}, "its parameter 3 is (1, 1); a whole number from 0 to 64 was expected"),
        ("Convolution", {9: 2, 10: 3}, "its parameter 10 is 3; a list was expected"),
        ("Interp", {0: 2}, "Interp interp_35: no network of a family resizes by (2.0, 2.0) in the way 2"),
        ("Interp", {1: 2.5}, "no network of a family resizes by (2.5, 2.0) in the way 1"),
        ("Interp", {1: (2.5,)}, "its parameter 1 is a list; a number was expected"),
        ("Eltwise", {0: 2}, "Eltwise eltwise_11: a sum of 2 equal shapes was expected; it has {0: 2"),
        ("Eltwise", {1: (1.0,)}, "a sum of 2 equal shapes was expected"),
        ("BinaryOp", {0: 4}, "BinaryOp binaryop_34: no network of a family computes its operation 4 of 2 inputs"),
        ("BinaryOp", {1: 1}, "no network of a family computes its operation 0 of 2 inputs"),
    ],
)
def test_why_a_network_with_the_weights_of_a_family_is_refused(
    kind: str, parameters: dict[int, Parameter], message: str, tmp_path: Path
) -> None:
    _, network, path = write("rrdb", {"width": 4, "growth": 2, "blocks": 1}, False, tmp_path)
    change(network, kind, parameters)
    path.write_text(network.write_param())
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        read_ncnn(read_pair(path))
    assert str(caught.value).startswith(f"{path} has the weights of rrdb, but") and OTHERWISE in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("Crop", {9: (4, 90), 10: (-4, -4)}, "90 to -4 of a side of 72 is empty, or not inside"),
        ("Crop", {11: (0, 1)}, "starts [4, 4] and ends [-4, -4] of axes [0, 1] cut neither height nor width"),
        ("Pooling", {0: 0}, "the mean of each channel was expected; it has {0: 0, 4: 1}"),
        ("Pooling", {4: 0}, "the mean of each channel was expected; it has {0: 1, 4: 0}"),
    ],
)
def test_why_a_u_net_is_refused(kind: str, parameters: dict[int, Parameter], message: str, tmp_path: Path) -> None:
    _, network, path = write("upcunet", {}, False, tmp_path)
    change(network, kind, parameters)
    path.write_text(network.write_param())
    with pytest.raises(CheckpointError, match=re.escape(message)):
        read_ncnn(read_pair(path))
