"""The ONNX project's own reference evaluator: slow, in NumPy, and the definition of what a graph computes."""

from __future__ import annotations

from typing import Any, cast

from onnx.reference import ReferenceEvaluator

from ganrt.backend import HostSession, Session, first_line, library_version
from ganrt.backend_options import check_options
from ganrt.bundle import Bundle
from ganrt.errors import BundleError, MachineError
from ganrt.feeds import Array, Feeds
from ganrt.machine import parse_device


def open(bundle: Bundle, variant: str, device: str, **options: Any) -> Session:
    """Open a session on the CPU. It has no options."""
    check_options("reference", options, ())
    if parse_device(device)[0] == "cuda":
        raise MachineError(f"the reference backend runs on the CPU only; {device} was asked for")
    return _ReferenceSession(bundle, variant)


class _ReferenceSession(HostSession):
    slow = True

    def __init__(self, bundle: Bundle, variant: str) -> None:
        super().__init__("reference", bundle.variant(variant).precision, bundle.spec, {"onnx": library_version("onnx")})
        path = bundle.onnx(variant)
        try:
            self._evaluator = ReferenceEvaluator(str(path))
        except Exception as error:  # protobuf's, NotImplementedError and others: they have no common base but this
            raise BundleError(f"the reference evaluator cannot load {variant}: {first_line(error)}") from error

    def run(self, feeds: Feeds) -> Array:
        return cast(list[Array], self._evaluator.run([self._spec.output.name], feeds))[0]

    def release(self) -> None:
        del self._evaluator
