"""Files that are no checkpoints, recognised by their content: what they are, and what their owner can do."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

OTHERWISE = (
    "Pass the module itself: package.module:factory, a function that returns it with a ganrt.Spec, or an ONNX file "
    "of it"
)
"""What can be done with a network that no family of ganrt has."""

_SCRIPT = (
    "a TorchScript archive, whose code cannot be traced again. Pass the module that it was made of: "
    "package.module:factory, a function that returns it with a ganrt.Spec, or an ONNX file of it: "
    "torch.onnx.export(torch.jit.load(file), inputs, 'model.onnx', dynamo=False)"
)
_PROGRAM = (
    "an archive of torch.export, which cannot be traced again for other sizes. Pass the module that it was made of: "
    "package.module:factory, a function that returns it with a ganrt.Spec, or an ONNX file of it: "
    "torch.onnx.export(torch.export.load(file)).save('model.onnx')"
)
_COMPILED = f"an engine that is compiled for one GPU; it does not hold the network any more. {OTHERWISE}"
_CONVERTED = f"which ganrt does not read. {OTHERWISE}"
_PACKED = "Unpack it, and pass the checkpoint that is in it"
_NAMES = 10_000
"""Entries of an archive that are looked at."""


def _starts_with(*marks: bytes, at: int = 0) -> Callable[[bytes], bool]:
    return lambda head: any(head[at : at + len(mark)] == mark for mark in marks)


def _is_text(head: bytes) -> bool:
    """Whether a file begins with a line of text. The first line of a pickle in its text form has no space and no
    bracket of JSON or XML."""
    line = head.strip().partition(b"\n")[0].rstrip()
    if b"\0" in head or not line.isascii() or not line.decode("ascii").isprintable():
        return False
    return b" " in line or line.startswith((b"{", b"[", b"<"))


_KINDS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (
        _starts_with(b"version https://git-lfs"),
        "a pointer of Git LFS, not the file that it stands for. Fetch that: git lfs pull",
    ),
    (
        lambda head: head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")),
        "a web page, not the file: the download led to a login or an error. Fetch it again",
    ),
    (_starts_with(b"ftrt", b"ptrt"), f"a TensorRT engine: {_COMPILED}"),
    (_starts_with(b"TFL3", at=4), f"a TensorFlow Lite model, {_CONVERTED}"),
    (_starts_with(b"\x89HDF\r\n\x1a\n"), f"an HDF5 file, as Keras writes it, {_CONVERTED}"),
    (_starts_with(b"GGUF"), f"a GGUF file, {_CONVERTED}"),
    (_starts_with(b"\x93NUMPY"), f"an array of NumPy, {_CONVERTED}"),
    (lambda head: b"<net " in head and head.lstrip().startswith(b"<"), f"an OpenVINO model, {_CONVERTED}"),
    (
        _is_text,
        "a text file, not weights: the answer of a download that failed, or settings. Fetch the file that holds the "
        "weights",
    ),
    (_starts_with(b"ustar", at=257), f"a tar archive. {_PACKED}"),
    (
        _starts_with(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"(\xb5/\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"),
        f"a compressed file. {_PACKED}",
    ),
)
"""Whether a file begins like this -> what it is."""
_HEAD = 512


def describe_foreign_file(path: Path) -> str:
    """What a file is that holds no weights for ganrt, as the end of a sentence that begins with "it is"; empty for a
    file that may be a checkpoint. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:4] == b"PK\x03\x04":
        return _describe_zip(path)
    return next((text for fits, text in _KINDS if fits(head)), "")


def _describe_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:_NAMES]
    except zipfile.BadZipFile:
        return ""  # a checkpoint of PyTorch that is cut off: its reader says so
    leaves = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in leaves and any(leaf.startswith("code/") for leaf in leaves):
        return _SCRIPT
    if "archive_format" in leaves or "serialized_exported_program.json" in leaves | set(names):
        return _PROGRAM
    if "data.pkl" in leaves:
        return ""
    if all(name.endswith(".npy") for name in names) and names:
        return f"a file of arrays of NumPy (.npz), {_CONVERTED}"
    if "model.weights.h5" in names:
        return f"a Keras model, {_CONVERTED}"
    return f"a zip archive without a checkpoint of PyTorch. {_PACKED}"


def describe_foreign_folder(path: Path) -> str:
    """The same for a folder: that of a TensorFlow model, or of a pipeline of diffusers."""
    if (path / "saved_model.pb").is_file():
        return f"a SavedModel of TensorFlow, {_CONVERTED}"
    if (path / "model_index.json").is_file() or (path / "config.json").is_file():
        return f"a folder of diffusers or transformers. {OTHERWISE}"
    return ""


def starts_as_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON object, and the object. Raises OSError when it
    cannot be read."""
    with path.open("rb") as file:
        head = file.read(10)
    return len(head) == 10 and head[8:] in (b'{"', b"{}") and 0 < int.from_bytes(head[:8], "little") < 2**30
