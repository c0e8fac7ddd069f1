"""What is read of the system, compared with psutil and on files with known figures."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ganrt.bench import environment, system


def test_the_figures_are_those_of_psutil() -> None:
    assert system.read_memory("MemTotal") == psutil.virtual_memory().total
    assert system.read_memory("MemAvailable") == pytest.approx(psutil.virtual_memory().available, rel=0.5)
    assert system.count_physical_cores() == psutil.cpu_count(logical=False)
    busy, total = system.read_machine_seconds()
    times = psutil.cpu_times()
    assert total - busy == pytest.approx(times.idle + times.iowait, rel=0.05)
    assert busy == pytest.approx(sum(times[:8]) - times.idle - times.iowait, rel=0.05)


def test_busy_and_total_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [count * ticks for count in (1, 2, 4, 8, 16, 32, 64, 128, 1000, 1000)]
    (tmp_path / "stat").write_text(f"cpu  {' '.join(map(str, fields))}\ncpu0 1 1 1\n")
    monkeypatch.setattr(system, "_PROC", tmp_path)
    assert system.read_machine_seconds() == (1 + 2 + 4 + 32 + 64 + 128, 255)


def test_the_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_CPUS", tmp_path)
    assert system.count_physical_cores() is None
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings)
    assert system.count_physical_cores() == 2


def test_own_time_includes_children_that_have_ended() -> None:
    before = system.read_own_seconds()
    work = "import os\nwhile sum(os.times()[:2]) < 0.3: pass"
    subprocess.run([sys.executable, "-c", work], check=True)
    assert system.read_own_seconds() - before >= 0.2


@pytest.mark.parametrize(
    ("details", "shown"),
    [
        ({"driver": "NVRM 570", "gpu 0": "Model: RTX"}, ("driver: NVRM 570", "gpu 0: Model: RTX")),
        ({}, ("an NVIDIA GPU of unknown name, as nvidia-ml-py is not installed",)),
    ],
)
def test_a_gpu_without_nvidias_library(
    details: dict[str, str], shown: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(environment, "nvidia_details", lambda: details)
    assert environment._describe_gpus() == ()
    monkeypatch.setattr(environment, "has_nvidia_gpu", lambda: True)
    assert environment._describe_gpus() == shown


def test_the_peak_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peak = system.read_peak_mib()
    assert peak is not None and peak >= 0.9 * psutil.Process().memory_info().rss / 2**20
    monkeypatch.setattr(system, "_PROC", tmp_path)
    assert system.read_peak_mib() is None
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tpython\nVmPeak:\t  9999 kB\nVmHWM:\t    2560 kB\n")
    assert system.read_peak_mib() == 2.5
    (tmp_path / "self" / "status").write_text("Name:\tpython\n")
    assert system.read_peak_mib() is None
