"""A fake TensorRT, and TensorRT for RTX, with the API of the recorded versions. A plan is the ONNX file with a header;
ONNX Runtime's CPU provider runs it when the streams of `fakes.cuda` get to it.

As in the real one, failures are None or False and a line in the log; contexts need shapes within their profile and an
aligned address for every tensor; only a context that has run can be captured.
"""

from __future__ import annotations

import json
import sys
import weakref
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fakes.cuda import FakeCuda
from fakes.strict import make_enum, make_strict
from helpers import foreign_api
from onnx import TensorProto

API = foreign_api.read_versions("tensorrt_api.json")
FULL = {"8.6.0": "8.6.0", "10.13.3": "10.13.3.9", "10.16.1": "10.16.1.11", "11.4.0": "11.4.0.106"}
FULL["rtx-1.7.1"] = "1.7.1.116"
MAGIC = b"fake plan "
_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT64: "INT64",
    TensorProto.INT32: "INT32",
}
_TYPES |= {TensorProto.UINT8: "UINT8", TensorProto.INT8: "INT8", TensorProto.BOOL: "BOOL"}
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64, "INT32": np.int32, "UINT8": np.uint8}
_LAYERS = {"Conv": "CONVOLUTION", "ConvTranspose": "DECONVOLUTION", "Gemm": "MATRIX_MULTIPLY", "Cast": "CAST"}
_FORMATS = {"FLOAT": "Row major linear FP32", "HALF": "Channel major FP16 format where channel % 8 == 0"}
_FORMATS["INT8"] = "Thirty-two wide channel vectorized row major Int8 format"


class FakeTensorRT:
    """A version of the library, and the faults it has."""

    def __init__(self, cuda: FakeCuda, version: str) -> None:
        self.cuda, self.api, self.version = cuda, API[version], FULL[version]
        self.is_rtx = self.api.is_rtx
        self.unsupported: set[str] = set()
        """ONNX operators that the parser does not support."""
        self.build_errors: list[str] = []
        """The builder's error lines; with any, it builds nothing."""
        self.silently_float32 = False
        self.no_deserialise = ""
        self.no_context_from: int | None = None
        """There are no contexts of this batch size or more, for this reason."""
        self.no_context_reason = "IExecutionContext: out of memory"
        self.executions_fail = self.executions_fail_when_captured = False
        self.capturable = True
        """What TensorRT for RTX answers before a capture."""
        self.rejects_runtime_cache = self.starts_without_cuda = False
        self.compiled: list[bytes] = []
        """The shapes that TensorRT for RTX compiled kernels for; those in a runtime cache are not compiled again."""
        self.builds = 0
        self.configs: list[Any] = []
        self.pinned: list[str] = []
        self.loaded: list[bytes] = []
        self.module = ModuleType("tensorrt")

    @property
    def number(self) -> tuple[int, ...]:
        """Of the API."""
        return (11, 4) if self.is_rtx else tuple(map(int, self.version.split(".")))


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, version: str, name: str = "tensorrt") -> FakeTensorRT:
    """Install the fake as the library."""
    fake = FakeTensorRT(cuda, version)
    module = fake.module
    module.__dict__.update(__version__=fake.version, __spec__=None, __name__=name)
    for i, (enum, members) in enumerate(fake.api.enums.items()):
        module.__dict__[enum] = make_enum(enum, members, 3 + i % 5)
    if name == "tensorrt_lean":
        wanted = {"Runtime", "ICudaEngine", "IExecutionContext", "ILogger", "Logger", "EngineInspector"}
    else:
        wanted = set(fake.api.classes)
        module.__dict__["init_libnvinfer_plugins"] = lambda logger, namespace: True
    for class_name, behaviour in define_classes(fake).items():
        if class_name in wanted and class_name in fake.api.classes:
            module.__dict__[class_name] = make_strict(fake.api, class_name, behaviour)
    import importlib.machinery

    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    for other in ("tensorrt", "tensorrt_lean", "tensorrt_rtx"):
        monkeypatch.delitem(sys.modules, other, raising=False)
    monkeypatch.setitem(sys.modules, name, module)
    return fake


def install_rtx(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, version: str = "rtx-1.7.1") -> FakeTensorRT:
    """Install the fake as TensorRT for RTX, and no TensorRT."""
    fake = install(monkeypatch, cuda, version, "tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    return fake


def define_classes(fake: FakeTensorRT) -> dict[str, type]:
    """Return the behaviour of TensorRT's classes, by name."""
    trt: Any = fake.module
    cuda = fake.cuda

    caches: list[bool] = []
    """Whether each runtime cache is still there."""

    lives: list[weakref.ref[Any]] = []

    def watch_life(end: Callable[[], None]) -> Any:
        """Return an object that calls `end` when it is freed: an array, because the garbage collector does not track
        arrays, just as it does not track the real library's objects. It calls finalizers of what it tracks earlier."""
        life = np.empty(0)
        lives.append(weakref.ref(life, lambda _: end()))
        return life

    def end_cache(number: int) -> None:
        caches[number] = False

    def end_context(number: int) -> None:
        assert caches[number], "the runtime cache was freed before its context: the real library crashes here"

    def dtype_of(elem_type: int) -> str:
        kind = _TYPES[elem_type]
        return "INT32" if kind == "INT64" and fake.number < (10,) else kind

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING, VERBOSE = "error", "internal error", "warning", "verbose"

        def log(self, severity: Any, msg: str) -> None:
            raise NotImplementedError

    class Builder:
        def __init__(self, logger: Any) -> None:
            assert cuda.count or fake.is_rtx, "8.6 crashes here on a machine without a GPU"
            self._log = logger

        def create_network(self, flags: int = 0) -> Any:
            flag = trt.NetworkDefinitionCreationFlag
            wanted = flag.EXPLICIT_BATCH if fake.number < (10,) else flag.STRONGLY_TYPED
            assert flags == 1 << wanted.value, "implicit batch, or weakly typed"
            return trt.INetworkDefinition()

        def create_builder_config(self) -> Any:
            fake.configs.append(trt.IBuilderConfig())
            return fake.configs[-1]

        def create_optimization_profile(self) -> Any:
            return trt.IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            fake.builds += 1
            if fake.number >= (10,) and config._progress_monitor != 0:
                monitor = config._progress_monitor
                monitor.phase_start("Building", None, 2)
                monitor.phase_start("Tactics", "Building", 2)
                assert monitor.step_complete("Tactics", 0)
                monitor.phase_finish("Tactics")
                assert monitor.step_complete("Building", 0) and monitor.step_complete("Building", 1)
                monitor.phase_finish("Building")
            for line in fake.build_errors:
                self._log.log(trt.ILogger.ERROR, line)
            if fake.build_errors:
                return None
            if fake.is_rtx:
                assert "REQUIRE_USER_ALLOCATION" in {flag.name for flag in config._flags}, "scratch memory of its own"
                assert None not in config._targets, "a target was not set"
            plan = _plan(network, config)
            if fake.is_rtx and config._profiling_verbosity is trt.ProfilingVerbosity.DETAILED:
                self._log.log(trt.ILogger.VERBOSE, _list_layers(plan))
            return _host(plan)

    def _plan(network: Any, config: Any) -> bytes:
        flags = {flag.name for flag in config._flags}
        typed = {name: dtype_of(v.type.tensor_type.elem_type) for name, v in _collect_values(network._model).items()}
        half = fake.number >= (10,) or "FP16" in flags
        layers = []
        dequantised = {o for n in network._model.graph.node if n.op_type == "DequantizeLinear" for o in n.output}
        for node in [n for n in network._model.graph.node if "quantizelinear" not in n.op_type.lower()]:
            of = next((typed[i] for i in node.input if i in typed and typed[i] in ("FLOAT", "HALF")), None)
            kind = "FLOAT" if fake.silently_float32 or not half or node.name in fake.pinned else of
            if dequantised & set(node.input) and not fake.silently_float32:
                kind = "INT8"
            layers.append({"name": node.name, "op": node.op_type, "type": kind})
        header = {
            "version": fake.version,
            "gpu": "" if fake.is_rtx else cuda.name,
            "targets": config._targets,
            "profiles": config._profiles,
            "flags": sorted(flags),
            "detailed": config._profiling_verbosity is trt.ProfilingVerbosity.DETAILED,
            "layers": layers,
        }
        model = network._model
        if "STRIP_PLAN" in flags:
            model = _strip_weights(model)
        return MAGIC + json.dumps(header).encode() + b"\n" + model.SerializeToString()

    class INetworkDefinition:
        def __init__(self) -> None:
            self._model: Any = None
            self._layers: list[Any] = []

        num_inputs = property(lambda self: len(self._model.graph.input))
        num_layers = property(lambda self: len(self._layers))

        def get_input(self, index: int) -> Any:
            return trt.ITensor(self._model.graph.input[index])

        def get_layer(self, index: int) -> Any:
            return self._layers[index]

    class ITensor:
        def __init__(self, value: Any) -> None:
            self._name = value.name
            dims = value.type.tensor_type.shape.dim
            self._shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)
            self._dtype = trt.DataType[dtype_of(value.type.tensor_type.elem_type)]

        name, shape, dtype = ("", (), ())

    class ILayer:
        def __init__(self, node: Any, outputs: list[Any]) -> None:
            self._node, self._outputs = node, outputs
            self._type = trt.LayerType[_LAYERS.get(node.op_type, "ELEMENTWISE")]

        type = ()
        num_outputs = property(lambda self: len(self._outputs))

        def get_output(self, index: int) -> Any:
            return trt.ITensor(self._outputs[index])

        @property
        def precision(self) -> Any:
            return None

        @precision.setter
        def precision(self, value: Any) -> None:
            assert value is trt.DataType.FLOAT
            fake.pinned.append(self._node.name)

        def set_output_type(self, index: int, dtype: Any) -> None:
            assert index < len(self._outputs)

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            self._network = network
            self._errors: list[Any] = []

        num_errors = property(lambda self: len(self._errors))

        def parse_from_file(self, model: str) -> bool:
            loaded = _load_inferred(model)
            values = _collect_values(loaded)
            for number, node in enumerate(loaded.graph.node):
                if node.op_type in fake.unsupported:
                    self._errors.append(trt.ParserError(number, node))
            self._network._model = loaded
            self._network._layers = [
                trt.ILayer(node, [values[o] for o in node.output if o in values]) for node in loaded.graph.node
            ]
            return not self._errors

        def get_error(self, index: int) -> Any:
            return self._errors[index]

    class ParserError:
        def __init__(self, number: int, node: Any) -> None:
            self._number, self._node = number, node

        def node(self) -> int:
            return self._number

        def node_name(self) -> str:
            return str(self._node.name)

        def node_operator(self) -> str:
            return str(self._node.op_type)

        def desc(self) -> str:
            return "UNSUPPORTED_NODE: no importer registered"

    class IBuilderConfig:
        def __init__(self) -> None:
            self._flags = {trt.BuilderFlag.TF32}
            self._profiles: list[Any] = []
            self._targets: list[str | None] = []
            self._timings: Any = None
            self._limits: dict[str, int] = {}

        builder_optimization_level, profiling_verbosity, max_aux_streams, hardware_compatibility_level = (3, 0, 4, 0)
        progress_monitor = _progress_monitor = 0

        num_compute_capabilities = property(
            lambda self: len(self._targets), lambda self, count: self._targets.extend([None] * count)
        )

        def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
            if index >= len(self._targets):
                return False
            self._targets[index] = compute_capability.name.lower()
            return True

        def set_flag(self, flag: Any) -> None:
            self._flags.add(flag)

        def clear_flag(self, flag: Any) -> None:
            self._flags.remove(flag)

        def set_tactic_sources(self, tactic_sources: int) -> bool:
            self._sources = {source.name for source in trt.TacticSource if tactic_sources >> source.value & 1}
            return True

        def set_preview_feature(self, feature: Any, enable: bool) -> None:
            self._preview = {feature.name} if enable else set()

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self._limits[pool.name] = pool_size

        def add_optimization_profile(self, profile: Any) -> int:
            self._profiles.append(profile._shapes)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            return trt.ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            if cache._content not in (b"", b"timings of " + fake.version.encode()):
                return False
            self._timings = cache
            return True

        def get_timing_cache(self) -> Any:
            return self._timings

    class ITimingCache:
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> Any:
            return _host(b"timings of " + fake.version.encode())

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, Any] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            self._shapes[input] = [list(min), list(opt), list(max)]

    class IProgressMonitor:
        def __init__(self) -> None: ...

    class IHostMemory:
        def __init__(self) -> None:
            self._content = b""

        def __bytes__(self) -> bytes:
            return self._content

    def _host(content: bytes) -> Any:
        made = trt.IHostMemory()
        made._content = content
        return made

    class Runtime:
        def __init__(self, logger: Any) -> None:
            assert cuda.count, "8.6 crashes here on a machine without a GPU"
            self._log = logger
            if fake.starts_without_cuda:
                logger.log(trt.ILogger.ERROR, "createInferRuntime: CUDA initialization failure with error: 35")

        def __del__(self) -> None:
            if fake.starts_without_cuda:
                raise AssertionError("freeing such a runtime crashes")

        engine_host_code_allowed = False

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            assert not fake.starts_without_cuda, "11.4 crashes here"
            fake.loaded.append(serialized_engine)
            reason = fake.no_deserialise or self._reason(serialized_engine)
            if reason:
                self._log.log(trt.ILogger.ERROR, reason)
                return None
            return trt.ICudaEngine(*_read(serialized_engine), self._log)

        def _reason(self, plan: bytes) -> str:
            if not plan.startswith(MAGIC):
                return "Serialization assertion magicTagRead == kMAGIC_TAG failed"
            header, _ = _read(plan)
            if "VERSION_COMPATIBLE" in header["flags"]:
                return "" if self.engine_host_code_allowed else "engine host code is not allowed"
            if header["version"] != fake.version or trt.__name__ == "tensorrt_lean":
                return f"the plan is of version {header['version']}, this is {fake.version}"
            if fake.is_rtx:
                here = f"sm{cuda.capability[0]}{cuda.capability[1]}"
                targets = header["targets"]
                return "" if here in targets or not targets else f"the plan is for {', '.join(targets)}, not {here}"
            return "" if header["gpu"] == cuda.name else f"the plan was built for {header['gpu']}"

    def _read(plan: bytes) -> tuple[dict[str, Any], onnx.ModelProto]:
        header, _, model = plan.removeprefix(MAGIC).partition(b"\n")
        return json.loads(header), onnx.load_from_string(model)

    class ICudaEngine:
        def __init__(self, header: dict[str, Any], model: onnx.ModelProto, logger: Any) -> None:
            self._header, self._model, self._log = header, model, logger
            self._session: Any = None
            graph = model.graph
            self._io = {v.name: (v, v in list(graph.input)) for v in (*graph.input, *graph.output)}

        num_io_tensors = property(lambda self: len(self._io))
        num_optimization_profiles = property(lambda self: len(self._header["profiles"]))

        def get_tensor_name(self, index: int) -> str:
            return list(self._io)[index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if self._io[name][1] else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType[dtype_of(self._io[name][0].type.tensor_type.elem_type)]

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
            return [tuple(shape) for shape in self._header["profiles"][profile_index][name]]

        def create_execution_context(self, *args: Any) -> Any:
            most = max(shapes[2][0] for profile in self._header["profiles"] for shapes in profile.values())
            if fake.no_context_from is not None and most >= fake.no_context_from and len(self._header["profiles"]) == 1:
                self._log.log(trt.ILogger.ERROR, fake.no_context_reason)
                return None
            cuda.note("create_execution_context")
            if fake.is_rtx:
                (config,) = args
                if config._static:
                    config._cache._compile([self._header["profiles"], cuda.name])
                cache, managed = config._cache, config._strategy == "USER_MANAGED"
                return trt.IExecutionContext(self, self._log, managed, cache, None if config._static else cache)
            managed = bool(args) and args[0] is trt.ExecutionContextAllocationStrategy.USER_MANAGED
            return trt.IExecutionContext(self, self._log, managed, None, None)

        def create_runtime_config(self) -> Any:
            return trt.IRuntimeConfig(self)

        def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
            return 1024 * max(shapes[2][0] for shapes in self._header["profiles"][profile_index].values())

        def create_engine_inspector(self) -> Any:
            return trt.EngineInspector(self)

        def create_serialization_config(self) -> Any:
            return trt.ISerializationConfig()

        def serialize_with_config(self, arg0: Any) -> Any:
            return _host(MAGIC + json.dumps(self._header).encode() + b"\n" + self._model.SerializeToString())

    class IRuntimeConfig:
        def __init__(self, engine: Any) -> None:
            self._engine, self._strategy = engine, "STATIC"
            self._cache: Any = None

        cuda_graph_strategy = dynamic_shapes_kernel_specialization_strategy = None
        _cuda_graph_strategy: Any = None
        _dynamic_shapes_kernel_specialization_strategy: Any = None

        def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
            self._strategy = strategy.name

        def create_runtime_cache(self) -> Any:
            assert self._cuda_graph_strategy is trt.CudaGraphStrategy.DISABLED
            profiles = self._engine._header["profiles"]
            self._static = all(least == most for profile in profiles for least, _, most in profile.values())
            wanted = "NONE" if self._static else "EAGER"
            assert self._dynamic_shapes_kernel_specialization_strategy.name == wanted, "LAZY swaps kernels"
            return trt.IRuntimeCache()

        def set_runtime_cache(self, cache: Any) -> bool:
            self._cache = weakref.proxy(cache)  # not kept alive, as in the real one
            return not fake.rejects_runtime_cache

    class IRuntimeCache:
        def __init__(self) -> None:
            self._kernels: list[str] = []
            self._number = len(caches)
            self._life = watch_life(partial(end_cache, self._number))
            caches.append(True)

        def deserialize(self, blob: bytes) -> bool:
            if not blob.startswith(b"kernels "):
                return False
            self._kernels = json.loads(blob.removeprefix(b"kernels "))
            return True

        def serialize(self) -> Any:
            return _host(b"kernels " + json.dumps(self._kernels).encode())

        def _compile(self, what: Any) -> None:
            shapes = json.dumps(what)
            if shapes not in self._kernels:
                self._kernels.append(shapes)
                fake.compiled.append(shapes.encode())

    class ISerializationConfig:
        def clear_flag(self, flag: Any) -> bool:
            return flag is trt.SerializationFlag.EXCLUDE_WEIGHTS

    class EngineInspector:
        def __init__(self, engine: Any) -> None:
            self._header = engine._header

        def get_engine_information(self, format: Any) -> str:
            assert format is trt.LayerInformationFormat.JSON
            layers = self._header["layers"]
            if not self._header["detailed"]:
                return json.dumps({"Layers": [layer["name"] for layer in layers]})
            key = "Format/Datatype" if fake.number < (11,) else "Datatype"
            described = [
                {
                    "Name": layer["name"],
                    "LayerType": layer["op"],
                    "Inputs": [{"Name": "x", key: _FORMATS[layer["type"]]}],
                }
                for layer in layers
                if layer["type"]
            ]
            return json.dumps({"Layers": described, "Bindings": []})

    class Refitter:
        def __init__(self, engine: Any, logger: Any) -> None:
            assert "REFIT" in engine._header["flags"]
            self._engine, self._given = engine, None

        def get_missing_weights(self) -> list[str]:
            return [] if self._given is not None else ["everything"]

        def refit_cuda_engine(self) -> bool:
            self._engine._model = self._given
            return True

    class OnnxParserRefitter:
        def __init__(self, refitter: Any, logger: Any) -> None:
            self._refitter = refitter
            self._errors: list[Any] = []

        num_errors = property(lambda self: len(self._errors))

        def get_error(self, index: int) -> Any:
            return self._errors[index]

        def refit_from_file(self, model: str) -> bool:
            given = _load_inferred(model)
            ours = self._refitter._engine._model
            for number, (one, other) in enumerate(zip(given.graph.node, ours.graph.node, strict=False)):
                if one.op_type != other.op_type:
                    self._errors.append(trt.ParserError(number, one))
            self._refitter._given = given
            return not self._errors

    class IExecutionContext:
        def __init__(self, engine: Any, logger: Any, managed: bool, cache: Any, eager: Any) -> None:
            self._engine, self._log, self._managed = engine, logger, managed
            self._cache_number = None if cache is None else cache._number
            self._life = None if cache is None else watch_life(partial(end_context, cache._number))
            self._eager = eager
            """The cache, if kernels are compiled for each shape at its first batch."""
            self._scratch: tuple[int, int] | None = None
            self._profile: int | None = None
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._addresses: dict[str, int] = {}
            self._ran = False

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            assert stream_handle in cuda.streams
            self._profile, self._shapes = profile_index, {}
            return True

        def set_device_memory(self, memory: int, size: int) -> None:
            assert self._managed and memory % 256 == 0
            self._scratch = memory, size

        def set_input_shape(self, name: str, shape: Any) -> bool:
            least, _, most = self._engine.get_tensor_profile_shape(name, self._profile)
            fits = all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
            self._shapes[name] = tuple(shape)
            self._ran = False
            return fits

        def infer_shapes(self) -> list[str]:
            return [name for name, (_, is_input) in self._engine._io.items() if is_input and name not in self._shapes]

        def get_tensor_shape(self, name: str) -> Any:
            if name in self._shapes:
                return self._shapes[name]
            inputs = {n: np.zeros(self._shapes[n], _NUMPY[self._kind(n)]) for n in self._shapes}
            return _execute(self._engine, inputs)[name].shape

        def _kind(self, name: str) -> str:
            return str(self._engine.get_tensor_dtype(name).name)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return memory % 256 == 0

        def is_stream_capturable(self, stream: int) -> bool:
            assert cuda.streams[stream]._capture is None
            return fake.capturable

        def execute_async_v3(self, stream_handle: int) -> bool:
            cuda.note("execute_async_v3")
            stream = cuda.streams[stream_handle]
            assert self._cache_number is None or caches[self._cache_number], "the runtime cache was freed"
            if self._eager is not None:
                assert stream._capture is None or self._ran, "kernels are compiled during a capture"
                self._eager._compile([self._shapes, cuda.name])
            if stream._capture is not None:
                assert fake.capturable
            if fake.executions_fail or set(self._addresses) != set(self._engine._io) or self.infer_shapes():
                self._log.log(trt.ILogger.ERROR, "IExecutionContext::enqueueV3: Error Code 3: not ready")
                return False
            if stream._capture is not None and (not self._ran or fake.executions_fail_when_captured):
                self._log.log(trt.ILogger.ERROR, "the first run after a change of shapes cannot be captured")
                return False
            self._ran = True
            assert not self._managed or self._scratch is not None
            given = (self._engine, self._profile, self._scratch, dict(self._shapes), dict(self._addresses))
            cuda.enqueue(stream, "execute", partial(_act, *given))
            return True

    def _act(engine: Any, profile: Any, scratch: Any, shapes: dict[str, Any], addresses: dict[str, int]) -> None:
        """Do the work of a batch; like a CUDA graph, it refers to memory and not to the context."""
        inputs = {}
        if scratch is not None:
            memory = cuda.get_memory(scratch[0])
            assert memory.size == scratch[1] >= engine.get_device_memory_size_for_profile_v2(profile)
            memory[:] = 0xEE
        for name, shape in shapes.items():
            array = cuda.get_memory(addresses[name]).view(_NUMPY[engine.get_tensor_dtype(name).name])
            inputs[name] = array[: int(np.prod(shape))].reshape(shape).copy()
        for name, made in _execute(engine, inputs).items():
            target = cuda.get_memory(addresses[name])
            target[: made.nbytes] = np.ascontiguousarray(made).view(np.uint8).reshape(-1)

    def _execute(engine: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        if engine._session is None:
            options = ort.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = 1
            engine._session = ort.InferenceSession(
                engine._model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        wanted = {i.name: i.type for i in engine._session.get_inputs()}
        given = {n: a.astype(np.int64) if wanted[n] == "tensor(int64)" else a for n, a in inputs.items()}
        names = [o.name for o in engine._session.get_outputs()]
        return dict(zip(names, engine._session.run(names, given), strict=True))

    return {n: v for n, v in locals().items() if isinstance(v, type)}


def _list_layers(plan: bytes) -> str:
    """The line in which the compiler of TensorRT for RTX lists all layers."""
    header = json.loads(plan.removeprefix(MAGIC).partition(b"\n")[0])
    kinds = {"Conv": "correlation", "ConvTranspose": "deconv", "Gemm": "gemm", "MatMul": "gemm"}
    types = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8"}
    lines = [
        f"Name: {layer['name']}_myl{number}_{place}, LayerType: {kinds.get(layer['op'], 'kgen')}, "
        f"Inputs: [ {{ Name: x, Datatype: {types[layer['type']]} }}], Outputs: [], "
        f"Metadata: [ONNX Layer: {layer['name']}]"
        for number in range(len(header["profiles"]))
        for place, layer in enumerate(header["layers"])
        if layer["type"]
    ]
    return "Layers:\n" + "\n".join(lines)


def _load_inferred(file: str) -> onnx.ModelProto:
    """Load a model and infer the types of all tensors."""
    model = onnx.load(file)
    model.graph.ClearField("value_info")
    return onnx.shape_inference.infer_shapes(model)


def _collect_values(model: onnx.ModelProto) -> dict[str, Any]:
    graph = model.graph
    found = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}
    for tensor in graph.initializer:
        found[tensor.name] = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
    return found


def _strip_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16) and tensor.raw_data:
            tensor.raw_data = bytes(len(tensor.raw_data))
    return copy
