"""What PyTorch's reader is given for the classes of a file, and what is taken for a state dict."""

from __future__ import annotations

import argparse
import decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ganrt.errors import CheckpointError
from ganrt.models import read_checkpoint, read_state
from ganrt.models.stand_ins import make_stand_in, read_class, read_module


def read(content: object, folder: Path) -> dict[str, torch.Tensor]:
    torch.save(content, folder / "x.pth")
    return read_state(folder / "x.pth")


@pytest.mark.parametrize(
    ("name", "stands"),
    [
        ("omegaconf.dictconfig.DictConfig", True),
        ("project._Options", True),
        ("numpy.float64", True),
        ("numpy.core.multiarray.scalar", True),
        ("project.float32_to_code", False),
        ("project.run", False),
        ("project.Options-x", False),
        ("os.Popen", False),
        ("os.path.Any", False),
        ("subprocess.Popen", False),
        ("builtins.Exception", False),
        ("importlib.machinery.SourceFileLoader", False),
        ("builtins.eval", False),
        ("", False),
    ],
)
def test_which_names_get_a_stand_in(name: str, stands: bool) -> None:
    assert (make_stand_in(name) is not None) is stands


def make_object(**attributes: Any) -> Any:
    """What PyTorch's reader makes of an object of a class that has a stand-in."""
    kind: Any = make_stand_in("project.Network")
    made = kind()
    vars(made).update(attributes)
    return made


def test_a_module_gives_tensors_without_gradients_and_nothing_else() -> None:
    weight = nn.Parameter(torch.ones(2))
    inner = make_object(_parameters={"weight": weight, "bias": None}, _buffers={"size": 3}, _modules={})
    module = make_object(
        _parameters={},
        _buffers={"cache": torch.ones(1), "kept": torch.ones(1)},
        _non_persistent_buffers_set={"cache"},
        _modules={"none": None, "number": 3, "inner": inner, "other": make_object(_parameters={"x": torch.ones(1)})},
    )
    state = read_module(module)
    assert read_class(module) == "project.Network" and state is not None
    assert list(state) == ["kept", "inner.weight"] and not state["inner.weight"].requires_grad


@pytest.mark.parametrize(
    "attributes",
    [
        {"_parameters": 7, "_modules": {}},
        {"_parameters": {}, "_modules": [1]},
        {"_parameters": {}, "_modules": {}, "_buffers": "x"},
    ],
)
def test_a_module_whose_parts_are_no_dictionaries_is_empty(attributes: dict[str, Any]) -> None:
    assert read_module(make_object(**attributes)) == {}


def test_names_of_unsaved_buffers_that_are_no_set_leave_nothing_out() -> None:
    module = make_object(_parameters={}, _modules={}, _buffers={"a": torch.ones(1)}, _non_persistent_buffers_set=7)
    assert list(read_module(module) or ()) == ["a"]


def test_modules_that_hold_each_other_many_times_come_to_an_end() -> None:
    """2**18 of them."""
    module = make_object(_parameters={}, _modules={})
    for _ in range(18):
        module = make_object(_parameters={}, _modules={"a": module, "b": module})
    with pytest.raises(ValueError, match="its modules are too many, or within one another without end"):
        read_module(module)


def test_a_file_has_so_many_classes_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"state_dict": {"weight": torch.ones(1)}, "a": argparse.Namespace(), "b": decimal.Decimal(1)}
    monkeypatch.setattr("ganrt.models.unpickle._MOST_CLASSES", 2)
    assert list(read(content, tmp_path)) == ["weight"]
    monkeypatch.setattr("ganrt.models.unpickle._MOST_CLASSES", 1)
    with pytest.raises(CheckpointError, match=r"nothing in it was executed: .* it names decimal\.Decimal"):
        read(content, tmp_path)


def test_the_first_wrapper_that_holds_a_mapping_is_taken(tmp_path: Path) -> None:
    content = {"params_ema": "none", "params": {"a": torch.ones(1)}, "generator": {"b": torch.ones(1)}}
    assert list(read(content, tmp_path)) == ["a"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("module.a", "module.b"), ["a", "b"]),
        (("module.a", "b"), ["module.a", "b"]),
        (("module.module.a",), ["module.a"]),
    ],
)
def test_a_prefix_that_all_keys_share_is_cut_once(keys: tuple[str, ...], expected: list[str], tmp_path: Path) -> None:
    assert list(read(dict.fromkeys(keys, torch.ones(1)), tmp_path)) == expected


def test_what_belongs_to_the_generator_lies_beside_it(tmp_path: Path) -> None:
    state = {"weight": torch.ones(1)}
    found = read({"g_ema": state, "latent_avg": torch.ones(3), "ada_aug_p": torch.ones(1)}, tmp_path)
    assert list(found) == ["weight", "latent_avg"] and torch.equal(found["latent_avg"], torch.ones(3))
    assert list(read({"g_ema": state, "latent_avg": 7}, tmp_path)) == ["weight"]


@pytest.mark.parametrize("flag", [True, torch.ones(3), "yes"])
def test_the_mark_of_pro_weights_becomes_a_tensor(flag: object, tmp_path: Path) -> None:
    found = read({"weight": torch.ones(1), "pro": flag}, tmp_path)
    assert list(found) == ["weight", "pro"] and torch.equal(found["pro"], torch.ones(1))


def test_what_nunif_writes_beside_its_weights(tmp_path: Path) -> None:
    arguments = {"in_channels": 3, "no_clip": True, "final": False, "scale": 1}
    content = {"nunif_model": 1, "name": "waifu2x.x", "kwargs": arguments, "state_dict": {"weight": torch.ones(1)}}
    assert list(read(content, tmp_path)) == ["weight", "header.waifu2x.x", "header.kwargs.no_clip"]
    assert list(read({**content, "kwargs": None}, tmp_path)) == ["weight", "header.waifu2x.x"]
    del content["nunif_model"]
    assert list(read(content, tmp_path)) == ["weight"]


def test_safetensors_are_told_by_their_name_or_content(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x02}.")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_checkpoint(tmp_path / "x.safetensors")
    (tmp_path / "x.pth").write_bytes((8).to_bytes(8, "little") + b'{"a": 1}')
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_checkpoint(tmp_path / "x.pth")
