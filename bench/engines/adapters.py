"""The engines by themselves: how each gets its file, and how each is called, as its own documentation says.

An engine may need preparation (a conversion, a calibration), which runs in a process of its own, so that the memory of
the process that is timed is that of running the model. Libraries are imported inside the functions: some are not
dependencies of ganrt, and a process must hold one engine alone.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ganrt import feeds
from ganrt.bound_inputs import make_bound_feeds
from ganrt.bundle import FAITHFUL, Bundle
from ganrt.errors import BackendError, MachineError
from ganrt.feeds import Feeds
from ganrt.images import Floats
from ganrt.machine import usable_cores
from ganrt.session_config import SessionConfig
from ganrt.telemetry import no_telemetry

from ..cases import Size

Call: TypeAlias = Callable[[Feeds], Floats]
"""Makes images of a batch of inputs: float32 NCHW, in memory of the host."""

PLAIN = "onnxruntime"
"""The engine that the others are compared with: ONNX Runtime as it comes, on the graph as traced."""
CALIBRATION_SEED = 20_011
"""Samples for calibration have this seed, which no golden sample and no timed call has."""
CALIBRATION_SAMPLES = 32


@dataclass(frozen=True)
class Job:
    """What one engine is to run."""

    name: str
    """A key of ENGINES, or the name of a configuration of ganrt."""
    bundle: Path | str
    """Path of the bundle."""
    folder: Path
    """Folder of this engine alone, for the files that it prepares."""
    batch: int
    """Images per call."""
    size: Size | None = None
    """Height and width of the pictures that the model is given; None for one that takes none."""
    config: SessionConfig | None = None
    """The configuration of ganrt; None for an engine by itself."""


class Engine(NamedTuple):
    """A row of ENGINES."""

    load: Callable[[Bundle, Job], Call]
    """Loads the model."""
    packages: tuple[str, ...]
    """Packages that it needs, as `pip install` takes them."""
    prepare: Callable[[Bundle, Job], None] | None = None
    """Writes files to the job's folder; None if it needs none."""


def _import(name: str) -> Any:
    """Import a library without its telemetry, and without its types, because it may not be installed."""
    with no_telemetry():
        return importlib.import_module(name)


def _rebuild_module(bundle: Bundle) -> Any:
    """Return the PyTorch original of a bundle as a module that takes the inputs of the Spec, in order."""
    import torch
    from safetensors.torch import load_file

    from ganrt.models import SkipRandomWeights, build_generator, get_family

    if bundle.model is None or Bundle.WEIGHTS not in bundle.files:
        raise BackendError("the bundle holds no weights of a ganrt family, so the PyTorch original cannot be rebuilt")
    with SkipRandomWeights():
        original = build_generator(bundle.model["family"], bundle.model["config"])
    original.load_state_dict(load_file(bundle.locate(Bundle.WEIGHTS)), assign=True)
    original.eval().requires_grad_(False)
    bound = bundle.model.get("bound", {})
    if not bound:
        return original
    family = get_family(bundle.model["family"])
    whole = family.spec(family.configure(bundle.model["config"]))

    class WithBoundInputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.original = original

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            constants = make_bound_feeds(whole, bound, len(given[0]))
            every = {name: torch.from_numpy(array) for name, array in constants.items()}
            every |= {item.name: tensor for item, tensor in zip(bundle.spec.inputs, given, strict=True)}
            images: torch.Tensor = self.original(*(every[item.name] for item in whole.inputs))
            return images

    return WithBoundInputs().eval()


def _call_module(bundle: Bundle, module: Any) -> Call:
    import torch

    torch.set_num_threads(usable_cores())
    names = [item.name for item in bundle.spec.inputs]

    def call(given: Feeds) -> Floats:
        with torch.no_grad():
            images: Floats = module(*(torch.from_numpy(given[name]) for name in names)).numpy()
        return images

    return call


def _load_eager(bundle: Bundle, _: Job) -> Call:
    return _call_module(bundle, _rebuild_module(bundle))


def _load_compiled(bundle: Bundle, _: Job) -> Call:
    """Through inductor, with its constants folded and packed (freezing), as its documentation advises for inference."""
    module = _rebuild_module(bundle)
    import torch

    _import("torch._inductor.config").freezing = True
    return _call_module(bundle, torch.compile(module))


def _load_onnxruntime(bundle: Bundle, _: Job) -> Call:
    return _open_onnxruntime(bundle, bundle.onnx(FAITHFUL))


def _open_onnxruntime(bundle: Bundle, path: Path) -> Call:
    library = _import("onnxruntime")
    session = library.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    output = [bundle.spec.output.name]

    def call(given: Feeds) -> Floats:
        images: Floats = session.run(output, given)[0]
        return images

    return call


def _prepare_quantized_onnxruntime(bundle: Bundle, job: Job) -> None:
    """Static quantization to QDQ with its default settings, after the preprocessing that its documentation advises."""
    quantization = _import("onnxruntime.quantization")
    preprocess = _import("onnxruntime.quantization.shape_inference").quant_pre_process

    samples = _draw_calibration(bundle, job)
    base = quantization.CalibrationDataReader
    reader = type("Reader", (base,), {"get_next": lambda _: next(samples, None)})()
    ready = job.folder / "ready.onnx"
    preprocess(str(bundle.onnx(FAITHFUL)), str(ready))
    quantization.quantize_static(str(ready), str(job.folder / "model.onnx"), reader)


def _load_quantized_onnxruntime(bundle: Bundle, job: Job) -> Call:
    return _open_onnxruntime(bundle, job.folder / "model.onnx")


def _load_openvino(bundle: Bundle, _: Job) -> Call:
    return _open_openvino(bundle, bundle.onnx(FAITHFUL))


def _open_openvino(bundle: Bundle, path: Path) -> Call:
    library = _import("openvino")
    compiled = library.Core().compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    output = bundle.spec.output.name

    def call(given: Feeds) -> Floats:
        images: Floats = compiled(given)[output]
        return images

    return call


def _prepare_nncf(bundle: Bundle, job: Job) -> None:
    """Post-training quantization with its default preset."""
    with no_telemetry():  # NNCF reports its use with OpenVINO's package
        nncf, openvino = importlib.import_module("nncf"), importlib.import_module("openvino")
        samples = nncf.Dataset(list(_draw_calibration(bundle, job)))
        quantized = nncf.quantize(openvino.Core().read_model(str(bundle.onnx(FAITHFUL))), samples)
        openvino.save_model(quantized, str(job.folder / "model.xml"), compress_to_fp16=False)


def _load_nncf(bundle: Bundle, job: Job) -> Call:
    return _open_openvino(bundle, job.folder / "model.xml")


def _prepare_ncnn(bundle: Bundle, job: Job) -> None:
    """Trace the original and convert it with pnnx, weights in float32. A second set of inputs, of other size where the
    pictures may have any, tells pnnx which sizes vary."""
    import torch

    pnnx, module = _import("pnnx"), _rebuild_module(bundle)
    larger = None if job.size is None else (2 * job.size[0], 2 * job.size[1])

    def draw(size: Size | None) -> tuple[Any, ...]:
        return tuple(map(torch.from_numpy, feeds.draw_feeds(bundle.spec, CALIBRATION_SEED, 0, 1, size=size).values()))

    free = any(item.size is None for item in bundle.spec.images)
    others = draw(larger) if free else None
    pnnx.export(module, str(job.folder / "model.pt"), draw(job.size), others, fp16=False)
    if not (job.folder / "model.ncnn.param").exists():
        raise BackendError("pnnx wrote no ncnn file, for the reason on standard error")


def _load_ncnn(bundle: Bundle, job: Job) -> Call:
    """As in the script that pnnx writes beside the model, a batch in one call."""
    ncnn = _import("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = usable_cores()
    if net.load_param(str(job.folder / "model.ncnn.param")) or net.load_model(str(job.folder / "model.ncnn.bin")):
        raise BackendError("ncnn cannot load what pnnx wrote, for the reason on standard error")
    names = [item.name for item in bundle.spec.inputs]

    def call(given: Feeds) -> Floats:
        with net.create_extractor() as extractor:
            for number, name in enumerate(names):
                extractor.input(f"in{number}", ncnn.Mat(given[name], batch_index=0).clone())
            code, images = extractor.extract("out0")
            if code:
                raise BackendError(f"ncnn failed with code {code}, for the reason on standard error")
            return np.array(images.numpy(batch_index=0))

    return call


def _prepare_mnn(bundle: Bundle, job: Job) -> None:
    """Not through MNN.tools, which installs a package that reports its use."""
    files = ["--modelFile", str(bundle.onnx(FAITHFUL)), "--MNNModel", str(job.folder / "model.mnn")]
    _import("_tools").mnnconvert(["mnnconvert", "-f", "ONNX", "--bizCode", "ganrt", *files])


def _load_mnn(bundle: Bundle, job: Job) -> Call:
    library = _import("MNN")
    interpreter = library.Interpreter(str(job.folder / "model.mnn"))
    session = interpreter.createSession({"numThread": usable_cores()})
    layout, shapes = library.Tensor_DimensionType_Caffe, dict[str, tuple[int, ...]]()

    def resize(wanted: Mapping[str, tuple[int, ...]]) -> None:
        if wanted != shapes:
            for name, tensor in interpreter.getSessionInputAll(session).items():
                interpreter.resizeTensor(tensor, wanted[name])
            interpreter.resizeSession(session)
            shapes.update(wanted)

    def call(given: Feeds) -> Floats:
        resize({name: array.shape for name, array in given.items()})
        for name, tensor in interpreter.getSessionInputAll(session).items():
            whole = given[name].dtype.kind in "iu"
            kind = library.Halide_Type_Int if whole else library.Halide_Type_Float
            values = given[name].astype(np.int32) if whole else given[name]
            tensor.copyFrom(library.Tensor(values.shape, kind, values, layout))
        if status := interpreter.runSession(session):
            raise BackendError(f"MNN failed with status {status}")
        made = interpreter.getSessionOutput(session, bundle.spec.output.name)
        host = library.Tensor(made.getShape(), library.Halide_Type_Float, layout)
        made.copyToHostTensor(host)
        return np.array(host.getNumpyData())

    return call


def _draw_calibration(bundle: Bundle, job: Job) -> Iterator[Feeds]:
    for number in range(CALIBRATION_SAMPLES):
        yield feeds.draw_feeds(bundle.spec, CALIBRATION_SEED, number, 1, size=job.size)


ENGINES: dict[str, Engine] = {
    PLAIN: Engine(_load_onnxruntime, ("onnxruntime",)),
    "eager": Engine(_load_eager, ("torch", "safetensors")),
    "torch.compile": Engine(_load_compiled, ("torch", "safetensors")),
    "openvino": Engine(_load_openvino, ("openvino",)),
    "ncnn": Engine(_load_ncnn, ("ncnn", "pnnx", "torch"), _prepare_ncnn),
    "mnn": Engine(_load_mnn, ("mnn",), _prepare_mnn),
    "nncf": Engine(_load_nncf, ("nncf", "openvino"), _prepare_nncf),
    "ort-int8": Engine(_load_quantized_onnxruntime, ("onnxruntime", "onnx"), _prepare_quantized_onnxruntime),
}
"""The engines by themselves, by name."""


def explain_missing(engine: Engine, error: ImportError) -> MachineError:
    """Return the error to raise for a library that cannot be imported."""
    if isinstance(error, ModuleNotFoundError):
        install = " ".join(engine.packages)
        return MachineError(f"the library {error.name!r} is not installed; install it with: pip install {install}")
    return MachineError(f"a library cannot be imported in {Path(sys.executable).name}: {error}")
