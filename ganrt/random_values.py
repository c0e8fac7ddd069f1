"""The random values of `ganrt.latents` as source code, for CUDA and C++."""

from __future__ import annotations

from pathlib import Path

from ganrt.latents import CENTRE, TAIL


def read_random_values(function: str, table: str) -> str:
    """Return source code with the functions `philox`, `unit` and `normal_quantile`.

    Args:
        function: what precedes each function, such as `inline`.
        table: qualifiers and type of the tables of coefficients, such as `const double`.
    """
    tables = "".join(_write_table(f"{table} {name}", rows) for name, rows in (("CENTRE", CENTRE), ("TAIL", TAIL)))
    return f"#define GANRT_FUNCTION {function}\n{tables}{Path(__file__).with_suffix('.h').read_text()}"


def _write_table(name: str, rows: tuple[tuple[float, ...], ...]) -> str:
    values = ", ".join("{" + ", ".join(map(float.hex, row)) + "}" for row in rows)
    return f"{name}[2][8] = {{{values}}};\n"
