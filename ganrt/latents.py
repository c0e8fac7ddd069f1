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
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_CHUNK = 1 << 15
"""Values computed at a time, so that temporaries stay in the L2 cache."""


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


def philox(
    counter: tuple[Words, Words, Words, Words], key: tuple[Whole64, Whole64]
) -> tuple[Words, Words, Words, Words]:
    """Ten rounds of Philox4x32.

    Args:
        counter: four uint32 arrays of shapes that broadcast.
        key: two numbers below 2^32, or uint64 arrays of them that broadcast with the counter.

    Returns four uint32 arrays of the broadcast shape.
    """
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    for step in range(10):
        k0, k1 = (np.uint64((k + step * s) & 0xFFFFFFFF) for k, s in zip(key, _KEY_STEPS, strict=True))
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
    return c0.astype(np.uint32), c1.astype(np.uint32), c2.astype(np.uint32), c3.astype(np.uint32)


def words(seed: Whole64, start: Whole64, count: int, stream: int, size: int) -> Words:
    """Return raw random words, uint32 of shape (count, size); row i belongs to sample start + i, or start[i]."""
    blocks = -(-size // 4)
    index = start if isinstance(start, np.ndarray) else np.arange(count, dtype=np.uint64) + np.uint64(start)
    block = np.arange(blocks, dtype=np.uint32)[None, :]
    counter = (block, _low(index)[:, None], _high(index)[:, None], np.full((1, 1), stream, np.uint32))
    out = np.empty((count, blocks, 4), np.uint32)
    for word, column in enumerate(philox(counter, _split_key(seed))):
        out[..., word] = column
    return out.reshape(count, 4 * blocks)[:, :size]


def _split_key(seed: Whole64) -> tuple[Whole64, Whole64]:
    """Low and high half of a seed, or columns of them."""
    if isinstance(seed, np.ndarray):
        if (seed != seed[:1]).any():
            return seed[:, None] & _LOW, seed[:, None] >> _HALF
        seed = int(seed[0]) if len(seed) else 0  # one number is faster than a column
    return seed & 0xFFFFFFFF, seed >> 32


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
        out[rows] = transform(_unit(words(some, place, rows.stop - first, stream, size)), rows)
    return out


def _unit(word: Words) -> Float64s:
    """(word + 0.5) 2^-32, exact in float64; never 0 or 1."""
    return (word.astype(np.float64) + 0.5) * 2.0**-32


def _low(value: NDArray[np.uint64]) -> Words:
    return (value & _LOW).astype(np.uint32)


def _high(value: NDArray[np.uint64]) -> Words:
    return (value >> _HALF).astype(np.uint32)


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


def normal_quantile(p: Float64s) -> Float64s:
    """Inverse of the standard normal CDF for p and 1 - p of at least exp(-25) = 1.4e-11, with a relative error below
    1e-15.

    The smallest p of a 32-bit word is 1.2e-10, so the far tail of the routine is left out.
    """
    q = p - 0.5
    x = q * _ratio(CENTRE, 0.180625 - q * q)
    tail = np.nonzero(np.abs(q) > 0.425)
    r = np.sqrt(-np.log(np.minimum(p[tail], 1.0 - p[tail])))
    x[tail] = np.copysign(_ratio(TAIL, r - 1.6), q[tail])
    return x


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], r: Float64s) -> Float64s:
    top, bottom = (_polynomial(c, r) for c in coefficients)
    top /= bottom
    return top


def _polynomial(coefficients: tuple[float, ...], r: Float64s) -> Float64s:
    """Horner's rule, highest power first, in place."""
    value = r * coefficients[0]
    for c in coefficients[1:-1]:
        value += c
        value *= r
    value += coefficients[-1]
    return value
