"""Graphs in which the batch size of the trace became a constant are rejected, also where they run with any batch."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ganrt
from ganrt.export.lint import Finding, check_graph_batch, fixes_batch
from ganrt.export.tracing import trace

WINDOW = 4


class Windows(nn.Module):
    """Cuts a picture into windows, and joins them as published Swin transformers do: the batch size is a quotient."""

    def __init__(self, rounded: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
        self.mix = nn.Linear(8, 8)
        self.rounded = rounded

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        batch, channels, height, width = x.shape
        down, across = height // WINDOW, width // WINDOW
        windows = x.view(batch, channels, down, WINDOW, across, WINDOW).permute(0, 2, 4, 3, 5, 1)
        windows = self.mix(windows.reshape(-1, WINDOW, WINDOW, channels))
        if self.rounded:
            batch = int(windows.shape[0] / (height * width / WINDOW / WINDOW))
        joined = windows.view(batch, down, across, WINDOW, WINDOW, -1).permute(0, 1, 3, 2, 4, 5)
        joined = joined.reshape(batch, height * width, -1)
        return self.last(x + 0.01 * joined.view(*x.shape[:1], height, width, channels).permute(0, 3, 1, 2))


def make_spec(single: bool = False) -> ganrt.Spec:
    picture = ganrt.Image("x", "content", 3, (0.0, 1.0), (16, 24))
    return ganrt.Spec("windows", (picture,), ganrt.Output(3, (-2.0, 2.0), (16, 24)), single=single)


def check(module: nn.Module, spec: ganrt.Spec) -> list[Finding]:
    found: list[Finding] = []
    trace(module, spec, inspect_raw=lambda raw: found.extend(check_graph_batch(module, spec, raw)))
    return found


@pytest.fixture(params=[False, True], ids=["free", "fixed"])
def windows(request: pytest.FixtureRequest) -> Windows:
    return Windows(request.param).eval().requires_grad_(False)


def test_a_batch_size_that_became_a_constant_is_found_in_the_graph(windows: Windows) -> None:
    found = check(windows, make_spec())
    if not windows.rounded:
        assert found == []
        return
    (finding,) = found
    assert (finding.rule, finding.severity) == ("frozen batch size", "rejected")
    assert finding.where == "forward of the module itself"
    assert re.fullmatch(r"test_graph_batch.py:\d+, batch = int\(windows.shape\[0\] .*", finding.line)
    assert finding.text == (
        "its traced graph makes wrong pictures of a batch of 3: write h // 2 and the like, on sizes as they are, "
        "without int, float and round, or export it for one image at a time: --batch 1"
    )


def test_one_image_at_a_time_needs_no_other_batch_size(windows: Windows) -> None:
    assert check(windows, make_spec(single=True)) == []


class Changed(nn.Module):
    """A module whose result is changed."""

    def __init__(self, module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.change = module, change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.module(x))


def test_what_is_wrong_at_any_batch_size_is_not_the_batch(windows: Windows) -> None:
    """Other values, another size of the pictures, and a graph that the batch of the trace does not fit either."""
    spec = make_spec()
    model = trace(windows, spec)
    for change in (lambda x: -x, lambda x: x[:, :, 1:]):
        assert check_graph_batch(Changed(windows, change), spec, model) == []
    assert check_graph_batch(windows, spec, trace(windows, make_spec(single=True))) == []


def test_a_module_of_one_image_at_a_time_is_not_given_several() -> None:
    def fail(x: Tensor) -> Tensor:
        raise AssertionError(f"{len(x)} images were given")

    windows = Windows(rounded=False).eval()
    assert check_graph_batch(Changed(windows, fail), make_spec(single=True), trace(windows, make_spec())) == []


def test_the_trace_tells_whether_the_batch_size_is_free(windows: Windows) -> None:
    assert fixes_batch(windows, make_spec()) == windows.rounded


def test_a_module_that_cannot_be_traced_has_another_error() -> None:
    class Conditional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if bool(x.sum() > 0) else -x

    assert not fixes_batch(Conditional(), make_spec())
