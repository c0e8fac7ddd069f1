"""The proof that covers a session: from the bundle, from the cache, or a new one."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import backends
from fakes.bundles import GRAPH, write_bundle
from fakes.sessions import FakeSession

import ganrt
from ganrt import trust
from ganrt.backend import Session, open_session
from ganrt.bundle import Bundle
from ganrt.cache import cache_folder
from ganrt.errors import UnprovenError
from ganrt.feeds import Array, Feeds
from ganrt.proof import Proof
from ganrt.proving import prove
from ganrt.session_config import SessionConfig
from ganrt.stores import FolderStore


@pytest.fixture
def unproven(tmp_path: Path) -> Bundle:
    """A bundle of the NumPy model without proofs."""
    return write_bundle(tmp_path)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of new proofs."""
    keys: list[str] = []

    def record(session: Session, spec: Any, golden: Any, key: str) -> Any:
        keys.append(key)
        return prove(session, spec, golden, key)

    monkeypatch.setattr(trust, "prove", record)
    return keys


class Black(FakeSession):
    """Makes black images, under the key of a `FakeSession`."""

    def run(self, feeds: Feeds) -> Array:
        return np.full_like(super().run(feeds), -1)


def test_a_machine_proves_once(unproven: Bundle, made: list[str]) -> None:
    first = trust.require_proof(unproven, "fp32", FakeSession())
    assert first.passed
    assert trust.require_proof(unproven, "fp32", FakeSession()) == first
    assert len(made) == 1


def memory(cache: Path) -> Path:
    return next(cache.rglob("*.json"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\x00" * 99, b'{"key": "other", "failures": []}'])
def test_a_damaged_proof_in_the_cache_is_replaced(
    content: bytes, unproven: Bundle, made: list[str], cache: Path
) -> None:
    first = trust.require_proof(unproven, "fp32", FakeSession())
    memory(cache).write_bytes(content)
    assert trust.require_proof(unproven, "fp32", FakeSession()) == first
    assert len(made) == 2
    assert trust.require_proof(unproven, "fp32", FakeSession()) == first
    assert len(made) == 2


def test_a_cached_proof_must_have_the_key_of_its_file(unproven: Bundle, made: list[str], cache: Path) -> None:
    trust.require_proof(unproven, "fp32", FakeSession())
    content = memory(cache).read_text()
    memory(cache).write_text(content.replace(made[0], "0" * 64))
    trust.require_proof(unproven, "fp32", FakeSession())
    assert len(made) == 2


def test_a_proof_that_cannot_be_cached_is_made_again(
    unproven: Bundle, made: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    for _ in range(2):
        assert trust.require_proof(unproven, "fp32", FakeSession()).passed
    assert len(made) == 2


def change_session(session: Session, **changes: object) -> Session:
    """A copy of the session with other attributes."""
    changed = copy.copy(session)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def changed_bundle(bundle: Bundle, name: str) -> Bundle:
    """The bundle with other bytes in one of its files."""
    return replace(bundle, files={**bundle.files, name: replace(bundle.files[name], sha256="0" * 64)})


def other_keys(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, session: Session | None = None) -> dict[str, str]:
    """What differs -> the key that a proof of the session has then; by default that of the fake one."""
    session = session or FakeSession()
    spec = replace(bundle.spec, output=replace(bundle.spec.output, range=(0.0, 1.0)))
    keys = {
        "graph": trust.proof_key(changed_bundle(bundle, GRAPH), "fp32", session),
        "weights": trust.proof_key(changed_bundle(bundle, Bundle.WEIGHTS), "fp32", session),
        "golden samples": trust.proof_key(changed_bundle(bundle, Bundle.GOLDEN), "fp32", session),
        "spec": trust.proof_key(replace(bundle, spec=spec), "fp32", session),
        "backend": trust.proof_key(bundle, "fp32", change_session(session, backend="other")),
        "device": trust.proof_key(bundle, "fp32", change_session(session, device="cuda:0")),
        "precision": trust.proof_key(bundle, "fp32", change_session(session, precision="fp16")),
        "library version": trust.proof_key(bundle, "fp32", change_session(session, details={"fake": "0.1"})),
    }
    with monkeypatch.context() as patch:
        patch.setattr(trust, "cpu_name", lambda: "another processor")
        keys["processor"] = trust.proof_key(bundle, "fp32", session)
    return keys


def passing(bundle: Bundle, key: str) -> Proof:
    golden = bundle.read_golden()
    assert golden is not None
    proof = prove(FakeSession(), bundle.spec, golden, key).proof
    assert proof.passed
    return proof


def test_the_key_covers_all_that_a_result_depends_on(unproven: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = other_keys(unproven, monkeypatch)
    assert len({*keys.values(), trust.proof_key(unproven, "fp32", FakeSession())}) == len(keys) + 1


def test_passing_proofs_of_anything_else_do_not_cover_a_session(
    unproven: Bundle, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record full of proofs of other backends, machines, versions and bytes: the session is proven again."""
    others = tuple(passing(unproven, key) for key in other_keys(unproven, monkeypatch).values())
    full = unproven.with_proofs("fp32", others)
    with pytest.raises(UnprovenError, match="does not make the original's images"):
        trust.require_proof(full, "fp32", Black())
    assert made == [trust.proof_key(unproven, "fp32", FakeSession())]


@pytest.mark.parametrize("kind", [backends.GOOD, backends.OTHER_PICTURES])
@pytest.mark.parametrize("failures", [(), ("sample 3 is flat",)])
def test_load_uses_no_proof_of_anything_else(
    kind: str, failures: tuple[str, ...], unproven: Bundle, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record and the cache are full of proofs of other backends, machines, versions, precisions and bytes."""
    backends.install(monkeypatch, fake=kind)
    session = open_session(unproven, SessionConfig("fake"))
    keys = other_keys(unproven, monkeypatch, session).values()
    foreign = [replace(passing(unproven, key), backend="fake", failures=failures, request=key) for key in keys]
    for proof in foreign:
        (cache_folder("proofs") / f"{proof.key}.json").write_text(json.dumps(proof.to_dict()))
    full = unproven.with_proofs("fp32", tuple(foreign))
    assert len(full.variants["fp32"].proofs) == len(foreign) == 9
    own = trust.proof_key(full, "fp32", session)
    if kind == backends.GOOD:
        with ganrt.load(full) as generator:
            assert generator.info.proof is not None and generator.info.proof.key == own
    else:
        with pytest.raises(UnprovenError, match="samples are below 60 dB"):
            ganrt.load(full)
    assert made == [own]


@pytest.mark.parametrize("place", [0, 4, 9])
def test_the_proof_of_the_session_is_found_among_those_of_others(
    place: int, unproven: Bundle, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [replace(passing(unproven, k), failures=("flat",)) for k in other_keys(unproven, monkeypatch).values()]
    own = passing(unproven, trust.proof_key(unproven, "fp32", FakeSession()))
    full = unproven.with_proofs("fp32", (*failed[:place], own, *failed[place:]))
    assert trust.require_proof(full, "fp32", FakeSession()) == own
    assert not made


def test_a_failed_proof_in_the_record_is_final(unproven: Bundle, made: list[str]) -> None:
    key = trust.proof_key(unproven, "fp32", FakeSession())
    failed = replace(passing(unproven, key), failures=("sample 3 is flat",))
    with pytest.raises(UnprovenError, match=r" on fake does not .*: sample 3 is flat\. .* unproven=True"):
        trust.require_proof(unproven.with_proofs("fp32", (failed,)), "fp32", FakeSession())
    assert not made


def test_the_proofs_of_the_exporting_machine_are_enough(bundle: Bundle, made: list[str]) -> None:
    with open_session(bundle, SessionConfig("onnxruntime", device="cpu")) as session:
        assert trust.require_proof(bundle, "fp32", session).passed
    assert not made


@pytest.fixture
def unrecorded(bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of an exported bundle without its proofs, as another machine sees it."""
    copied = replace(bundle, store=FolderStore(Path(shutil.copytree(bundle.folder, tmp_path / "tiny.ganrt"))))
    copied = replace(copied, variants={"fp32": replace(copied.variants["fp32"], proofs=())})
    copied.write_manifest()
    return copied


@pytest.fixture
def black_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime makes black images."""
    from ganrt.backends import onnxruntime

    def run(self: Session, feeds: Feeds) -> Array:
        return np.full((len(feeds["z"]), 3, 16, 16), -1, np.float32)

    monkeypatch.setattr(onnxruntime._CpuSession, "run", run)


@pytest.mark.usefixtures("black_onnxruntime")
def test_a_failed_proof_is_an_error_and_is_cached(unrecorded: Bundle, made: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(
            UnprovenError, match=r"does not make the original's images: sample 0 is flat .* unproven=True"
        ):
            ganrt.load(unrecorded.folder, "onnxruntime")
    assert len(made) == 1


@pytest.mark.usefixtures("black_onnxruntime")
def test_unproven_true_loads_a_variant_that_fails(unrecorded: Bundle) -> None:
    with ganrt.load(unrecorded.folder, "onnxruntime", unproven=True) as generator:
        assert not generator.sample(1).any()


@pytest.mark.usefixtures("black_onnxruntime")
def test_auto_skips_a_backend_that_fails(unrecorded: Bundle) -> None:
    with ganrt.load(unrecorded.folder) as generator:
        assert generator.session.backend == "openvino"


def test_a_bare_onnx_file_cannot_be_proven(bundle: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.copy(bundle.onnx("fp32"), tmp_path / "tiny.onnx"))
    with pytest.raises(UnprovenError, match="has no golden samples to compare with"):
        ganrt.load(path, "onnxruntime")
    with pytest.raises(UnprovenError, match="has no golden samples") as caught:
        ganrt.load(path)
    assert str(caught.value).count("no golden samples") == 1
    with ganrt.load(path, unproven=True) as generator, ganrt.load(bundle.folder) as whole:
        np.testing.assert_array_equal(generator.sample(3, seed=1), whole.sample(3, seed=1))


def test_the_failed_proof_of_an_engine_that_can_be_refitted_has_a_hint(unproven: Bundle) -> None:
    """TensorRT 11.3 may drop the bias of a matrix product in such an engine."""
    session = Black()
    session.details = {**session.details, "refittable": "yes"}
    with pytest.raises(UnprovenError, match="may drop the bias of a Gemm in an engine built with --refit: build it"):
        trust.require_proof(unproven, "fp32", session)
    session.details = dict(FakeSession().details)
    with pytest.raises(UnprovenError, match="pass unproven=True to use it anyway"):
        trust.require_proof(unproven, "fp32", session)
