"""A program that imports TensorRT's real Python bindings over stand-in libraries, or the installed TensorRT for RTX,
imports ganrt's modules over the bindings, and prints the API of the bindings as JSON. Nothing of TensorRT is called.

    python read_bindings.py FOLDER        FOLDER holds tensorrt_bindings/
    python read_bindings.py               TensorRT for RTX
"""

from __future__ import annotations

import importlib
import importlib.machinery
import inspect
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def import_bindings(folder: Path) -> Any:
    """Import the extension module without its package, which would look for the libraries."""
    package = ModuleType("tensorrt_bindings")
    package.__path__ = [str(folder / "tensorrt_bindings")]
    sys.modules["tensorrt_bindings"] = package
    module: Any = importlib.import_module("tensorrt_bindings.tensorrt")
    (info,) = folder.glob("*.dist-info")
    module.__version__ = info.name.partition("bindings-")[2].removesuffix(".dist-info")
    module.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    sys.modules["tensorrt"] = module
    return module


def import_rtx() -> Any:
    """Import TensorRT for RTX, its libraries included."""
    return importlib.import_module("tensorrt_rtx_bindings")


def stub_cuda() -> None:
    """Install empty modules for cuda-core, which ganrt's modules need only for annotations when they are imported."""
    for name in ("cuda", "cuda.core", "cuda.core.utils", "cuda.core.graph"):
        module = ModuleType(name)
        module.__path__ = []
        sys.modules[name] = module
    sys.modules["cuda"].core = sys.modules["cuda.core"]  # type: ignore[attr-defined]
    sys.modules["cuda.core.utils"].StridedMemoryView = object  # type: ignore[attr-defined]
    for name in ("Graph", "GraphBuilder"):
        setattr(sys.modules["cuda.core.graph"], name, object)


def collect_facts(module: Any) -> dict[str, Any]:
    classes, enums, functions = {}, {}, {}
    for name, value in vars(module).items():
        if isinstance(value, type) and hasattr(value, "__members__"):
            enums[name] = sorted(value.__members__)
        elif isinstance(value, type):
            classes[name] = {m: _fact(value, m) for m in dir(value) if not m.startswith("_") or m == "__init__"}
        elif callable(value):
            functions[name] = _signatures(name, value)
    return {"version": module.__version__, "classes": classes, "enums": enums, "functions": functions}


def _fact(owner: type, member: str) -> Any:
    value = inspect.getattr_static(owner, member)
    if isinstance(value, property):
        return "settable" if value.fset else "property"
    return _signatures(member, value) if callable(getattr(owner, member)) else "attr"


def _signatures(name: str, value: Any) -> list[str]:
    """Return the signatures in pybind11's docstring: `name(self: X, a: T = 0) -> R`."""
    doc = getattr(value, "__doc__", None) or ""
    lines = [re.sub(r"^\d+\. ", "", line.strip()) for line in doc.splitlines()]
    return [line for line in lines if line.startswith(f"{name}(") and "*args" not in line]


def main() -> None:
    is_rtx = len(sys.argv) == 1
    trt = import_rtx() if is_rtx else import_bindings(Path(sys.argv[1]))
    stub_cuda()
    nvinfer = importlib.import_module("ganrt.gpu.nvinfer")
    backend = "tensorrt_rtx" if is_rtx else "tensorrt"
    for name in (f"ganrt.backends.{backend}", "ganrt.export.engines.cached_build", "ganrt.cli.main"):
        importlib.import_module(name)
    library = nvinfer.load_tensorrt_rtx() if is_rtx else nvinfer.load_tensorrt()
    library.log.log(trt.ILogger.ERROR, "a line")
    library.log.log(trt.ILogger.WARNING, "no error")
    ours = {
        "log": library.log.take_errors(),
        "dtypes": len(library.dtypes),
        "lean": library.is_lean,
        "api": library.api,
        "torch": "torch" in sys.modules,
    }
    json.dump({**collect_facts(trt), **ours}, sys.stdout)


if __name__ == "__main__":
    main()
