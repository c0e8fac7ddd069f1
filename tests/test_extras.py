"""What the extras ask for on the machines that docs/devices.md names.

Markers are evaluated here, without a network. That each package has a wheel there is looked up by hand when this list
changes: `pip download --only-binary=:all: --platform manylinux_2_35_aarch64 --python-version 3.10 NAME`.
"""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
DEVICE_EXTRAS = ("onnxruntime", "cpu", "mnn", "ncnn", "cuda", "tensorrt", "tensorrt-rtx", "hub", "video")
"""What is installed on the machines that run bundles."""

JETPACK_6, JETPACK_7 = ("3.10", "aarch64"), ("3.12", "aarch64")
SERVER, LAPTOP = ("3.11", "x86_64"), ("3.13", "x86_64")
ORT_GPU = "onnxruntime-gpu[cuda,cudnn]"
ENGINES = {"onnx", "onnx-ir", "platformdirs"}
RTX = {"tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings", *ENGINES}
WANTED = {
    JETPACK_6: {
        "cuda": {"cuda-core[cu12]", "platformdirs"},
        "tensorrt": {"cuda-core[cu12]", *ENGINES},
        "tensorrt-rtx": {"cuda-core[cu12]", *RTX},
    },
    JETPACK_7: {
        "cuda": {ORT_GPU, "cuda-core[cu13]", "platformdirs"},
        "tensorrt": {"cuda-core[cu13]", *ENGINES},
        "tensorrt-rtx": {"cuda-core[cu13]", *RTX},
    },
} | {
    machine: {
        "cuda": {ORT_GPU, "cuda-core[cu13]", "platformdirs"},
        "tensorrt": {"tensorrt", "cuda-core[cu13]", *ENGINES},
        "tensorrt-rtx": {"cuda-core[cu13]", *RTX},
    }
    for machine in (SERVER, LAPTOP)
}
"""(Python, processor) -> extra -> what it asks for, of the extras that differ between machines."""
EVERYWHERE = {
    "onnxruntime": {"onnxruntime", "platformdirs"},
    "cpu": {"onnxruntime", "openvino", "platformdirs"},
    "mnn": {"mnn", "onnx", "platformdirs"},
    "ncnn": {"ncnn", "onnx", "platformdirs"},
    "hub": {"huggingface_hub", "platformdirs"},
    "video": {"av"},
}


def list_requirements(extra: str, python: str, processor: str) -> list[Requirement]:
    """The requirements of an extra, those of other extras that it names included, on a Linux machine."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": processor,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "extra": extra,
    }
    found = []
    for line in EXTRAS[extra]:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        inner = sorted(requirement.extras) if requirement.name == "ganrt" else []
        found += [one for name in inner for one in list_requirements(name, python, processor)]
        found += [] if inner else [requirement]
    return found


def spell(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return requirement.name + extras


@pytest.mark.parametrize("machine", WANTED, ids=" ".join)
@pytest.mark.parametrize("extra", DEVICE_EXTRAS)
def test_an_extra_asks_for_what_the_machine_can_get(extra: str, machine: tuple[str, str]) -> None:
    found = [spell(requirement) for requirement in list_requirements(extra, *machine)]
    assert len(found) == len(set(found)), "each package once"
    assert set(found) == EVERYWHERE.get(extra, WANTED[machine].get(extra))


@pytest.mark.parametrize("machine", WANTED, ids=" ".join)
def test_extras_of_one_machine_do_not_overwrite_each_other(machine: tuple[str, str]) -> None:
    """onnxruntime and onnxruntime-gpu are the same modules: no extra may bring both."""
    for extra in EXTRAS:
        names = {requirement.name for requirement in list_requirements(extra, *machine)}
        assert not {"onnxruntime", "onnxruntime-gpu"} <= names, extra


def test_every_python_that_ganrt_runs_on_is_covered() -> None:
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()  # type: ignore[union-attr]
    pythons = {int(python.partition(".")[2]) for python, _ in WANTED}
    assert pythons == set(range(int(low), int(high)))
