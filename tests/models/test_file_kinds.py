"""Files are recognised by their content, under any name; what cannot be taken is named, with what its owner can do."""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import pathlib
import pickle
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from ganrt.errors import CheckpointError, RequestError
from ganrt.export.sources import open_source
from ganrt.models import build_generator, read_checkpoint, read_state
from ganrt.models.file_kinds import describe_foreign_file, starts_as_safetensors

PASS = r"package\.module:factory, a function that returns it with a ganrt\.Spec, or an ONNX file of it"


def write_script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Conv2d(3, 3, 1)).save(path)


def write_program(path: Path) -> None:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(nn.Conv2d(3, 3, 1), (torch.rand(1, 3, 4, 4),)), buffer)
    path.write_bytes(buffer.getvalue())


def write_zip(*names: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return write


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))


def write_arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, weight=np.zeros(3))


def begin(head: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(head + bytes(600))


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "TorchScript": (write_script, rf"a TorchScript archive, .*{PASS}: torch\.onnx\.export\(torch\.jit\.load"),
    "torch.export": (
        write_program,
        rf"an archive of torch\.export, .*{PASS}: torch\.onnx\.export\(torch\.export",
    ),
    "torch.export before 2.7": (write_zip("serialized_exported_program.json"), "an archive of torch.export"),
    "TensorRT": (begin(b"ftrt"), rf"a TensorRT engine: an engine that is compiled for one GPU; .*{PASS}"),
    "TFLite": (begin(b"\x1c\0\0\0TFL3"), rf"a TensorFlow Lite model, which ganrt does not read.*{PASS}"),
    "HDF5": (begin(b"\x89HDF\r\n\x1a\n"), rf"an HDF5 file, as Keras writes it.*{PASS}"),
    "Keras": (write_zip("config.json", "model.weights.h5"), rf"a Keras model.*{PASS}"),
    "npz": (write_arrays, rf"a file of arrays of NumPy.*{PASS}"),
    "npy": (begin(b"\x93NUMPY"), rf"an array of NumPy.*{PASS}"),
    "GGUF": (begin(b"GGUF"), rf"a GGUF file.*{PASS}"),
    "OpenVINO": (begin(b'<?xml version="1.0"?>\n<net name="x" version="11">'), rf"an OpenVINO model.*{PASS}"),
    "LFS": (begin(b"version https://git-lfs.github.com/spec/v1\n"), "a pointer of Git LFS, .*git lfs pull"),
    "page": (begin(b"\n<!DOCTYPE html><html>"), "a web page, not the file: .*Fetch it again"),
    "JSON": (
        lambda path: path.write_text('{"error": {"message": "denied"}}'),
        "a text file, not weights: the answer of",
    ),
    "lines": (lambda path: path.write_text("{\n\t1"), "a text file, not weights"),
    "text": (lambda path: path.write_text("Entry not found"), "a text file, not weights"),
    "XML": (lambda path: path.write_text("\n<Error><Code>AccessDenied</Code>"), "a text file, not weights"),
    "tar": (write_tar, "a tar archive. Unpack it, and pass the checkpoint that is in it"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"x" * 999)) and None, "a compressed file. Unpack it"),
    "zip": (write_zip("weights/readme.txt"), "a zip archive without a checkpoint of PyTorch. Unpack it"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_kind_is_named(kind: str, suffix: str, tmp_path: Path) -> None:
    write, message = FOREIGN[kind]
    path = tmp_path / f"model{suffix}"
    write(path)
    with pytest.raises(CheckpointError, match=rf"model{suffix} is {message}"):
        read_checkpoint(path)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_pickles_are_no_text(protocol: int, tmp_path: Path) -> None:
    for number, content in enumerate(({"a b": [1.0]}, [{"a b": 1}], collections.OrderedDict(a=1))):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(pickle.dumps(content, protocol))
        assert describe_foreign_file(path) == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("saved_model.pb", rf"a SavedModel of TensorFlow.*{PASS}"),
        ("model_index.json", rf"a folder of diffusers or transformers.*{PASS}"),
        ("config.json", rf"a folder of diffusers or transformers.*{PASS}"),
    ],
)
def test_a_folder_of_another_kind_is_named(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(RequestError, match=message):
        open_source(tmp_path)


def test_a_folder_of_checkpoints_names_one(tmp_path: Path) -> None:
    (tmp_path / "opt.txt").write_text("x")
    with pytest.raises(CheckpointError, match="is no training run: it has no run"):
        open_source(tmp_path)
    (tmp_path / "latest_net_G.pth").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"pass a file that is in it, such as .*latest_net_G\.pth"):
        open_source(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not the record of a training run"):
        open_source(tmp_path)


def test_safetensors_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2683).to_bytes(8, "little") + b'{"a":')  # the length begins as "{" and a new line
    assert describe_foreign_file(path) == ""


def test_safetensors_have_any_name(tmp_path: Path) -> None:
    state = {"weight": torch.rand(2, 3)}
    safetensors.torch.save_file(state, tmp_path / "model.bin")
    assert torch.equal(read_state(tmp_path / "model.bin")["weight"], state["weight"])


@pytest.mark.parametrize(
    ("length", "rest", "starts"),
    [(2, b'{"', True), (2, b"{}", True), (0, b"{}", False), (2**30, b'{"', False), (2, b"{ ", False), (2, b"{", False)],
)
def test_how_safetensors_start(length: int, rest: bytes, starts: bool, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + rest)
    assert starts_as_safetensors(tmp_path / "x") is starts


@pytest.mark.parametrize("names", [("x/data.pkl", "x/constants.pkl"), ("data.pkl",), ("x/data.pkl", "x/code.py")])
def test_archives_without_code_may_be_checkpoints(names: tuple[str, ...], tmp_path: Path) -> None:
    write_zip(*names)(tmp_path / "x.pth")
    assert describe_foreign_file(tmp_path / "x.pth") == ""


def make_generator() -> nn.Module:
    return build_generator("dcgan", {"size": 16, "width": 4, "latent": 6, "channels": 1})


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: {"netG": module, "epoch": 3}])
def test_a_whole_module_gives_its_weights(wrap: Any, tmp_path: Path) -> None:
    module = make_generator()
    module.register_buffer("cache", torch.ones(2), persistent=False)
    torch.save(wrap(module), tmp_path / "whole.pth")
    read = read_checkpoint(tmp_path / "whole.pth")
    assert read.module == "ganrt.models.dcgan.Generator"
    state = module.state_dict()
    assert read.state.keys() == state.keys() and all(torch.equal(read.state[key], state[key]) for key in state)
    found = open_source(tmp_path / "whole.pth")
    assert found.model is not None and found.model["family"] == "dcgan"


def test_a_whole_module_of_no_family_names_its_class(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 3, 1)), tmp_path / "whole.pth")
    message = r"holds a whole module of the class torch\.nn\.modules\.container\.Sequential, and no family .*own code"
    with pytest.raises(CheckpointError, match=f"{message}.*package.module:factory"):
        open_source(tmp_path / "whole.pth")


def test_modules_within_one_another_are_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.ReLU())
    module._modules["again"] = module
    torch.save(module, tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match="within one another without end"):
        read_checkpoint(tmp_path / "whole.pth")


class AttributeDict(dict[str, Any]):
    """As Lightning's."""


class Config:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def pose_as(monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> type:
    """A class under the name of one of another project, where pickle finds it."""
    module, _, own = name.rpartition(".")
    parts = module.split(".")
    for k in range(len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[: k + 1]), ModuleType(parts[k]))
    made = type(own, (kind,), {"__module__": module})
    monkeypatch.setattr(sys.modules[module], own, made, raising=False)
    return made


@pytest.mark.parametrize(
    "name",
    [
        "lightning.fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        "models.utils.config.BaseConfig",
        "options.train_options.Options",
        "easydict.EasyDict",
    ],
)
@pytest.mark.parametrize("kind", [AttributeDict, Config])
def test_settings_beside_the_tensors_are_no_obstacle(
    name: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {f"generator.{key}": value for key, value in make_generator().state_dict().items()}
    settings = {
        "options": pose_as(monkeypatch, kind, name)(width=4, nested={"a": [1, 2]}),
        "path": pathlib.PurePosixPath("/data/faces"),
        "arguments": argparse.Namespace(lr=1e-3),
        "best": np.float64(27.5),
        "when": collections.defaultdict(list),
    }
    content = {"state_dict": state, "hyper_parameters": settings, "epoch": 3, "callbacks": {}}
    torch.save(content, tmp_path / "last.ckpt")
    found = open_source(tmp_path / "last.ckpt")
    assert found.model is not None and found.model["family"] == "dcgan"


class Payload:
    def __init__(self, function: Any, *arguments: str) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("place", ["hyper_parameters", "state_dict"])
def test_functions_and_system_classes_get_no_stand_in(place: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    for function, name in ((eval, "builtins.eval"), (subprocess.Popen, "commands.Popen")):
        content = {"state_dict": {"weight": torch.ones(1)}, "hyper_parameters": {}}
        content[place]["lr"] = Payload(function, f"touch {marker}")  # type: ignore[assignment]
        torch.save(content, tmp_path / "evil.pth")
        with pytest.raises(CheckpointError, match=f"nothing in it was executed: .*it names {name}. Pass"):
            read_checkpoint(tmp_path / "evil.pth")
    assert not marker.exists()


def test_a_file_without_weights_says_what_it_has(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=rf"holds no state dict: .* it holds epoch, lr\. Pass .*{PASS}"):
        read_checkpoint(tmp_path / "none.pth")
    torch.save(argparse.Namespace(lr=1), tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"it holds an object of the class argparse\.Namespace\. Pass"):
        read_checkpoint(tmp_path / "none.pth")
