"""Network pickles: the files in which NVIDIA's projects (stylegan2-ada-pytorch, stylegan3 and their descendants) keep
whole modules, with the source code of their classes.

Their own loader executes that code. Here the pickle is read as data (ganrt.models.pickle_reader): the tensors of a
module, and its attributes that are plain values; the source code stays text.
"""

from __future__ import annotations

import io
import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch

from ganrt.checks import is_whole
from ganrt.errors import CheckpointError
from ganrt.models.family import State
from ganrt.models.file_kinds import OTHERWISE
from ganrt.models.pickle_reader import Call, Name, Reference, UnexpectedName, read_pickle

_MODULE = "torch_utils.persistence._reconstruct_persistent_obj"
_PARAMETER = "torch._utils._rebuild_parameter"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_STORAGE = "torch.storage._load_from_bytes"
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_DTYPE = "numpy.dtype"
_ARRAYS = (
    *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "numpy.ndarray"),
    *("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"),
)
"""Arrays among the attributes, as stylegan3's layers have them. They are not read."""
NAMES = frozenset(
    {
        *(_MODULE, _PARAMETER, _TENSOR, _STORAGE, *_SCALARS, _DTYPE, *_ARRAYS),
        *("collections.OrderedDict", "dnnlib.util.EasyDict", "builtins.set", "__builtin__.set"),
    }
)
"""All that a network pickle may name."""
_DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_NUMBERS = (("f8",), ("f4",), ("i8",), ("i4",), ("b1",))
"""NumPy's codes of scalars that are read."""
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""Begins, behind the protocol, what torch.save wrote before there were zip files."""
_AVERAGED = "G_ema"
_TENSORS = ("_parameters", "_buffers")
_MOST_ENTRIES = 1_000_000
"""Attributes and submodules of all modules together."""
_LONGEST_PATH, _MOST_SIDES = 1000, 8
Plain: TypeAlias = bool | int | float | str | None


class NetworkPickle(NamedTuple):
    """What a pickle holds, without what would take executing it."""

    content: Any
    """Dicts, and in them, for each module, its state dict. Of a file with several networks, only `G_ema`."""
    attributes: dict[str, Plain]
    """Of the module that the file holds, or of its `G_ema`: path of the attribute, such as
    `synthesis.b4.conv1.conv_clamp` -> a plain value."""


def is_plain_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle that torch.save did not write. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        head = file.read(2 + len(_TORCH_MAGIC))
    return head[:1] == b"\x80" and head[2:] != _TORCH_MAGIC


def read_network_pickle(path: Path) -> NetworkPickle:
    """Read a pickle without executing anything in it.

    Raises CheckpointError when it is damaged, or names a function or class that such files do not need.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            root = read_pickle(cast(IO[bytes], content), NAMES)
            if isinstance(root, dict) and _AVERAGED in root:
                root = {_AVERAGED: root[_AVERAGED]}
            network = root[_AVERAGED] if isinstance(root, dict) and _AVERAGED in root else root
            attributes = dict(_list_attributes(network)) if _is_call(network, _MODULE) else {}
            return NetworkPickle(_Decoder(len(content)).decode(root, 2), attributes)
    except UnexpectedName as error:
        raise CheckpointError(_refuse(path, error.args[0])) from error
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as a pickle of networks or tensors: {error}") from error


def _refuse(path: Path, name: str) -> str:
    told = f"{path} was refused, and nothing in it was executed: a checkpoint holds tensors only, and it names {name}. "
    if name.startswith("dnnlib.tflib."):
        return f"{told}That is a network of TensorFlow: convert it with legacy.py of NVlabs/stylegan3 first"
    return told + OTHERWISE


def _is_call(value: object, *names: str) -> bool:
    return isinstance(value, Call) and value.name in names


def _walk_modules(module: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    """Prefix and instance dictionary of a module and of all below it, in their order."""
    waiting, count = [("", module)], 0
    while waiting:
        prefix, part = waiting.pop()
        meta = part.arguments[0] if len(part.arguments) == 1 else None
        values = meta.get("state") if isinstance(meta, dict) else None
        if not isinstance(values, dict):
            raise ValueError("a module in it has no state")
        inner = _read_dict(values, "_modules")
        count += sum(map(len, (values, inner, *(_read_dict(values, name) for name in _TENSORS)))) + 1
        if count > _MOST_ENTRIES or len(prefix) > _LONGEST_PATH:
            raise ValueError("its modules are too many, or within one another without end")
        yield prefix, values
        waiting += [(f"{prefix}{name}.", inner[name]) for name in reversed(inner) if _is_call(inner[name], _MODULE)]


def _read_dict(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"{name} of a module in it is no dictionary")
    return found


def _list_attributes(module: Call) -> Iterator[tuple[str, Plain]]:
    for prefix, values in _walk_modules(module):
        for name, value in values.items():
            number = _read_number(value) if _is_call(value, *_SCALARS) else value
            if number is None or isinstance(number, bool | int | float | str):
                yield f"{prefix}{name}", number


def _read_number(call: Call) -> Plain:
    """A NumPy scalar as a number of Python."""
    kind, data = call.arguments if len(call.arguments) == 2 else (None, None)
    code = kind.arguments[:1] if isinstance(kind, Call) and kind.name == _DTYPE else ()
    order = [state[1:2] for state in kind.states if isinstance(state, tuple)] if isinstance(kind, Call) else []
    if code not in _NUMBERS or (">",) in order:
        raise ValueError("a number in it is of no kind that networks have")
    dtype = np.dtype(f"<{code[0]}")
    if not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise ValueError("a number in it is damaged")
    return cast(Plain, np.frombuffer(data, dtype)[0].item())


class _Decoder:
    """Makes tensors of their records, no larger together than the file that they come from."""

    def __init__(self, size: int) -> None:
        self.left = size

    def decode(self, value: Any, depth: int) -> Any:
        """A value with its modules and tensors, to some depth of dictionaries."""
        if _is_call(value, _MODULE):
            return self.decode_module(value)
        if _is_call(value, _PARAMETER, _TENSOR):
            return self.decode_tensor(value)
        if isinstance(value, dict) and depth:
            return {key: self.decode(inner, depth - 1) for key, inner in value.items()}
        return value

    def decode_module(self, module: Call) -> State:
        """The state dict of a module."""
        state: State = {}
        for prefix, values in _walk_modules(module):
            unsaved = values.get("_non_persistent_buffers_set")
            unsaved = unsaved if isinstance(unsaved, set) else set()
            for kind in _TENSORS:
                for name, value in _read_dict(values, kind).items():
                    if value is not None and name not in unsaved:
                        state[f"{prefix}{name}"] = self.decode_tensor(value)
        return state

    def decode_tensor(self, call: Any) -> torch.Tensor:
        """A tensor or a parameter. Its size is checked against what is in the file before there is memory for it."""
        if _is_call(call, _PARAMETER) and call.arguments:
            call = call.arguments[0]
        if not _is_call(call, _TENSOR) or len(call.arguments) < 4 or not _is_call(call.arguments[0], _STORAGE):
            raise ValueError("a tensor in it is damaged")
        storage, offset, size, stride = call.arguments[:4]
        dtype, data = _read_storage(storage)
        available, count = len(data) // dtype.itemsize, _check_view(offset, size, stride, len(data) // dtype.itemsize)
        self.left -= count * dtype.itemsize
        if self.left < 0:
            raise ValueError("its tensors are larger than the file")
        if not count:
            return torch.empty(size, dtype=dtype)
        flat = torch.frombuffer(bytearray(data), dtype=dtype, count=available)
        return flat.as_strided(size, stride, offset).clone(memory_format=torch.contiguous_format)


def _check_view(offset: Any, size: Any, stride: Any, available: int) -> int:
    """The number of elements of a view of `available` ones. Raises ValueError if it reaches beyond them, or is larger
    than they are."""
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride):
        raise ValueError("the size of a tensor in it is damaged")
    numbers = (offset, *size, *stride)
    if len(size) > _MOST_SIDES or not all(is_whole(number) and 0 <= number < 2**48 for number in numbers):
        raise ValueError("the size of a tensor in it is out of bounds")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > available or (count and last >= available):
        raise ValueError(f"a tensor in it has {count} elements, and the file holds {available} for it")
    return count


def _read_storage(call: Call) -> tuple[torch.dtype, memoryview]:
    """Data type and bytes of a storage: a file of torch.save of its own, five pickles and then the values."""
    data = call.arguments[0] if call.arguments else None
    if not isinstance(data, bytes):
        raise ValueError("a tensor in it has no data")
    stream = io.BytesIO(data)
    _, _, _, reference, _ = (read_pickle(stream, _DTYPES) for _ in range(5))
    described = reference.value if isinstance(reference, Reference) else None
    if not isinstance(described, tuple) or len(described) < 2 or not isinstance(described[1], Name):
        raise ValueError("the data of a tensor in it is damaged")
    dtype = _DTYPES[described[1].full]
    first = stream.tell() + 8
    if len(data) < first or struct.unpack("<q", data[first - 8 : first])[0] * dtype.itemsize != len(data) - first:
        raise ValueError("the data of a tensor in it is not as long as it says")
    return dtype, memoryview(data)[first:]
