"""Random values: known answers, agreement with SciPy, and independence of the batch."""

import numpy as np
import pytest
import scipy  # imports scipy.stats on first use
from hypothesis import given
from hypothesis import strategies as st

from ganrt import latents
from ganrt.errors import RequestError

UNLIKELY = 1e-6
"""Below this the seed of a test is not unlucky, the numbers are wrong."""

word64 = st.integers(0, 2**64 - 1)


def philox_in_integers(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in Python integers, after section 3.3 of the paper."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_published_known_answers(counter: str, key: str, words: str) -> None:
    c0, c1, c2, c3 = (np.array([[int(word, 16)]], np.uint32) for word in counter.split())
    k0, k1 = (np.array([int(word, 16)], np.uint32) for word in key.split())
    found = latents.philox((c0, c1, c2, c3), (k0, k1))
    assert found.shape == (1, 1, 4) and " ".join(f"{word:08x}" for word in found.ravel().tolist()) == words


@given(word64, word64, st.integers(0, 9), st.integers(1, 11))
def test_words_are_philox_of_block_index_and_stream(seed: int, index: int, stream: int, size: int) -> None:
    blocks = [
        philox_in_integers([block, index % 2**32, index >> 32, stream], [seed % 2**32, seed >> 32])
        for block in range(-(-size // 4))
    ]
    assert latents.words(seed, index, 1, stream, size).tolist() == [[w for block in blocks for w in block][:size]]


def test_the_normal_values_of_the_design() -> None:
    found = latents.normal(7, 0, 1, 0, 4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[1.6911626, 0.67496884, -1.2046078, -1.3679883]], np.float32))


@pytest.mark.parametrize("start", [0, 5, 2**32 - 3, 2**63, 2**64 - 7])
@pytest.mark.parametrize("size", [1, 3, 8, 40_000])
def test_a_row_is_the_same_in_any_batch(start: int, size: int) -> None:
    together = latents.normal(99, start, 7, 2, size)
    assert together.shape == (7, size)
    for row, alone in enumerate(latents.normal(99, start + k, 1, 2, size) for k in range(7)):
        np.testing.assert_array_equal(together[row : row + 1], alone)


@pytest.mark.parametrize("size", [1, 3, 8, 40_000])
def test_a_row_is_the_same_beside_rows_of_other_seeds(size: int) -> None:
    seeds, starts = [7, 2**64 - 1, 7, 0, 2**32, 2**63, 7], [0, 5, 2**32 - 3, 2**63, 0, 2**64 - 1, 1]
    limits = np.array([np.nan, 0.5, 0.0, 0.5, np.nan, 2.0, 1.0])
    columns = (np.array(seeds, np.uint64), np.array(starts, np.uint64), 7, 2, size)
    normal, uniform = latents.normal(*columns, limits), latents.uniform(*columns, -3.0, 5.0)
    for row, (seed, start, limit) in enumerate(zip(seeds, starts, limits.tolist(), strict=True)):
        alone = latents.normal(seed, start, 1, 2, size, None if np.isnan(limit) else limit)
        np.testing.assert_array_equal(normal[row : row + 1], alone)
        np.testing.assert_array_equal(uniform[row : row + 1], latents.uniform(seed, start, 1, 2, size, -3.0, 5.0))


@given(word64, word64, st.integers(0, 2**32 - 1))
def test_every_bit_of_seed_and_index_matters(seed: int, index: int, stream: int) -> None:
    words = latents.words(seed, index, 1, stream, 4).tolist()
    for bit in (0, 31, 32, 63):
        assert latents.words(seed ^ (1 << bit), index, 1, stream, 4).tolist() != words
        assert latents.words(seed, index ^ (1 << bit), 1, stream, 4).tolist() != words
    assert latents.words(seed, index, 1, stream ^ 1, 4).tolist() != words


@pytest.mark.parametrize("first", [0, 4, 4096])
def test_words_from_a_later_one_on(first: int) -> None:
    seeds, starts = np.array([7, 2**40], np.uint64), np.array([5, 2**33], np.uint64)
    for seed, start in ((7, 5), (seeds, starts)):
        whole = latents.words(seed, start, 2, 3, first + 6)
        np.testing.assert_array_equal(latents.words(seed, start, 2, 3, 6, first), whole[:, first:])


def test_a_row_of_many_values_is_made_of_its_words() -> None:
    words = latents.words(7, 5, 3, 1, 10_001).astype(np.float64)
    np.testing.assert_array_equal(latents.uniform(7, 5, 3, 1, 10_001, 0, 1), ((words + 0.5) / 2**32).astype(np.float32))


def test_strided_columns_are_read_as_they_are() -> None:
    seeds, starts = np.arange(8, dtype=np.uint64) << np.uint64(31), np.arange(8, dtype=np.uint64) << np.uint64(30)
    wanted = latents.words(seeds[::2].copy(), starts[::2].copy(), 4, 0, 5)
    np.testing.assert_array_equal(latents.words(seeds[::2], starts[::2], 4, 0, 5), wanted)


def test_no_two_of_many_rows_are_equal() -> None:
    assert len(np.unique(latents.words(7, 2**32 - 5000, 10_000, 0, 2), axis=0)) == 10_000


def test_the_inverse_normal_cdf_agrees_with_scipy() -> None:
    smallest = 0.5 * 2.0**-32
    tails = np.geomspace(smallest, 0.5, 200_001)
    p = np.concatenate([tails, 1 - tails, np.linspace(smallest, 1 - smallest, 1_000_003), [0.075, 0.925, 0.5]])
    assert np.abs(latents.normal_quantile(p) - scipy.special.ndtri(p)).max() < 1e-9


def test_the_extreme_words_give_finite_values(monkeypatch: pytest.MonkeyPatch) -> None:
    extremes = np.array([[0, 2**32 - 1, 2**31 - 1, 2**31]], np.uint32)
    monkeypatch.setattr(latents, "words", lambda *_: extremes)
    found = latents.normal(0, 0, 1, 0, 4)[0]
    assert found[0] == -found[1] == np.float32(scipy.special.ndtri(2.0**-33))
    assert found[2] == -found[3] < 0
    assert latents.labels(0, 0, 1, 0, 10).tolist() == [0]
    assert np.abs(latents.normal(0, 0, 1, 0, 4, truncation=0.5)).max() <= 0.5


def test_values_are_normal() -> None:
    assert scipy.stats.kstest(latents.normal(1, 0, 2000, 0, 50).ravel(), "norm").pvalue > UNLIKELY


@pytest.mark.parametrize("truncation", [0.04, 0.7, 1.0, 2.0, 9.0])
def test_truncated_values_follow_the_truncated_normal(truncation: float) -> None:
    found = latents.normal(1, 0, 2000, 0, 50, truncation).ravel()
    assert np.abs(found).max() <= truncation
    assert scipy.stats.kstest(found, scipy.stats.truncnorm(-truncation, truncation).cdf).pvalue > UNLIKELY


def test_truncation_at_zero_gives_the_mean() -> None:
    assert not latents.normal(1, 0, 3, 0, 5, 0.0).any()


def test_a_wide_truncation_changes_nothing() -> None:
    np.testing.assert_array_equal(latents.normal(1, 0, 9, 0, 99, 1e300), latents.normal(1, 0, 9, 0, 99))


def test_uniform_values_fill_their_range() -> None:
    found = latents.uniform(1, 0, 2000, 0, 50, -3.0, 5.0)
    assert found.dtype == np.float32
    assert found.min() >= -3 and found.max() <= 5
    assert scipy.stats.kstest(found.ravel(), scipy.stats.uniform(-3, 8).cdf).pvalue > UNLIKELY
    words = latents.words(1, 0, 2000, 0, 50).astype(np.float64)
    np.testing.assert_array_equal(found, (-3 + 8 * ((words + 0.5) / 2**32)).astype(np.float32))


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_labels_are_uniform(classes: int) -> None:
    found = latents.labels(5, 0, 50_000, 1, classes)
    assert found.dtype == np.int64
    counts = np.bincount(found, minlength=classes)
    assert len(counts) == classes
    assert classes == 1 or scipy.stats.chisquare(counts).pvalue > UNLIKELY
    np.testing.assert_array_equal(found, latents.words(5, 0, 50_000, 1, 1)[:, 0].astype(object) * classes // 2**32)


@pytest.mark.parametrize("bad", [-1, 2**64, 1.0, True, "7", None, np.float32(1), np.bool_(True)])
@pytest.mark.parametrize("name", ["seed", "start", "n"])
def test_numbers_out_of_range_are_rejected(name: str, bad: object) -> None:
    arguments = {"seed": 0, "start": 0, "n": 1} | {name: bad}
    with pytest.raises(RequestError, match=rf"{name} is .*; it must be a whole number from 0 to 2\^64 - 1"):
        latents.check_seed(*arguments.values())


def test_sample_numbers_have_64_bits() -> None:
    assert latents.check_seed(2**64 - 1, 2**64 - 1, 1) == (2**64 - 1, 2**64 - 1, 1)
    with pytest.raises(RequestError, match="sample numbers end at"):
        latents.check_seed(0, 2**64 - 1, 2)


def test_numpy_integers_become_plain_ones() -> None:
    assert [type(x) for x in latents.check_seed(np.uint64(2**64 - 1), np.int8(3), np.int32(4))] == [int, int, int]
