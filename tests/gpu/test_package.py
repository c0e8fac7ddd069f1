"""What the packages `ganrt.gpu` and `ganrt.export.engines` hand out exists, and needs its libraries only when used."""

import sys
from typing import Any

import pytest
from fakes.gpu import Start, start

import ganrt.export.engines
import ganrt.gpu
from ganrt import machine as facts
from ganrt.bundle import Bundle
from ganrt.errors import MissingLibraryError

__all__ = ["start"]


@pytest.mark.parametrize("package", [ganrt.gpu, ganrt.export.engines])
def test_every_exported_name_exists(start: Start, package: Any) -> None:
    start()
    assert all(hasattr(package, name) for name in package.__all__)
    assert set(package.__all__) == set(package._MODULES)


def test_without_tensorrt_building_names_the_extra_and_the_options_still_load(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    for name in [name for name in sys.modules if name.startswith(("ganrt.gpu.nvinfer", "ganrt.export.engines."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(facts, "_NVIDIA_NODES", ("/dev/null",))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "cuda", None)
    assert ganrt.export.engines.EngineOptions().batches == (1, 8, 32)
    with pytest.raises(MissingLibraryError, match=r'building engines needs .*: pip install "ganrt\[tensorrt\]"'):
        ganrt.export.engines.build(bundle)
