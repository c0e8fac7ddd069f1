"""Files written by ganrt 0.1.0, before its modules were reorganized, are still read and give the same pictures.

`tests/data/first_version` was written by the commit d42a08d.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ganrt
from ganrt import tuned
from ganrt.bench import Report
from ganrt.bundle import Bundle
from ganrt.proof import Proof
from ganrt.training import read_run
from ganrt.tuned import Tuned

DATA = Path(__file__).parents[1] / "data" / "first_version"
VARIANTS = [
    ("dcgan", "fp32"),
    ("dcgan", "fp32-phases"),
    ("dcgan", "fp16-phases"),
    ("dcgan", "int8-phases"),
    ("class3", "fp32"),
    ("class3", "fp32-phases"),
    ("espcn", "fp32"),
]


@pytest.fixture
def pictures() -> Any:
    with np.load(DATA / "pictures.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_bundle_makes_the_same_pictures_byte_for_byte(
    tmp_path: Path, pictures: dict[str, Any], name: str, variant: str
) -> None:
    folder = copy_bundle(name, tmp_path)
    with ganrt.load(folder, backend="onnxruntime", device="cpu", variant=variant) as generator:
        made = generator.transform(pictures["photo"]) if generator.spec.images else generator.sample(8, seed=7)
    assert np.array_equal(made, pictures[f"{name}/{variant}"])


def test_the_proofs_of_a_bundle_are_read(tmp_path: Path) -> None:
    bundle = Bundle.read(copy_bundle("dcgan", tmp_path))
    proofs = [proof for variant in bundle.variants.values() for proof in variant.proofs]
    assert {proof.backend for proof in proofs} == {"onnxruntime", "openvino", "pytorch"}
    assert all(proof.passed and proof.samples == 64 for proof in proofs)
    assert Proof.from_dict(json.loads((DATA / "proof.json").read_bytes())).passed


def test_a_fixed_input_is_read(tmp_path: Path) -> None:
    bundle = Bundle.read(copy_bundle("class3", tmp_path))
    with ganrt.load(bundle.folder, backend="pytorch") as generator, ganrt.load(bundle.folder) as other:
        assert [item.name for item in generator.spec.inputs] == ["z"]
        assert np.abs(generator.sample(4).astype(int) - other.sample(4)).max() <= 1


def test_a_tuned_record_is_found_on_its_machine(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = json.loads((DATA / "tuned.json").read_bytes())
    record = Tuned.from_dict(raw)
    assert len(record.choices) == len(raw["choices"]) and sorted(record.winners) == [1, 8, 32]
    bundle = Bundle.read(copy_bundle("dcgan", tmp_path))
    monkeypatch.setattr(tuned, "cpu_name", lambda: raw_machine()["processor"])
    monkeypatch.setattr(tuned, "usable_cores", lambda: raw_machine()["cores"])
    monkeypatch.setattr(tuned, "nvidia_details", dict)
    monkeypatch.setattr(tuned, "installed_versions", lambda: raw["versions"])
    (cache / "ganrt" / "tuned").mkdir(parents=True)
    shutil.copy(DATA / "tuned.json", cache / "ganrt" / "tuned" / f"{record.key}.json")
    assert tuned.find_record(bundle) == record


@pytest.mark.parametrize("name", ["report.json", "report-pictures.json"])
def test_a_report_is_read(name: str) -> None:
    raw = json.loads((DATA / name).read_bytes())
    report = Report.load(DATA / name)
    assert [m.rounds for m in report.measurements] == [tuple(map(tuple, m["rounds"])) for m in raw["measurements"]]
    assert report.bundle == raw["bundle"] and len(report.warnings) == len(raw["warnings"])
    assert json.loads(report.to_json())["figures"] == raw["figures"]


def test_a_run_is_read() -> None:
    run = read_run(DATA / "run")
    assert (run.family, run.step, run.options.config["width"]) == ("dcgan", 2, 2)


def copy_bundle(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(DATA / f"{name}.ganrt", folder / f"{name}.ganrt"))


def raw_machine() -> dict[str, Any]:
    """The machine that the tuned record was measured on."""
    return dict(json.loads((DATA / "machine.json").read_bytes()))
