"""The process in which TensorRT for RTX compiles (`compiler.Compiler`).

    python -m ganrt.export.engines.compile_worker

Reads a request as a line of JSON from standard input, and writes lines of JSON to standard output: progress, then the
answer. All else that is printed, by NVIDIA's library above all, goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

from ganrt import atomic
from ganrt.errors import GanrtError, MachineError
from ganrt.gpu import load_tensorrt_rtx

from .builder import build_plan
from .options import RtxEngineOptions

_writing = threading.Lock()
"""The library reports progress from several threads."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes, and the other one ends this one
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        _write(answers, _answer(json.loads(line), answers))


def _answer(request: dict[str, Any], answers: IO[str]) -> dict[str, str]:
    raw = request["options"]
    options = RtxEngineOptions(
        tuple(raw["batches"]), tuple(raw["size"]) if raw["size"] else None, tuple(raw["targets"])
    )
    file = Path(request["file"])
    try:
        library = load_tensorrt_rtx()
        golden = [tuple(sides) for sides in request["golden"]]
        plan = build_plan(
            library, file, [], "", options, golden, lambda share: _write(answers, {"progress": round(share, 3)})
        )
        atomic.write_file(Path(request["plan"]), plan)
        return {"error": "", "layers": library.log.layers}
    except (ImportError, OSError) as error:
        return {"error": f"TensorRT for RTX cannot be imported: {error}", "kind": MachineError.__name__}
    except GanrtError as error:
        return {"error": str(error), "kind": type(error).__name__}


def _write(answers: IO[str], answer: dict[str, Any]) -> None:
    with _writing:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
