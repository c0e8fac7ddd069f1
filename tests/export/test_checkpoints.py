"""Checkpoints are recognised by keys and shapes, read without executing anything, and refused with the reason."""

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden_cases import load_golden_case
from safetensors.torch import save_file

from ganrt.errors import CheckpointError
from ganrt.export.sources import recognize
from ganrt.models import FAMILIES, build_generator, get_family
from ganrt.models.unpickle import read_state


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return build_generator("dcgan", {"size": 16, "width": 4, "latent": 6, "channels": 1}).state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_reads_every_container(tmp_path: Path, state: dict[str, torch.Tensor], suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    found = recognize(read_state(path), path)
    assert found.family.name == "dcgan"
    assert found.family.settings(found.config) == {"size": 16, "width": 4, "latent": 6, "channels": 1}
    assert all(torch.equal(found.state[key], state[key]) for key in state)


@pytest.mark.parametrize("wrapper", ["params_ema", "state_dict", "generator", None])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_unwraps_what_training_scripts_write(
    tmp_path: Path, state: dict[str, torch.Tensor], wrapper: str | None, prefix: str
) -> None:
    renamed = {prefix + key: value for key, value in state.items()}
    torch.save({wrapper: renamed, "epoch": 3} if wrapper else renamed, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth").keys() == state.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_recognises_its_own_default(name: str) -> None:
    family = get_family(name)
    found = recognize(family.generator(family.config()).state_dict(), Path("own.pth"))
    assert (found.family.name, found.config) == (name, family.config())


def test_counters_of_old_checkpoints_may_be_missing(state: dict[str, torch.Tensor]) -> None:
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert recognize(old, Path("old.pth")).family.name == "dcgan"


@pytest.mark.parametrize("part", ["generator.", "netG.", "G_ema.", "model."])
def test_the_generator_is_found_among_other_networks(state: dict[str, torch.Tensor], part: str) -> None:
    discriminator = {f"netD.{key}": value for key, value in _make_discriminator().items()}
    averaged = {f"ema.{key}": value + 1 for key, value in state.items()} if part == "generator." else {}
    generator = {part + key: value for key, value in state.items()}
    found = recognize({**discriminator, **generator, **averaged}, Path("x.ckpt"))
    assert found.family.name == "dcgan" and found.part == ("ema." if averaged else part)
    wanted = {key: value + 1 for key, value in state.items()} if averaged else state
    assert all(torch.equal(found.state[key], wanted[key]) for key in wanted)


def _make_discriminator() -> dict[str, torch.Tensor]:
    family = get_family("dcgan")
    assert family.discriminator is not None
    return family.discriminator(family.configure({"size": 16, "width": 4})).state_dict()


def test_a_checkpoint_that_shares_no_key_has_no_nearest_family() -> None:
    with pytest.raises(CheckpointError) as caught:
        recognize({"blablabla.weight": torch.zeros(3)}, Path("x.pth"))
    assert str(caught.value) == (
        "x.pth is no checkpoint of a family that ganrt knows. None shares a key with it. Pass the module itself: "
        "package.module:factory, a function that returns it with a ganrt.Spec, or an ONNX file of it"
    )


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, (f"open({str(self.marker)!r}, 'w').close()",))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path, legacy: bool) -> None:
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    if legacy:
        path.write_bytes(pickle.dumps({"weight": _Payload(marker)}, protocol=2))
    else:
        torch.save({"weight": _Payload(marker)}, path)
    with pytest.raises(CheckpointError, match=r"evil.pth was refused, and nothing in it was executed.*it names .*eval"):
        read_state(path)
    assert not marker.exists()


def test_another_architecture_names_the_nearest_family_and_the_keys(state: dict[str, torch.Tensor]) -> None:
    other = dict(state)
    del other["main.1.running_mean"]
    other["main.99.weight"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        recognize(other, Path("other.pth"))
    message = str(caught.value)
    assert "nearest is dcgan of pytorch/examples (size=16" in message
    assert "1 keys missing (main.1.running_mean)" in message
    assert "1 keys unexpected (main.99.weight)" in message


def test_a_foreign_model_is_compared_with_a_default() -> None:
    with pytest.raises(
        CheckpointError, match=r"no checkpoint of a family.*nearest is mlp .*1 keys unexpected \(fc.bias\)"
    ):
        recognize({"main.2.bias": torch.zeros(2), "fc.bias": torch.zeros(2)}, Path("classifier.pth"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pth", b"", "cannot be read as a PyTorch checkpoint"),
        ("noise.pth", bytes(range(256)) * 4, "empty|cannot be read|refused"),
        ("cut.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{", "cannot be read as safetensors"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_state(tmp_path / name)


def test_a_truncated_checkpoint(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"cut.pth cannot be read"):
        read_state(tmp_path / "cut.pth")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"weight": torch.zeros(1), "name": "x"}, torch.zeros(2)])
def test_files_without_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_state(tmp_path / "none.pth")


def test_the_original_projects_outputs(tmp_path: Path) -> None:
    """pytorch/examples: its own code computed the outputs."""
    path, inputs, expected = load_golden_case("dcgan", tmp_path)
    found = recognize(read_state(path), path)
    assert found.family.settings(found.config) == {"size": 64, "channels": 3, "latent": 100, "width": 16}
    module = found.family.generator(found.config).eval()
    module.load_state_dict(found.state)
    with torch.inference_mode():
        assert np.abs(module(torch.from_numpy(inputs["z"])).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("legacy", [True, False])
def test_any_damage_is_refused_in_one_way(tmp_path: Path, state: dict[str, torch.Tensor], legacy: bool) -> None:
    """Flipped bytes anywhere give either a checkpoint or a CheckpointError, never another exception."""
    torch.save(state, tmp_path / "whole.pth", _use_new_zipfile_serialization=not legacy)
    content = (tmp_path / "whole.pth").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for place in random.integers(0, min(len(content), 4000), 3):
            damaged[place] = random.integers(256)
        (tmp_path / "damaged.pth").write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            read_state(tmp_path / "damaged.pth")


@pytest.mark.parametrize("content", [b"", b"hello", b"{}", b"\x80"])
def test_what_is_no_checkpoint_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth (cannot be read|was refused|is a text file)"):
        read_state(tmp_path / "x.pth")
