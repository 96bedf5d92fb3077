"""Runs as a data frame."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pandas as pd

from evalkit.report.formats import UNPUBLISHED, data_columns, data_rows
from evalkit.report.records import all_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.report.records import Record
    from evalkit.types import RunResult


def results_frame(runs: Sequence[RunResult]) -> pd.DataFrame:
    """One row a number; the columns are `COLUMNS`, of the same types however few runs there are.

    Args:
        runs: Runs as `evalkit.store.read_run` gives them; all of them are taken, repeated ones too.
    """
    return records_frame(all_records(runs))


def records_frame(records: Sequence[Record], *, published: bool = False) -> pd.DataFrame:
    """The same of records that were chosen already; half a surrogate pair, which UTF-8 lacks, stands as its escape.

    Args:
        records: Numbers of runs; of papers too where `published`.
        published: Add the column `source`; what no paper tells can be missing.
    """
    rows = [_encodable(row) for row in data_rows(records, published=published)]
    frame = pd.DataFrame(rows, columns=list(data_columns(published=published)))
    numbers = {"value": "float64", "low": "float64", "high": "float64"}
    counts = {
        "n": "int64",
        "clusters": "int64",
        "samples": "int64",
        "failed": "int64",
        "protocol_version": "int64",
        "limit": "Int64",
    }
    flags = {"higher_is_better": "bool", "main": "bool", "complete": "bool"}
    if published:
        counts |= {name: "Int64" for name in UNPUBLISHED if name in counts}
        flags["complete"] = "boolean"
    texts = {name: "str" for name in frame.columns if name not in {*numbers, *counts, *flags}}
    return frame.astype({**numbers, **counts, **flags, **texts})


def to_parquet(records: Sequence[Record], *, published: bool = False) -> bytes:
    """The frame as a Parquet file."""
    sink = io.BytesIO()
    records_frame(records, published=published).to_parquet(sink, index=False)
    return sink.getvalue()


def _encodable(row: dict[str, str | float | bool | None]) -> dict[str, str | float | bool | None]:
    return {
        name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }
