"""How much of the processor a session uses: the options `threads` and `spin`."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

import ganrt
from ganrt import backend_options
from ganrt.backend import backend_names, backend_table, open_session
from ganrt.bundle import Bundle
from ganrt.cli.main import main
from ganrt.errors import BackendError, RequestError
from ganrt.session_config import SessionConfig
from ganrt.trust import proof_key

BACKENDS = backend_names("cpu")
WITH_THREADS = [name for name in BACKENDS if backend_table()[name].threads]


def count_threads_of_process() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize("backend", WITH_THREADS)
def test_pictures_do_not_depend_on_threads_and_a_session_shows_them(backend: str, bundle: Bundle) -> None:
    with ganrt.load(bundle.folder, backend, device="cpu", unproven=True) as generator:
        expected = generator.sample(9, seed=5).astype(int)
        assert generator.info.threads is None
    for threads in (1, 3):
        with ganrt.load(bundle.folder, backend, device="cpu", unproven=True, threads=threads) as generator:
            assert generator.info.threads == threads and f"threads={threads}" in str(generator.info)
            assert np.abs(generator.sample(9, seed=5).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("backend", WITH_THREADS)
def test_a_quota_decides_the_threads_that_nobody_named(
    backend: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_options, "default_threads", lambda: 2)
    with ganrt.load(bundle.folder, backend, device="cpu", unproven=True) as generator:
        assert generator.info.threads == 2
    with ganrt.load(bundle.folder, backend, device="cpu", unproven=True, threads=0) as generator:
        assert generator.info.threads is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="counts threads as Linux lists them")
@pytest.mark.parametrize(("threads", "started"), [(1, 0), (4, 3)])
def test_onnxruntime_starts_so_many_threads(threads: int, started: int, bundle: Bundle) -> None:
    before = count_threads_of_process()
    with open_session(bundle, SessionConfig("onnxruntime", options={"threads": threads}, device="cpu")):
        assert count_threads_of_process() - before == started


@pytest.mark.parametrize(("options", "entry"), [({}, "0"), ({"spin": False}, "0"), ({"spin": True}, "1")])
def test_onnxruntime_spins_only_when_asked(
    options: dict[str, Any], entry: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Settings(onnxruntime.SessionOptions):  # type: ignore[misc]
        def add_session_config_entry(self, name: str, value: str) -> None:
            seen.append((name, value))
            super().add_session_config_entry(name, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Settings)
    open_session(bundle, SessionConfig("onnxruntime", options=options, device="cpu")).close()
    assert seen == [("session.intra_op.allow_spinning", entry)]


def test_one_proof_covers_a_session_that_spins_and_one_that_does_not(bundle: Bundle) -> None:
    keys, made = set(), []
    for spin in (False, True):
        with ganrt.load(bundle.folder, "onnxruntime", device="cpu", spin=spin) as generator:
            keys.add(proof_key(bundle, "fp32", generator.session))
            made.append(generator.sample(9, seed=5))
            assert f"spin={spin}" in str(generator.info)
    assert len(keys) == 1 and np.array_equal(made[0], made[1])


@pytest.mark.parametrize("backend", [name for name in BACKENDS if not backend_table()[name].spin])
def test_a_backend_without_the_option_says_so(backend: str, bundle: Bundle) -> None:
    with pytest.raises(RequestError, match=f"the {backend} backend has no option 'spin'; it has "):
        ganrt.load(bundle.folder, backend, device="cpu", spin=False)


@pytest.mark.parametrize(("backend", "name"), [("onnxruntime", "spin"), ("pytorch", "compiled")])
def test_switches_are_bools(backend: str, name: str, bundle: Bundle) -> None:
    with pytest.raises(RequestError, match=f"{name} is 'yes'; choose True or False"):
        options: dict[str, Any] = {name: "yes"}
        ganrt.load(bundle.folder, backend, device="cpu", **options)


def test_pytorch_leaves_the_number_of_threads_of_the_process_alone(bundle: Bundle) -> None:
    before = torch.get_num_threads()
    seen = []
    try:
        torch.set_num_threads(2)
        with ganrt.load(bundle.folder, "pytorch", device="cpu", threads=3, unproven=True) as generator:
            session: Any = generator.session
            session._module.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
            generator.sample(1)
            assert torch.get_num_threads() == 2
            session._module.register_forward_hook(lambda *_: 1 / 0)
            with pytest.raises(BackendError, match="division by zero"):
                generator.sample(1)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [3, 3]


def test_the_commands_take_both(bundle: Bundle, tmp_path: Path) -> None:
    def run(*options: str) -> Any:
        out = str(tmp_path / "made.png")
        rest = ("--out", out, "--overwrite", "--device", "cpu")
        return CliRunner().invoke(main, ["sample", str(bundle.folder), "-n", "4", *rest, *options])

    assert run("--backend", "onnxruntime", "--threads", "1", "--spin").exit_code == 0
    assert run("--backend", "reference").exit_code == 0  # what was not given is not passed
    for options, message in (
        (("--backend", "openvino", "--no-spin"), "the openvino backend has no option 'spin'; it has threads"),
        (("--backend", "reference", "--threads", "2"), "the reference backend has no option 'threads'; it has none"),
        (("--backend", "onnxruntime", "--threads", "-1"), "threads is -1; it must be a whole number"),
    ):
        done = run(*options)
        assert done.exit_code == 2 and message in done.stderr
