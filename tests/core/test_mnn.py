"""The backend mnn: how it divides batches, what it says of what MNN cannot do, and that it leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

import ganrt
from ganrt import forking
from ganrt.backend import Session, open_session
from ganrt.backends import mnn
from ganrt.bundle import Bundle, Variant
from ganrt.errors import BackendError, BundleError, DeviceMemoryError, MachineError, RequestError
from ganrt.feeds import Array
from ganrt.session_config import SessionConfig
from ganrt.stores import FolderStore

SPEC = ganrt.Spec("tiny", (ganrt.Latent("x", (3, 8, 8)),), ganrt.Output(3, (-1.0, 1.0), (8, 8)))


def write_bundle(folder: Path, *nodes: Any, apart: bool = False, **weights: Array) -> Bundle:
    """A bundle of a graph x (N, 3, 8, 8) -> image; its weights lie in a file of their own if they are `apart`."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3, 8, 8]) for n in ("x", SPEC.output.name)]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "g", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    save(model, folder / "model.onnx", save_as_external_data=apart, location="model.onnx.data", size_threshold=0)
    files = ["model.onnx", "model.onnx.data"] if apart else ["model.onnx"]
    return Bundle(FolderStore(folder), SPEC, {"fp32": Variant("model.onnx", 20, "fp32")}, {}).with_files(*files)


def make_convolution(folder: Path, apart: bool = False) -> Bundle:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "kernel"], [SPEC.output.name], pads=[1, 1, 1, 1])
    return write_bundle(folder, node, apart=apart, kernel=kernel)


def open_mnn(bundle: Bundle, **options: Any) -> Session:
    return open_session(bundle, SessionConfig("mnn", options=options))


def compute(session: Session, rows: int) -> Array:
    x = np.random.default_rng(1).normal(size=(rows, 3, 8, 8)).astype(np.float32)
    image: Array = session.submit({"x": x}).wait()[SPEC.output.name]
    return image


def count_rows(monkeypatch: pytest.MonkeyPatch, method: str) -> list[int]:
    """Return a list that gets the rows of every call of a method of a network."""
    seen: list[int] = []
    run = getattr(mnn._Network, method)

    def counting(self: mnn._Network, feeds: Any) -> Array:
        seen.append(len(feeds["x"]))
        image: Array = run(self, feeds)
        return image

    monkeypatch.setattr(mnn._Network, method, counting)
    return seen


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 3}, {"threads": 2, "spin": True}])
def test_it_computes_what_onnxruntime_computes(options: dict[str, Any], apart: bool, tmp_path: Path) -> None:
    bundle = make_convolution(tmp_path, apart)
    with open_mnn(bundle, **options) as session, open_session(bundle, SessionConfig("onnxruntime")) as other:
        for rows in (1, 2, 3, 4, 7, 1):
            np.testing.assert_allclose(compute(session, rows), compute(other, rows), atol=1e-4)


@pytest.mark.parametrize("spin", [False, True])
def test_a_row_is_computed_as_it_is_alone(spin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MNN would compute a batch with other tiles."""
    seen = count_rows(monkeypatch, "_run_row")
    x = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    with open_mnn(make_convolution(tmp_path), threads=2, spin=spin) as session:
        together = compute(session, 5)
        alone = [session.submit({"x": x[row : row + 1]}).wait()[SPEC.output.name][0] for row in range(5)]
    assert seen == [1] * 10 and np.array_equal(together, np.stack(alone))


@pytest.mark.parametrize(
    ("rows", "parts", "wanted"),
    [(1, 4, [(0, 1)]), (4, 2, [(0, 2), (2, 4)]), (5, 2, [(0, 2), (2, 5)]), (7, 3, [(0, 2), (2, 4), (4, 7)])],
)
def test_parts_of_a_batch_differ_by_one_row_at_most(rows: int, parts: int, wanted: list[tuple[int, int]]) -> None:
    assert [(cut.start, cut.stop) for cut in mnn._cut_rows(rows, parts)] == wanted


def test_a_batch_is_divided_among_threads_and_spinning_threads_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = count_rows(monkeypatch, "run")
    bundle = make_convolution(tmp_path)
    for options, wanted in (
        ({"threads": 1}, [5]),
        ({"threads": 2}, [2, 3]),
        ({"threads": 2, "spin": False}, [2, 3]),
        ({"threads": 2, "spin": True}, [5]),
    ):
        with open_mnn(bundle, **options) as session:
            assert session.details["threads"] == str(options["threads"])
            assert session.details.get("spin") == ("on" if options.get("spin") else None)
            compute(session, 5)
        assert sorted(seen) == wanted
        seen.clear()


@pytest.mark.parametrize(("cores", "wanted"), [(1, 1), (3, 3), (64, 4)])
def test_by_default_there_are_at_most_four_threads(
    cores: int, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnn, "usable_cores", lambda: cores)
    bundle = make_convolution(tmp_path)
    for options in ({}, {"threads": 0}):
        with open_mnn(bundle, **options) as session:
            opened: Any = session
            assert len(opened._networks) == wanted and session.details["threads"] == "default"


def test_in_a_forked_child_it_does_not_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "generation", lambda: 1)
    with mnn.open(make_convolution(tmp_path), "fp32", "cpu", threads=2, spin=True) as session:
        assert "spin" not in session.details


def test_a_child_computes_after_its_parent_used_spinning_threads(tmp_path: Path) -> None:
    make_convolution(tmp_path).write_manifest()
    code = """
import os, sys
import numpy as np
from ganrt.backend import open_session
from ganrt.bundle import Bundle
from ganrt.session_config import SessionConfig
bundle, config = Bundle.read(sys.argv[1]), SessionConfig("mnn", options={"threads": 2, "spin": True})
def check():
    with open_session(bundle, config) as session:
        return session.submit({"x": np.ones((4, 3, 8, 8), np.float32)}).wait()
check()
child = os.fork()
if not child:
    check()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_more_spinning_threads_than_the_process_has_are_refused(tmp_path: Path) -> None:
    make_convolution(tmp_path).write_manifest()
    code = """
import sys
from ganrt.backend import open_session
from ganrt.bundle import Bundle
from ganrt.session_config import SessionConfig
for threads in (2, 3):
    open_session(Bundle.read(sys.argv[1]), SessionConfig("mnn", options={"threads": threads, "spin": True}))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert "MachineError: 3 threads were asked for, but MNN has started 2 in this process" in done.stderr


def test_an_impossible_size_leaves_the_session_usable(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "to"], [SPEC.output.name], name="last")
    bundle = write_bundle(tmp_path, node, to=np.array([1, 3, 8, 8], np.int64))
    with open_mnn(bundle, threads=1) as session:
        assert isinstance(session, mnn._MnnSession)
        for _ in range(2):
            with pytest.raises(BackendError, match="mnn failed: Reshape error: 768 -> 192; Compute Shape Error for"):
                session._networks[0].run({"x": np.zeros((2, 3, 16, 16), np.float32)})
            assert compute(session, 2).shape == (2, 3, 8, 8)


def test_too_little_memory_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = mnn._Network._read_info
    with open_mnn(make_convolution(tmp_path), threads=1) as session:
        monkeypatch.setattr(mnn._Network, "_read_info", lambda self, code: 2 if code == 3 else read(self, code))
        with pytest.raises(DeviceMemoryError, match="mnn: too little memory for a batch of 2"):
            compute(session, 2)
        monkeypatch.undo()
        assert compute(session, 2).shape == (2, 3, 8, 8)


def test_a_status_of_a_run_is_an_error(tmp_path: Path) -> None:
    with open_mnn(make_convolution(tmp_path), threads=1) as session:
        compute(session, 1)
        network = session._networks[0]  # type: ignore[attr-defined]

        class Failing:
            def __getattr__(self, name: str) -> Any:
                return getattr(interpreter, name)

            def runSession(self, _: object) -> int:
                return 5

        interpreter, network._interpreter = network._interpreter, Failing()
        with pytest.raises(BackendError, match="mnn failed with status 5"):
            compute(session, 1)


@pytest.mark.parametrize("failing", [1, 2])
def test_one_part_that_fails_does_not_leave_the_others_running(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, done = mnn._Network.run, []

    def fail_one(self: Any, feeds: Any) -> Array:
        if len(feeds["x"]) == failing:
            raise BackendError("one part")
        made = run(self, feeds)
        done.append(made)
        return made

    monkeypatch.setattr(mnn._Network, "run", fail_one)
    with open_mnn(make_convolution(tmp_path), threads=2) as session:
        with pytest.raises(BackendError, match="one part"):
            compute(session, 3)
        assert len(done) == 1


def test_a_thread_that_cannot_start_does_not_leave_the_others_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = mnn._Part.start
    started: list[mnn._Part] = []

    def start_one(self: mnn._Part) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    with open_mnn(make_convolution(tmp_path), threads=3) as session:
        with monkeypatch.context() as patched:
            patched.setattr(mnn._Part, "start", start_one)
            with pytest.raises(BackendError, match="can't start new thread"):
                compute(session, 3)
        assert not started[0].is_alive()
        assert compute(session, 3).shape == (3, 3, 8, 8)


def test_a_graph_without_the_output_of_the_spec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="mnn cannot load fp32: the converted graph has no output 'picture'"):
        _load(tmp_path, "picture")


def _load(folder: Path, output: str) -> mnn._Network:
    model = folder / "model.mnn"
    mnn._convert(make_convolution(folder).onnx("fp32"), model, "fp32")
    return mnn._Network(model, 1, output, "fp32")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model.mnn"
    model.write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"mnn cannot load fp32: \w"):
        mnn._Network(model, 1, "image", "fp32")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.abort()", "its converter ended with -6"),
        ("print('[12:00:01] a.cpp:7: no such thing\\nStart to Optimize\\nno such thing')", "no such thing"),
        ("import sys; sys.exit('no such file: ' + sys.argv[2])", "no such file: the file"),
    ],
)
def test_a_converter_that_fails(program: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnn, "_CONVERT", program)
    with pytest.raises(BundleError) as caught:
        open_mnn(make_convolution(tmp_path))
    assert str(caught.value) == f"mnn cannot load fp32: {reason}"


def test_an_installation_without_the_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("MNN.__file__", str(tmp_path / "MNN" / "__init__.py"))
    with pytest.raises(MachineError, match=r"mnn is installed but broken \(it has no converter\)"):
        open_mnn(make_convolution(tmp_path))


@pytest.mark.parametrize(
    ("open_it", "error", "message"),
    [
        (lambda b: mnn.open(b, "fp32", "cuda"), MachineError, "runs on the CPU only; cuda was asked for"),
        (lambda b: mnn.open(b, "fp32", "cpu", hint=1), RequestError, "has no option 'hint'; it has threads, spin"),
        (lambda b: mnn.open(b, "fp32", "cpu", spin=1), RequestError, "spin is 1; choose True or False"),
        (lambda b: mnn.open(b, "fp32", "cpu", threads=-1), RequestError, "threads is -1"),
    ],
)
def test_wrong_options(
    open_it: Callable[[Bundle], Session], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        open_it(make_convolution(tmp_path))


def test_it_imports_nothing_that_reports_its_use() -> None:
    code = "import sys, ganrt.backends.mnn; print([name for name in sys.modules if name.startswith('MNN.tools')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_no_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with open_mnn(make_convolution(tmp_path)) as session:
        assert compute(session, 1).shape == (1, 3, 8, 8) and not list(folder.iterdir())


@pytest.mark.parametrize("kind", ["BatchNormalization", "InstanceNormalization"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_norms_need_a_weight_for_each_channel(kind: str, count: int, tmp_path: Path) -> None:
    """MNN reads beyond too few."""
    names = ["scale", "shift", "mean", "variance"][: 4 if kind == "BatchNormalization" else 2]
    node = helper.make_node(kind, ["x", *names], [SPEC.output.name], name="body.0/Norm")
    weights: dict[str, Any] = {name: np.ones(count, np.float32) for name in names}
    bundle = write_bundle(tmp_path, node, **weights)
    if count == 3:
        open_mnn(bundle).close()
        return
    with pytest.raises(BundleError, match=r"mnn cannot load fp32: body\.0/Norm has not a weight for each channel"):
        open_mnn(bundle)


@pytest.mark.parametrize(("index", "fits"), [(7, True), (-8, True), (8, False), (-9, False)])
def test_indices_must_be_inside(index: int, fits: bool, tmp_path: Path) -> None:
    """MNN reads there without a check."""
    node = helper.make_node("Gather", ["x", "rows"], [SPEC.output.name], name="pick", axis=2)
    bundle = write_bundle(tmp_path, node, rows=np.array([index] + [0] * 7))
    if fits:
        open_mnn(bundle).close()
        return
    with pytest.raises(BundleError, match="mnn cannot load fp32: pick has an index beyond 8 rows"):
        open_mnn(bundle)
