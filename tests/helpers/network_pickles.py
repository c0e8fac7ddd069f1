"""Network pickles as NVIDIA's projects write them: whole modules with the source code of their classes."""

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

_SAVED = {"const", "weight", "bias", "noise_strength"}
"""Names of parameters; other tensors are buffers."""


class Traps:
    """Stands in for the packages of a project: whatever is called or executed there leaves a trace."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, marker: Path) -> None:
        self.marker = marker
        persistence, util = ModuleType("torch_utils.persistence"), ModuleType("dnnlib.util")

        def reconstruct(meta: object) -> None:
            marker.write_text("called")

        reconstruct.__module__, reconstruct.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"
        persistence._reconstruct_persistent_obj = reconstruct  # type: ignore[attr-defined]
        self.easy = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
        util.EasyDict = self.easy  # type: ignore[attr-defined]
        self.rebuild = reconstruct
        for module in (ModuleType("torch_utils"), persistence, ModuleType("dnnlib"), util):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def pack(self, state: Mapping[str, torch.Tensor], attributes: Mapping[str, Any]) -> torch.nn.Module:
        """A module whose state dict and attributes, by their path, are these; its pickle holds hostile source code."""
        rebuild, source = self.rebuild, f"open({str(self.marker)!r}, 'w').write('executed')\n"

        class Part(torch.nn.Module):
            def __reduce__(self) -> tuple[Any, ...]:
                meta = {"type": "class", "version": 6, "module_src": source, "class_name": "Generator"}
                return rebuild, ({**meta, "state": self.__dict__},), None

        root = Part()
        for path, value in {**state, **attributes}.items():
            *parents, name = path.split(".")
            part = root
            for parent in parents:
                if not hasattr(part, parent):
                    part.add_module(parent, Part())
                part = part.get_submodule(parent)  # type: ignore[assignment]
            if path in attributes:
                setattr(part, name, value)
            elif name in _SAVED:
                part.register_parameter(name, torch.nn.Parameter(value.clone()))
            else:
                part.register_buffer(name, value.clone())
        return root

    def write(self, path: Path, content: object, protocol: int = 4) -> Path:
        """Write a pickle as `legacy.py` and `training_loop.py` do."""
        path.write_bytes(pickle.dumps(content, protocol))
        return path

    def wrap(self, network: torch.nn.Module) -> dict[str, Any]:
        """The dictionary of a snapshot, with what else is in it."""
        other = self.pack({"fc.weight": torch.zeros(3, 3)}, {})
        options = self.easy(class_name="training.dataset.ImageFolderDataset", xflip=True)
        return {"G": other, "D": other, "G_ema": network, "training_set_kwargs": options, "augment_pipe": None}


def call_in_pickle(module: str, function: str, *arguments: str) -> bytes:
    """A pickle that calls a function of any name with texts, if it is executed."""
    texts = b"".join(b"X" + len(text.encode()).to_bytes(4, "little") + text.encode() for text in arguments)
    return b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"(" + texts + b"tR."
