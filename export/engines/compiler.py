"""TensorRT for RTX compiles graphs on any machine, in a process of its own.

NVIDIA's parser can crash the process that it runs in, and it prints to standard output, where commands put results. So
a worker process compiles, one graph after another, and is started again after a crash.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from ganrt.errors import EngineError, GanrtError, MachineError, RequestError
from ganrt.feeds import Size

from .options import RtxEngineOptions

if TYPE_CHECKING:
    from typing_extensions import Self

_WORKER = "ganrt.export.engines.compile_worker"
_ERRORS: dict[str, type[GanrtError]] = {kind.__name__: kind for kind in (EngineError, RequestError, MachineError)}
"""The errors of the worker, by the names that it reports them under."""
_KILLED = "the compiler of TensorRT for RTX was stopped"


@dataclass(frozen=True)
class CompiledPlan:
    """A plan, and what the compiler reported of it."""

    plan: bytes
    layers: str
    """The compiler's list of what the plan launches, profile by profile (`layers.parse_layers`)."""


class Compiler:
    """The worker process. Use it as a context manager, or call `close`; one thread at a time, but for `kill`."""

    def __init__(self) -> None:
        self._worker: subprocess.Popen[str] | None = None
        self._is_killed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def compile(
        self,
        file: Path,
        options: RtxEngineOptions,
        golden: Sequence[Size] = (),
        progress: Callable[[float], None] = lambda _: None,
    ) -> CompiledPlan:
        """Compile an ONNX file.

        Args:
            file: the graph, its external data beside it.
            options: batches, picture size and targets.
            golden: heights and widths of the golden pictures, which the engine must take for its proof.
            progress: called with the share that is done, 0 to 1.

        Raises EngineError with the errors of the parser or the compiler, also where it crashes; RequestError for
        options that the model does not support; MachineError if TensorRT for RTX cannot be imported.
        """
        with tempfile.TemporaryDirectory() as folder:
            plan = Path(folder) / "model.plan"
            request = {"file": str(file), "options": asdict(options), "golden": [list(g) for g in golden]}
            answer = self._ask({**request, "plan": str(plan)}, progress)
            if answer["error"]:
                raise _ERRORS[answer["kind"]](answer["error"])
            return CompiledPlan(plan.read_bytes(), answer["layers"])

    def kill(self) -> None:
        """End the worker at once, from any thread, for good. What is being compiled raises MachineError."""
        self._is_killed = True
        worker = self._worker
        if worker is not None:
            worker.kill()

    def close(self) -> None:
        """End the worker. May be called twice."""
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(BrokenPipeError):  # it ended by itself
                _require_pipe(worker.stdin).close()
            _require_pipe(worker.stdout).close()
            worker.wait()

    def _ask(self, request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
        """Send a request and return the answer to it."""
        if self._is_killed:
            raise MachineError(_KILLED)
        worker = self._worker = self._worker or _start_worker()
        try:
            with suppress(BrokenPipeError):  # it ended by itself, which reading shows
                print(json.dumps(request), file=worker.stdin, flush=True)
            for line in _require_pipe(worker.stdout):
                answer: dict[str, Any] = json.loads(line)
                if "progress" not in answer:
                    return answer
                progress(answer["progress"])
        except BaseException:
            worker.kill()  # it is still compiling, and its answer would be taken for that to the next request
            self.close()
            raise
        status = worker.wait()
        self.close()
        if self._is_killed:
            raise MachineError(_KILLED)
        if status >= 0:
            raise EngineError(f"the process of the compiler ended with exit code {status}; what it printed says why")
        raise EngineError(
            f"the compiler of TensorRT for RTX crashed on this graph (signal {-status}): export it without the "
            "operator that crashes it, or use another backend"
        )


def _start_worker() -> subprocess.Popen[str]:
    # With `python -m`, modules in the current folder would be imported instead of those of this process.
    path = f"import sys; sys.path[:] = {list(map(str, sys.path))!r}"
    command = [sys.executable, "-c", f"{path}; import runpy; runpy.run_module({_WORKER!r}, run_name='__main__')"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")


def _require_pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
