"""Bundles whose manifest was changed."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as its own writer would: with the right digest and spelling."""
    path = folder / "ganrt.json"
    raw = json.loads(path.read_bytes())
    change(raw)
    raw.pop("sha256", None)
    raw["sha256"] = hashlib.sha256(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    path.write_bytes(json.dumps(raw, indent=1).encode() + b"\n")
