"""Sampling on the device: inputs are drawn and pictures made there, and one byte a channel crosses the bus; on strict
fakes of TensorRT and CUDA."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fakes.gpu import FakeMachine, Start, both_libraries, start
from onnx import TensorProto, helper, numpy_helper

import ganrt
from ganrt.backend import open_session
from ganrt.bundle import Bundle, Variant
from ganrt.errors import BackendError, DeviceMemoryError, RequestError
from ganrt.feeds import draw_feeds
from ganrt.generator import Generator
from ganrt.images import to_uint8
from ganrt.sample_request import SampleRequest
from ganrt.session_config import SessionConfig
from ganrt.spec import Image, Label, Latent, Output, Scalar, Spec
from ganrt.stores import FileDigest, FolderStore

__all__ = ["start"]
CONDITIONAL = Spec(
    "conditional",
    (Latent("z", (4,)), Label("y", 10, "index"), Scalar("truncation", (0.0, 2.0), 0.5)),
    Output(1, (-3.0, 3.0), (2, 2)),
)


def make_conditional_bundle(folder: Path) -> Bundle:
    """image = z * truncation + table[label]."""
    table = np.random.default_rng(1).normal(0, 1, (10, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "y"], ["of_class"], "n_gather"),
        helper.make_node("Unsqueeze", ["truncation", "one"], ["column"], "n_unsqueeze"),
        helper.make_node("Mul", ["z", "column"], ["scaled"], "n_mul"),
        helper.make_node("Add", ["scaled", "of_class"], ["flat"], "n_add"),
        helper.make_node("Reshape", ["flat", "shape"], ["image"], "n_reshape"),
    ]
    kinds: dict[str, tuple[int, list[str | int | None]]] = {
        "z": (TensorProto.FLOAT, ["n", 4]),
        "y": (TensorProto.INT64, ["n"]),
        "truncation": (TensorProto.FLOAT, ["n"]),
    }
    inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 2, 2])
    constants = {"table": table, "one": np.array([1]), "shape": np.array([-1, 1, 2, 2])}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, [image], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    files = {"model.onnx": FileDigest.of(folder / "model.onnx")}
    return Bundle(FolderStore(folder), CONDITIONAL, {"fp32": Variant("model.onnx", 17, "fp32")}, files)


def open_trt_session(machine: FakeMachine, bundle: Bundle, *batches: int) -> Any:
    machine.engines.build(bundle, variant="fp32", options=machine.make_options(batches or (1, 2, 4)))
    return machine.backend.open(bundle, "fp32", "cuda")


@pytest.mark.parametrize("version", ["8.6.0", "11.4.0"])
@pytest.mark.parametrize("labels", [None, 3, [5, 0, 9, 1, 2, 7, 7, 3, 4, 6, 8]])
@pytest.mark.parametrize("truncation", [None, 1.5])
def test_a_generator_makes_the_pictures_of_the_cpu(
    start: Start, version: str, labels: Any, truncation: float | None, tmp_path: Path
) -> None:
    """Labels are int32 in an engine of 8.6."""
    bundle = make_conditional_bundle(tmp_path)
    session = open_trt_session(start(version), bundle)
    with (
        Generator(CONDITIONAL, open_session(bundle, SessionConfig("onnxruntime", device="cpu"))) as cpu,
        Generator(CONDITIONAL, session) as gpu,
    ):
        arguments = {"seed": 2**40 + 1, "start": 2**32 - 4, "labels": labels, "truncation": truncation}
        found, right = gpu.sample(11, **arguments), cpu.sample(11, **arguments)
        assert found.shape == (11, 2, 2, 1) and np.array_equal(found, right)
        streamed = np.concatenate(list(gpu.stream(11, **arguments, batch=3)))
        assert np.array_equal(streamed, right)
        assert len(np.unique(found)) > 5


@pytest.mark.parametrize("version", ["8.6.0", "11.4.0", "rtx-1.7.1"])
def test_requests_of_many_users_share_batches(start: Start, version: str, tmp_path: Path) -> None:
    """Their graphs are replayed, and a batch is followed by one of other seeds, labels and truncations."""
    bundle = make_conditional_bundle(tmp_path)
    count = 100
    many: dict[str, Any] = {
        "seed": [(2**61 * k + 7) % 2**64 for k in range(count)],
        "start": [(2**58 * k + k) % 2**64 for k in range(count)],
        "labels": [None if k % 3 == 0 else k % 10 for k in range(count)],
        "truncation": [None if k % 4 == 0 else k / count for k in range(count)],
    }
    with (
        Generator(CONDITIONAL, open_session(bundle, SessionConfig("onnxruntime", device="cpu"))) as cpu,
        Generator(CONDITIONAL, open_trt_session(start(version), bundle)) as gpu,
    ):
        found = gpu.sample(**many)
        assert np.array_equal(found, cpu.sample(**many)) and len(np.unique(found, axis=0)) > count // 2
        for k in range(0, count, 9):
            alone = gpu.sample(1, **{name: values[k] for name, values in many.items()})
            assert np.array_equal(alone[0], found[k])
        part = {name: values[5:8] for name, values in many.items()}
        array = gpu.sample(**part, output="dlpack")
        assert np.array_equal(np.from_dlpack(array, device="cpu"), found[5:8])


@both_libraries
def test_neither_latents_nor_floats_cross_the_bus(start: Start, bundle: Bundle) -> None:
    machine = start()
    with Generator(bundle.spec, open_trt_session(machine, bundle)) as generator:
        generator.sample(4)
        machine.cuda.work.clear()
        generator.sample(4)
        work = [one for one in machine.cuda.work if one.what.startswith("copy")]
    up, down = (
        [one.bytes for one in work if one.what == f"copy {way}"] for way in ("host to device", "device to host")
    )
    pictures = 4 * 3 * bundle.spec.output.size[0] * bundle.spec.output.size[1]  # type: ignore[index]
    assert up == [4 * 5 * 8], "the seed, the number and the limits of each row"
    assert down == [pictures, 4 * 4]


@both_libraries
@pytest.mark.parametrize("rows", range(1, 5))
def test_any_number_of_samples_up_to_the_largest_batch(start: Start, rows: int, bundle: Bundle) -> None:
    with (
        open_trt_session(start(), bundle, 1, 4) as session,
        open_session(bundle, SessionConfig("onnxruntime", device="cpu")) as cpu,
    ):
        draw = SampleRequest(rows, 7, 100).take_rows(0, rows)
        name = bundle.spec.output.name
        right = to_uint8(cpu.submit(draw_feeds(bundle.spec, 7, 100, rows)).wait()[name], bundle.spec.output.range)
        pending = session.submit_draw(draw)
        steps = pending.wait()[name].astype(int) - right
        assert steps.shape == right.shape and np.abs(steps).max() <= 1
        array = session.submit_draw(draw).device_arrays()[name]
        assert array.shape == right.shape and array.dtype == np.uint8 and array.__dlpack_device__() == (2, 0)
        assert np.abs(np.from_dlpack(array, device="cpu").astype(int) - right).max() <= 1


@both_libraries
@pytest.mark.parametrize("rows", [0, 5])
def test_too_many_samples_at_a_time_are_rejected(start: Start, rows: int, bundle: Bundle) -> None:
    with (
        open_trt_session(start(), bundle) as session,
        pytest.raises(RequestError, match=f"{rows} samples .* takes 1 to 4"),
    ):
        session.submit_draw(SampleRequest(rows, 7).take_rows(0, rows))


@both_libraries
def test_values_that_are_not_finite_are_an_error(start: Start, tmp_path: Path) -> None:
    bundle = make_conditional_bundle(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    table = numpy_helper.to_array(model.graph.initializer[0]).copy()
    table[3] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(table, "table"))
    onnx.save(model, tmp_path / "model.onnx")
    bundle = replace(bundle, files={"model.onnx": FileDigest.of(tmp_path / "model.onnx")})
    with Generator(CONDITIONAL, open_trt_session(start(), bundle)) as generator:
        assert generator.sample(4, labels=[0, 1, 2, 4]).shape == (4, 2, 2, 1)
        with pytest.raises(BackendError, match=r"image 2 of the batch has values that are not finite \(overflow in"):
            generator.sample(4, labels=[0, 1, 3, 4])


@both_libraries
def test_out_of_memory_halves_the_batch_of_samples_too(start: Start, tmp_path: Path) -> None:
    bundle = make_conditional_bundle(tmp_path)
    machine = start()
    with Generator(CONDITIONAL, open_trt_session(machine, bundle)) as generator:
        right = generator.sample(4, seed=3, labels=[1, 2, 3, 4])
        needed = machine.cuda.used
    machine.cuda.limit = needed * 2 // 3
    with Generator(CONDITIONAL, open_trt_session(machine, bundle)) as generator:
        assert np.array_equal(generator.sample(4, seed=3, labels=[1, 2, 3, 4]), right)
        assert generator.session._largest == 2  # type: ignore[attr-defined]
        with pytest.raises(DeviceMemoryError, match="ask for fewer images at a time"):
            generator.sample(4, output="dlpack")


@both_libraries
def test_samples_as_a_device_array(start: Start, bundle: Bundle) -> None:
    with Generator(bundle.spec, open_trt_session(start(), bundle)) as generator:
        right = generator.sample(3, seed=5)
        array = generator.sample(3, seed=5, output="dlpack")
        assert array.__dlpack_device__() == (2, 0) and np.array_equal(np.from_dlpack(array, device="cpu"), right)
        for count in (0, 5):
            with pytest.raises(
                RequestError, match=f"{count} pictures were asked for as one array on the GPU; ask for 1 to 4"
            ):
                generator.sample(count, output="dlpack")
        with pytest.raises(RequestError, match="output is 'torch'; choose numpy or dlpack"):
            generator.sample(1, output="torch")


def test_on_the_cpu_samples_come_as_a_numpy_array(bundle: Bundle) -> None:
    with ganrt.load(bundle.folder, "onnxruntime", device="cpu") as generator:
        array = generator.sample(2, output="dlpack")
        assert array.__dlpack_device__() == (1, 0) and np.array_equal(np.from_dlpack(array), generator.sample(2))


def test_a_backend_that_makes_no_pictures_on_the_gpu_says_so(bundle: Bundle) -> None:
    with open_session(bundle, SessionConfig("onnxruntime", device="cpu")) as session:
        session.device = "cuda:0"
        with pytest.raises(
            RequestError, match="the onnxruntime backend cannot return pictures on cuda:0; use tensorrt"
        ):
            Generator(bundle.spec, session).sample(1, output="dlpack")


DARKER = Spec("darker", (Image("x", "content", 3, (0.0, 1.0)),), Output(3, (0.0, 1.0), None, 1))


def make_darkening_bundle(folder: Path) -> Bundle:
    """image = x / 2, of any size."""
    sides: list[str | int | None] = ["n", 3, "h", "w"]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in ("x", "image")]
    half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    nodes = [helper.make_node("Mul", ["x", "half"], ["image"], "n_mul")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [half])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    files = {"model.onnx": FileDigest.of(folder / "model.onnx")}
    return Bundle(FolderStore(folder), DARKER, {"fp32": Variant("model.onnx", 17, "fp32")}, files)


@both_libraries
def test_pictures_of_sizes_within_the_range_of_the_engine(start: Start, tmp_path: Path) -> None:
    machine, bundle = start(), make_darkening_bundle(tmp_path)
    options = machine.make_options((1, 2), size=(80, 60))
    machine.engines.build(bundle, variant="fp32", options=options)
    random = np.random.default_rng(2)
    with machine.backend.open(bundle, "fp32", "cuda") as session:
        for sides in [(48, 64), (80, 60), (64, 62), (48, 64)] + [(50 + k, 60) for k in range(20)]:
            picture = random.uniform(0, 1, (1, 3, *sides)).astype(np.float32)
            assert np.array_equal(session.submit({"x": picture}).wait()["image"], picture / 2)
        assert len(session._programs) == 12
        big = np.zeros((1, 3, 128, 64), np.float32)
        with pytest.raises(
            RequestError, match=r"\(1, 3, 128, 64\); this engine takes pictures of 37 x 60 to 113 x 101"
        ):
            session.submit({"x": big})
        assert len(session._programs) == 12
        assert session.submit({"x": np.zeros((1, 3, 48, 64), np.float32)}).wait()["image"].shape == (1, 3, 48, 64)
    assert machine.cuda.used == 0


@both_libraries
def test_a_hot_picture_size_keeps_its_graph(start: Start, tmp_path: Path) -> None:
    machine, bundle = start(), make_darkening_bundle(tmp_path)
    options = machine.make_options((1,), size=(80, 60))
    machine.engines.build(bundle, variant="fp32", options=options)
    with machine.backend.open(bundle, "fp32", "cuda") as session:
        for k in range(20):
            for sides in ((48, 64), (50 + k, 60)):
                session.submit({"x": np.zeros((1, 3, *sides), np.float32)}).wait()
    assert machine.cuda.count_calls("create_execution_context") == 1 + 20
    assert machine.cuda.count_calls("graph.launch") == 18


@both_libraries
def test_a_profile_without_programs_keeps_no_scratch_memory(start: Start, tmp_path: Path) -> None:
    machine, bundle = start(), make_darkening_bundle(tmp_path)
    options = machine.make_options((1, 2), size=(80, 60))
    machine.engines.build(bundle, variant="fp32", options=options)
    with machine.backend.open(bundle, "fp32", "cuda") as session:
        profiles = []
        for batch, height in [(2, 48), *((1, 48 + k) for k in range(12))]:
            session.submit({"x": np.zeros((batch, 3, height, 60), np.float32)}).wait()
            profiles.append(set(session._programs._scratch._buffers))
    assert profiles == [{1}] + [{0, 1}] * 11 + [{0}]


class ForeignArray:
    """Another library's array on the GPU, whose work is not done yet on a stream of its own."""

    def __init__(self, machine: FakeMachine, array: np.ndarray) -> None:
        cuda = machine.cuda
        stream = cuda.make["Stream"](cuda)
        self.buffer, self.ready = cuda.make["Buffer"](cuda, array.nbytes, True), cuda.make["Event"](cuda)
        values = np.ascontiguousarray(array).view(np.uint8).reshape(-1).copy()
        address = self.buffer._address
        cuda.enqueue(stream, "foreign", lambda: np.copyto(cuda.get_memory(address), values))
        stream.record(self.ready)
        self.shape, self.dtype, self.device_id, self.strides = array.shape, array.dtype, 0, None


@both_libraries
def test_other_libraries_arrays_are_read_in_the_order_of_their_streams(start: Start, tmp_path: Path) -> None:
    machine, bundle = start(), make_conditional_bundle(tmp_path)
    with open_trt_session(machine, bundle) as session:
        given = [draw_feeds(CONDITIONAL, 3, start, 2) for start in range(4)]
        right = [session.submit(feeds).wait()["image"] for feeds in given]
        machine.cuda.work.clear()
        arrays = [{name: ForeignArray(machine, array) for name, array in feeds.items()} for feeds in given]
        pending = [session.submit_arrays(held) for held in arrays]
        for in_flight, images in zip(pending, right, strict=True):
            assert np.array_equal(in_flight.wait()["image"], images)
        assert "copy host to device" not in {one.what for one in machine.cuda.work}


@both_libraries
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device_id": 1}, "z is on another device; this session takes arrays on cuda:0"),
        ({"device_id": -1}, "z is on another device"),
        ({"strides": (1, 2)}, "z is not C-contiguous; make it so first"),
        ({"dtype": np.dtype(np.float64)}, "z is float64 of shape"),
        ({"shape": (2, 5)}, r"z is float32 of shape \(2, 5\)"),
        ({"buffer": None}, "z cannot be taken as an array on NVIDIA Fake \\d+: 'NoneType'"),
    ],
)
def test_other_libraries_arrays_that_do_not_fit(
    start: Start, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    machine, bundle = start(), make_conditional_bundle(tmp_path)
    with open_trt_session(machine, bundle) as session:
        given = draw_feeds(CONDITIONAL, 3, 0, 2)
        arrays = {name: ForeignArray(machine, array) for name, array in given.items()}
        vars(arrays["z"]).update(change)
        with pytest.raises(RequestError, match=message):
            session.submit_arrays(arrays)
        assert session.submit(given).wait()["image"].shape == (2, 1, 2, 2)


def test_a_label_on_the_device_must_have_the_engines_type(start: Start, tmp_path: Path) -> None:
    machine, bundle = start("8.6.0"), make_conditional_bundle(tmp_path)
    with open_trt_session(machine, bundle) as session:
        arrays = {name: ForeignArray(machine, array) for name, array in draw_feeds(CONDITIONAL, 3, 0, 2).items()}
        with pytest.raises(RequestError, match="y is int64; this session takes int32 on the GPU"):
            session.submit_arrays(arrays)


@both_libraries
def test_arrays_on_the_device_are_not_split(start: Start, tmp_path: Path) -> None:
    machine, bundle = start(), make_conditional_bundle(tmp_path)
    with open_trt_session(machine, bundle) as session:
        session._largest = 2
        arrays = {name: ForeignArray(machine, array) for name, array in draw_feeds(CONDITIONAL, 3, 0, 4).items()}
        with pytest.raises(DeviceMemoryError, match="arrays on the device are not split: give 2 rows at a time"):
            session.submit_arrays(arrays)
