"""A generator travels to another process as its bundle's path and its configuration; errors travel whole."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from fakes.sessions import SPEC, FakeSession

import ganrt
from ganrt import errors
from ganrt.backend import backend_names
from ganrt.bundle import Bundle
from ganrt.errors import ContractError, GanrtError, MissingLibraryError, OverloadedError, RequestError
from ganrt.generator import Generator
from ganrt.session_config import SessionConfig


def _sample(generator: Generator) -> bytes:
    with generator:
        return generator.sample(3, seed=5).tobytes()


@pytest.mark.parametrize("backend", backend_names("cpu"))
def test_a_generator_is_loaded_again(backend: str, bundle: Bundle) -> None:
    with ganrt.load(bundle, backend) as generator:
        right = generator.sample(3, seed=5)
        with pickle.loads(pickle.dumps(generator)) as other:
            assert other is not generator
            assert other.info == generator.info
            assert other.seconds == generator.seconds
            np.testing.assert_array_equal(other.sample(3, seed=5), right)
        with copy.deepcopy(generator) as other:
            np.testing.assert_array_equal(other.sample(3, seed=5), right)
        np.testing.assert_array_equal(generator.sample(3, seed=5), right)


def test_the_choices_travel(bundle: Bundle) -> None:
    with ganrt.load(bundle, "onnxruntime", variant="fp32-phases", threads=1) as generator:
        other = pickle.loads(pickle.dumps(generator))
        assert other.info.config == SessionConfig("onnxruntime", "fp32-phases", "cpu", {"threads": 1})
        assert other.info.reason == generator.info.reason
        other.close()


def test_a_relative_path_travels_to_another_folder(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(bundle.path)
    monkeypatch.chdir(folder.parent)
    with ganrt.load(folder.name, "onnxruntime") as generator:
        content = pickle.dumps(generator)
    monkeypatch.chdir("/")
    assert len(_sample(pickle.loads(content))) == 3 * 16 * 16 * 3


def test_unproven_travels(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with ganrt.load(bundle, "onnxruntime", unproven=True) as generator:
        content = pickle.dumps(generator)
    monkeypatch.setattr("ganrt.opening.require_proof", lambda *_: pytest.fail("it was proven"))
    pickle.loads(content).close()


def test_a_generator_in_a_spawned_process(bundle: Bundle, tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(
        "import multiprocessing, sys, ganrt\n"
        "def work(generator): return generator.sample(3, seed=5).tobytes()\n"
        "if __name__ == '__main__':\n"
        "    g = ganrt.load(sys.argv[1], 'onnxruntime')\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        assert pool.apply(work, (g,)) == work(g)\n"
    )
    subprocess.run([sys.executable, str(script), str(bundle.path)], check=True, timeout=300)


def test_a_generator_in_joblib(bundle: Bundle) -> None:
    with ganrt.load(bundle, "onnxruntime") as generator:
        right = generator.sample(3, seed=5)
        for found in joblib.Parallel(n_jobs=2)(joblib.delayed(Generator.sample)(generator, 3, 5) for _ in range(2)):
            np.testing.assert_array_equal(found, right)


def test_a_bundle_that_is_gone_is_named(bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(Path(bundle.path), tmp_path / "x.ganrt")
    with ganrt.load(tmp_path / "x.ganrt", "onnxruntime") as generator:
        content = pickle.dumps(generator)
    shutil.rmtree(tmp_path / "x.ganrt")
    with pytest.raises(ganrt.BundleError, match=r"x\.ganrt is not a bundle: there is nothing"):
        pickle.loads(content)


def test_a_generator_without_a_bundle_is_rejected() -> None:
    with pytest.raises(RequestError, match="was made from a session, so it cannot be pickled; load a bundle instead"):
        pickle.dumps(Generator(SPEC, FakeSession()))


def test_every_error_travels_whole() -> None:
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, GanrtError)]
    assert len(kinds) > 10
    for kind in kinds:
        if kind is MissingLibraryError:
            error: GanrtError = MissingLibraryError("onnx", "export", "the reference backend")
        elif kind is ContractError:
            error = ContractError("it opens", "it failed")
        elif kind is OverloadedError:
            error = OverloadedError("8 pictures wait", 1.5)
        else:
            error = kind("what was asked")
        other = pickle.loads(pickle.dumps(error))
        assert type(other) is kind
        assert str(other) == str(error)
        assert vars(other) == vars(error)
