"""Counter-based random numbers: a value depends only on the seed, the sample number, the stream and its index in the
sample, so it is the same on every machine, in any batch and in any order.

Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, section 3.3). Key: (seed low 32
bits, seed high 32 bits). Counter: (block, sample number low, sample number high, stream). Value j of a sample is word
`j mod 4` of block `j div 4`.

Arguments of all functions: `seed` is one seed, or one per row; `start` is the number of the first sample, the rows
being samples start to start + count - 1, or the number of each row. Both are below 2^64; arrays are uint64 (count,).
`stream`, below 2^32, separates the inputs of a model; `size` is the number of values per sample.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ganrt.checks import is_whole
from ganrt.errors import RequestError

Words = NDArray[np.uint32]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Whole64: TypeAlias = int | NDArray[np.uint64]
"""A seed or a sample number: one, or one per row."""

SCALED_LIMIT = 2.0
"""Truncation of latents that are then scaled."""
MAX_64 = 2**64
"""Seeds and sample numbers are below this."""
_ROUNDS = 10
_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_KEY_STEPS = np.array([[0x9E3779B9], [0xBB67AE85]], np.uint32)[..., None] * np.arange(_ROUNDS, dtype=np.uint32)[:, None]
"""What is added to the two words of the key in each round, (2, rounds, 1); sums are modulo 2^32."""
_LOW_WORD, _HIGH_WORD = (0, 1) if sys.byteorder == "little" else (1, 0)
"""Places of the halves of a uint64 that is viewed as two uint32."""
_CHUNK = 1 << 12
"""Values computed at a time, a multiple of 4, so that temporaries stay in the L2 cache and in memory that the C library
keeps."""


def check_seed(seed: object, start: object = 0, count: object = 0) -> tuple[int, int, int]:
    """Return the three as Python integers. Raises RequestError unless the seed and all sample numbers are whole numbers
    from 0 to 2^64 - 1."""
    numbers = {"seed": seed, "start": start, "n": count}
    for name, value in numbers.items():
        if not is_whole(value) or not 0 <= value < MAX_64:
            raise RequestError(f"{name} is {value!r}; it must be a whole number from 0 to 2^64 - 1")
    whole = [int(value) for value in numbers.values()]  # type: ignore[call-overload]
    if whole[1] + whole[2] > MAX_64:
        raise RequestError(f"start + n is {whole[1] + whole[2]}; sample numbers end at 2^64 - 1")
    return whole[0], whole[1], whole[2]


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]) -> Words:
    """Ten rounds of Philox4x32.

    Args:
        counter: four uint32 arrays that broadcast to shape (rows, blocks).
        key: two uint32 arrays (rows,), or (1,) if all rows have the same key.

    Returns uint32 of shape (rows, blocks, 4).

    NumPy takes longer to start an operation than to compute a few hundred numbers, and twice as long to start one that
    broadcasts. So a round is three operations on vectors of both halves of the state: counter words 0 and 2, which are
    multiplied, then words 1 and 3. Each half of the product goes to the other half of the state. The second half is
    stored in reverse order, so that this exchange is one reversed view.
    """
    shape = np.broadcast(*counter).shape
    multiplied = np.empty((2, *shape), np.uint64)
    products = np.empty((2, 2, *shape), np.uint64)  # of this round and of the one before
    lows = products.view(np.uint32)[..., _LOW_WORD::2]
    c0, c2, c3, c1 = multiplied[0], multiplied[1, ::-1, ::-1], lows[1, 0], lows[1, 1, ::-1, ::-1]
    c0[:], c1[:], c2[:], c3[:] = counter
    keys = np.empty((_ROUNDS, 2, *shape), np.uint32)
    keys[:, 0] = (key[0] + _KEY_STEPS[0])[..., None]
    keys[:, 1] = (key[1][::-1] + _KEY_STEPS[1])[..., None]
    factors = np.empty_like(multiplied)
    factors[0], factors[1] = _MULTIPLIERS

    state, factor = multiplied.ravel(), factors.ravel()
    words = state.view(np.uint32)[_LOW_WORD::2]  # their high halves stay 0
    vectors = products.reshape(2, -1)
    crossed = vectors.view(np.uint32)[:, ::-1]  # reversed, so the high half comes first
    this, last = ((v, c[1 - _HIGH_WORD :: 2], c[1 - _LOW_WORD :: 2]) for v, c in zip(vectors, crossed, strict=True))
    for round_key in keys.reshape(_ROUNDS, -1):
        product, high, _ = this
        np.multiply(state, factor, product)
        np.bitwise_xor(high, last[2], words)
        np.bitwise_xor(words, round_key, words)
        this, last = last, this
    out = np.empty((*shape, 4), np.uint32)
    for word, column in enumerate((c0, c1, c2, c3)):  # an even number of rounds: the last products are where c1 was
        out[..., word] = column
    return out


def words(seed: Whole64, start: Whole64, count: int, stream: int, size: int, first: int = 0) -> Words:
    """Return raw random words, uint32 of shape (count, size); row i belongs to sample start + i, or start[i]. They are
    those from `first` on, a multiple of 4."""
    index = start if isinstance(start, np.ndarray) else np.arange(count, dtype=np.uint64) + np.uint64(start)
    block = np.arange(first // 4, -(-(first + size) // 4), dtype=np.uint32)[None, :]
    low, high = _split_halves(index)
    counter = (block, low[:, None], high[:, None], np.full((1, 1), stream, np.uint32))
    return philox(counter, _find_key(seed)).reshape(count, 4 * block.size)[:, :size]


def _find_key(seed: Whole64) -> tuple[Words, Words]:
    """The key of each row; one if all seeds are the same."""
    if not isinstance(seed, np.ndarray):
        return _split_halves(np.array([seed], np.uint64))
    if len(seed) > 1 and (seed == seed[0]).all():
        seed = seed[:1]  # faster to spread over the rounds
    return _split_halves(seed)


def normal(
    seed: Whole64, start: Whole64, count: int, stream: int, size: int, truncation: float | Float64s | None = None
) -> Float32s:
    """Return standard normal values, float32 of shape (count, size).

    With a truncation t > 0, values outside [-t, t] are drawn again (Brock et al., "Large Scale GAN Training", ICLR
    2019, section 3.1). The result is computed in closed form: the inverse normal CDF of Phi(-t) + u (Phi(t) - Phi(-t)).
    There may be one t per row, NaN for rows without one: float64 (count,).
    """
    if truncation is None:
        return _in_chunks(seed, start, count, stream, size, lambda u, rows: normal_quantile(u))
    low, width = (np.broadcast_to(limit, count)[:, None] for limit in find_interval(truncation))
    return _in_chunks(seed, start, count, stream, size, lambda u, rows: normal_quantile(low[rows] + u * width[rows]))


def find_interval(truncation: float | Float64s) -> tuple[Float64s, Float64s]:
    """Return Phi(-t) and Phi(t) - Phi(-t), float64 of the shape of `truncation`; 0 and 1 for t = NaN, no truncation."""
    limits, places = np.unique(np.atleast_1d(np.asarray(truncation, np.float64)), return_inverse=True)
    low = np.array([0.0 if math.isnan(t) else normal_cdf(-t) for t in limits.tolist()])
    high = np.array([1.0 if math.isnan(t) else normal_cdf(t) for t in limits.tolist()])
    return low[places], (high - low)[places]


def uniform(seed: Whole64, start: Whole64, count: int, stream: int, size: int, low: float, high: float) -> Float32s:
    """Return uniform values between `low` and `high`, float32 of shape (count, size). The bounds occur only by rounding
    to float32."""
    return _in_chunks(seed, start, count, stream, size, lambda u, rows: low + (high - low) * u)


def labels(seed: Whole64, start: Whole64, count: int, stream: int, classes: int) -> NDArray[np.int64]:
    """Return one class per sample, uniform on 0 to classes - 1: int64 of shape (count,)."""
    return (_unit(words(seed, start, count, stream, 1)[:, 0]) * classes).astype(np.int64)


def _in_chunks(
    seed: Whole64,
    start: Whole64,
    count: int,
    stream: int,
    size: int,
    transform: Callable[[Float64s, slice], Float64s],
) -> Float32s:
    """Apply `transform` to uniform values in (0, 1) and the rows they belong to, _CHUNK values at a time."""
    out = np.empty((count, size), np.float32)
    step = max(1, _CHUNK // size)
    for first in range(0, count, step):
        rows = slice(first, min(first + step, count))
        some = seed[rows] if isinstance(seed, np.ndarray) else seed
        place = start[rows] if isinstance(start, np.ndarray) else start + first
        for left in range(0, size, _CHUNK):
            part = out[rows, left : left + _CHUNK]
            part[:] = transform(_unit(words(some, place, len(part), stream, part.shape[1], left)), rows)
    return out


def _unit(word: Words) -> Float64s:
    """(word + 0.5) 2^-32, exact in float64; never 0 or 1."""
    return (word.astype(np.float64) + 0.5) * 2.0**-32


def _split_halves(values: NDArray[np.uint64]) -> tuple[Words, Words]:
    """Low and high halves, views of the values if these are contiguous."""
    halves = np.ascontiguousarray(values).view(np.uint32).reshape(-1, 2)
    return halves[:, _LOW_WORD], halves[:, _HIGH_WORD]


def normal_cdf(x: float) -> float:
    """Phi(x), the CDF of the standard normal distribution."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


# Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied Statistics 37 (1988), routine
# PPND16.
CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip


_COEFFICIENTS = np.array([CENTRE, TAIL]).transpose(2, 1, 0)
"""Of each power from the highest, of top and bottom, of centre and tail."""


def normal_quantile(p: Float64s) -> Float64s:
    """Inverse of the standard normal CDF for p and 1 - p of at least exp(-25) = 1.4e-11, with a relative error below
    1e-15.

    The smallest p of a 32-bit word is 1.2e-10, so the far tail of the routine is left out.

    Top and bottom of both ratios are evaluated together, because for a few hundred values most of the time goes into
    starting operations.
    """
    q = p.ravel() - 0.5
    tail = np.flatnonzero(np.abs(q) > 0.425)
    of_tail, count = p.ravel()[tail], len(q)
    r = np.empty((2, count + len(tail)))
    r[:, :count] = 0.180625 - q * q
    r[:, count:] = np.sqrt(-np.log(np.minimum(of_tail, 1.0 - of_tail))) - 1.6
    coefficients = np.empty((len(_COEFFICIENTS), *r.shape))
    coefficients[..., :count], coefficients[..., count:] = _COEFFICIENTS[..., :1], _COEFFICIENTS[..., 1:]
    top, bottom = _evaluate_polynomials(coefficients, r)
    top /= bottom
    x: Float64s = q * top[:count]
    x[tail] = np.copysign(top[count:], q[tail])
    return x.reshape(p.shape)


def _evaluate_polynomials(coefficients: Float64s, r: Float64s) -> Float64s:
    """Horner's rule, highest power first, with coefficients of its own for each element of `r`."""
    value: Float64s = r * coefficients[0]
    for c in coefficients[1:-1]:
        value += c
        value *= r
    value += coefficients[-1]
    return value
