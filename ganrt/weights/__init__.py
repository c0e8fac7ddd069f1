"""Trained weights that are installed with ganrt. README.md in this folder says where they come from, and LICENSE is
theirs."""

from __future__ import annotations

from pathlib import Path

from ganrt.errors import RequestError

_FOLDER = Path(__file__).parent


def find_weights(name: str) -> Path:
    """Path of the checkpoint `name`, such as `realesr-animevideov3-fp16`; `ganrt.export.export` takes it.

    Raises RequestError for an unknown name.
    """
    files = {path.stem: path for path in sorted(_FOLDER.glob("*.safetensors"))}
    if name not in files:
        raise RequestError(f"there are no weights {name!r}; choose one of {', '.join(files)}")
    return files[name]
