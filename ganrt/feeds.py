"""The inputs of a session: drawn from a seed or passed by the caller, and checked against the Spec."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganrt import latents
from ganrt.checks import as_array, is_whole
from ganrt.errors import RequestError
from ganrt.sample_request import DRAWN, TRUNCATION, Draw, Labels, Seeds, Truncation, check_request
from ganrt.spec import Image, Input, Label, Latent, Scalar, Spec
from ganrt.synthetic import draw_image

Array: TypeAlias = NDArray[Any]
Feeds: TypeAlias = dict[str, Array]
"""Input name -> C-contiguous array with the batch size as its first dimension, the same for all."""
PICTURE_STREAM = 2**31
"""Random stream of the first image input, beyond those of latents and labels."""
Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""


def draw_feeds(
    spec: Spec,
    seed: Seeds,
    start: Seeds,
    count: int,
    labels: Labels = None,
    truncation: Truncation = None,
    size: Size | Mapping[str, Size] | None = None,
) -> Feeds:
    """Draw the inputs of `count` samples. Each row depends only on its own seed, sample number, label and truncation.

    Args:
        spec: inputs of the model.
        seed, start, labels, truncation: as for `Generator.sample`.
        count: number of samples.
        size: as for `draw_rows`.

    Returns arrays owned by the caller. Raises RequestError if an argument is out of range or the model has no such
    input.
    """
    request = check_request(spec, count, seed, start, labels, truncation)
    return draw_rows(spec, request.take_rows(0, request.rows), size)


def draw_rows(spec: Spec, draw: Draw, size: Size | Mapping[str, Size] | None = None) -> Feeds:
    """Draw the inputs of samples.

    Args:
        spec: inputs of the model.
        draw: the samples, checked.
        size: height and width of synthetic images for image inputs of free size, for proofs and benchmarks: the same
            for all, or by the name of the input. None rejects models with image inputs.

    Returns arrays owned by the caller. Raises RequestError for a model with image inputs without a size.
    """
    if size is None:
        require_no_pictures(spec)
    feeds: Feeds = {}
    for item in spec.inputs:
        if not isinstance(item, Image):
            feeds[item.name] = _draw_number(spec, item, draw)
        else:
            assert size is not None, "models with image inputs were rejected"
            stream = PICTURE_STREAM + spec.images.index(item)
            sides = item.size or (size if isinstance(size, tuple) else size[item.name])
            feeds[item.name] = draw_image(item, draw.seeds, draw.indices, draw.rows, stream, sides)
    return feeds


def require_no_pictures(spec: Spec) -> None:
    """Raise RequestError for a model with image inputs, which cannot be sampled."""
    for item in spec.inputs:
        if isinstance(item, Image):
            raise RequestError(
                f"this {spec.family} model needs a picture as its input {item.name!r} ({item.role}); "
                "it cannot be sampled from a seed alone"
            )


def draw_numbers(spec: Spec, draw: Draw) -> Feeds:
    """Draw the inputs that are not images, as `draw_rows` does."""
    return {item.name: _draw_number(spec, item, draw) for item in spec.inputs if not isinstance(item, Image)}


def draw_missing(
    spec: Spec, given: Collection[str], count: int, seed: Seeds, start: Seeds = 0, labels: Labels = None
) -> Feeds:
    """Draw the latents and labels that were not given, for pictures that are transformed.

    Args:
        given: names of the inputs that were given.
        count: number of pictures.
        seed: one for `count` samples of it, or one per picture for a sample of each.
        start: number of the first sample of a seed, or of each picture's.
        labels: classes of the first label input, one or one per picture; None for classes that are drawn.

    Raises RequestError if there is another seed than the default, and nothing to draw; for labels that the model does
    not take, or whose input was given.
    """
    missing = [name for name in spec.streams if name not in given]
    label = spec.find(Label)
    chosen = {label.name} if label is not None and is_whole(labels) else set()
    if not set(missing) - chosen and not (is_whole(seed) and seed == 0):
        raise RequestError(f"seed was given, but nothing is drawn for this {spec.family} model: leave it out")
    request = check_request(spec, count, seed, start, labels=labels)
    if request.labels is not None and label is not None and label.name in given:
        raise RequestError(f"{label.name} was given, and labels too; leave one of them out")
    drawn = draw_numbers(spec, request.take_rows(0, count)) if missing else {}
    return {name: drawn[name] for name in missing}


def draw_classes(spec: Spec, draw: Draw) -> NDArray[np.int64] | None:
    """Return the class of each sample, chosen or drawn: int64 (n,); None for a model without classes."""
    item = spec.find(Label)
    return None if item is None else _draw_label(spec, item, draw)


def _draw_number(spec: Spec, item: Latent | Label | Scalar, draw: Draw) -> Array:
    if isinstance(item, Latent):
        return _draw_latent(item, draw, spec.streams[item.name])
    if isinstance(item, Label):
        return _encode_labels(_draw_label(spec, item, draw), item)
    return draw_scalar(item, draw)


def draw_scalar(item: Scalar, draw: Draw) -> NDArray[np.float32]:
    """Return the value of a scalar input for each sample, float32 (n,): its truncation, or the input's default."""
    if item.name == TRUNCATION:
        return draw.fill_truncation(item.default).astype(np.float32)
    return np.full(draw.rows, item.default, np.float32)


def _draw_label(spec: Spec, item: Label, draw: Draw) -> NDArray[np.int64]:
    drawn = latents.labels(draw.seeds, draw.indices, draw.rows, spec.streams[item.name], item.classes)
    if draw.labels is None or item is not spec.find(Label):
        return drawn
    return np.where(draw.labels == DRAWN, drawn, draw.labels)


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


def _dtype_of(item: Input) -> type[np.int64] | type[np.float32]:
    return np.int64 if isinstance(item, Label) and item.encoding == "index" else np.float32


def _draw_latent(item: Latent, draw: Draw, stream: int) -> Array:
    size = math.prod(item.shape)
    place = (draw.seeds, draw.indices, draw.rows, stream, size)
    if item.distribution == "uniform":
        values = latents.uniform(*place, *item.range)
    elif item.truncation == "scaled":
        values = latents.normal(*place, latents.SCALED_LIMIT)
        values *= draw.fill_truncation(item.default).astype(np.float32)[:, None]
    else:
        values = latents.normal(*place, draw.truncation if item.truncation == "resampled" else None)
    return values.reshape(draw.rows, *item.shape)


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


def _check_classes(array: Array, item: Label) -> None:
    outside = np.extract((array < 0) | (array >= item.classes), array)
    if outside.size:
        raise RequestError(f"class {outside[0]} does not exist; this model's classes are 0 to {item.classes - 1}")


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
