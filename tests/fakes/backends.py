"""A table of backends that do as they are told, for bundles of the NumPy model."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
from fakes.sessions import FakeSession

from ganrt import backend as table
from ganrt.backend import Entry, Session
from ganrt.bundle import Bundle
from ganrt.errors import MachineError
from ganrt.feeds import Array, Feeds

GOOD, CANNOT_LOAD, RAISES, FAILS, OTHER_PICTURES, LACKS = (
    *("makes the pictures", "cannot load", "raises", "fails while running", "makes other pictures"),
    "lacks a device",
)


class _Session(FakeSession):
    def __init__(self, name: str, variant: str, precision: str, kind: str) -> None:
        super().__init__()
        self.backend, self.precision, self.details = name, precision, {name: "1.0"}
        self._variant, self._kind = variant, kind

    def run(self, feeds: Feeds) -> Array:
        if self._kind == FAILS:
            raise RuntimeError("an operator failed")
        right = super().run(feeds)
        return np.flip(right, axis=2).copy() if self._kind == OTHER_PICTURES else right


def install(monkeypatch: pytest.MonkeyPatch, **backends: str | dict[str, str]) -> list[str]:
    """Make these the only backends there are, and return the list that gets `backend variant` whenever one is opened.

    Args:
        backends: what each backend does, for all variants or by variant (others: GOOD). `pytorch` runs no graphs.
    """
    opened: list[str] = []

    def make_open(name: str, kinds: str | dict[str, str]) -> Any:
        def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
            opened.append(f"{name} {variant}")
            kind = kinds if isinstance(kinds, str) else kinds.get(variant, GOOD)
            if kind == CANNOT_LOAD:
                raise table.BackendError(f"{name} cannot load {variant}: no rule for Nonsense")
            if kind == RAISES:
                raise RuntimeError("an exception that nobody translated")
            if kind == LACKS:
                raise MachineError("this processor lacks it")
            return _Session(name, variant, bundle.variant(variant).precision, kind)

        return open

    rows = {}
    for name, kinds in backends.items():
        module = types.ModuleType(f"fake_backend_{name}")
        module.open = make_open(name, kinds)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        rows[name] = Entry(module.__name__, "", "numpy", ("fp32", "fp16", "bf16", "int8"), graphs=name != "pytorch")
    monkeypatch.setattr(table, "BACKENDS", rows)
    return opened
