"""Runs on disk: `<runs>/<run id>/` with `run.json`, `predictions.parquet`, `metrics.json`, `resampled.parquet`.

A run is written into a hidden folder beside its place and renamed, so a reader sees a whole run or none. What two equal
runs give is equal to the byte: `predictions.parquet` and `metrics.json` hold no time and no path.
"""

from evalkit.store.catalogue import find_runs, is_run, resolve_run, runs_at
from evalkit.store.runs import (
    FORMAT_VERSION,
    Resampled,
    check_writable,
    read_data_dir,
    read_failures,
    read_predictions,
    read_resampled,
    read_run,
    replace_metrics,
    write_run,
)

__all__ = [
    "FORMAT_VERSION",
    "Resampled",
    "check_writable",
    "find_runs",
    "is_run",
    "read_data_dir",
    "read_failures",
    "read_predictions",
    "read_resampled",
    "read_run",
    "replace_metrics",
    "resolve_run",
    "runs_at",
    "write_run",
]
