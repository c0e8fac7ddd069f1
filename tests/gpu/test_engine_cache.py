"""Engines are found only on machines that run them, read only if they are unchanged, and built once."""

import dataclasses
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ganrt.errors import ArtifactError, MachineError
from ganrt.gpu import engine_cache
from ganrt.gpu.engine_cache import Key, Machine

MACHINE = Machine("NVIDIA Orin", "8.7", "540.4.0", "10.3.0.26")
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
"""The child processes only use files."""
KEY = Key("graph-a", {"batches": [1, 8], "level": 3}, MACHINE)


def change_machine(**changes: str) -> Machine:
    return dataclasses.replace(MACHINE, **changes)


def test_a_stored_engine_is_found_and_read() -> None:
    stored = engine_cache.store(KEY, b"plan", {"layers": {"fp16": 0.9}})
    found = engine_cache.find_engine("graph-a", MACHINE)
    assert found == stored == engine_cache.find_exact(KEY) and engine_cache.read_plan(found) == b"plan"
    assert found.notes == {"layers": {"fp16": 0.9}} and found.key.options["level"] == 3


def test_every_part_of_the_key_counts() -> None:
    machines = [change_machine(**{f.name: "9.9"}) for f in dataclasses.fields(Machine)]
    others = [
        dataclasses.replace(KEY, graph="graph-b"),
        dataclasses.replace(KEY, options={**KEY.options, "level": 4}),
        *(dataclasses.replace(KEY, machine=machine) for machine in machines),
    ]
    assert len({key.digest() for key in [KEY, *others]}) == 8
    engine_cache.store(KEY, b"plan", {})
    assert all(engine_cache.find_exact(other) is None for other in others)


@pytest.mark.parametrize(
    ("here", "reason"),
    [
        (change_machine(version="10.7.0.23"), r"there is one for TensorRT 10\.3\.0\.26\): build it with `ganrt build"),
        (change_machine(gpu="NVIDIA H100"), r"there is one for NVIDIA Orin \(compute capability 8\.7\)"),
        (change_machine(driver="580.1"), r"for the driver 540\.4\.0, and this machine has 580\.1"),
    ],
)
def test_an_engine_for_another_machine_is_not_found_and_the_error_says_why(here: Machine, reason: str) -> None:
    engine_cache.store(KEY, b"plan", {})
    with pytest.raises(MachineError, match=reason):
        engine_cache.find_engine("graph-a", here)


def test_an_engine_must_have_the_wanted_options() -> None:
    engine_cache.store(KEY, b"plan", {})
    assert engine_cache.find_engine("graph-a", MACHINE, {"level": 3})
    with pytest.raises(MachineError, match="there is one built with level = 3, not 5"):
        engine_cache.find_engine("graph-a", MACHINE, {"level": 5})
    with pytest.raises(MachineError, match="none of this graph was built"):
        engine_cache.find_engine("graph-b", MACHINE)


@pytest.mark.parametrize(
    ("options", "here", "fits"),
    [
        ({"version_compatible": True}, change_machine(version="10.16.1.11"), True),
        ({"version_compatible": True}, change_machine(version="11.4.0.106"), True),
        ({"version_compatible": True}, change_machine(version="12.0.0.0"), False),
        ({"version_compatible": True}, change_machine(version="10.0.1.6"), False),
        ({"version_compatible": True}, change_machine(driver="580.1"), True),
        ({"hardware_compatible": "ampere-plus"}, change_machine(gpu="NVIDIA H100", capability="9.0"), True),
        ({"hardware_compatible": "ampere-plus"}, change_machine(gpu="NVIDIA B200", capability="10.0"), True),
        ({"hardware_compatible": "ampere-plus"}, change_machine(gpu="NVIDIA T4", capability="7.5"), False),
        ({"hardware_compatible": "same-capability"}, change_machine(gpu="Orin NX"), True),
        ({"hardware_compatible": "same-capability"}, change_machine(gpu="Orin NX", capability="8.6"), False),
    ],
)
def test_compatible_engines_fit_more_machines(options: dict[str, Any], here: Machine, fits: bool) -> None:
    assert (engine_cache.explain_misfit(dataclasses.replace(KEY, options=options), here) is None) == fits


def test_the_newest_engine_that_fits_is_found() -> None:
    first = engine_cache.store(KEY, b"one", {})
    second = engine_cache.store(dataclasses.replace(KEY, options={}), b"two", {})
    os.utime(first.path, ns=(1, 1))
    os.utime(second.path, ns=(2, 2))
    assert engine_cache.find_engine("graph-a", MACHINE).sha256 == second.sha256


def test_a_changed_plan_is_not_read() -> None:
    stored = engine_cache.store(KEY, b"plan", {})
    stored.path.write_bytes(b"evil")
    with pytest.raises(ArtifactError, match="is executable code and was not loaded: build it again with `ganrt build"):
        engine_cache.read_plan(engine_cache.find_engine("graph-a", MACHINE))


def test_a_rebuild_replaces_the_old_plan() -> None:
    old = engine_cache.store(KEY, b"old", {})
    new = engine_cache.store(KEY, b"new", {})
    assert not old.path.exists() and engine_cache.read_plan(engine_cache.find_engine("graph-a", MACHINE)) == b"new"
    assert new.path.stat().st_size == 3


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 9}', '{"format": 1, "key": {}}'])
def test_a_damaged_sidecar_is_skipped(damage: str) -> None:
    engine_cache.store(KEY, b"plan", {})
    (engine_cache.ensure_folder() / f"{KEY.digest()}.json").write_text(damage)
    assert engine_cache.find_exact(KEY) is None


def test_a_sidecar_whose_name_is_not_its_key_is_skipped() -> None:
    """Renaming a sidecar must not make an engine pass for one built for this machine."""
    engine_cache.store(KEY, b"plan", {})
    sidecar = engine_cache.ensure_folder() / f"{KEY.digest()}.json"
    raw = json.loads(sidecar.read_text())
    raw["key"]["machine"]["gpu"] = "NVIDIA H100"
    sidecar.write_text(json.dumps(raw))
    assert list(engine_cache.iterate_engines("graph-a")) == []


def test_a_folder_that_others_can_write_to_is_rejected() -> None:
    engine_cache.store(KEY, b"plan", {})
    engine_cache.ensure_folder().chmod(0o777)
    with pytest.raises(MachineError, match=r"is writable by others, .* chmod 700"):
        engine_cache.find_engine("graph-a", MACHINE)


def test_a_plan_from_elsewhere_needs_its_digest(tmp_path: Path) -> None:
    (tmp_path / "x.plan").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert engine_cache.read_verified(tmp_path / "x.plan", digest) == b"abc"
    with pytest.raises(ArtifactError, match="was not loaded: fetch it again, or name the right digest"):
        engine_cache.read_verified(tmp_path / "x.plan", digest[::-1])
    with pytest.raises(ArtifactError, match=r"y\.plan cannot be read \(No such file"):
        engine_cache.read_verified(tmp_path / "y.plan", digest)


def build_once(log: Any, barrier: Any) -> None:
    """What every build does: look again once it holds the lock."""
    barrier.wait()
    with engine_cache.lock(KEY):
        if engine_cache.find_exact(KEY) is None:
            log.put(os.getpid())
            engine_cache.store(KEY, b"plan", {})


@FORKS
def test_two_processes_build_an_engine_once() -> None:
    context = multiprocessing.get_context("fork")
    log, barrier = context.Queue(), context.Barrier(2)
    workers = [context.Process(target=build_once, args=(log, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert log.get(timeout=5) in {worker.pid for worker in workers} and log.empty()


def die_before_the_sidecar(reached: Any) -> None:
    write = engine_cache.atomic.write_file

    def stop(path: Path, content: bytes) -> None:
        if path.suffix == ".json":
            reached.set()
            signal.pause()
        write(path, content)

    engine_cache.atomic.write_file = stop
    with engine_cache.lock(KEY):
        engine_cache.store(KEY, b"plan", {})


@FORKS
def test_a_killed_build_leaves_nothing_that_loads_and_no_lock() -> None:
    context = multiprocessing.get_context("fork")
    reached = context.Event()
    worker = context.Process(target=die_before_the_sidecar, args=(reached,))
    worker.start()
    assert reached.wait(20)
    worker.kill()
    worker.join(20)
    with pytest.raises(MachineError, match="none of this graph was built"):
        engine_cache.find_engine("graph-a", MACHINE)
    with engine_cache.lock(KEY):
        engine_cache.store(KEY, b"plan", {})
    assert engine_cache.read_plan(engine_cache.find_engine("graph-a", MACHINE)) == b"plan"


def test_waiting_for_another_build_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    import threading

    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with engine_cache.lock(KEY):
            inside.set()
            leave.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(20)
    waiter = threading.Thread(target=lambda: engine_cache.lock(KEY).__enter__())
    waiter.start()
    while "another process is building this engine" not in caplog.text:
        waiter.join(0.01)
    leave.set()
    holder.join(20)
    waiter.join(20)
