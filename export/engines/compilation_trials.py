"""Compile variants for RTX GPUs beside other work, to find out whether NVIDIA's compiler takes them.

It works in a process of its own, mostly on a core that the proofs of a bundle leave idle.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

from ganrt.bundle import Bundle

from .ahead import PRECISIONS, CompilationTrial, has_compiler, try_compilation
from .compiler import Compiler

if TYPE_CHECKING:
    from typing_extensions import Self


class CompilationTrials:
    """Compiles variants one after another in the background, from the beginning of the `with` block on; none where
    TensorRT for RTX is not installed. An exception in the block ends the compiler.

    Args:
        variants: names; None: all that it could compile.
    """

    def __init__(self, bundle: Bundle, variants: Collection[str] | None = None) -> None:
        self._bundle = bundle
        chosen = [name for name in bundle.variants if variants is None or name in variants]
        self._names = [name for name in chosen if bundle.variant(name).precision in PRECISIONS]
        self._compiler, self._thread = Compiler(), ThreadPoolExecutor(1, "compilation")
        self.trials: Mapping[str, Future[CompilationTrial]] = {}
        """Name of a variant -> its trial, in the order in which they end. Its `result` raises what `try_compilation`
        does."""

    def __enter__(self) -> Self:
        if has_compiler():
            self.trials = {
                name: self._thread.submit(try_compilation, self._compiler, self._bundle, name) for name in self._names
            }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._compiler.kill()
        self._thread.shutdown(cancel_futures=True)
        self._compiler.close()
