"""Which proof covers a session: the bundle's record, this machine's memory, or a new one."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ganrt
from ganrt import trust
from ganrt.backend import Session, open_session
from ganrt.bundle import Bundle
from ganrt.errors import UnprovenError
from ganrt.feeds import Array, Feeds


@pytest.fixture
def unrecorded(bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the bundle as another machine sees it: no proof in it holds here."""
    copied = replace(bundle, folder=Path(shutil.copytree(bundle.folder, tmp_path / "tiny.ganrt")))
    copied = replace(copied, variants={"fp32": replace(copied.variants["fp32"], proofs=())})
    copied.write_manifest()
    return copied


@pytest.fixture
def session(bundle: Bundle) -> Iterator[Session]:
    with open_session(bundle, "onnxruntime", "cpu") as opened:
        yield opened


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the proofs that are made."""
    keys: list[str] = []
    real = trust.prove
    monkeypatch.setattr(trust, "prove", lambda s, spec, golden, key: keys.append(key) or real(s, spec, golden, key))
    return keys


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on ONNX Runtime makes black images."""
    from ganrt.backends import onnxruntime

    def run(self: Session, feeds: Feeds) -> Array:
        return np.full((len(feeds["z"]), 3, 16, 16), -1, np.float32)

    monkeypatch.setattr(onnxruntime._CpuSession, "run", run)


def test_the_record_of_the_exporting_machine_is_enough(bundle: Bundle, session: Session, made: list[str]) -> None:
    assert trust.require_proof(bundle, "fp32", session).passed
    assert not made


def test_another_machine_proves_once_and_remembers(unrecorded: Bundle, session: Session, made: list[str]) -> None:
    first = trust.require_proof(unrecorded, "fp32", session)
    assert first.passed
    assert trust.require_proof(unrecorded, "fp32", session) == first
    assert len(made) == 1


def memory(cache: Path) -> Path:
    return next(cache.rglob("*.json"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\x00" * 99, b'{"key": "other", "failures": []}'])
def test_a_damaged_memory_is_made_again(
    content: bytes, unrecorded: Bundle, session: Session, made: list[str], cache: Path
) -> None:
    first = trust.require_proof(unrecorded, "fp32", session)
    memory(cache).write_bytes(content)
    assert trust.require_proof(unrecorded, "fp32", session) == first
    assert len(made) == 2
    assert trust.require_proof(unrecorded, "fp32", session) == first
    assert len(made) == 2


def test_a_proof_of_something_else_does_not_count(
    unrecorded: Bundle, session: Session, made: list[str], cache: Path
) -> None:
    trust.require_proof(unrecorded, "fp32", session)
    content = memory(cache).read_text()
    memory(cache).write_text(content.replace(made[0], "0" * 64))
    trust.require_proof(unrecorded, "fp32", session)
    assert len(made) == 2


def test_a_memory_that_cannot_be_written_costs_only_time(
    unrecorded: Bundle, session: Session, made: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    for _ in range(2):
        assert trust.require_proof(unrecorded, "fp32", session).passed
    assert len(made) == 2


def test_the_key_tells_apart_all_that_a_result_depends_on(
    bundle: Bundle, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {trust.proof_key(bundle, "fp32", session)}
    for name in ("model.onnx", "weights.safetensors", "golden.npz"):
        digest = replace(bundle.files[name], sha256="0" * 64)
        keys.add(trust.proof_key(replace(bundle, files={**bundle.files, name: digest}), "fp32", session))
    output = replace(bundle.spec.output, range=(0.0, 1.0))
    keys.add(trust.proof_key(replace(bundle, spec=replace(bundle.spec, output=output)), "fp32", session))
    for name, value in (("backend", "other"), ("device", "cuda:0"), ("details", {"onnxruntime": "0"})):
        with monkeypatch.context() as patch:
            patch.setattr(session, name, value)
            keys.add(trust.proof_key(bundle, "fp32", session))
    monkeypatch.setattr(trust, "cpu_name", lambda: "another processor")
    keys.add(trust.proof_key(bundle, "fp32", session))
    assert len(keys) == 9


def test_a_failed_proof_is_refused_and_remembered(
    unrecorded: Bundle, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    for _ in range(2):
        with pytest.raises(
            UnprovenError, match=r"does not make the original's images: sample 0 is flat .* unproven=True"
        ):
            ganrt.load(unrecorded.folder, "onnxruntime")
    assert len(made) == 1


def test_whoever_asks_for_it_gets_an_unproven_variant(unrecorded: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch)
    with ganrt.load(unrecorded.folder, "onnxruntime", unproven=True) as generator:
        assert not generator.sample(1).any()


def test_auto_passes_over_a_backend_that_fails(unrecorded: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch)
    with ganrt.load(unrecorded.folder) as generator:
        assert generator.session.backend == "openvino"


def test_a_bare_onnx_file_has_nothing_to_be_proven_with(bundle: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.copy(bundle.onnx("fp32"), tmp_path / "tiny.onnx"))
    with pytest.raises(UnprovenError, match="has no golden samples to compare with"):
        ganrt.load(path, "onnxruntime")
    with pytest.raises(UnprovenError, match="has no golden samples") as caught:
        ganrt.load(path)
    assert str(caught.value).count("no golden samples") == 1
    with ganrt.load(path, unproven=True) as generator, ganrt.load(bundle.folder) as whole:
        np.testing.assert_array_equal(generator.sample(3, seed=1), whole.sample(3, seed=1))
