"""Generator: a sample is the same in every request, and invalid requests get a clear error."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fakes.sessions import CLASSES, SPEC, UPSCALER, FakeSession, images
from hypothesis import given
from hypothesis import strategies as st

import ganrt
from ganrt import choosing, feeds
from ganrt.backend import backend_names
from ganrt.bundle import Bundle
from ganrt.errors import BackendError, BundleError, MachineError, MissingLibraryError, RequestError
from ganrt.feeds import Array, Feeds
from ganrt.generator import Generator
from ganrt.images import to_uint8
from ganrt.session_config import SessionConfig
from ganrt.spec import Spec


@pytest.fixture(scope="module")
def pictures(bundles: dict[str, Bundle]) -> dict[str, Array]:
    """Samples 0 to 69 of seed 7 of each bundle, as PyTorch makes them one by one."""
    made = {}
    for family, bundle in bundles.items():
        with ganrt.load(bundle.folder, "pytorch") as generator:
            made[family] = np.concatenate([generator.sample(1, 7, k) for k in range(70)])
    return made


def same(found: Array, wanted: Array) -> bool:
    """Equal up to float32 rounding, which may change a grey level by one."""
    steps = np.abs(found.astype(int) - wanted)
    return found.shape == wanted.shape and bool(steps.max(initial=0) <= 1 and steps.sum() <= 1e-3 * steps.size)


@pytest.mark.parametrize("family", ["dcgan", "mlp"])
@pytest.mark.parametrize("backend", backend_names("cpu"))
def test_a_sample_is_the_same_in_every_request(
    backend: str, family: str, bundles: dict[str, Bundle], pictures: dict[str, Array]
) -> None:
    with ganrt.load(bundles[family].folder, backend) as generator:
        counts = [(1, 0), (7, 0), (64, 0), (1, 69), (7, 33)]
        for n, start in counts if backend != "reference" else counts[:2]:
            found = generator.sample(n, seed=7, start=start)
            assert found.dtype == np.uint8
            assert same(found, pictures[family][start : start + n])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "pytorch"])
def test_a_sample_is_bit_identical_on_one_backend(backend: str, bundle: Bundle) -> None:
    with ganrt.load(bundle.folder, backend) as generator:
        together = generator.sample(64, seed=7)
        for start, n in [(0, 1), (0, 7), (5, 32), (63, 1)]:
            np.testing.assert_array_equal(generator.sample(n, seed=7, start=start), together[start : start + n])


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 100),
    st.integers(0, 40),
    st.lists(st.integers(1, 40), max_size=3, unique=True).map(sorted).map(tuple),
    st.sampled_from([SPEC, CLASSES]),
)
def test_samples_are_the_models_images_of_their_seeds(
    seed: int, start: int, n: int, sizes: tuple[int, ...], spec: Spec
) -> None:
    found = Generator(spec, FakeSession(spec, sizes)).sample(n, seed, start)
    assert spec.output.size is not None
    assert found.shape == (n, *spec.output.size, spec.output.channels)
    assert same(found, to_uint8(images(spec, feeds.draw_feeds(spec, seed, start, n)), spec.output.range))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_measured_times_change_the_split_but_no_picture(backend: str, bundle: Bundle) -> None:
    with ganrt.load(bundle.folder, backend) as generator:
        plain = generator.sample(37, seed=7)
        whole = generator(z=feeds.draw_feeds(bundle.spec, 7, 0, 37)["z"])
        for seconds in ({1: 1.0, 8: 1.5, 32: 50.0}, {1: 1.0, 2: 9.0}, {32: 1.0}):
            cut = Generator(bundle.spec, generator.session, seconds)
            np.testing.assert_array_equal(cut.sample(37, seed=7), plain)
            np.testing.assert_array_equal(cut(z=feeds.draw_feeds(bundle.spec, 7, 0, 37)["z"]), whole)


@pytest.fixture
def generator() -> Generator:
    return Generator(SPEC, FakeSession())


@pytest.fixture
def conditional() -> Generator:
    return Generator(CLASSES, FakeSession(CLASSES))


@pytest.mark.parametrize("seed", [2**64 - 1, np.uint64(2**64 - 1)])
@pytest.mark.parametrize("start", [0, np.int32(2**31 - 3), np.uint64(2**63)])
def test_numpy_integers_are_accepted(seed: Any, start: Any, generator: Generator) -> None:
    wanted = generator.sample(70, int(seed), int(start))
    count: Any = np.int8(70)
    batch: Any = np.int64(7)
    np.testing.assert_array_equal(generator.sample(count, seed, start), wanted)
    batches = generator.stream(count, seed, start, batch=batch)
    np.testing.assert_array_equal(np.concatenate(list(batches)), wanted)


def test_the_last_sample_number(generator: Generator) -> None:
    assert generator.sample(1, start=2**64 - 1).shape == (1, 4, 5, 3)


@pytest.mark.parametrize("spec", [SPEC, CLASSES])
def test_no_images_are_an_empty_array(spec: Spec) -> None:
    session = FakeSession(spec)
    found = Generator(spec, session).sample(0)
    assert found.shape == (0, *spec.output.size, spec.output.channels)  # type: ignore[misc]
    assert found.dtype == np.uint8 and not session.batches
    assert np.concatenate(list(Generator(spec, session).stream(0))).shape == found.shape


@pytest.mark.parametrize("labels", [3, np.int64(3), [3] * 40, np.full(40, 3), tuple([3] * 40)])
def test_one_label_or_one_per_image(labels: Any, conditional: Generator) -> None:
    drawn = feeds.draw_feeds(CLASSES, 1, 0, 40, labels=3)
    wanted = to_uint8(images(CLASSES, drawn), CLASSES.output.range)
    assert same(conditional.sample(40, 1, labels=labels), wanted)
    assert same(np.concatenate(list(conditional.stream(40, 1, labels=labels, batch=9))), wanted)


def test_truncation_reaches_the_latent(generator: Generator) -> None:
    drawn = feeds.draw_feeds(SPEC, 1, 0, 5, truncation=0.3)
    assert same(generator.sample(5, 1, truncation=0.3), to_uint8(images(SPEC, drawn), SPEC.output.range))


BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"n": -1}, "n is -1; it must be a whole number from 0"),
    ({"n": 2.0}, r"n is 2\.0"),
    ({"n": True}, "n is True"),
    ({"n": 10**30}, "n is 1000000000000000000000000000000"),
    ({"seed": -1}, "seed is -1"),
    ({"seed": 2**64}, "seed is 18446744073709551616"),
    ({"seed": 0.5}, r"seed is 0\.5"),
    ({"start": -1}, "start is -1"),
    ({"start": 2**64 - 1}, "sample numbers end at"),
    ({"labels": 1}, "has no classes"),
    ({"truncation": -1.0}, r"truncation is -1\.0"),
    ({"truncation": float("nan")}, "truncation is nan"),
]


@pytest.mark.parametrize(("change", "message"), BAD_ARGUMENTS)
@pytest.mark.parametrize("verb", ["sample", "stream"])
def test_arguments_are_checked_before_any_work(verb: str, change: dict[str, Any], message: str) -> None:
    session = FakeSession()
    with pytest.raises(RequestError, match=message):
        getattr(Generator(SPEC, session), verb)(**{"n": 3} | change)
    assert not session.batches


def test_too_many_pictures_for_memory_are_rejected(generator: Generator) -> None:
    with pytest.raises(RequestError, match=r"do not fit into memory; use stream\(\)"):
        generator.sample(10**15)
    stream = generator.stream(10**15, batch=1)
    np.testing.assert_array_equal(next(stream), generator.sample(1))
    stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 3, "labels": [1, 2]}, "labels has 2 entries and n is 3; give one value, or one per image"),
        ({"n": 0, "labels": 10}, "labels is 10; this model's classes"),
        ({"n": 3, "labels": [1, 2, 10]}, r"labels\[2\] is 10; this model's classes are the whole numbers 0 to 9"),
        ({"n": 3, "truncation": 0.5}, "truncation was given, but this classes model has none"),
    ],
)
def test_labels_and_truncation_must_fit_the_model(
    arguments: dict[str, Any], message: str, conditional: Generator
) -> None:
    with pytest.raises(RequestError, match=message):
        conditional.sample(**arguments)


def test_a_model_with_image_inputs_cannot_be_sampled() -> None:
    for n in (0, 1):
        with pytest.raises(RequestError, match="cannot be sampled from a seed alone"):
            Generator(UPSCALER, FakeSession(UPSCALER)).sample(n)


@given(st.integers(1, 50), st.integers(1, 60))
def test_a_stream_yields_the_pictures_of_sample(n: int, batch: int) -> None:
    generator = Generator(SPEC, FakeSession())
    pieces = list(generator.stream(n, 7, 5, batch=batch))
    assert [len(piece) for piece in pieces[:-1]] == [batch] * (len(pieces) - 1) and 1 <= len(pieces[-1]) <= batch
    np.testing.assert_array_equal(np.concatenate(pieces), generator.sample(n, 7, 5))
    truncated = list(generator.stream(n, 7, 5, truncation=0.1, batch=batch))
    np.testing.assert_array_equal(np.concatenate(truncated), generator.sample(n, 7, 5, truncation=0.1))


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "8"])
def test_an_invalid_batch_of_a_stream_is_rejected_at_once(batch: Any, generator: Generator) -> None:
    with pytest.raises(RequestError, match=r"batch is .*; it must be a whole number from 1"):
        generator.stream(3, batch=batch)


class Gated(FakeSession):
    """Starts a batch for each release of `gate`."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def run(self, feeds: Feeds) -> Array:
        self.begun.release()
        assert self.gate.acquire(timeout=60)
        return super().run(feeds)


def test_a_stream_is_one_batch_ahead_and_no_more() -> None:
    session = Gated()
    stream = Generator(SPEC, session).stream(10**9, batch=2)
    session.gate.release()
    assert len(next(stream)) == 2
    assert session.begun.acquire(timeout=60), "the first batch"
    assert session.begun.acquire(timeout=60), "the second, while the first is looked at"
    session.gate.release(8)
    assert not session.begun.acquire(timeout=0.2), "the third must wait until the second is asked for"
    assert session.batches == [2, 2]
    stream.close()  # type: ignore[attr-defined]


def test_a_stream_that_is_not_read_starts_nothing(generator: Generator) -> None:
    before = threading.active_count()
    generator.stream(10**9)
    assert threading.active_count() == before


def test_an_error_in_a_stream_reaches_the_reader() -> None:
    class BreaksDown(FakeSession):
        def run(self, feeds: Feeds) -> Array:
            if len(self.batches) == 2:
                raise RuntimeError("out of memory")
            return super().run(feeds)

    stream = Generator(SPEC, BreaksDown()).stream(12, batch=4)
    assert len(next(stream)) == len(next(stream)) == 4
    with pytest.raises(BackendError, match="fake failed on a batch of 4: out of memory"):
        next(stream)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "pytorch"])
def test_threads_may_share_a_generator(backend: str, bundle: Bundle) -> None:
    with ganrt.load(bundle.folder, backend) as generator, ThreadPoolExecutor(4) as threads:
        wanted = generator.sample(40, 3)
        for found in threads.map(lambda _: generator.sample(40, 3), range(12)):
            np.testing.assert_array_equal(found, wanted)


def test_a_session_is_called_by_one_thread_at_a_time() -> None:
    class Exclusive(FakeSession):
        inside = threading.Lock()

        def run(self, feeds: Feeds) -> Array:
            assert self.inside.acquire(blocking=False), "two threads are inside"
            try:
                return super().run(feeds)
            finally:
                self.inside.release()

    with Generator(SPEC, Exclusive()) as generator, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda k: generator.sample(9, k), range(40)))


def test_a_closed_generator_is_an_error(generator: Generator) -> None:
    with generator:
        generator.sample(1)
    generator.close()
    for act in (lambda: generator.sample(1), lambda: generator(z=np.zeros((1, 6))), lambda: list(generator.stream(1))):
        with pytest.raises(BackendError, match="this fake session is closed; load the bundle again"):
            act()


def test_nonfinite_values_are_an_error() -> None:
    class Overflows(FakeSession):
        def run(self, feeds: Feeds) -> Array:
            return super().run(feeds) * np.float32(np.nan)

    with pytest.raises(BackendError, match="not finite"):
        Generator(SPEC, Overflows()).sample(1)


@pytest.mark.parametrize("count", [1, 70])
def test_inputs_of_the_caller(count: int, generator: Generator, conditional: Generator) -> None:
    drawn = feeds.draw_feeds(SPEC, 1, 0, count)
    found = generator(z=drawn["z"].astype(np.float64))
    assert found.dtype == np.float32 and found.flags.writeable
    np.testing.assert_allclose(found, images(SPEC, drawn), rtol=1e-6)
    given_inputs = feeds.draw_feeds(CLASSES, 1, 0, count)
    del given_inputs["strength"]
    np.testing.assert_allclose(
        conditional(**given_inputs), images(CLASSES, feeds.draw_feeds(CLASSES, 1, 0, count)), rtol=1e-6
    )
    strength = np.linspace(0, 2, count)
    louder = conditional(**given_inputs, strength=strength)
    np.testing.assert_allclose(
        louder, images(CLASSES, feeds.check_inputs(CLASSES, given_inputs | {"strength": strength})), rtol=1e-6
    )


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "pytorch"])
def test_inputs_of_the_caller_may_be_read_only(backend: str, bundle: Bundle) -> None:
    z = feeds.draw_feeds(bundle.spec, 7, 0, 8)["z"]
    z.setflags(write=False)
    with ganrt.load(bundle.folder, backend) as generator:
        low, high = bundle.spec.output.range
        found = generator(z=z)
        assert found.min() >= low and found.max() <= high
        np.testing.assert_array_equal(to_uint8(found, (low, high)), generator.sample(8, 7))


def test_pictures_as_inputs() -> None:
    generator = Generator(UPSCALER, FakeSession(UPSCALER))
    x = np.random.default_rng(0).random((3, 3, 4, 6), np.float32)
    np.testing.assert_array_equal(generator(x=x), x.repeat(2, axis=2).repeat(2, axis=3))
    for wrong, message in {
        (1, 3, 5, 6): r"x has shape \(1, 3, 5, 6\); .* multiples of 2",
        (1, 1, 4, 6): r"x has shape \(1, 1, 4, 6\); the model needs x: float32 of shape \(N, 3, H, W\)",
        (3, 4, 6): r"x has shape \(3, 4, 6\)",
        (0, 3, 4, 6): "the inputs have no rows",
    }.items():
        with pytest.raises(RequestError, match=message):
            generator(x=np.zeros(wrong, np.float32))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the input 'z' is missing; this fake model needs z: float32 of shape"),
        ({"y": [1]}, "this fake model has no input 'y'; its inputs are z"),
        ({"z": np.zeros((2, 5))}, r"z has shape \(2, 5\); the model needs z: float32 of shape \(N, 6\)"),
        ({"z": np.zeros(6)}, r"z has shape \(6,\)"),
        ({"z": np.full((1, 6), np.inf)}, "z holds values that are not finite"),
        ({"z": np.zeros((0, 6))}, "the inputs have no rows; give at least one"),
    ],
)
def test_inputs_that_do_not_fit_are_rejected(inputs: dict[str, Any], message: str, generator: Generator) -> None:
    with pytest.raises(RequestError, match=message):
        generator(**inputs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"backend": "tensorflow"},
            RequestError,
            "no backend 'tensorflow'; choose one of tensorrt, tensorrt-rtx, onnxruntime",
        ),
        ({"precision": "int8"}, RequestError, "has no int8 variant; it has fp32"),
        (
            {"device": "tpu"},
            RequestError,
            "there is no device 'tpu'; choose auto, cpu, cuda, cuda:N",
        ),
        ({"backend": "openvino", "device": "cuda"}, MachineError, "runs on the CPU only; cuda was asked for"),
        ({"backend": "onnxruntime", "colour": 1}, RequestError, "has no option 'colour'; it has threads"),
        ({"backend": "onnxruntime", "threads": "many"}, RequestError, "threads is 'many'; it must be a whole number"),
        ({"backend": "openvino", "threads": -1}, RequestError, "threads is -1; it must be a whole number"),
    ],
)
def test_loading_errors(options: dict[str, Any], error: type[Exception], message: str, bundle: Bundle) -> None:
    with pytest.raises(error, match=message):
        ganrt.load(bundle.folder, **options)


def test_auto_uses_the_first_backend_that_can(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganrt import opening as module

    def without(*missing: str) -> Any:
        def open_session(bundle: Bundle, config: SessionConfig) -> Any:
            if config.backend == "openvino" and config.backend in missing:
                raise BundleError("openvino cannot load it")
            if config.backend in missing:
                raise MissingLibraryError(config.backend, "cpu", f"the {config.backend} backend")
            return real(bundle, config)

        return open_session

    real = module.open_session
    in_order = ["openvino", *(name for name in backend_names("cpu") if name != "openvino")]
    for missing in ([], ["openvino"], ["onnxruntime"], ["openvino", "onnxruntime", "pytorch"]):
        monkeypatch.setattr(module, "open_session", without(*missing))
        with ganrt.load(bundle.folder, unproven=True) as generator:
            assert generator.session.backend == next(name for name in in_order if name not in missing)
    monkeypatch.setattr(module, "open_session", without("onnxruntime", "pytorch", "reference"))
    monkeypatch.setattr(choosing, "backend_names", lambda device: ["onnxruntime", "pytorch"])
    with pytest.raises(MachineError, match=r'(?s)no backend on this machine.*pip install "ganrt\[cpu\]"'):
        ganrt.load(bundle.folder)


def test_repr(generator: Generator) -> None:
    assert repr(generator) == "<Generator fake on fake (cpu, fp32)>"


def test_loading_does_not_change_global_random_states(bundle: Bundle) -> None:
    import torch

    torch.manual_seed(5)
    wanted = torch.rand(3).tolist()
    torch.manual_seed(5)
    ganrt.load(bundle.folder, "pytorch").close()
    assert torch.rand(3).tolist() == wanted
