"""Calibration: the ranges of a graph's tensors on samples that its Spec draws, so no data set is needed. For
image-to-image models real pictures give better ranges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from ganrt import feeds
from ganrt.backend import first_line
from ganrt.errors import VerificationError
from ganrt.feeds import Array, Feeds
from ganrt.fp16_emulation import emulate_fp16
from ganrt.golden import proof_picture_size, proof_sizes
from ganrt.images import from_uint8
from ganrt.levels import find_levels
from ganrt.spec import Spec
from ganrt.telemetry import no_telemetry

from .pictures import Crops, PictureCrops

with no_telemetry():
    import onnxruntime as ort

SEED = 2024
"""Of samples that are no golden ones: what is chosen on some pictures is proven on others."""
_ROWS = 4
_VALUES = 2**15
"""Of each tensor and run, so many values are looked at."""
_STEPS = 255
_SIGNED_STEPS = 127
"""To either side of 0."""
_SHARES = tuple(np.linspace(1.0, 0.4, 25).tolist())
"""Of the largest values, where they might be clipped."""
_HEADROOM = 1.25
"""For samples of a few pictures: others have more contrast. Clipping it costs 5 dB on the first such picture, and the
wider steps less than 1 dB."""


_LARGE = 2**12
"""Bytes of a weight that is not written into the model of a session."""
_DETACHED = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8)


class QuantizationRange(NamedTuple):
    """Quantization range of a tensor: values outside it are clipped."""

    low: float
    """0 or below: 8 bits must be able to say 0, which borders are padded with."""
    high: float
    """0 or above."""
    mean: Array
    """Of each channel (axis 1)."""
    pixels: int
    """Of one image."""
    peaks: Array
    """Largest magnitude of each channel."""


class Samples(NamedTuple):
    """Inputs that nothing is proven on, a few rows at a time."""

    given: list[Feeds]
    origin: str
    """In words, for records."""
    headroom: float | None = None
    """None: quantization ranges clip rare large values. Else they reach this many times as far as the samples."""
    images: list[Array] | None = None
    """What the float32 graph makes of each batch; None if that is not known yet."""


def draw_samples(spec: Spec, count: int, crops: PictureCrops | None = None, start: int = 0) -> Samples:
    """Samples of SEED, a few rows at a time. Made-up pictures of free size have the sizes of a proof in turn: what a
    norm or an attention makes depends on the size.

    Args:
        count: how many; with crops, there are as many samples as calibration crops.
        crops: what image inputs are to be; else they are made up.
        start: number of the first sample.
    """
    sizes = proof_sizes(spec) if crops is None else [proof_picture_size(spec)]
    pictures: Crops = {} if crops is None else crops.calibration
    count = len(next(iter(pictures.values()), range(count)))
    ranges = {item.name: find_levels(item) for item in spec.images}
    drawn, step = [], 1 if spec.single else _ROWS
    for first in range(0, count, step):
        size = sizes[-(first // step) % len(sizes)]
        rows = feeds.draw_feeds(spec, SEED, start + first, min(step, count - first), size=size)
        rows |= {name: from_uint8(array[first : first + step], ranges[name]) for name, array in pictures.items()}
        drawn.append(rows)
    origin = f"samples {start} to {start + count - 1} of seed {SEED}"
    return Samples(drawn, origin) if crops is None else Samples(drawn, f"{origin}, with {crops}", _HEADROOM)


class Evaluator:
    """Runs a graph on ONNX Runtime's CPU provider, which computes what the graph says, faithfully if not fast: float16
    is spelled out, because by itself the provider would compute float32 instead, and overflow would not show."""

    def __init__(self, model: ir.Model) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4  # it raises its errors too
        outline, weights = _detach_weights(model)
        proto = emulate_fp16(ir.to_proto(outline))
        self._weights = {
            tensor.name: weights[tensor.external_data[0].value]
            for tensor in proto.graph.initializer
            if tensor.data_location == onnx.TensorProto.EXTERNAL
        }
        """The session reads their memory."""
        content = proto.SerializeToString()
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)
        with _translate_errors():
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, given: Feeds, names: Sequence[str] | None = None) -> list[Array]:
        """The outputs of these names, by default all."""
        with _translate_errors():
            found: list[Array] = self._session.run(names, given)
        return found


def _detach_weights(model: ir.Model) -> tuple[ir.Model, dict[str, Array]]:
    """Return a copy of a graph whose large weights are external data that no file holds, and these weights by their
    locations: ONNX Runtime takes them as they are in memory, where writing and parsing them would take most of the time
    of a session."""
    outline, weights = model.clone(), {}
    for number, value in enumerate(outline.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or not value.uses():  # what nothing uses, ONNX Runtime drops, and then misses
            continue
        if tensor.nbytes >= _LARGE and tensor.dtype in _DETACHED:
            location = str(number)
            weights[location] = np.ascontiguousarray(tensor.numpy())
            value.const_value = ir.ExternalTensor(
                location,
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=str(value.name),
                base_dir="",
            )
    return outline, weights


def run_samples(model: ir.Model, given: Sequence[Feeds]) -> list[Array]:
    """Return the images that a graph makes of each batch of samples, float32 NCHW."""
    run = Evaluator(model)
    return [run(rows)[0] for rows in given]


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        raise VerificationError(
            f"fp16 and int8 are measured on onnxruntime, which cannot run this graph ({first_line(error)}): leave them "
            "out of the precisions"
        ) from error


def measure_ranges(
    model: ir.Model, names: Sequence[str], samples: Samples, symmetric: bool = False
) -> dict[str, QuantizationRange]:
    """Measure the quantization range of tensors on the samples: name of a tensor -> range.

    Args:
        symmetric: True for ranges that reach equally far to both sides of 0.
    """
    choose = choose_symmetric_range if symmetric else choose_range
    probed = model.clone()
    values = {value.name: value for node in probed.graph for value in node.outputs}
    inputs, outputs = ([str(value.name) for value in side] for side in (probed.graph.inputs, probed.graph.outputs))
    inner = [name for name in names if name not in inputs]
    made = [*inner, *outputs]
    probed.graph.outputs.extend(values[name] for name in inner if name not in outputs)
    run = Evaluator(probed)
    seen: dict[str, list[Array]] = {name: [] for name in names}
    means: dict[str, list[Array]] = {name: [] for name in names}
    peaks: dict[str, list[Array]] = {name: [] for name in names}
    pixels: dict[str, int] = {}
    for given in samples.given:
        found = dict(zip(made, run(given, made), strict=True)) | given
        for name in names:
            flat = found[name].ravel()
            pixels.setdefault(name, int(np.prod(found[name].shape[2:])))
            means[name].append(found[name].mean(axis=(0, *range(2, found[name].ndim)), dtype=np.float64))
            peaks[name].append(np.abs(found[name]).max(axis=(0, *range(2, found[name].ndim))))
            extremes = np.array([flat.min(), flat.max()])
            stride = flat.size // _VALUES | 1  # an even one would look at some columns alone
            seen[name].append(np.concatenate([extremes, flat[::stride]]))
    ranges = {}
    for name in names:
        wide = None if name in inputs else samples.headroom
        low, high = choose(np.concatenate(seen[name])) if wide is None else _find_extent(seen[name], wide)
        if symmetric:
            low, high = min(low, -high), max(-low, high)
        ranges[name] = QuantizationRange(
            low, high, np.mean(means[name], axis=0), pixels[name], np.max(peaks[name], axis=0)
        )
    return ranges


def _find_extent(values: Sequence[Array], headroom: float) -> tuple[float, float]:
    """The range around 0 of all values, widened."""
    least, most = min(0.0, *(float(part.min()) for part in values)), max(0.0, *(float(part.max()) for part in values))
    return headroom * least, headroom * most


def choose_range(values: Array) -> tuple[float, float]:
    """The range around 0 with the smallest mean squared error in 8 bits: rare large values are clipped where that gives
    all others finer steps. The upper end is chosen first, then the lower one."""
    least, most = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if least == most:
        return least, most
    high = min((share * most for share in _SHARES), key=lambda high: _quantization_error(values, least, high))
    low = min((share * least for share in _SHARES), key=lambda low: _quantization_error(values, low, high))
    return low, high


def choose_symmetric_range(values: Array) -> tuple[float, float]:
    """`choose_range` for signed numbers with a zero point of 0."""
    most = float(np.abs(values).max())
    if most == 0.0:
        return 0.0, 0.0
    ends = (share * most for share in _SHARES)
    high = min(ends, key=lambda high: _quantization_error(values, -high, high, 2 * _SIGNED_STEPS))
    return -high, high


def _quantization_error(values: Array, low: float, high: float, steps: int = _STEPS) -> float:
    scale = (high - low) / steps
    rounded = np.clip(np.rint(values / scale), np.rint(low / scale), np.rint(high / scale)) * scale
    return float(np.square(values - rounded, dtype=np.float64).mean())
