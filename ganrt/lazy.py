"""Import the names of a package on first use (PEP 562), so that one name does not load the libraries of the others."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from ganrt.errors import MissingLibraryError


def lazy_exports(
    package: str, modules: Mapping[str, str], extra: str | None = None, purpose: str = ""
) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    Args:
        package: the package's `__name__`.
        modules: public name -> the module of the package that defines it; empty for a module of that name.
        extra: the extra of ganrt that installs what the modules import; without one, a missing library raises
            ModuleNotFoundError as usual.
        purpose: what needs the library, as the subject of a sentence ("training").

    The returned function raises AttributeError for a name that is not in `modules`, and MissingLibraryError, naming the
    extra, when a library is not installed.
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(f"{package}.{modules[name] or name}")
        except ImportError as error:
            library = (error.name or "").partition(".")[0]
            if extra is None or library in ("", "ganrt"):
                raise
            raise MissingLibraryError(library, extra, purpose) from error
        return getattr(module, name) if modules[name] else module

    return __getattr__
