"""Source -> bundle: the whole exporter on small models, and everything that stops it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.golden_cases import load_golden_case

import ganrt
from ganrt.bundle import METADATA_KEY, Bundle
from ganrt.errors import RequestError, UnprovenError, VerificationError
from ganrt.export import export, verify
from ganrt.models import build_generator
from ganrt.stores import FolderStore

TINY = {"size": 16, "width": 4, "latent": 6, "channels": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = build_generator("dcgan", TINY)
    for part in module.modules():
        if isinstance(part, torch.nn.ConvTranspose2d):
            torch.nn.init.normal_(part.weight, 0, 0.3)
    path = tmp_path_factory.mktemp("checkpoint") / "netG.pth"
    torch.save(module.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny.ganrt"
    export(str(checkpoint), out)
    return out


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "pytorch"])
def test_a_known_checkpoint_gives_its_projects_own_pictures(
    backend: str, tmp_path_factory: pytest.TempPathFactory, known: Path
) -> None:
    case = load_golden_case("dcgan", tmp_path_factory.mktemp("case"))
    with ganrt.load(known, backend) as generator:
        assert np.abs(generator(**case.inputs) - case.output).max() < 1e-5


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known")
    export(str(load_golden_case("dcgan", folder).checkpoint), folder / "known.ganrt")
    return folder / "known.ganrt"


def test_the_bundle_says_what_it_is(exported: Path) -> None:
    bundle = Bundle.read(exported)
    assert bundle.model == {"family": "dcgan", "config": TINY}
    assert {p.backend for p in bundle.variants["fp32"].proofs} >= {"onnxruntime", "pytorch"}
    assert all(p.passed and p.samples == 64 for p in bundle.variants["fp32"].proofs)
    assert bundle.provenance["source"]["name"] == "netG.pth"
    assert bundle.provenance["versions"]["torch"] == torch.__version__
    assert "README.md" in bundle.files
    assert "samples.png" in bundle.files
    assert str(exported.parent) not in (exported / "ganrt.json").read_text()


def test_the_graph_is_plain_and_carries_its_spec(exported: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert [i.name for i in model.graph.input] == ["z"]
    assert [o.name for o in model.graph.output] == ["image"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    metadata = {p.key: p.value for p in model.metadata_props}
    assert ganrt.Spec.from_dict(json.loads(metadata[METADATA_KEY])) == Bundle.read(exported).spec
    assert b".py" not in model.SerializeToString()


def test_a_bare_graph_runs_once_vouched_for(exported: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.onnx"
    bare.write_bytes((exported / "model.onnx").read_bytes())
    with pytest.raises(UnprovenError, match="no golden samples"):
        ganrt.load(bare, "onnxruntime")
    with ganrt.load(bare, "onnxruntime", unproven=True) as generator, ganrt.load(exported, "onnxruntime") as whole:
        assert np.array_equal(generator.sample(3, seed=5), whole.sample(3, seed=5))


def test_opset_is_read_back(checkpoint: Path, tmp_path: Path) -> None:
    export(str(checkpoint), tmp_path / "old.ganrt", opset=18)
    assert onnx.load(tmp_path / "old.ganrt" / "model.onnx").opset_import[0].version == 18
    for opset in (5, 99):
        with pytest.raises(RequestError, match=f"opset {opset} was asked for; this exporter writes 18 to"):
            export(str(checkpoint), tmp_path / "new.ganrt", opset=opset)
    assert not (tmp_path / "new.ganrt").exists()


def test_an_existing_output_stays_unless_told_otherwise(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "b.ganrt").mkdir()
    (tmp_path / "b.ganrt" / "mine.txt").write_text("keep")
    with pytest.raises(RequestError, match=r"b\.ganrt exists already.*--overwrite"):
        export(str(checkpoint), tmp_path / "b.ganrt")
    assert (tmp_path / "b.ganrt" / "mine.txt").read_text() == "keep"
    with pytest.raises(RequestError, match="was not made by this command"):
        export(str(checkpoint), tmp_path / "b.ganrt", overwrite=True)
    (tmp_path / "b.ganrt" / "mine.txt").unlink()
    for _ in range(2):  # an empty folder, then a bundle
        export(str(checkpoint), tmp_path / "b.ganrt", overwrite=True)
    Bundle.read(tmp_path / "b.ganrt")


def test_a_killed_export_leaves_nothing_that_loads(checkpoint: Path, tmp_path: Path) -> None:
    """Killed at its last moment: everything is written, the folder has not got its name yet."""
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from ganrt import atomic; from ganrt.export import export\n"
        "atomic._replace_folder = lambda draft, path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "export(sys.argv[1], Path(sys.argv[2]))"
    )
    out = tmp_path / "killed.ganrt"
    done = subprocess.run([sys.executable, "-c", script, str(checkpoint), str(out)], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(ganrt.BundleError):
        ganrt.load(out)


FACTORY = """
import warnings, torch, ganrt
class Ramp(torch.nn.Module):
    def forward(self, z, strength):
        ramp = torch.linspace(-1, 1, 8)
        return torch.tanh(z[:, :, None, None] * ramp[:, None] * ramp) * strength[:, None, None, None]
class Frozen(torch.nn.Module):
    def forward(self, z):
        return z.reshape(2, 1, 2, 2)
def spec(*inputs, size=(8, 8)):
    return ganrt.Spec("ramp", (ganrt.Latent("z", (1,)), *inputs), ganrt.Output(1, (-1.0, 1.0), size))
def ramp(strength="1"):
    return Ramp(), spec(ganrt.Scalar("strength", (0.0, 1.0), float(strength)))
def frozen():
    return Frozen(), ganrt.Spec("frozen", (ganrt.Latent("z", (4,)),), ganrt.Output(1, (-1.0, 1.0), (2, 2)))
def wrong_size():
    return Ramp(), spec(ganrt.Scalar("strength", (0.0, 1.0), 1.0), size=(9, 9))
class ChannelsLast(torch.nn.Module):
    def forward(self, x):
        return (x * 0.5).permute(0, 2, 3, 1)
def channels_last():
    picture = ganrt.Image("x", "content", 3, (0.0, 1.0))
    return ChannelsLast(), ganrt.Spec("last", (picture,), ganrt.Output(3, (0.0, 0.5), None))
def nothing():
    return 7
def script():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is on its way out
        return torch.jit.script(Frozen()), frozen()[1]
def angry():
    raise RuntimeError("no weights today")
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"factories_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_module_of_the_users_own(factories: str, tmp_path: Path) -> None:
    bundle = export(f"{factories}:ramp", tmp_path / "ramp.ganrt", config={"strength": "0.5"})
    assert bundle.model is None
    with ganrt.load(tmp_path / "ramp.ganrt") as generator:
        images = generator(z=np.ones((2, 1), np.float32))
        assert images.max() == pytest.approx(0.5 * np.tanh(1.0))
    with pytest.raises(RequestError, match="does not run fp32; it runs only the variant fp32 of ganrt's own families"):
        ganrt.load(tmp_path / "ramp.ganrt", "pytorch")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("frozen", RequestError, "fails with one sample: RuntimeError"),
        ("wrong_size", VerificationError, r"returns float \(batch, 1, 8, 8\); the spec says float \(N, 1, 9, 9\)"),
        (
            "channels_last",
            VerificationError,
            r"returns float \(batch, x_height, x_width, 3\); the spec says float \(N, 3, H, W\); its "
            r"channels are last: return images.permute\(0, 3, 1, 2\)",
        ),
        ("nothing", RequestError, r"returned int; it must return \(torch.nn.Module, ganrt.Spec\)"),
        (
            "script",
            RequestError,
            "returned a TorchScript module; return the module that it was made of, or make an ONNX file",
        ),
        ("absent", RequestError, "cannot be called"),
        ("angry", RequestError, "cannot be called: RuntimeError: no weights today"),
    ],
)
def test_factories_that_do_not_fit(
    factories: str, tmp_path: Path, name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        export(f"{factories}:{name}", tmp_path / "no.ganrt")
    assert not (tmp_path / "no.ganrt").exists()


@pytest.mark.parametrize("source", ["nowhere.pth", "no_such_package:factory", "just words"])
def test_sources_that_are_not_there(source: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"neither a RUN folder|cannot be called"):
        export(source, tmp_path / "no.ganrt")


def test_diverged_weights_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint)
    state["main.0.weight"][0, 0, 0, 0] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(ganrt.CheckpointError, match=r"main\.0\.weight holds values that are not finite"):
        export(str(tmp_path / "nan.pth"), tmp_path / "no.ganrt")


def test_verify_again_keeps_one_record_a_backend(exported: Path) -> None:
    before = Bundle.read(exported)
    found = verify(before, backends="onnxruntime")
    assert found.passed and list(found.proofs) == list(before.variants)
    assert {proof.backend for proofs in found.proofs.values() for proof in proofs} == {"onnxruntime"}
    assert len(found.bundle.variants["fp32"].proofs) == len(before.variants["fp32"].proofs)
    after = Bundle.read(exported)
    assert set(after.files) == {p.name for p in exported.iterdir()} - {"ganrt.json"}


def test_verify_finds_the_wrong_model(exported: Path, tmp_path: Path) -> None:
    """A bundle whose graph is another model, with every digest in order: only the pictures can tell."""
    impostor = tmp_path / "impostor.ganrt"
    impostor.mkdir()
    for file in exported.iterdir():
        (impostor / file.name).write_bytes(file.read_bytes())
    model = onnx.load(impostor / "model.onnx")
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights * 1.1, model.graph.initializer[0].name))
    onnx.save(model, impostor / "model.onnx")
    bundle = dataclasses.replace(Bundle.read(exported), store=FolderStore(impostor)).with_files("model.onnx")
    bundle.write_manifest()

    found = verify(str(impostor), backends=["onnxruntime", "pytorch"])
    assert {name: [(p.backend, p.passed) for p in proofs] for name, proofs in found.proofs.items()} == {
        "fp32": [("onnxruntime", False), ("pytorch", True)],
        "fp32-phases": [("onnxruntime", True)],
    }
    assert not found.passed and len(found.failures) == 1
    assert "fp32 on onnxruntime does not make the original's images" in found.failures[0]
    assert "below 60 dB" in found.failures[0]
    record = Bundle.read(impostor)
    assert any(name.startswith("worst-fp32-onnxruntime") for name in record.files)
    with pytest.raises(UnprovenError, match="does not make the original's images"):
        ganrt.load(impostor, "onnxruntime", variant="fp32")
    with ganrt.load(impostor, "onnxruntime", unproven=True, variant="fp32") as generator:
        assert generator.sample(1).shape == (1, 16, 16, 1)


def test_verify_needs_golden_samples(exported: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.onnx"
    bare.write_bytes((exported / "model.onnx").read_bytes())
    with pytest.raises(RequestError, match="without golden samples"):
        verify(Bundle.read(bare))
