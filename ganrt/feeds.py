"""The inputs of a session: drawn from a seed or passed by the caller, and checked against the Spec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganrt import latents
from ganrt.checks import is_finite
from ganrt.errors import RequestError
from ganrt.spec import Image, Input, Label, Latent, Scalar, Spec
from ganrt.synthetic import draw_image

Array: TypeAlias = NDArray[Any]
Feeds: TypeAlias = dict[str, Array]
"""Input name -> C-contiguous array with the batch size as its first dimension, the same for all."""
TRUNCATION = "truncation"
"""Name of the scalar input that gets the value of `sample(truncation=...)`."""
PICTURE_STREAM = 2**31
"""Random stream of the first image input, beyond those of latents and labels."""
Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""
Labels: TypeAlias = int | Sequence[int] | NDArray[np.integer] | None
"""None (drawn from the seed), one class for all samples, or one class per sample."""


class Draw(NamedTuple):
    """A request for samples of a seed, with checked arguments."""

    seed: int
    """From 0 to 2^64 - 1."""
    start: int
    """Number of the first sample."""
    rows: int
    """Number of samples."""
    labels: Labels = None
    """None (drawn from the seed), one class, or an int64 array of one class per sample."""
    truncation: float | None = None
    """Largest magnitude of a latent value; None for the default."""

    def take_rows(self, first: int, rows: int) -> Draw:
        """Return the request for `rows` samples from the `first` one on. It may go beyond the last sample, whose label
        is then repeated."""
        labels = self.labels
        if isinstance(labels, np.ndarray):
            labels = labels[np.minimum(np.arange(first, first + rows), len(labels) - 1)]
        return Draw(self.seed, self.start + first, rows, labels, self.truncation)

    def chosen_feeds(self, spec: Spec) -> Feeds:
        """Return the inputs that are not drawn from the seed: labels that the caller chose. Raises RequestError."""
        item, chosen = spec.find(Label), check_labels(spec, self.labels, self.rows)
        return {} if item is None or chosen is None else {item.name: _encode_labels(chosen, item)}

    def draw_feeds(self, spec: Spec) -> Feeds:
        """Draw the inputs on the host (`draw_feeds`)."""
        return draw_feeds(spec, *self)


def draw_feeds(
    spec: Spec,
    seed: int,
    start: int,
    count: int,
    labels: Labels = None,
    truncation: float | None = None,
    size: Size | Mapping[str, Size] | None = None,
) -> Feeds:
    """Draw the inputs of the samples start to start + count - 1 of a seed. Each row depends only on the seed and its
    own sample number.

    Args:
        spec: inputs of the model.
        seed: from 0 to 2^64 - 1.
        start: number of the first sample, from 0.
        count: number of samples; start + count is at most 2^64.
        labels: None (drawn from the seed), one class, or one class per sample; for the first label input. Others are
            drawn.
        truncation: None, or the largest magnitude of a latent value, from 0.
        size: height and width of synthetic images for image inputs of free size, for proofs and benchmarks: the same
            for all, or by the name of the input. None rejects models with image inputs.

    Returns arrays owned by the caller. Raises RequestError if an argument is out of range or the model has no such
    input.
    """
    seed, start, count = latents.check_seed(seed, start, count)
    draw = Draw(seed, start, count, check_labels(spec, labels, count), truncation)
    check_truncation(spec, truncation)
    feeds: Feeds = {}
    for item in spec.inputs:
        if not isinstance(item, Image):
            feeds[item.name] = _draw_number(spec, item, draw)
        elif size is None:
            raise RequestError(
                f"this {spec.family} model needs a picture as its input {item.name!r} ({item.role}); "
                "it cannot be sampled from a seed alone"
            )
        else:
            stream = PICTURE_STREAM + spec.images.index(item)
            sides = item.size or (size if isinstance(size, tuple) else size[item.name])
            feeds[item.name] = draw_image(item, seed, start, count, stream, sides)
    return feeds


def draw_numbers(spec: Spec, seed: int, start: int, count: int) -> Feeds:
    """Draw the inputs that are not images, as `draw_feeds` does."""
    draw = Draw(*latents.check_seed(seed, start, count))
    return {item.name: _draw_number(spec, item, draw) for item in spec.inputs if not isinstance(item, Image)}


def _draw_number(spec: Spec, item: Latent | Label | Scalar, draw: Draw) -> Array:
    seed, start, count, chosen, truncation = draw
    if isinstance(item, Latent):
        return _draw_latent(item, seed, start, count, spec.streams[item.name], truncation)
    if isinstance(item, Label):
        if chosen is None or item is not spec.find(Label):
            chosen = latents.labels(seed, start, count, spec.streams[item.name], item.classes)
        return _encode_labels(np.asarray(chosen), item)
    asked = truncation if item.name == TRUNCATION else None
    return np.full(count, item.default if asked is None else asked, np.float32)


def check_labels(spec: Spec, labels: Labels, count: int) -> NDArray[np.int64] | None:
    """Return one class per sample, int64 of shape (count,); None if `labels` is None.

    Raises RequestError if the model has no classes, a class is out of range, or the number of labels is wrong.
    """
    if labels is None:
        return None
    item = spec.find(Label)
    if item is None:
        raise RequestError(f"labels were given, but this {spec.family} model has no classes: leave them out")
    array = as_array("labels", labels)
    if (array.dtype.kind not in "iu" and array.size) or array.ndim > 1:
        raise RequestError(f"labels are {labels!r:.100}; give one class number, or a list of one per image")
    if array.ndim == 1 and len(array) != count:
        raise RequestError(f"{len(array)} labels were given for {count} images; give one class, or one per image")
    _check_classes(array, item)
    return np.full(count, array, np.int64)


def _check_classes(array: Array, item: Label) -> None:
    outside = np.extract((array < 0) | (array >= item.classes), array)
    if outside.size:
        raise RequestError(f"class {outside[0]} does not exist; this model's classes are 0 to {item.classes - 1}")


def check_truncation(spec: Spec, truncation: float | None) -> None:
    """Raise RequestError unless `truncation` is None, or a number from 0 and the model can be truncated."""
    if truncation is None:
        return
    latent = spec.find(Latent)
    inside = next((i for i in spec.inputs if isinstance(i, Scalar) and i.name == TRUNCATION), None)
    if inside is None and (latent is None or latent.truncation == "none"):
        raise RequestError(f"truncation was given, but this {spec.family} model has none: leave it out")
    if not is_finite(truncation) or truncation < 0:
        raise RequestError(f"truncation is {truncation!r}; it must be a finite number from 0")
    if inside is not None and not inside.range[0] <= truncation <= inside.range[1]:
        low, high = inside.range
        raise RequestError(f"truncation is {truncation!r}; this model takes {low:g} to {high:g}")


def check_inputs(spec: Spec, given: Mapping[str, ArrayLike]) -> Feeds:
    """Check a caller's inputs and cast them to the dtypes of the Spec. The caller's arrays are not written to.

    Args:
        given: input name -> array-like of shape (N, ...). Scalars may be left out; they get their default.

    Returns feeds, possibly views of the caller's arrays. Raises RequestError, naming the input, if one is missing,
    unknown, or of a wrong dtype, shape, size or value.
    """
    known = {item.name for item in spec.inputs}
    unknown = sorted(set(given) - known)
    if unknown:
        raise RequestError(
            f"this {spec.family} model has no input {unknown[0]!r}; its inputs are {', '.join(sorted(known))}"
        )
    feeds = {
        item.name: _check_input(item, as_array(item.name, given[item.name]))
        for item in spec.inputs
        if item.name in given
    }
    sizes = {name: len(array) for name, array in feeds.items()}
    if len(set(sizes.values())) > 1:
        raise RequestError(f"the inputs differ in batch size: {sizes}")
    for picture in spec.images:
        if picture.like in feeds and picture.name in feeds:
            own, other = feeds[picture.name].shape, feeds[picture.like].shape
            if own[2:] != other[2:]:
                raise RequestError(f"{picture.name} has shape {own}; H and W must be those of {picture.like}, {other}")
    for item in spec.inputs:
        if item.name in feeds:
            continue
        if not isinstance(item, Scalar) or not sizes:
            raise RequestError(
                f"the input {item.name!r} is missing; this {spec.family} model needs {_describe_input(item)}"
            )
        feeds[item.name] = np.full(next(iter(sizes.values())), item.default, np.float32)
    return {item.name: feeds[item.name] for item in spec.inputs}


def check_feeds(spec: Spec, feeds: Feeds, batch_sizes: tuple[int, ...] = ()) -> int:
    """Check the feeds of a session: exactly the inputs of the Spec, with its dtypes and shapes, C-contiguous, all of
    the same batch size. Values are not checked.

    Args:
        batch_sizes: batch sizes allowed, or () for any from 1.

    Returns the batch size. Raises RequestError.
    """
    if set(feeds) != {item.name for item in spec.inputs}:
        raise RequestError(f"the inputs are {sorted(feeds)}; this {spec.family} model needs {_describe_inputs(spec)}")
    for item in spec.inputs:
        array = feeds[item.name]
        if array.dtype != _dtype_of(item) or not _shape_fits(item, array.shape) or not array.flags.c_contiguous:
            raise RequestError(
                f"{item.name} is {array.dtype} of shape {array.shape}; the model needs {_describe_input(item)}, "
                "C-contiguous"
            )
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1 or 0 in sizes or (batch_sizes and not sizes <= set(batch_sizes)):
        allowed = f"one of {batch_sizes}" if batch_sizes else "one batch size, from 1"
        raise RequestError(f"the inputs have {' and '.join(map(str, sorted(sizes)))} rows; they need {allowed}")
    return sizes.pop()


def as_array(name: str, value: object) -> Array:
    """Convert any array-like value. Raises RequestError, with `name`, if it cannot be converted."""
    try:
        return np.asarray(value)
    except Exception as error:  # ragged lists, GPU tensors: any exception of their conversion
        raise RequestError(f"{name} cannot be read as an array: {error}") from error


def _dtype_of(item: Input) -> type[np.int64] | type[np.float32]:
    return np.int64 if isinstance(item, Label) and item.encoding == "index" else np.float32


def _draw_latent(item: Latent, seed: int, start: int, count: int, stream: int, truncation: float | None) -> Array:
    size = math.prod(item.shape)
    if item.distribution == "uniform":
        values = latents.uniform(seed, start, count, stream, size, *item.range)
    elif item.truncation == "scaled":
        values = latents.normal(seed, start, count, stream, size, 2.0)
        values *= np.float32(item.default if truncation is None else truncation)
    else:
        limit = truncation if item.truncation == "resampled" else None
        values = latents.normal(seed, start, count, stream, size, limit)
    return values.reshape(count, *item.shape)


def _encode_labels(classes: NDArray[np.int64], item: Label) -> Array:
    if item.encoding == "index":
        return np.ascontiguousarray(classes)
    rows = np.zeros((len(classes), item.classes), np.float32)
    rows[np.arange(len(classes)), classes] = 1.0
    return rows


def _check_input(item: Input, array: Array) -> Array:
    dtype = _dtype_of(item)
    if array.dtype.kind not in ("iu" if dtype is np.int64 else "fiu"):
        raise RequestError(f"{item.name} has dtype {array.dtype}; the model needs {_describe_input(item)}")
    if not _shape_fits(item, array.shape):
        raise RequestError(f"{item.name} has shape {array.shape}; the model needs {_describe_input(item)}")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype)
    if not np.isfinite(array).all():
        raise RequestError(f"{item.name} holds values that are not finite as float32")
    if isinstance(item, Label) and item.encoding == "index":
        _check_classes(array, item)
    if isinstance(item, Scalar) and not ((array >= item.range[0]) & (array <= item.range[1])).all():
        raise RequestError(f"{item.name} has values outside {item.range[0]} to {item.range[1]}")
    return array


def _shape_fits(item: Input, shape: tuple[int, ...]) -> bool:
    if isinstance(item, Latent):
        return shape[1:] == item.shape and len(shape) == len(item.shape) + 1
    if isinstance(item, Label):
        return len(shape) == 1 if item.encoding == "index" else len(shape) == 2 and shape[1] == item.classes
    if isinstance(item, Scalar):
        return len(shape) == 1
    if len(shape) != 4 or shape[1] != item.channels:
        return False
    if item.size is not None:
        return shape[2:] == item.size
    return all(side > 0 and side % item.multiple_of == 0 for side in shape[2:])


def _describe_inputs(spec: Spec) -> str:
    return "; ".join(map(_describe_input, spec.inputs))


def _describe_input(item: Input) -> str:
    if isinstance(item, Latent):
        return f"{item.name}: float32 of shape (N, {', '.join(map(str, item.shape))})"
    if isinstance(item, Label):
        shape = "int64 of shape (N,)" if item.encoding == "index" else f"float32 one-hot of shape (N, {item.classes})"
        return f"{item.name}: {shape}, classes 0 to {item.classes - 1}"
    if isinstance(item, Scalar):
        return f"{item.name}: float32 of shape (N,)"
    size = f"{item.size[0]}, {item.size[1]}" if item.size else "H, W"
    rule = f", H and W multiples of {item.multiple_of}" if item.size is None and item.multiple_of > 1 else ""
    return f"{item.name}: float32 of shape (N, {item.channels}, {size}){rule}"
