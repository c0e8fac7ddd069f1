"""The TensorRT backend keeps the contract of a session, on a strict fake of TensorRT and CUDA."""

import pytest
from fake_gpu import Start, start

from ganrt.bundle import Bundle
from ganrt.testing import check_backend

__all__ = ["start"]


@pytest.mark.parametrize("version", ["8.6.0", "10.13.3", "10.16.1", "11.4.0"])
def test_it_keeps_the_contract(start: Start, version: str, bundle: Bundle) -> None:
    machine = start(version)
    machine.engines.build(bundle, "fp32", machine.engines.Options(batches=(1, 2, 4)))
    check_backend(machine.backend, bundle, device="cuda")
