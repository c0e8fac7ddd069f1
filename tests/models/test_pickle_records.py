"""What a pickle may do to the reader that takes it as data: one record, key, size or name at a time."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganrt.errors import CheckpointError
from ganrt.models import read_state
from ganrt.models.network_pickle import NAMES, NetworkPickle, is_plain_pickle, read_network_pickle
from ganrt.models.pickle_reader import Call, UnexpectedName, read_pickle


class Record:
    """Pickled, it is a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def reconstruct(meta: object) -> None:
    """Stands for the function that makes modules of networks."""


def make_module(**state: Any) -> Record:
    return Record(reconstruct, {"state": state})


def write(content: object, folder: Path) -> Path:
    """The pickle of a content, with the name of `reconstruct` replaced by the one that files have."""
    data = pickle.dumps(content, 3).replace(
        f"c{__name__}\nreconstruct".encode(), b"ctorch_utils.persistence\n_reconstruct_persistent_obj"
    )
    (folder / "x.pkl").write_bytes(data)
    return folder / "x.pkl"


def read(content: object, folder: Path) -> NetworkPickle:
    return read_network_pickle(write(content, folder))


def take_apart(value: Any) -> tuple[Any, ...]:
    """The function that makes a value again, and its arguments."""
    rebuild, arguments = value.__reduce_ex__(2)[:2]
    return rebuild, *arguments


def make_tensor(size: tuple[int, ...] = (2,)) -> Record:
    """The record of a tensor of ones."""
    return Record(*take_apart(torch.ones(size)))


# What the operations of a pickle may build.


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04}()K\x01u.",  # a tuple as a key
        b"\x80\x04})K\x01s.",
        b"\x80\x04\x8f()\x90.",  # a tuple in a set
        b"\x80\x02cbuiltins\nset\n]()e\x85R.",
        b"\x80\x05\x96" + bytes(8) + b"K\x41a.",  # appended to a bytearray
        b"\x80\x04K\x01(K\x02\x90.",  # added to a number
        b"\x80\x02cbuiltins\nset\n)R.",  # a set of nothing
    ],
)
def test_what_is_not_as_networks_have_it_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^its operations do not fit together$"):
        read_pickle(io.BytesIO(content), NAMES)


def test_keys_that_share_their_items_are_not_hashed(tmp_path: Path) -> None:
    """The hash of 60 tuples, each with the one before twice, takes 2**60 steps."""
    for last in (b"\x8f(h\x00\x90.", b"}h\x00K\x01s.", b"}(h\x00K\x01u."):
        content = b"\x80\x04)\x94" + 60 * b"h\x00h\x00\x86q\x00" + last
        with pytest.raises(ValueError, match="do not fit together"):
            read_pickle(io.BytesIO(content), NAMES)


def test_a_dictionary_that_is_called_with_arguments_stays_a_call() -> None:
    content = b"\x80\x02ccollections\nOrderedDict\n]]K\x01aK\x02aa\x85R."
    found = read_pickle(io.BytesIO(content), NAMES)
    assert isinstance(found, Call) and (found.name, found.arguments) == ("collections.OrderedDict", ([[1, 2]],))


def test_names_are_compared_as_a_whole() -> None:
    for name in ("torch._utils\n_rebuild_tensor_v2.__globals__", "collections.abc\nOrderedDict", "builtins\nsetattr"):
        with pytest.raises(UnexpectedName):
            read_pickle(io.BytesIO(b"\x80\x02c" + name.encode() + b"\n."), NAMES)


# What a network may consist of.


def test_modules_that_hold_each_other_many_times_come_to_an_end(tmp_path: Path) -> None:
    """2**18 of them, in a file of two kilobytes."""
    module = make_module()
    for _ in range(18):
        module = make_module(_modules={"a": module, "b": module})
    with pytest.raises(CheckpointError, match="its modules are too many, or within one another without end"):
        read(module, tmp_path)


def test_what_dictionaries_hold_without_end_is_not_followed(tmp_path: Path) -> None:
    content: dict[str, Any] = {"a": {"weight": make_tensor()}}
    content["a"]["b"] = content
    found = read(content, tmp_path).content
    assert torch.equal(found["a"]["weight"], torch.ones(2)) and found["a"]["b"]["a"]["b"] is found["a"]["b"]


def test_a_state_dict_under_its_name(tmp_path: Path) -> None:
    assert list(read_state(write({"state_dict": {"weight": make_tensor()}}, tmp_path))) == ["weight"]


def test_the_data_of_tensors_counts_in_bytes(tmp_path: Path) -> None:
    """Twice the values of a storage are fewer than the bytes of the file, and take more."""
    shared = torch.ones(1000)
    with pytest.raises(CheckpointError, match="its tensors are larger than the file"):
        read({"a": shared, "b": shared}, tmp_path)


def test_of_several_networks_only_the_averaged_one_is_read(tmp_path: Path) -> None:
    broken = make_module(_parameters={"weight": 3})
    averaged = make_module(_parameters={"weight": make_tensor()}, clamp=256)
    found = read({"G": broken, "D": broken, "G_ema": averaged}, tmp_path)
    assert list(found.content) == ["G_ema"] and found.attributes == {"clamp": 256}


def test_modules_are_in_their_order(tmp_path: Path) -> None:
    part = make_module(_parameters={"weight": make_tensor()})
    found = read(make_module(_modules={"b": part, "a": part, "c": part}), tmp_path)
    assert list(found.content) == ["b.weight", "a.weight", "c.weight"]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Record(reconstruct), "a module in it has no state"),
        (Record(reconstruct, {"state": {}}, 1), "a module in it has no state"),
        (Record(reconstruct, {"state": [1]}), "a module in it has no state"),
        (Record(reconstruct, 7), "a module in it has no state"),
        (make_module(_modules=[1]), "_modules of a module in it is no dictionary"),
        (make_module(_parameters=7), "_parameters of a module in it is no dictionary"),
        (make_module(_buffers="x"), "_buffers of a module in it is no dictionary"),
        (make_module(_parameters={"a": 3}), "a tensor in it is damaged"),
    ],
)
def test_modules_that_are_damaged(module: Record, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read(module, tmp_path)


def test_names_of_unsaved_buffers_that_are_no_set_leave_nothing_out(tmp_path: Path) -> None:
    module = make_module(_buffers={"cache": make_tensor()}, _non_persistent_buffers_set=7)
    assert list(read(module, tmp_path).content) == ["cache"]


SCALAR = take_apart(np.float64(1))[0]


def make_number(dtype: Any, data: object) -> Record:
    return Record(SCALAR, dtype, data)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (make_number(np.dtype(">f8"), bytes(8)), "a number in it is of no kind that networks have"),
        (make_number(np.dtype("c16"), bytes(16)), "a number in it is of no kind that networks have"),
        (make_number(np.dtype("V1000"), bytes(1000)), "a number in it is of no kind that networks have"),
        (make_number(7, bytes(8)), "a number in it is of no kind that networks have"),
        (Record(SCALAR), "a number in it is of no kind that networks have"),
        (make_number(np.dtype("f8"), bytes(16)), "a number in it is damaged"),
        (make_number(np.dtype("f8"), bytes(4)), "a number in it is damaged"),
        (make_number(np.dtype("f8"), 8), "a number in it is damaged"),
    ],
)
def test_numbers_that_are_damaged(number: Record, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read(make_module(gain=number), tmp_path)


def test_numbers_of_numpy_are_read(tmp_path: Path) -> None:
    numbers = {"a": np.float64(0.1), "b": np.float32(0.5), "c": np.int64(-3), "d": np.int32(4), "e": np.bool_(True)}
    found = read(make_module(**numbers), tmp_path).attributes
    assert found == {"a": 0.1, "b": 0.5, "c": -3, "d": 4, "e": True}
    assert list(map(type, found.values())) == [float, float, int, int, bool]


def cut_storage(length: int) -> Record:
    """A tensor whose storage is cut to so many bytes behind its five pickles."""
    rebuild, storage, *rest = take_apart(torch.ones(2))
    load, data = take_apart(storage)
    begin = data.index(struct.pack("<q2f", 2, 1, 1))
    return Record(rebuild, Record(load, data[: begin + length]), *rest)


def change_storage(storage: object) -> Record:
    rebuild, _, *rest = take_apart(torch.ones(2))
    return Record(rebuild, storage, *rest)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (cut_storage(0), "the data of a tensor in it is not as long as it says"),
        (cut_storage(7), "the data of a tensor in it is not as long as it says"),
        (cut_storage(8), "the data of a tensor in it is not as long as it says"),
        (change_storage(b"bytes"), "a tensor in it is damaged"),
        (change_storage(make_tensor()), "a tensor in it is damaged"),
        (change_storage(Record(torch.storage._load_from_bytes)), "a tensor in it has no data"),
        (change_storage(Record(torch.storage._load_from_bytes, 7)), "a tensor in it has no data"),
        (change_storage(Record(torch.storage._load_from_bytes, 5 * b"N.")), "the data of a tensor in it is damaged"),
        (Record(torch._utils._rebuild_tensor_v2), "a tensor in it is damaged"),
        (Record(torch._utils._rebuild_parameter), "a tensor in it is damaged"),
        (Record(torch._utils._rebuild_parameter, 7, False, {}), "a tensor in it is damaged"),
    ],
)
def test_tensors_that_are_damaged(tensor: Record, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read({"weight": tensor}, tmp_path)


def test_what_torch_wrote_before_zip_files_is_no_plain_pickle(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert not is_plain_pickle(tmp_path / "x.pth") and is_plain_pickle(write({}, tmp_path))
    (tmp_path / "y.pkl").write_bytes(b"}.")
    assert not is_plain_pickle(tmp_path / "y.pkl")
