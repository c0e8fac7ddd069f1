"""Bundles: what was written is read back, and anything else is rejected with a reason."""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.manifests import edit_manifest
from hypothesis import given
from hypothesis import strategies as st

import ganrt
from ganrt.bundle import METADATA_KEY, Bundle, Variant
from ganrt.errors import BundleError, RequestError
from ganrt.json_reader import parse_json
from ganrt.proof import Proof

FILES = ["ganrt.json", "model.onnx", "golden.npz", "weights.safetensors", "README.md", "samples.png"]
PROOF = Proof("key", "onnxruntime", "cpu", "fp32", {"onnxruntime": "1.0"}, 64, 99.0, 120.0, 1e-6, ())


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of a bundle that a test may damage."""
    return Path(shutil.copytree(bundle.folder, tmp_path / "tiny.ganrt"))


def test_a_bundle_that_was_read_is_used_as_it_is(folder: Path) -> None:
    read = Bundle.of(str(folder))
    assert read == Bundle.read(folder) and Bundle.of(read) is read


def test_a_bundle_is_read_as_it_was_written(folder: Path, bundle: Bundle) -> None:
    found = Bundle.read(folder)
    assert replace(found, store=bundle.store) == bundle == Bundle.read(str(bundle.folder))
    before = (folder / "ganrt.json").read_bytes()
    found.write_manifest()
    assert (folder / "ganrt.json").read_bytes() == before


def test_every_file_is_listed(bundle: Bundle) -> None:
    assert set(FILES) <= {*bundle.files, "ganrt.json"}
    assert {item.name for item in bundle.folder.iterdir()} == {*bundle.files, "ganrt.json"}


def use(folder: Path, name: str) -> None:
    """Read a bundle and use one of its files."""
    found = Bundle.read(folder)
    if name != "ganrt.json":
        assert found.locate(name) == folder / name


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("bit", [0, 5, 7])
def test_a_flipped_bit_in_any_file_is_found(name: str, bit: int, folder: Path) -> None:
    path = folder / name
    content = path.read_bytes()
    for place in np.unique(np.linspace(0, len(content) - 1, 40).astype(int)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            use(folder, name)


def test_any_changed_byte_of_a_manifest_is_found(folder: Path) -> None:
    """Also those that JSON would read as the same: the e of an exponent, spaces, the newline at the end."""
    path = folder / "ganrt.json"
    edit_manifest(folder, lambda raw: raw.update(provenance={"rate": 1e-05, "name": "é"}))
    content = path.read_bytes()
    Bundle.read(folder)
    for place in range(content.index(b'"provenance"'), len(content)):
        for change in (content[place] ^ 0x20, 0x20):
            if change != content[place]:
                path.write_bytes(content[:place] + bytes([change]) + content[place + 1 :])
                with pytest.raises(BundleError):
                    Bundle.read(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_found(name: str, keep: float, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        use(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"({name} cannot be read|it has no {name})"):
        use(folder, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["folder", "device", "dangling link"])
def test_only_regular_files_are_read(name: str, kind: str, folder: Path) -> None:
    path = folder / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        use(folder, name)


def test_a_device_of_the_right_size_is_rejected(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/dev/null")
    empty = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    edit_manifest(folder, lambda raw: raw["files"].update({"README.md": empty}))
    with pytest.raises(BundleError, match=r"README\.md is not a regular file"):
        use(folder, "README.md")


def test_links_to_good_files_are_followed(folder: Path, tmp_path: Path) -> None:
    """Caches of model hubs are made of links."""
    for name in FILES:
        (folder / name).rename(tmp_path / f"blob-{name}")
        (folder / name).symlink_to(tmp_path / f"blob-{name}")
    for name in FILES:
        use(folder, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "is not a bundle: there is nothing where a folder with ganrt.json should be"),
        ("file", "is not a bundle: there is a file where"),
        ("empty", r"empty is not a bundle: it has no ganrt\.json"),
        ("x" * 300, "cannot be read|is not a bundle"),
        ("new\0line", "is not a bundle|cannot be read"),
        ("missing.onnx", "is not a bundle: there is nothing"),
    ],
)
def test_a_path_that_is_not_a_bundle(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=message):
        Bundle.read(tmp_path / name)


def test_a_newer_format_is_reported_first(folder: Path) -> None:
    (folder / "ganrt.json").write_text('{"format": 5, "sha256": "of another kind", "anything": []}')
    with pytest.raises(BundleError, match="has format 5; this ganrt reads up to 4: update ganrt"):
        Bundle.read(folder)


MANIFESTS = {
    "empty": b"",
    "a list": b"[]",
    "a number": b"1",
    "no format": b"{}",
    "format of another type": b'{"format": "1"}',
    "true is no format": b'{"format": false}',
    "NaN": b'{"format": NaN}',
    "infinity": b'{"format": -Infinity}',
    "too large a number": b'{"format": 1, "x": 1e999}',
    "too long a number": b'{"format": 1, "x": ' + b"9" * 10_000 + b"}",
    "deep list": b'{"format": 1, "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    "bottomless list": b"[" * 10**6,
    "bottomless object": b'{"a":' * 10**6,
    "a repeated key": b'{"format": 1, "format": 1}',
    "not UTF-8": b'{"format": "\xff"}',
    "UTF-16": '{"format": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half a character": b'{"format": 1, "x": "\\ud800"}',
}


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS)
def test_hostile_json_is_rejected(content: bytes, folder: Path) -> None:
    (folder / "ganrt.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"ganrt\.json (is damaged|is not a manifest|was changed)"):
        Bundle.read(folder)


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    with (folder / "ganrt.json").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(BundleError, match=r"ganrt\.json is larger than 16777216 bytes, the limit"):
        Bundle.read(folder)


def rename_file(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw["files"].update({name: raw["files"]["model.onnx"]})


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no files": (lambda raw: raw.pop("files"), "is incomplete: KeyError"),
    "files as a list": (lambda raw: raw.update(files=[]), "is incomplete"),
    "size as text": (lambda raw: raw["files"]["model.onnx"].update(size="large"), "is incomplete"),
    "no spec": (lambda raw: raw.pop("spec"), "is incomplete: KeyError"),
    "a wrong spec": (lambda raw: raw["spec"]["output"].update(channels=2), "spec.output is not valid"),
    "a newer spec": (lambda raw: raw["spec"]["output"].update(depth=16), r"unknown keys \['depth'\]"),
    "no variant": (lambda raw: raw.update(variants={}), "has no variant"),
    "an unknown precision": (
        lambda raw: raw["variants"].update({"fp4-x": {**raw["variants"]["fp32"], "precision": "fp4"}}),
        "variants of the unknown precision 'fp4': update ganrt",
    ),
    "a variant with a name that is none": (
        lambda raw: raw["variants"].update({"../fp32": raw["variants"]["fp32"]}),
        "lists a variant '../fp32'; a name is a precision, or precision-form",
    ),
    "a graph that is not listed": (
        lambda raw: raw["variants"]["fp32"].update(file="other.onnx"),
        "names the graph 'other.onnx' but not its digest",
    ),
    "a graph that is a list": (lambda raw: raw["variants"]["fp32"].update(file=[]), "is incomplete"),
    "a proof without a verdict": (
        lambda raw: raw["variants"]["fp32"]["proofs"][0].pop("failures"),
        "proof lacks failures",
    ),
    "a proof with more": (
        lambda raw: raw["variants"]["fp32"]["proofs"][0].update(x=1),
        r"proof has the unknown keys \['x'\]",
    ),
    "model as text": (lambda raw: raw.update(model="dcgan"), "is incomplete"),
    "model without config": (lambda raw: raw.update(model={"family": "dcgan"}), "is incomplete"),
    "provenance as a list": (lambda raw: raw.update(provenance=[1]), "is incomplete"),
} | {
    f"file {name!r:.20}": (rename_file(name), "which is not a plain file name")
    for name in (
        "../model.onnx",
        "/etc/passwd",
        "a/b",
        "..",
        "",
        ".hidden",
        "a\\b",
        "a\0b",
        "ganrt.json",
        "\ud800",
        "x" * 300,
    )
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_an_invalid_manifest_is_rejected(
    change: Callable[[dict[str, Any]], object], message: str, folder: Path
) -> None:
    edit_manifest(folder, change)
    with pytest.raises(BundleError, match=message):
        Bundle.read(folder)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(raw: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of parsed JSON."""
    if not isinstance(raw, dict | list):
        return []
    keys = list(raw) if isinstance(raw, dict) else list(range(len(raw)))
    return [(raw, key) for key in keys] + [found for key in keys for found in places(raw[key])]


@given(st.data())
def test_any_change_of_a_manifest_is_read_or_rejected(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("changed") / "tiny.ganrt"
    shutil.copytree(bundle.folder, folder)

    def change(raw: dict[str, Any]) -> None:
        container, key = data.draw(st.sampled_from(places(copy.copy(raw))))
        container[key] = data.draw(json_values)

    edit_manifest(folder, change)
    try:
        found = Bundle.read(folder)
        found.write_manifest()
    except BundleError as error:
        assert len(str(error)) < 2000


def test_an_unknown_variant_is_named(bundle: Bundle) -> None:
    with pytest.raises(RequestError, match="has no variant 'int8-phases'; it has fp32"):
        bundle.variant("int8-phases")
    with pytest.raises(RequestError, match="has no int8 variant; it has fp32"):
        bundle.in_precision("int8")


def test_variants_with_fewer_macs_come_before_the_traced_graph_and_others_after_it(bundle: Bundle) -> None:
    traced = bundle.variants["fp32"]
    fast, other = replace(traced, passes=("phases",), fewer_macs=True), replace(traced, passes=("matrix",))
    several = replace(bundle, variants={"fp32-x": other, "fp32": traced, "fp32-phases": fast, "fp32-subpixel": fast})
    assert several.in_precision("fp32") == ["fp32-phases", "fp32-subpixel", "fp32", "fp32-x"]


def test_fewer_idle_lanes_count_on_a_cpu_alone(bundle: Bundle) -> None:
    traced = bundle.variants["fp32"]
    packed = replace(traced, passes=("phases", "packing"))
    both = replace(bundle, variants={"fp32": traced, "fp32-phases": packed})
    assert both.in_precision("fp32") == ["fp32-phases", "fp32"]
    assert both.in_precision("fp32", gpu=True) == ["fp32", "fp32-phases"]


def test_variants_made_for_gpus_are_tried_there_unless_another_has_fewer_macs(bundle: Bundle) -> None:
    form = replace(bundle.variants["fp32"], precision="fp16", passes=("phases",))
    traced = replace(form, passes=(), for_gpu=True)

    def order(form: Variant, gpu: bool) -> list[str]:
        return replace(bundle, variants={"fp16-phases": form, "fp16-traced": traced}).in_precision("fp16", gpu)

    assert order(form, False) == ["fp16-phases"]
    assert order(form, True) == ["fp16-traced", "fp16-phases"]
    assert order(replace(form, fewer_macs=True), True) == ["fp16-phases", "fp16-traced"]


def test_a_bundle_for_gpus_alone_says_so_on_a_cpu(bundle: Bundle) -> None:
    half = replace(bundle.variants["fp32"], precision="fp16")
    mixed = replace(half, precision="int8", for_gpu=True)
    only = replace(bundle, variants={"fp16-phases": half, "int8-half-traced": mixed})
    with pytest.raises(RequestError, match="no fp32 variant; it has fp16, int8, made for GPUs: a CPU only emulates"):
        ganrt.load(only, device="cpu")
    with pytest.raises(RequestError, match=r"it has fp16, int8$"):
        only.in_precision("fp32", gpu=True)
    for_cpu = replace(only, variants={**only.variants, "int8": replace(half, precision="int8")})
    with pytest.raises(RequestError, match=r"it has fp16, int8$"):
        for_cpu.in_precision("fp32")


def test_what_is_for_gpus_alone_must_be_named_elsewhere(bundle: Bundle) -> None:
    made = replace(bundle.variants["fp32"], precision="fp8", for_gpu=True)
    only = replace(bundle, variants={**bundle.variants, "fp8-traced": made})
    assert only.in_precision("fp8", gpu=True) == ["fp8-traced"]
    with pytest.raises(RequestError, match="has fp8 for NVIDIA GPUs only: fp8-traced; name the variant"):
        only.in_precision("fp8")


def test_a_variant_survives_the_manifest(folder: Path) -> None:
    bundle = Bundle.read(folder)
    notes = {"kept in float32": [{"layer": "conv", "because": "48.1 dB without it"}]}
    added = replace(bundle.variants["fp32"], precision="int8", fewer_macs=True, passes=("phases", "int8"), notes=notes)
    half = replace(added, for_gpu=True)
    replace(bundle, variants={**bundle.variants, "int8-phases": added, "int8-half-phases": half}).write_manifest()
    found = Bundle.read(folder).variants
    assert found["int8-phases"] == added and found["int8-half-phases"] == half


def test_bundles_of_format_1_are_read(folder: Path) -> None:
    def age(raw: dict[str, Any]) -> None:
        raw["format"] = 1
        raw["variants"] = {"fp32": raw["variants"]["fp32"]}
        for key in ("precision", "fewer_macs", "for_gpu", "notes"):
            del raw["variants"]["fp32"][key]

    before = Bundle.read(folder)
    edit_manifest(folder, age)
    assert Bundle.read(folder).variants == {"fp32": before.variants["fp32"]}


def test_proofs_are_kept_one_per_key(folder: Path) -> None:
    newer = replace(PROOF, worst_psnr=77.0)
    bundle = Bundle.read(folder).with_proofs("fp32", (PROOF,)).with_proofs("fp32", (newer,))
    bundle.write_manifest()
    proofs = Bundle.read(folder).variants["fp32"].proofs
    assert [proof for proof in proofs if proof.key == "key"] == [newer]
    assert len(proofs) == len(bundle.variants["fp32"].proofs) > 1


def test_the_digest_covers_graph_external_data_and_weights(folder: Path) -> None:
    bundle = Bundle.read(folder)
    digests = {bundle.digest("fp32")}
    for name in ("model.onnx", "weights.safetensors", "model.onnx.data"):
        (folder / name).write_bytes(b"other")
        digests.add(bundle.with_files(name).digest("fp32"))
    (folder / "README.md").write_text("other")
    assert bundle.with_files("README.md").digest("fp32") in digests
    assert len(digests) == 4


@pytest.mark.parametrize("provenance", [{"loss": float("nan")}, {"loss": float("inf")}])
def test_a_manifest_that_is_not_json_is_not_written(provenance: dict[str, Any], folder: Path) -> None:
    before = (folder / "ganrt.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(Bundle.read(folder), provenance=provenance).write_manifest()
    assert (folder / "ganrt.json").read_bytes() == before


def bare(bundle: Bundle, path: Path, **metadata: str) -> Path:
    model = onnx.load(bundle.onnx("fp32"))
    found = {entry.key: entry.value for entry in model.metadata_props} | metadata
    onnx.helper.set_model_props(model, {key: value for key, value in found.items() if value})
    onnx.save(model, path)
    return path


def test_a_bare_onnx_file_is_a_bundle_without_goldens(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copy(bundle.onnx("fp32"), tmp_path / "digits.onnx")
    found = Bundle.read(tmp_path / "digits.onnx")
    assert found.spec == bundle.spec
    assert found.onnx("fp32") == tmp_path / "digits.onnx"
    assert found.read_golden() is None


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({METADATA_KEY: ""}, "has no Spec of ganrt in its metadata; export the model with `ganrt export`"),
        ({METADATA_KEY: "{"}, r"the Spec in .*digits\.onnx is damaged"),
        ({METADATA_KEY: "[" * 10**5}, r"the Spec in .*digits\.onnx is damaged"),
        ({METADATA_KEY: "{}"}, "it needs family"),
        ({"ganrt.precision": "fp4"}, "has the unknown precision 'fp4': update ganrt"),
    ],
)
def test_a_bare_onnx_file_with_other_metadata(
    metadata: dict[str, str], message: str, bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=message):
        Bundle.read(bare(bundle, tmp_path / "digits.onnx", **metadata))


@pytest.mark.parametrize("size", [0, 1, 100, 2**31 + 1])
def test_a_bare_file_that_is_not_onnx(size: int, tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(size)
    with pytest.raises(BundleError, match=r"model\.onnx"):
        Bundle.read(tmp_path / "model.onnx")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_untrusted_json_is_parsed_or_rejected(content: bytes) -> None:
    try:
        json.dumps(parse_json(content, "a file", BundleError), allow_nan=False)
    except BundleError as error:
        assert str(error).startswith("a file is damaged")
