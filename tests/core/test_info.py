"""`Info`: where the images of a generator come from."""

from fakes.sessions import FakeSession

import ganrt
from ganrt.bundle import Bundle
from ganrt.generator import Generator
from ganrt.session_config import SessionConfig


def test_a_loaded_generator_names_bundle_configuration_and_proof(bundle: Bundle) -> None:
    with ganrt.load(bundle.folder, "onnxruntime", device="cpu", threads=1) as generator:
        info = generator.info
    assert info.config == SessionConfig("onnxruntime", "fp32", "cpu", {"threads": 1})
    assert (info.bundle, info.digest) == (bundle.folder, bundle.digest("fp32"))
    assert info.proof is not None and info.proof.passed
    assert (info.precision, info.threads) == ("fp32", 1)
    assert "not tuned on this machine" in info.reason
    text = str(info)
    assert "runs: onnxruntime threads=1, in fp32 on cpu" in text and "dB in the worst golden sample" in text


def test_a_missing_proof_is_stated(bundle: Bundle) -> None:
    with ganrt.load(bundle, "onnxruntime", unproven=True) as generator:
        assert generator.info.proof is None and "proof: none" in str(generator.info)
        assert generator.info.threads is None


def test_a_session_without_a_bundle() -> None:
    session = FakeSession()
    generator = Generator(session._spec, session)
    assert generator.info.config == SessionConfig("fake", device="cpu") and generator.info.digest is None
    assert "bundle" not in str(generator.info)
