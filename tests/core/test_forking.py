"""Forks after `load`: children make the right pictures, nobody hangs, and the parent goes on."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from ganrt import forking
from ganrt.backend import backend_names
from ganrt.bundle import Bundle

# Every child has twenty seconds; a hanging one is ended by the alarm.
START = """
import os, signal, sys, threading
import numpy as np
import ganrt

def fork(act):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        sys.exit(act())
    return os.waitpid(child, 0)[1]

g = ganrt.load(sys.argv[1], sys.argv[2])
right = g.sample(5, seed=9)

def check():
    return 0 if np.array_equal(g.sample(5, seed=9), right) else 5
"""

CASES = {
    "twenty forks": """
        statuses = [fork(check) for _ in range(20)]
        assert statuses == [0] * 20, statuses
    """,
    "while another thread samples": """
        for _ in range(4):
            thread = threading.Thread(target=g.sample, args=(300,))
            thread.start()
            status = fork(check)
            thread.join()
            assert status == 0, status
    """,
    "right after a thread has ended": """
        for _ in range(4):
            thread = threading.Thread(target=g.sample, args=(5,))
            thread.start()
            thread.join()
            status = fork(check)
            assert status == 0, status
    """,
    "a child of a child": """
        status = fork(lambda: check() or (3 if fork(check) else 0))
        assert status == 0, status
    """,
    "threads of the child": """
        def sample_in_threads():
            found = [None] * 4
            def sample(k):
                found[k] = g.sample(5, seed=9)
            threads = [threading.Thread(target=sample, args=(k,)) for k in range(4)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            return 0 if all(np.array_equal(f, right) for f in found) else 5
        status = fork(sample_in_threads)
        assert status == 0, status
    """,
    "closing in the child": """
        def close():
            g.close()
            g.close()
            try:
                g.sample(1)
            except ganrt.BackendError as error:
                return 0 if "closed" in str(error) else 6
        assert fork(close) == 0
        assert check() == 0
    """,
    "closed before the fork": """
        g.close()
        def sample():
            try:
                g.sample(1)
            except ganrt.BackendError as error:
                return 0 if "closed" in str(error) else 6
        assert fork(sample) == 0
    """,
    "another current folder": """
        os.chdir("/")
        assert fork(check) == 0
    """,
    "a session without a bundle": """
        from ganrt.backend import open_session
        from ganrt.generator import Generator
        bundle = ganrt.Bundle.read(sys.argv[1])
        session = open_session(bundle, ganrt.SessionConfig(sys.argv[2]))
        bare = Generator(bundle.spec, session)
        bare.sample(2)
        def sample():
            try:
                bare.sample(1)
            except ganrt.BackendError as error:
                return 0 if "opened before the process forked" in str(error) else 6
        assert fork(sample) == 0
    """,
    "in the middle of a stream": """
        stream = g.stream(200, seed=9, batch=5)
        assert np.array_equal(next(stream), right)
        def go_on():
            try:
                list(stream)
            except ganrt.BackendError as error:
                return check() if "started before the process forked: start one in the child" in str(error) else 6
        assert fork(go_on) == 0
        assert sum(map(len, stream)) == 195
    """,
    "in a signal handler, while a batch is computed": """
        statuses = []
        signal.signal(signal.SIGUSR1, lambda *_: statuses.append(fork(check)))
        sampler = threading.Thread(target=g.sample, args=(200,))
        sampler.start()
        os.kill(os.getpid(), signal.SIGUSR1)
        sampler.join()
        assert statuses == [0], statuses
    """,
    "output of the child is written": """
        def write():
            os.write(1, b"")
            print("from the child")
            return 7
        assert os.waitstatus_to_exitcode(fork(write)) == 7
    """,
}


def _run(code: str, *arguments: str) -> str:
    lines = code.splitlines()
    body = "\n".join(line.removeprefix(" " * 8) for line in lines)
    done = subprocess.run(
        [sys.executable, "-c", START + body, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("backend", backend_names("cpu"))
def test_twenty_forks_after_load(backend: str, bundle: Bundle) -> None:
    _run(CASES["twenty forks"], str(bundle.path), backend)


@pytest.mark.parametrize("case", [case for case in CASES if case != "twenty forks"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "mnn", "pytorch"])
def test_a_fork(case: str, backend: str, bundle: Bundle) -> None:
    printed = _run(CASES[case], str(bundle.path), backend)
    assert printed == ("from the child\n" if "output" in case else "")


def test_multiprocessing_with_fork(bundle: Bundle) -> None:
    code = """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.map(lambda_free, range(8))
        assert all(found)
    """
    helper = "def lambda_free(k):\n    return check() == 0\n"
    for backend in ("onnxruntime", "openvino", "mnn", "pytorch"):
        _run(helper + code, str(bundle.path), backend)


def test_a_fork_waits_for_the_batch_of_another_thread() -> None:
    order, inside, go_on = [], threading.Event(), threading.Event()

    def compute() -> None:
        with forking.computing:
            inside.set()
            go_on.wait()
            order.append("batch")

    def fork() -> None:
        forking.computing.start_fork()
        order.append("fork")
        forking.computing.end_fork()

    threads = [threading.Thread(target=compute), threading.Thread(target=fork)]
    threads[0].start()
    inside.wait()
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert order == ["batch", "fork"]


def test_a_batch_does_not_start_while_another_thread_forks() -> None:
    order, started = [], threading.Event()

    def compute() -> None:
        started.set()
        with forking.computing:
            order.append("batch")

    forking.computing.start_fork()
    thread = threading.Thread(target=compute)
    thread.start()
    started.wait()
    order.append("fork")
    forking.computing.end_fork()
    thread.join()
    assert order == ["fork", "batch"]


def test_a_thread_that_computes_may_fork() -> None:
    """In a signal handler, or in a session that uses another one: waiting for itself would hang."""
    with forking.computing, forking.computing:
        forking.computing.start_fork()
        forking.computing.end_fork()
        with forking.computing:
            pass
    assert forking.computing._depths == {}


def test_a_clean_process_forks_clean_children(bundle: Bundle) -> None:
    """Exit handlers of C libraries run in children of a process that has opened no session."""
    code = """
import os, sys
from ganrt import forking
child = os.fork()
if child == 0:
    sys.exit(forking.generation())
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
