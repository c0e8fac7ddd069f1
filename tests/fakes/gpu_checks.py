"""Checks for the runner of GPU steps, which starts a process for each and imports them there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ganrt.bench.gpu.runner import Setting
from ganrt.errors import BackendError

RECORD = "step.json"


def count_outcomes(setting: Setting) -> str:
    """Return how many outcomes the file has so far."""
    file = setting.results / RECORD
    return str(len(json.loads(file.read_text())["outcomes"]) if file.is_file() else 0)


def name_process(setting: Setting) -> str:
    return str(os.getpid())


def fail(setting: Setting) -> str:
    raise BackendError("the images\ndiffer")


def fail_elsewhere(setting: Setting) -> str:
    raise ValueError("first line\nsecond line")


def crash(setting: Setting) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return "not reached"


def stop(setting: Setting) -> str:
    os._exit(7)


def name_paths(setting: Setting) -> str:
    return f"{setting.bundles}/x.ganrt, {Path.home()}/.cache"


def need_gpu(setting: Setting) -> str:
    setting.require_gpu("two graphs read")
    return "ran on the GPU"


def hang(setting: Setting) -> str:
    """Start a process, and wait for ever."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (setting.results / "child").write_text(str(child.pid))
    threading.Event().wait()
    return "not reached"
