"""What to write instead of what tracing cannot follow, by the line that does it. docs/your-own-model.md has the same
table."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..source_lines import SourceLine


class Rewrite(NamedTuple):
    """A row of the table."""

    written: str
    """What a line has."""
    pattern: re.Pattern[str]
    """Finds it in the line."""
    instead: str
    """What to write instead, as a clause that begins with a verb."""


SIZES = (
    Rewrite(
        "`range(n)`, `LongTensor(range(n))`",
        re.compile(r"\brange\("),
        "write torch.arange(n) for range(n), and operations on the whole tensor for a loop",
    ),
    Rewrite(
        "a loop over `x`, `x.split(1)`, `x.chunk(n)`, `x.unbind()`",
        re.compile(r"\b(split|chunk|unbind|tensor_split|hsplit|vsplit)\(|\bfor\b.*\bin\b"),
        "write operations on the whole tensor, such as torch.bmm, torch.einsum and F.unfold, for a loop over its parts",
    ),
    Rewrite("`len(x)`", re.compile(r"\blen\("), "write x.shape[0] for len(x)"),
    Rewrite(
        "`math.ceil(h / 8)`, `np.sqrt(h * w)`",
        re.compile(r"\b(math|np|numpy)\."),
        "write -(-h // 8), (h * w) ** 0.5 and the like, on sizes as they are, for functions of math and NumPy",
    ),
    Rewrite(
        "`int(h * 0.5)`, `float(h)`, `round(h / 8)`",
        re.compile(r"\b(int|float|round)\("),
        "write h // 2 and the like, on sizes as they are, without int, float and round",
    ),
    Rewrite(
        "`torch.tensor([h, w])`",
        re.compile(r"\b(Long|Int|Float)?[Tt]ensor\("),
        "write torch.full, torch.arange or x.new_full with the sizes for a tensor of Python numbers",
    ),
    Rewrite(
        "`F.adaptive_avg_pool2d(x, 7)`, `nn.AdaptiveAvgPool2d(7)`",
        re.compile(r"[Aa]daptive_?(avg|max|Avg|Max)_?[Pp]ool"),
        "pool to one pixel, or by a kernel of a fixed size",
    ),
)
"""Where a size of an input becomes a Python number."""

CALLS = (
    Rewrite(
        '`device="cuda"`, `x.cuda()`',
        re.compile(r"cuda"),
        "write device=x.device in the place of a GPU: tracing and proofs take place on the CPU",
    ),
    Rewrite(
        "`x.numpy()`, `np.abs(x)`",
        re.compile(r"\.numpy\(|\b(np|numpy)\."),
        "write the functions of torch for those of NumPy",
    ),
    Rewrite(
        "`x.half()`, `x.to(torch.float16)`",
        re.compile(r"\.half\(|\bb?float16\b"),
        "leave out casts to 16 bits: the weights are exported in float32, and --precision makes lower ones",
    ),
    Rewrite(
        "`if x.mean() > 0:`, `x.item()`",
        re.compile(r"\bif\b|\bwhile\b|\.item\(|\.tolist\(|\bbool\("),
        "write torch.where, torch.clamp and other operations on tensors for a condition on values",
    ),
)
"""Where running or tracing a module fails."""


def find_rewrite(table: tuple[Rewrite, ...], line: SourceLine | None) -> str:
    """What to write instead of a line; empty if the table does not have it."""
    code = line.read() if line else ""
    return next((row.instead for row in table if row.pattern.search(code)), "")
