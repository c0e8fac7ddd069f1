"""Shards as Parquet files with the column types of Hugging Face's `datasets`, which shows the pictures as pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import pyarrow as arrow
import pyarrow.parquet

from ganrt.shards.rows import Rows


def pack_table(rows: Rows, encoded: Sequence[bytes]) -> bytes:
    """Make a Parquet file of PNG files: a row per picture, with the columns `image` (a struct of the file's `bytes` and
    `path`), `seed`, `index`, `label` and `truncation`. The last two are there if the model has classes, or a truncation
    was chosen; it is null where it is the model's own."""
    draw = rows.draw
    files = [
        {"bytes": content, "path": f"{number:09d}.png"} for content, number in zip(encoded, rows.numbers, strict=True)
    ]
    columns = {
        "image": arrow.array(files, arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})),
        "seed": arrow.array(draw.seeds),
        "index": arrow.array(draw.indices),
    }
    if draw.labels is not None:
        columns["label"] = arrow.array(draw.labels)
    if draw.truncation is not None:
        columns["truncation"] = arrow.array(draw.truncation, from_pandas=True)  # NaN becomes null
    features = {
        name: {"_type": "Image"} if name == "image" else {"dtype": _name_type(column), "_type": "Value"}
        for name, column in columns.items()
    }
    about = {"huggingface": json.dumps({"info": {"features": features}}), "bundle": rows.digest}
    table = arrow.table(columns).replace_schema_metadata(about)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="none", use_dictionary=False)  # PNG files are compressed
    return buffer.getvalue()


def _name_type(column: arrow.Array) -> str:
    """The name that `datasets` has for a column's type."""
    return {"double": "float64"}.get(str(column.type), str(column.type))
