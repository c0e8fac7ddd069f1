"""Networks of ganrt's families as other projects' converters write them for ncnn: layers and weights of modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ganrt.models import build_generator
from ganrt.ncnn_format import Layer, Network, Parameter, Weights

Parameters = Mapping[int, Parameter]
LEAKY: Parameters = {9: 2, 10: (0.1,)}
STEEP: Parameters = {9: 2, 10: (0.2,)}
RELU: Parameters = {9: 1}
SIGMOID: Parameters = {9: 4}


class Writer:
    """Adds layers with the weights of a module."""

    def __init__(self, module: nn.Module, picture: str = "data") -> None:
        self.state = {key: value.numpy() for key, value in module.state_dict().items()}
        self.layers = [Layer("Input", picture, (), (picture,), {})]

    def add(self, kind: str, inputs: Sequence[str], parameters: Parameters, *weights: Weights) -> str:
        """Returns the name of the output blob, which is that of the layer."""
        name = f"{kind.lower()}_{len(self.layers)}"
        self.layers.append(Layer(kind, name, tuple(inputs), (name,), parameters, weights))
        return name

    def conv(self, key: str, x: str, more: Parameters | None = None) -> str:
        weight, bias = self.state[f"{key}.weight"], self.state[f"{key}.bias"]
        sides = {0: len(bias), 1: weight.shape[3], 5: 1, 6: weight.size}
        return self.add("Convolution", [x], {**sides, **(more or {})}, Weights(weight, tagged=True), Weights(bias))

    def deconv(self, key: str, x: str, more: Parameters) -> str:
        weight, bias = self.state[f"{key}.weight"].swapaxes(0, 1), self.state[f"{key}.bias"]
        sides = {0: len(bias), 1: weight.shape[3], 5: 1, 6: weight.size}
        return self.add("Deconvolution", [x], {**sides, **more}, Weights(weight, tagged=True), Weights(bias))

    def linear(self, key: str, x: str, more: Parameters) -> str:
        weight, bias = self.state[f"{key}.weight"], self.state[f"{key}.bias"]
        sides = {0: len(bias), 1: 1, 2: weight.size}
        return self.add("InnerProduct", [x], {**sides, **more}, Weights(weight, tagged=True), Weights(bias))

    def sum(self, *parts: str) -> str:
        return self.add("BinaryOp", parts, {0: 0})


def write_srvgg(module: Any) -> Network:
    writer, config = Writer(module), module.body
    x = "data"
    for place, part in enumerate(config):
        if isinstance(part, nn.PReLU):
            slopes = writer.state[f"body.{place}.weight"]
            x = writer.add("PReLU", [x], {0: len(slopes)}, Weights(slopes))
        else:
            x = writer.conv(f"body.{place}", x, {4: 1})
    scale = module.scale
    x = writer.add("PixelShuffle", [x], {0: scale})
    x = writer.sum(x, writer.add("Interp", ["data"], {0: 1, 1: float(scale), 2: float(scale)}))
    if module.outscale:
        share = module.outscale / scale
        writer.add("Interp", [x], {0: 3, 1: share, 2: share})
    return Network(layers=writer.layers)


def write_rrdb(module: Any) -> Network:
    writer = Writer(module)
    x = "data" if module.fold == 1 else writer.add("Reorg", ["data"], {0: module.fold})
    first = x = writer.conv("conv_first", x, {4: 1})
    for block in range(len(module.body)):
        start = x
        for dense in (1, 2, 3):
            seen = [x]
            for place in (1, 2, 3, 4):
                joined = seen[0] if place == 1 else writer.add("Concat", seen, {0: 0})
                seen.append(writer.conv(f"body.{block}.rdb{dense}.conv{place}", joined, {4: 1, **STEEP}))
            last = writer.conv(f"body.{block}.rdb{dense}.conv5", writer.add("Concat", seen, {0: 0}), {4: 1})
            x = writer.add("Eltwise", [last, x], {0: 1, 1: (0.2, 1.0)})
        x = writer.add("Eltwise", [x, start], {0: 1, 1: (0.2, 1.0)})
    x = writer.sum(first, writer.conv("conv_body", x, {4: 1}))
    for key in ("conv_up1", "conv_up2"):
        x = writer.conv(key, writer.add("Interp", [x], {0: 1, 1: 2.0, 2: 2.0}), {4: 1, **STEEP})
    writer.conv("conv_last", writer.conv("conv_hr", x, {4: 1, **STEEP}), {4: 1})
    return Network(layers=writer.layers)


def write_upconv7(module: Any) -> Network:
    """The rectifier of the first layer is one of its own, as before a network is optimized."""
    writer = Writer(module)
    x = writer.add("ReLU", [writer.conv("net.0", "data")], {0: 0.1})
    for place in range(2, 12, 2):
        x = writer.conv(f"net.{place}", x, LEAKY)
    if module.state_dict()["net.12.weight"].shape[3] == 4:
        writer.deconv("net.12", x, {3: 2, 4: 3})
    else:
        writer.conv("net.12", x)
    return Network(layers=writer.layers)


def write_upcunet(module: Any, caffe: bool = False) -> Network:
    """In the form of pnnx, or in that of waifu2x's files, which were converted from Caffe's."""
    writer, config = Writer(module, "Input1" if caffe else "in0"), module.config

    def crop(x: str, border: int, like: str) -> str:
        if caffe:
            return writer.add("Crop", [x, like], {0: border, 1: border})
        return writer.add("Crop", [x], {9: (border, border), 10: (-border, -border), 11: (-2, -1)})

    def block(key: str, x: str) -> str:
        x = writer.conv(f"{key}.conv.2", writer.conv(f"{key}.conv.0", x, LEAKY), LEAKY)
        if f"{key}.seblock.conv1.weight" not in writer.state:
            return x
        means = writer.add("Pooling", [x], {0: 1, 4: 1})
        shares = writer.linear(f"{key}.seblock.conv2", writer.linear(f"{key}.seblock.conv1", means, RELU), SIGMOID)
        return writer.add("Scale", [x, shares], {0: -233}) if caffe else writer.add("BinaryOp", [x, shares], {0: 2})

    def down(key: str, x: str) -> str:
        return writer.conv(key, x, {3: 2, **LEAKY})

    def join(key: str, coarse: str, fine: str, border: int) -> str:
        up = writer.deconv(key, coarse, {3: 2, **LEAKY})
        cut = crop(fine, border, up)
        return writer.add("Eltwise", [cut, up], {0: 1}) if caffe else writer.sum(cut, up)

    fine = block("unet1.conv1", writer.layers[0].name)
    x = join("unet1.conv2_up", block("unet1.conv2", down("unet1.conv1_down", fine)), fine, 4)
    x = writer.conv("unet1.conv3", x, LEAKY)
    bottom = {1: None, 2: {3: 2, 4: 3}, 3: {3: 3, 4: 2}, 4: {3: 2, 4: 3}}[config.scale]
    first = writer.conv("unet1.conv_bottom", x) if bottom is None else writer.deconv("unet1.conv_bottom", x, bottom)
    fine = block("unet2.conv1", first)
    middle = block("unet2.conv2", down("unet2.conv1_down", fine))
    coarse = block("unet2.conv3", down("unet2.conv2_down", middle))
    middle = block("unet2.conv4", join("unet2.conv3_up", coarse, middle, 4))
    x = writer.conv("unet2.conv5", join("unet2.conv4_up", middle, fine, 16), LEAKY)
    x = writer.conv("unet2.conv_bottom", x)
    x = writer.sum(crop(first, 20, x), x)
    if config.scale == 4:
        x = writer.conv("conv_final", x)
        x = writer.add("Crop", [x], {9: (1, 1), 10: (-1, -1), 11: (1, 2)})
        writer.add("PixelShuffle", [x], {0: 2})
    return Network(layers=writer.layers)


def write_span(module: Any) -> Network:
    writer = Writer(module)
    x = "data"
    if module.img_range != 1:
        mean = writer.add("MemoryData", [], {0: 1, 1: 1, 2: 3}, Weights(module.mean.numpy()[0]))
        x = writer.add("BinaryOp", [x, mean], {0: 1})
        x = writer.add("BinaryOp", [x], {0: 2, 1: 1, 2: float(module.img_range)})
    start = x = writer.conv("conv_1", x, {4: 1})
    ends = []
    for block in range(1, 7):
        inner = writer.add("Swish", [writer.conv(f"block_{block}.c1_r", x, {4: 1})], {})
        last = writer.add("Swish", [writer.conv(f"block_{block}.c2_r", inner, {4: 1})], {})
        last = writer.conv(f"block_{block}.c3_r", last, {4: 1})
        share = writer.add("BinaryOp", [writer.add("Sigmoid", [last], {})], {0: 1, 1: 1, 2: 0.5})
        x = writer.add("BinaryOp", [writer.sum(last, x), share], {0: 2})
        ends.append(x)
    joined = writer.add("Concat", [start, writer.conv("conv_2", x, {4: 1}), ends[0], inner], {0: 0})
    x = writer.conv("upsampler.0", writer.conv("conv_cat", joined), {4: 1})
    writer.add("PixelShuffle", [x], {0: int(module.upsampler[1].upscale_factor)})
    return Network(layers=writer.layers)


WRITERS: dict[str, Callable[..., Network]] = {
    "rrdb": write_rrdb,
    "span": write_span,
    "srvgg": write_srvgg,
    "upconv7": write_upconv7,
    "upcunet": write_upcunet,
}


def build_module(name: str, values: Mapping[str, Any]) -> nn.Module:
    """A module with random weights, the biases among them."""
    torch.manual_seed(1)
    module = build_generator(name, values).eval().requires_grad_(False)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.normal_(0.0, 0.2)
    return module


def save_network(
    network: Network, folder: Path, name: str = "model", dtype: Literal["float32", "float16"] = "float32"
) -> Path:
    """Write NAME.param and NAME.bin. Returns the first."""
    (folder / f"{name}.bin").write_bytes(network.write_weights(dtype))
    path = folder / f"{name}.param"
    path.write_text(network.write_param())
    return path


def run_with_ncnn(path: Path, image: np.ndarray, first: str, last: str) -> np.ndarray:
    """What ncnn makes of an image (C, H, W), on one thread, without its faster, less exact ways."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    for option in dir(net.opt):
        if option.startswith("use_"):
            setattr(net.opt, option, False)
    assert not net.load_param(str(path)) and not net.load_model(str(path.with_suffix(".bin")))
    with net.create_extractor() as extractor:
        extractor.input(first, ncnn.Mat(np.ascontiguousarray(image)).clone())
        code, made = extractor.extract(last)
        assert code == 0
        return np.array(made)
