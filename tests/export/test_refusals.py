"""Backends that cannot load a graph, fail while running it or make other pictures: what export and verify make of it,
what the bundle records, and what `load` does afterwards."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes import backends
from fakes.backends import CANNOT_LOAD, FAILS, GOOD, LACKS, OTHER_PICTURES, RAISES
from fakes.bundles import GRAPH, write_bundle

import ganrt
from ganrt import trust
from ganrt.backend import Session
from ganrt.bundle import Bundle, Variant
from ganrt.cli.main import main
from ganrt.errors import BackendError, MachineError, RequestError, UnprovenError, VerificationError
from ganrt.export import export, verify
from ganrt.proving import Comparison, prove
from ganrt.session_config import SessionConfig
from ganrt.stores import FolderStore

REFUSALS = {
    CANNOT_LOAD: r"cannot load fp32: no rule for Nonsense",
    RAISES: r"cannot open fp32: an exception that nobody translated",
    FAILS: r"failed on a batch of \d+: an operator failed",
    OTHER_PICTURES: r"does not make the original's images: .* samples are below 60 dB",
}
"""What a backend does -> the reason in messages."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of the NumPy model with a float32 and an fp16 variant."""
    bundle = write_bundle(tmp_path)
    (tmp_path / "model.fp16.onnx").write_bytes(b"other bytes")
    variants = {**bundle.variants, "fp16": Variant("model.fp16.onnx", 18, "fp16")}
    replace(bundle, variants=variants).with_files("model.fp16.onnx").write_manifest()
    return tmp_path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("kind", REFUSALS)
def test_one_refuses_and_the_other_makes_the_pictures(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = backends.install(monkeypatch, bad=kind, good=GOOD)
    done = run("verify", folder)
    assert done.exit_code == 0, done.output
    assert "refused" in done.stdout and "passed" in done.stdout

    record = Bundle.read(folder)
    (refused, passed), reason = record.variants["fp32"].proofs, REFUSALS[kind]
    assert (refused.backend, refused.passed, refused.device) == ("bad", False, "cpu")
    assert passed.backend == "good" and passed.passed
    assert (refused.samples == 0) is (kind != OTHER_PICTURES)
    assert any(file.startswith("worst-fp32-bad") for file in record.files) is (kind == OTHER_PICTURES)
    card = (folder / Bundle.CARD).read_text()
    assert "every backend below makes the same ones, except bad with fp32, bad with fp16" in card
    assert f"refused: {refused.failures[0]}" in card
    assert "refused" in run("info", folder).stdout and "load tries good" in run("info", folder).stdout

    opened.clear()
    with ganrt.load(folder) as generator:
        assert generator.session.backend == "good"
    with pytest.raises(UnprovenError, match=f" on bad {reason}.* Use another backend"):
        ganrt.load(folder, "bad")
    assert opened == ["good fp32"], "a recorded refusal is not opened again"


def test_graphs_of_the_same_bytes_are_proven_once_in_each_precision(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends.install(monkeypatch, one=GOOD, other=GOOD)
    bundle = Bundle.read(folder)
    again = {f"fp16-{k}": replace(bundle.variants["fp16"], precision=kind) for k, kind in enumerate(("fp16", "bf16"))}
    replace(bundle, variants={**bundle.variants, **again}).write_manifest()
    proven: list[str] = []

    def count(session: Session, *arguments: Any) -> Comparison:
        proven.append(f"{session.backend} {session.precision}")
        return prove(session, *arguments)

    monkeypatch.setattr("ganrt.export.verification.prove", count)
    found = verify(folder)
    assert proven == [f"{name} {precision}" for name in ("one", "other") for precision in ("fp32", "fp16", "bf16")]
    assert found.passed and {name: len(proofs) for name, proofs in found.proofs.items()} == dict.fromkeys(
        ("fp32", "fp16", "fp16-0", "fp16-1"), 2
    )
    record = Bundle.read(folder)
    assert record.variants["fp16-0"].proofs == record.variants["fp16"].proofs
    assert sum(file.startswith("worst-") for file in record.files) == 8


def test_wrong_pictures_can_be_loaded_knowingly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backends.install(monkeypatch, bad=OTHER_PICTURES, broken=CANNOT_LOAD, good=GOOD)
    verify(folder)
    with pytest.raises(UnprovenError, match="pass unproven=True to use it anyway"):
        ganrt.load(folder, "bad")
    with ganrt.load(folder, "bad", unproven=True) as generator:
        assert generator.sample(1).shape == (1, 4, 5, 3)
    with pytest.raises(UnprovenError, match="Use another backend; `ganrt verify` tries this one again"):
        ganrt.load(folder, "broken")
    with pytest.raises(BackendError, match="broken cannot load fp32"):
        ganrt.load(folder, "broken", unproven=True)


VERDICTS: list[tuple[dict[str, Any], list[str], int]] = [
    ({"a": GOOD}, [], 0),
    ({"a": CANNOT_LOAD}, [], 1),
    ({"a": RAISES}, [], 1),
    ({"a": FAILS}, [], 1),
    ({"a": OTHER_PICTURES}, [], 1),
    ({"a": CANNOT_LOAD, "b": FAILS, "c": OTHER_PICTURES}, [], 1),
    ({"a": CANNOT_LOAD, "b": FAILS, "c": OTHER_PICTURES, "d": GOOD}, [], 0),
    ({"a": CANNOT_LOAD, "b": GOOD}, ["b"], 0),
    ({"a": CANNOT_LOAD, "b": GOOD}, ["a"], 1),
    ({"a": CANNOT_LOAD, "b": GOOD}, ["a", "b"], 1),
    ({"a": FAILS, "b": GOOD}, ["b", "a"], 1),
    ({"a": OTHER_PICTURES, "b": GOOD}, ["a", "b"], 1),
    # by variant: each needs a backend, and not the same one
    ({"a": {"fp32": CANNOT_LOAD}, "b": {"fp16": FAILS}}, [], 0),
    ({"a": {"fp32": CANNOT_LOAD}}, [], 1),
    ({"a": {"fp16": CANNOT_LOAD}}, [], 1),
    ({"a": {"fp16": CANNOT_LOAD}, "b": {"fp16": OTHER_PICTURES}}, [], 1),
    # a rebuilt module says nothing about the graph
    ({"a": CANNOT_LOAD, "pytorch": GOOD}, [], 1),
    ({"a": {"fp32": CANNOT_LOAD}, "pytorch": GOOD}, [], 1),
    ({"a": GOOD, "pytorch": OTHER_PICTURES}, [], 0),
    ({"a": GOOD, "pytorch": OTHER_PICTURES}, ["a", "pytorch"], 1),
    ({"a": GOOD, "pytorch": GOOD}, ["pytorch"], 0),
    # what the machine lacks is no refusal
    ({"a": LACKS, "b": GOOD}, [], 0),
    ({"a": LACKS, "b": GOOD}, ["a"], 3),
    ({"a": LACKS}, [], 1),
    ({"a": {"fp16": LACKS}}, [], 0),
]


@pytest.mark.parametrize(("does", "named", "code"), VERDICTS)
def test_exit_codes_of_verify(
    does: dict[str, Any], named: list[str], code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends.install(monkeypatch, **does)
    raw = Bundle.read(folder)
    replace(raw, model={"family": "fake", "config": {}}).write_manifest()  # so that pytorch is tried
    done = run("verify", folder, *(part for name in named for part in ("--backend", name)))
    assert done.exit_code == code, done.output
    if code != 3:
        found = verify(folder, backends=named or None)
        assert found.passed is (code == 0)
        assert {p.backend for proofs in found.proofs.values() for p in proofs} <= set(named or does)


def test_what_fails_is_said_once_for_each_variant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backends.install(monkeypatch, a={"fp32": CANNOT_LOAD, "fp16": FAILS}, b={"fp32": FAILS}, c={"fp16": CANNOT_LOAD})
    found = verify(folder, backends=["a", "b"])
    assert found.failures == (
        "a cannot load fp32: no rule for Nonsense; fp32 on b failed on a batch of 8: an operator failed",
        "fp16 on a failed on a batch of 8: an operator failed",
    )
    assert verify(folder).refusals == (
        "a cannot load fp32: no rule for Nonsense",
        "fp32 on b failed on a batch of 8: an operator failed",
        "fp16 on a failed on a batch of 8: an operator failed",
        "c cannot load fp16: no rule for Nonsense",
    )


def test_a_reason_without_an_operator_of_the_graph_stays_as_it_is(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = replace(bundle, store=FolderStore(Path(shutil.copytree(bundle.folder, tmp_path / "copy.ganrt"))))
    backends.install(monkeypatch, a=CANNOT_LOAD)
    assert verify(copied).failures[0] == "a cannot load fp32: no rule for Nonsense"


def test_nothing_that_runs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backends.install(monkeypatch, a=LACKS)
    lines: list[str] = []
    found = verify(folder, progress=lines.append)
    assert found.failures == ("nothing on this machine runs fp32, fp16",) and not found.proofs
    assert "skipped: this processor lacks it" in lines
    with pytest.raises(MachineError, match="lacks it"):
        verify(folder, backends="a")


def test_a_refusal_is_replaced_when_the_backend_makes_the_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (CANNOT_LOAD, OTHER_PICTURES, FAILS, GOOD, OTHER_PICTURES, GOOD):
        backends.install(monkeypatch, a=kind, b=GOOD)
        verify(folder)
        record = Bundle.read(folder)
        assert [(p.backend, p.passed) for p in record.variants["fp32"].proofs][-2:] == [
            *[("a", kind == GOOD)],
            *[("b", True)],
        ]
        assert len(record.variants["fp32"].proofs) == 2
        assert set(record.files) | {"ganrt.json"} == {path.name for path in folder.iterdir()}
    with ganrt.load(folder, "a") as generator:
        assert generator.session.backend == "a"


MACHINE: dict[str, tuple[str, Any]] = {
    "processor": ("cpu_name", lambda: "another processor"),
    "library version": ("library_version", lambda package: "2.0"),
    "version of ganrt": ("__version__", "99.0"),
    "driver": ("nvidia_details", lambda: {"driver": "999"}),
    "GPU": ("has_nvidia_gpu", lambda: True),
}
"""What a refusal depends on -> the name in `trust` that finds it out, and another answer."""


@pytest.mark.parametrize("kind", [CANNOT_LOAD, OTHER_PICTURES])
@pytest.mark.parametrize("change", MACHINE)
def test_another_machine_or_version_tries_again(
    change: str, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends.install(monkeypatch, a=kind, b=GOOD)
    verify(folder)
    opened = backends.install(monkeypatch, a=kind)
    for _ in range(2):
        with pytest.raises(UnprovenError):
            ganrt.load(folder, "a")
    assert not opened
    monkeypatch.setattr(trust, *MACHINE[change])
    with pytest.raises((UnprovenError, BackendError)):
        ganrt.load(folder, "a")
    assert opened == ["a fp32"]


def test_other_bytes_and_other_requests_are_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backends.install(monkeypatch, a=OTHER_PICTURES, b=GOOD)
    bundle = verify(folder).bundle
    config = SessionConfig("a", "fp32", "cpu")
    assert trust.find_refusal(bundle, config) is not None
    assert trust.find_refusal(bundle, replace(config, device="auto")) is not None, "there is no GPU here"
    output = replace(bundle.spec.output, range=(-1.5, 1.5))
    variant = bundle.variants["fp32"]
    others = {name: replace(digest, sha256="0" * 64) for name, digest in bundle.files.items()}
    for changed in (
        *(replace(bundle, files={**bundle.files, name: others[name]}) for name in (GRAPH, Bundle.GOLDEN)),
        replace(bundle, spec=replace(bundle.spec, output=output)),
        replace(bundle, variants={"fp32": replace(variant, precision="bf16")}),
        replace(bundle, variants={"fp32": replace(variant, proofs=bundle.variants["fp16"].proofs)}),
    ):
        assert trust.find_refusal(changed, config) is None
    for other in (
        replace(config, device="cuda"),
        replace(config, options={"threads": 3}),
        replace(config, backend="b"),
    ):
        assert trust.find_refusal(bundle, other) is None


def test_the_refusal_of_an_engine_does_not_hold_for_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ganrt build` may have built another since."""
    backends.install(monkeypatch, a=CANNOT_LOAD, b=GOOD)
    verify(folder)
    opened = backends.install(monkeypatch, a=GOOD)
    monkeypatch.setitem(backends.table.BACKENDS, "a", backends.table.BACKENDS["a"]._replace(prebuilt=True))
    with ganrt.load(folder, "a") as generator:
        assert generator.session.backend == "a" and opened == ["a fp32"]


def test_a_backend_that_declines_is_skipped_unless_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backends.install(monkeypatch, a=GOOD, b=GOOD)

    def decline(*arguments: object, **options: object) -> None:
        raise RequestError("b does not take pictures")

    monkeypatch.setattr(backends.table.import_backend("b"), "open", decline)
    assert verify(folder).passed
    with pytest.raises(RequestError, match="b does not take pictures"):
        verify(folder, backends="b")


def test_a_library_that_cannot_be_imported_does_not_stop_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends.install(monkeypatch, a=GOOD, b=GOOD)
    monkeypatch.setitem(backends.table.BACKENDS, "b", backends.table.BACKENDS["b"]._replace(module="ganrt.spec:no"))
    lines: list[str] = []
    assert verify(folder, progress=lines.append).passed
    assert any("skipped: numpy is installed but broken" in line for line in lines)


NETWORKS = """
import torch, torch.nn.functional as F
from torch import nn
import ganrt

class Tail(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, y):
        if self.kind in ("cubic64", "both"):
            y = F.interpolate(F.interpolate(y.double(), scale_factor=2, mode="bicubic"), scale_factor=0.5).float()
        if self.kind in ("det", "both"):
            y = y * (1 + 0.1 * torch.linalg.det(y[:, :, :4, :4])[:, :, None, None])
        if self.kind == "fft":
            y = torch.fft.irfft2(torch.fft.rfft2(y) * 0.9, s=(8, 12))
        if self.kind == "antialias":
            y = F.interpolate(F.interpolate(y, scale_factor=0.5, mode="bicubic", antialias=True), scale_factor=2)
        return y

class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.PReLU(), nn.Conv2d(8, 3, 3, 1, 1))
        self.tail = Tail(kind)

    def forward(self, x):
        return self.tail(self.body(x)).tanh()

def make(kind="det"):
    photo = ganrt.Image("x", "photo", 3, (0.0, 1.0), (8, 12))
    return Net(kind).eval(), ganrt.Spec("net", (photo,), ganrt.Output(3, (-1.0, 1.0), (8, 12)))
"""
REAL = {
    "cubic64": ("onnxruntime", "openvino", r"cannot load fp32: Could not find an implementation for .*tail/Resize"),
    "det": (
        "openvino",
        "onnxruntime",
        r"cannot load fp32: No conversion rule found for operations: Det-20 \(in tail\)",
    ),
    "fft": ("openvino", "onnxruntime", r"failed: Node tail/DFT of type RDFT"),
    "antialias": ("openvino", "onnxruntime", r"\d of 8 samples are below 60 dB"),
}
"""A network -> the backend that refuses it, the one that does not, and the reason."""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"networks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    return f"{name}:make"


@pytest.mark.parametrize("kind", REAL)
def test_export_goes_on_without_the_backend_that_refuses(
    kind: str, networks: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refusing, making, reason = REAL[kind]
    out = tmp_path / "net.ganrt"
    done = run("export", networks, "--out", out, "--config", f"kind={kind}")
    assert done.exit_code == 0, done.output
    proofs = {proof.backend: proof for proof in Bundle.read(out).variants["fp32"].proofs}
    assert proofs[making].passed and re.search(reason, proofs[refusing].failures[0])
    assert "refused" in done.stdout and "passed" in done.stdout
    with ganrt.load(out) as generator:
        assert generator.session.backend == making
    with pytest.raises(UnprovenError, match=reason):
        ganrt.load(out, refusing, variant="fp32")

    named = run(
        "export", networks, "--out", tmp_path / "named.ganrt", "--config", f"kind={kind}", "--backend", refusing
    )
    assert named.exit_code == 1 and re.search(f"was not exported: .*{refusing}.*{reason}", named.stderr)
    assert not (tmp_path / "named.ganrt").exists()
    for text in (done.output, named.output):
        assert not re.search(r"\x1b\[|\[E:onnxruntime|\.onnx\b|\.(net|named)\.ganrt\.", text), text
    assert capfd.readouterr() == ("", ""), "a library wrote beside us"


def test_export_fails_where_nothing_makes_the_pictures(networks: str, tmp_path: Path) -> None:
    out = tmp_path / "net.ganrt"
    done = run("export", networks, "--out", out, "--config", "kind=both")
    assert done.exit_code == 1 and not out.exists()
    assert re.search(
        r"onnxruntime cannot load fp32: .*tail/Resize.*; openvino cannot load fp32: .*in tail", done.stderr
    )
    assert "`--backend reference` evaluates the graph without a library" in done.stderr


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_precisions_that_need_onnxruntime(
    precision: str, networks: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = run(
        *("export", networks, "--out", tmp_path / "net.ganrt", "--config", "kind=cubic64", "--precision", precision)
    )
    assert done.exit_code == 1 and not (tmp_path / "net.ganrt").exists()
    assert "measured on onnxruntime, which cannot run this graph" in done.stderr and "tail/Resize" in done.stderr
    assert capfd.readouterr() == ("", "")


def test_only_the_named_backends_prove(networks: str, tmp_path: Path) -> None:
    bundle = export(networks, tmp_path / "net.ganrt", config={"kind": "det"}, backends=["onnxruntime"])
    assert {proof.backend for variant in bundle.variants.values() for proof in variant.proofs} == {"onnxruntime"}
    with pytest.raises(VerificationError, match="none of the backends onnxruntime runs bf16-phases"):
        export(networks, tmp_path / "b.ganrt", precisions="bf16", backends="onnxruntime")


def test_a_backend_that_there_is_not_is_known_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no backend 'abacus'"):
        export("no_such_module:make", tmp_path / "net.ganrt", backends="abacus")
