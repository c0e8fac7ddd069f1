"""Every name of TensorRT and cuda-core that ganrt uses exists in every supported version, and the check works."""

import re
from pathlib import Path

import pytest
from helpers import api_contract, foreign_api

ROOT = Path(__file__).parents[2]
TENSORRT = foreign_api.read_versions("tensorrt_api.json")
CUDA_CORE = foreign_api.read_versions("cuda_core_api.json")
MODULES = {"tensorrt": "trt", "cuda.core": "core"}
RTX_API = (11, 4)
SOURCES = {
    str(path.relative_to(ROOT)): text
    for folder in ("ganrt", "export", "bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if re.search(r"\btrt\.|import cuda\.core|from cuda\.core", text := path.read_text())
    or (path.name == "options.py" and path.parent.name == "engines")  # builder.py uses its attributes beside TensorRT's
}


def describe_version(api: foreign_api.Api) -> api_contract.Version:
    return api_contract.Version(RTX_API if api.is_rtx else api.number, api.is_rtx)


def select_sources(api: foreign_api.Api) -> dict[str, str]:
    """Return the sources that run over a library: some are for TensorRT for RTX alone."""
    return {name: text for name, text in SOURCES.items() if api.is_rtx or "import tensorrt_rtx as trt" not in text}


def check_source(source: str, tensorrt: str = "10.16.1", cuda_core: str = "1.2.2") -> list[str]:
    start = "import tensorrt as trt\nimport cuda.core as core\n"
    return check_sources({"x.py": start + source}, tensorrt, cuda_core)


def check_sources(sources: dict[str, str], tensorrt: str, cuda_core: str = "1.2.2") -> list[str]:
    apis: dict[str, foreign_api.Api] = {"trt": TENSORRT[tensorrt], "core": CUDA_CORE[cuda_core]}
    return api_contract.find_problems(sources, apis, MODULES, describe_version(TENSORRT[tensorrt]))


@pytest.mark.parametrize("cuda_core", CUDA_CORE)
@pytest.mark.parametrize("tensorrt", TENSORRT)
def test_every_name_that_ganrt_uses_exists(tensorrt: str, cuda_core: str) -> None:
    assert check_sources(select_sources(TENSORRT[tensorrt]), tensorrt, cuda_core) == []


def test_five_versions_of_tensorrt_are_recorded() -> None:
    assert list(TENSORRT) == ["8.6.0", "10.13.3", "10.16.1", "11.4.0", "rtx-1.7.1"]
    assert "EXPLICIT_BATCH" in TENSORRT["10.16.1"].enums["NetworkDefinitionCreationFlag"]
    assert "EXPLICIT_BATCH" not in TENSORRT["11.4.0"].enums["NetworkDefinitionCreationFlag"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("trt.BuilderFlag.FP16", "BuilderFlag has no FP16"),
        ("trt.Bulider(0)", "there is no trt.Bulider"),
        ("def f(b: trt.Builder):\n    b.build_cuda_engine(1)", "Builder has no build_cuda_engine"),
        ("def f(b: trt.Builder | None):\n    b.create_network(0, 1)", "create_network does not take 2 arguments"),
        ("def f(b: 'trt.Builder'):\n    b.create_network(flag=1)", "create_network does not take 0 arguments and"),
        ("c = trt.Builder(0).create_builder_config()\nc.max_workspace_size = 1", "has no max_workspace_size"),
        ("def f(c: trt.IExecutionContext):\n    c.engine = 1", "IExecutionContext.engine cannot be set"),
        ("def f(c):\n    c.execute_async_v3(0)", "execute_async_v3 is used on something of unknown type"),
        ("class A:\n    e: trt.ICudaEngine\n    def f(self):\n        self.e.num_bindings", "has no num_bindings"),
        ("class A:\n    e: trt.ICudaEngine\ndef f(a: A):\n    a.e.num_bindings", "has no num_bindings"),
        ("class A:\n    d: dict[str, core.Event]\n    def f(self):\n        self.d['a'].wait()", "Event has no wait"),
        ("def f(s: list[core.Stream]):\n    for x in s:\n        x.synchronize()", "Stream has no synchronize"),
        ("class L(trt.ILogger):\n    def f(self):\n        self.min_severity", "ILogger has no min_severity"),
        ("if l.api >= (11, 0):\n    trt.BuilderFlag.FP16", "BuilderFlag has no FP16"),
        ("def f():\n    if l.api < (11, 0):\n        return\n    trt.BuilderFlag.FP16", "has no FP16"),
        ("x = 0 if l.api < (11,) else trt.BuilderFlag.FP16", "BuilderFlag has no FP16"),
        ("l.trt.Bulider(0)", "there is no trt.Bulider"),
        ("lib = l.trt\nlib.BuilderFlag.FP16", "BuilderFlag has no FP16"),
        ("if not l.is_rtx:\n    trt.BuilderFlag.FP16", "BuilderFlag has no FP16"),
        ("def f(c: trt.IExecutionContext):\n    c.is_stream_capturable(1)", "has no is_stream_capturable"),
        ("s = core.Device(0).create_stream()\ns.synchronize()", "Stream has no synchronize"),
        ("from cuda.core.graph import GraphBuilder\ndef f(g: GraphBuilder):\n    g.capture()", "no capture"),
        ("from cuda.core.graph import Capture", "core has no Capture"),
        ("def f(e: core.Device):\n    e.allocate(4)", "Device.allocate does not take 1 arguments"),
        ("def f(e: core.Device):\n    e.allocate(4, 5)", "Device.allocate does not take 2 arguments"),
    ],
)
def test_a_missing_name_is_reported(source: str, problem: str) -> None:
    texts = check_source(source, "11.4.0")
    assert len(texts) == 1 and problem in texts[0]


@pytest.mark.parametrize(
    "source",
    [
        "if l.api < (11, 0):\n    trt.BuilderFlag.FP16",
        "def f():\n    if l.api >= (11, 0):\n        return\n    trt.BuilderFlag.FP16",
        "x = l.api < (11,) and trt.BuilderFlag.FP16",
        "if l.is_rtx:\n    trt.BuilderFlag.FP16",
        "def f(c: trt.IExecutionContext):\n    l.is_rtx and c.is_stream_capturable(1)",
        "trt.BuilderFlag.TF32, trt.__version__",
        "def f(b: trt.Builder, p: trt.MemoryPoolType):\n    b.create_builder_config().set_memory_pool_limit(p, 1)",
        "def f(d: core.Device):\n    d.allocate(4, stream=d.create_stream()).close()",
    ],
)
def test_valid_uses_are_not_reported(source: str) -> None:
    assert check_source(source, "11.4.0") == []


def test_a_name_that_one_version_lacks_is_reported_for_that_version_only() -> None:
    source = "def f(p: trt.ParserError):\n    p.node_name()"
    assert check_source(source, "10.13.3") == [] and check_source(source, "8.6.0") == [
        "x.py, line 4: ParserError has no node_name"
    ]


def test_the_checked_sources_include_those_that_use_the_libraries() -> None:
    assert {
        f"ganrt/gpu/{name}.py" for name in ("device", "loaded_engine", "nvinfer", "runtime_cache", "trt_program")
    } | {f"export/engines/{name}.py" for name in ("builder", "inspection", "options")} <= set(SOURCES)
