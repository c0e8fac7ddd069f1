"""Measuring image-to-image models: their inputs, both scopes, and the texts of their reports."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import reports as bench_reports
from helpers.networks import build_network
from rich.console import Console

import ganrt
from ganrt.bench import Report, calls, measure, print_table, write_page
from ganrt.bench.cases import check_size
from ganrt.bundle import Bundle
from ganrt.export import export
from ganrt.feeds import Feeds
from ganrt.generator import Generator
from ganrt.images import Floats
from ganrt.models import build_generator
from ganrt.spec import Image, Latent, Output, Spec

RGB = (0.0, 1.0)


@pytest.fixture(scope="module")
def style(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("style")
    torch.manual_seed(0)
    module = build_generator("transformer_net", {"width": 4, "blocks": 1})
    torch.save(module.state_dict(), folder / "style.pth")
    return export(str(folder / "style.pth"), folder / "style.ganrt")


@pytest.fixture(scope="module")
def report(style: Bundle) -> Report:
    return measure(
        style, backends=["onnxruntime", "pytorch"], batches=[1, 2], seconds=3.0, variants=["fp32"], size=(24, 32)
    )


def test_a_model_that_takes_pictures_is_measured_from_pictures_to_pictures(report: Report) -> None:
    assert [b.status for b in report.backends] == ["measured"] * 2
    assert {(m.batch, m.scope) for m in report.measurements} == {
        (batch, scope) for batch in (1, 2) for scope in ("session", "transform")
    }
    assert (report.picture, report.image) == ((24, 32), "32 x 24 rgb")
    assert all(b.facts is not None and b.facts.worst_psnr >= 60 and b.facts.samples == 12 for b in report.backends)
    assert report.overhead("onnxruntime", 2) is not None and report.speedup("onnxruntime", 2) is not None
    assert Report.from_json(report.to_json()) == report


def test_the_texts_are_about_pictures_and_not_seeds(report: Report, style: Bundle, tmp_path: Path) -> None:
    buffer = io.StringIO()
    print_table(report, Console(file=buffer, width=140))
    write_page(report, style.folder, tmp_path / "page.html")
    for text in (buffer.getvalue(), (tmp_path / "page.html").read_text()):
        words = " ".join(text.split())
        assert "uint8 pictures on the host to uint8 pictures on the host: Generator.transform" in words
        assert "Input pictures: 32 x 24" in words
        assert "Generator.sample" not in words


@pytest.mark.parametrize("family", ["espcn", "adain", "transformer_net"])
def test_both_scopes_get_the_same_pictures(family: str) -> None:
    """With a luma network, one with two pictures and a scalar, and one with a single RGB picture."""
    values = {"espcn": {}, "adain": {"width": 4}, "transformer_net": {"width": 4, "blocks": 1}}[family]
    spec, compute = build_network(family, **values)
    session = _Net(spec, compute)
    drawn = calls.draw_inputs(spec, 5, 2, (24, 32))
    assert min(calls.time_pair(Generator(spec, session), drawn, session_first=False)) > 0
    first, second = session.seen
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert all(first[item.name].shape == (2, item.channels, 24, 32) for item in spec.images)


class _Net(ganrt.backend.HostSession):
    """A network that records its inputs."""

    def __init__(self, spec: Spec, compute: Callable[[Feeds], Floats]) -> None:
        super().__init__("fake", "fp32", spec, {})
        self.compute, self.seen = compute, list[Feeds]()

    def run(self, feeds: Feeds) -> Floats:
        self.seen.append(feeds)
        return self.compute(feeds)

    def release(self) -> None:
        pass


FREE = Spec("s", (Image("a", "content", 3, RGB, multiple_of=4), Image("b", "style", 3, RGB)), Output(3, RGB, None))
FIXED = Spec("s", (Image("a", "content", 3, RGB, size=(16, 24)),), Output(3, RGB, (8, 8)))
NONE = Spec("s", (Latent("z", (4,)),), Output(3, RGB, (8, 8)))


@pytest.mark.parametrize(
    ("spec", "asked", "got"),
    [
        (FREE, None, (48, 64)),
        (FREE, (256, 128), (256, 128)),
        (FIXED, None, (16, 24)),
        (FIXED, (16, 24), (16, 24)),
        (NONE, None, None),
    ],
)
def test_the_size_of_pictures_follows_the_model(
    spec: Spec, asked: tuple[int, int] | None, got: tuple[int, int] | None
) -> None:
    assert check_size(spec, asked) == got


@pytest.mark.parametrize(
    ("spec", "asked", "words"),
    [
        (FREE, (256, 255), "256x255 pictures were asked for; both sides must be positive multiples of 4"),
        (FREE, (0, 4), "multiples of 4"),
        (FIXED, (16, 16), "takes 16x24 only"),
        (NONE, (64, 64), "takes no picture"),
    ],
)
def test_a_size_that_a_model_does_not_take_is_rejected(spec: Spec, asked: tuple[int, int], words: str) -> None:
    with pytest.raises(ganrt.RequestError, match=words):
        check_size(spec, asked)


@pytest.mark.parametrize("picture", [[24], [24, 32, 3], [0, 32], [24, 32.0]])
def test_an_invalid_picture_size_is_rejected(picture: object) -> None:
    raw = json.loads(bench_reports.make_report([]).to_json()) | {"picture": picture}
    with pytest.raises(ganrt.ArtifactError, match="picture"):
        Report.from_json(json.dumps(raw))


def test_a_report_with_a_foreign_scope_is_rejected() -> None:
    raw = json.loads(bench_reports.make_steady_report().to_json()) | {"picture": [24, 32]}
    with pytest.raises(ganrt.ArtifactError, match="scope sample"):
        Report.from_json(json.dumps(raw))
