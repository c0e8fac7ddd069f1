"""`pack`: what a device needs, proven where it was proven before, smaller, and the same in all that counts."""

from __future__ import annotations

import json
import logging
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.optional import unwrap

import ganrt
from ganrt import trust
from ganrt.bundle import Bundle
from ganrt.errors import BundleError, MachineError, RequestError
from ganrt.export import export, verify
from ganrt.proof import Proof
from ganrt.session_config import SessionConfig
from ganrt.trust import find_refusal, make_refusal


@pytest.fixture(scope="module")
def whole(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with several precisions. Read-only."""
    source, out = bundles["dcgan"].folder / Bundle.WEIGHTS, tmp_path_factory.mktemp("whole") / "whole.ganrt"
    return export(source, out, precisions=("fp16", "int8"), quality=30.0, backends="onnxruntime")


@pytest.fixture(params=["packed.ganrt", "packed.zip"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_a_device_gets_its_variant_and_no_more(whole: Bundle, out: Path) -> None:
    packed = ganrt.pack(whole, out, variants="int8-phases")
    assert packed == Bundle.read(out) and packed.path == out
    assert set(packed.files) == {"README.md", "golden.npz", "model.int8-phases.onnx"} and not packed.find_damage()
    assert list(packed.variants) == ["int8-phases"]
    assert packed.variants["int8-phases"] == whole.variants["int8-phases"]
    assert packed.spec == whole.spec and packed.model == whole.model
    assert packed.provenance == {**whole.provenance, "bundle": out.name}
    assert packed.left_out == {name: whole.files[name] for name in ("golden.npz", "weights.safetensors")}


def test_it_makes_the_same_pictures_without_being_told_the_precision(
    whole: Bundle, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ganrt.pack(whole.folder, out, variants=["int8-phases"])
    with (
        caplog.at_level(logging.INFO),
        ganrt.load(out, "onnxruntime") as packed,
        ganrt.load(whole, "onnxruntime", variant="int8-phases") as before,
    ):
        np.testing.assert_array_equal(packed.sample(9, seed=4), before.sample(9, seed=4))
        assert packed.info.digest == before.info.digest and packed.info.proof == before.info.proof
    assert "proving" not in caplog.text  # the recorded proof holds, though the golden samples are fewer


def test_all_variants_are_packed_by_default(whole: Bundle, out: Path) -> None:
    packed = ganrt.pack(whole, out)
    assert packed.variants == whole.variants and Bundle.WEIGHTS not in packed.files
    with pytest.raises(RequestError, match="the pytorch backend does not run fp32"):
        ganrt.load(out, "pytorch")
    with ganrt.load(out) as generator:
        assert generator.info.config.variant == "fp32-phases"


def test_weights_are_kept_on_request(whole: Bundle, out: Path) -> None:
    packed = ganrt.pack(whole, out, variants="fp32", weights=True)
    assert packed.files[Bundle.WEIGHTS] == whole.files[Bundle.WEIGHTS] and list(packed.left_out) == ["golden.npz"]
    with ganrt.load(out, "pytorch") as packed_generator, ganrt.load(whole, "pytorch") as generator:
        np.testing.assert_array_equal(packed_generator.sample(3), generator.sample(3))


def test_golden_samples_are_two_of_each_run(whole: Bundle, out: Path) -> None:
    packed = unwrap(ganrt.pack(whole, out).read_golden())
    first, exported = packed.groups[0], unwrap(whole.read_golden()).groups[0]
    np.testing.assert_array_equal(first.seeds, exported.seeds)
    assert len(first.images) == 8 and len(exported.images) == 64
    np.testing.assert_array_equal(first.images, exported.images[[0, 1, 16, 17, 32, 33, 48, 49]])


def test_golden_samples_that_are_few_already_stay_as_they_are(whole: Bundle, out: Path, tmp_path: Path) -> None:
    once = ganrt.pack(whole, tmp_path / "once.ganrt")
    twice = ganrt.pack(once, out, variants="fp32")
    assert twice.files["golden.npz"] == once.files["golden.npz"]
    assert twice.left_out == once.left_out  # proofs of the exported bundle still hold
    with ganrt.load(out, "onnxruntime") as generator:
        assert generator.info.proof in whole.variants["fp32"].proofs


def test_another_machine_proves_it_with_the_samples_that_are_there(
    whole: Bundle, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a proof with few samples is not taken for one with all."""
    ganrt.pack(whole, out, variants="fp32")
    monkeypatch.setattr(trust, "cpu_name", lambda: "another processor")
    with ganrt.load(out, "onnxruntime") as generator:
        assert unwrap(generator.info.proof).samples == 8
    with ganrt.load(whole, "onnxruntime", variant="fp32") as generator:
        assert unwrap(generator.info.proof).samples == 64


def test_a_proof_of_the_exported_bundle_in_the_cache_holds(
    whole: Bundle, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ganrt.pack(whole, out, variants="fp32")
    monkeypatch.setattr(trust, "cpu_name", lambda: "another processor")
    ganrt.load(whole, "onnxruntime", variant="fp32").close()
    with ganrt.load(out, "onnxruntime") as generator:
        assert unwrap(generator.info.proof).samples == 64


def test_refusals_hold_too(whole: Bundle, out: Path) -> None:
    config = SessionConfig("openvino", "fp32", "cpu")
    refused = whole.with_proofs("fp32", (make_refusal(whole, config, "cannot load fp32"),))
    packed = ganrt.pack(refused, out, variants="fp32")
    assert unwrap(find_refusal(packed, config)).failures == ("cannot load fp32",)
    other: Proof = make_refusal(packed, config, "cannot load fp32 here")
    assert unwrap(find_refusal(packed.with_proofs("fp32", (other,)), config)).request != other.request


def test_the_card_is_short(whole: Bundle, tmp_path: Path) -> None:
    ganrt.pack(whole, tmp_path / "small.ganrt", variants="int8-phases")
    card = (tmp_path / "small.ganrt" / Bundle.CARD).read_text()
    assert card.startswith("---\nlibrary_name: ganrt\n") and 'ganrt.load("small.ganrt")' in card
    assert "packed for a device:\nint8-phases." in card and "png" not in card and len(card) < 700


def test_one_file_has_the_same_bytes_every_time(whole: Bundle, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ganrt.pack(whole, tmp_path / name / "x.zip", variants="int8-phases")
    assert (tmp_path / "one" / "x.zip").read_bytes() == (tmp_path / "two" / "x.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one" / "x.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["ganrt.json", "README.md", "golden.npz", "model.int8-phases.onnx"]
        assert {(info.compress_type, info.date_time) for info in archive.infolist()} == {(0, (1980, 1, 1, 0, 0, 0))}


def test_one_file_can_be_unpacked_by_hand(whole: Bundle, tmp_path: Path) -> None:
    ganrt.pack(whole, tmp_path / "x.zip", variants="fp32")
    shutil.unpack_archive(tmp_path / "x.zip", tmp_path / "x.ganrt")
    assert replace(Bundle.read(tmp_path / "x.ganrt"), store=Bundle.read(tmp_path / "x.zip").store) == Bundle.read(
        tmp_path / "x.zip"
    )
    ganrt.load(tmp_path / "x.ganrt", "onnxruntime").close()


def test_one_file_is_packed_again_as_a_folder(whole: Bundle, tmp_path: Path) -> None:
    one = ganrt.pack(whole, tmp_path / "x.zip")
    ganrt.pack(one, tmp_path / "y.ganrt", variants="fp16-phases")
    with ganrt.load(tmp_path / "y.ganrt", "onnxruntime", precision="fp16") as generator:
        assert generator.info.precision == "fp16" and generator.info.proof in whole.variants["fp16-phases"].proofs


@pytest.mark.parametrize("edit", ["README.md", "worst", "samples.png"])
def test_an_exported_bundle_is_packed_whatever_happened_to_its_pictures(
    edit: str, whole: Bundle, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole.folder, tmp_path / "edited.ganrt"))
    for path in folder.iterdir():
        if path.name.startswith(edit):
            path.unlink()
    assert not ganrt.pack(folder, tmp_path / "x.zip").find_damage()


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "weights.safetensors"])
def test_a_changed_file_is_not_packed(name: str, whole: Bundle, out: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole.folder, tmp_path / "changed.ganrt"))
    content = bytearray((folder / name).read_bytes())
    content[-9] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{re.escape(name)} was changed"):
        ganrt.pack(folder, out, variants="fp32", weights=True)
    assert not out.exists() and [path.name for path in tmp_path.iterdir()] == ["changed.ganrt"]


@pytest.mark.parametrize("name", ["golden.npz", "model.int8-phases.onnx"])
def test_a_packed_bundle_does_not_load_with_a_changed_weight(name: str, whole: Bundle, tmp_path: Path) -> None:
    ganrt.pack(whole, tmp_path / "x.ganrt", variants="int8-phases")
    path = tmp_path / "x.ganrt" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"{re.escape(name)} was changed"):
        ganrt.load(tmp_path / "x.ganrt", "onnxruntime", threads=1)


def test_what_cannot_be_packed(whole: Bundle, out: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no variant 'int4'; it has fp32"):
        ganrt.pack(whole, out, variants="int4")
    with pytest.raises(RequestError, match=r"model\.onnx has no golden samples to prove a device with"):
        ganrt.pack(whole.folder / "model.onnx", out)
    with pytest.raises(RequestError, match="the weights are for the variant fp32 on pytorch"):
        ganrt.pack(whole, out, variants="int8-phases", weights=True)
    without = ganrt.pack(whole, tmp_path / "without.ganrt")
    with pytest.raises(RequestError, match=r"without\.ganrt has to hold them"):
        ganrt.pack(without, out, weights=True)
    assert not out.exists()


def test_what_is_there_is_replaced_on_request_only(whole: Bundle, out: Path, tmp_path: Path) -> None:
    ganrt.pack(whole, out, variants="fp32")
    with pytest.raises(RequestError, match="exists already; choose another name, or add --overwrite"):
        ganrt.pack(whole, out)
    ganrt.pack(whole, out, variants="fp16-phases", overwrite=True)
    assert list(Bundle.read(out).variants) == ["fp16-phases"]
    ganrt.pack(out, out, overwrite=True)  # in its own place
    assert list(Bundle.read(out).variants) == ["fp16-phases"]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_other_folders_and_files_are_not_replaced(whole: Bundle, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(RequestError, match="was not made by this command"):
        ganrt.pack(whole, tmp_path / "mine", overwrite=True)
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(RequestError, match=r"folder\.zip is not a file"):
        ganrt.pack(whole, tmp_path / "folder.zip", overwrite=True)
    with pytest.raises(MachineError, match="cannot be written"):
        ganrt.pack(whole, "/proc/x.zip")


def test_verify_leaves_one_file_as_it_is_and_keeps_the_proofs_in_the_cache(
    whole: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ganrt.pack(whole, tmp_path / "x.zip", variants="int8-phases")
    content = (tmp_path / "x.zip").read_bytes()
    monkeypatch.setattr(trust, "cpu_name", lambda: "another processor")
    lines: list[str] = []
    found = verify(tmp_path / "x.zip", backends="onnxruntime", progress=lines.append)
    assert found.passed and found.proofs["int8-phases"][0].samples == 8
    assert any("x.zip cannot be changed: the proofs go to this user's cache" in line for line in lines)
    assert (tmp_path / "x.zip").read_bytes() == content
    with caplog.at_level(logging.INFO), ganrt.load(tmp_path / "x.zip", "onnxruntime") as generator:
        assert unwrap(generator.info.proof).key == found.proofs["int8-phases"][0].key
    assert "proving" not in caplog.text


def test_verify_adds_proofs_but_no_pictures_to_a_packed_folder(whole: Bundle, tmp_path: Path) -> None:
    packed = ganrt.pack(whole, tmp_path / "x.ganrt", variants="fp32")
    card = (tmp_path / "x.ganrt" / Bundle.CARD).read_text()
    assert verify(tmp_path / "x.ganrt", backends=["onnxruntime", "openvino"]).passed
    after = Bundle.read(tmp_path / "x.ganrt")
    assert after.files == packed.files and (tmp_path / "x.ganrt" / Bundle.CARD).read_text() == card
    assert {proof.backend for proof in after.variants["fp32"].proofs} == {"onnxruntime", "openvino"}
    assert after.left_out == packed.left_out


def test_an_older_manifest_has_nothing_left_out(whole: Bundle, tmp_path: Path) -> None:
    packed = ganrt.pack(whole, tmp_path / "x.ganrt", variants="fp32")
    assert "left_out" not in json.loads((whole.folder / "ganrt.json").read_text()) and not whole.left_out
    assert packed.digest("fp32") == whole.digest("fp32")
