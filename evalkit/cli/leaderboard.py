"""`evalkit leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evalkit import store
from evalkit.checkpoints import checkpoint_ref
from evalkit.cli.console import stderr, stdout
from evalkit.errors import ConfigError, EvalkitError, StoreError
from evalkit.registry import load_adapter, load_task
from evalkit.report.formats import to_csv, to_json, to_markdown
from evalkit.report.leaderboard import View
from evalkit.report.leaderboard import leaderboard as arrange
from evalkit.report.records import Record, all_records, latest_only
from evalkit.report.terminal import encodable, leaderboard_lines
from evalkit.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from evalkit.types import RunResult

FORMATS = ("rich", "md", "csv", "json")
PIPED_WIDTH = 120
"""Columns a table may take where the output is no terminal."""


def leaderboard(
    runs: Sequence[str | Path],
    *,
    format: str = "rich",
    intervals: bool = True,
    all_runs: bool = False,
    runs_dir: Path | None = None,
) -> None:
    """Print a table of runs.

    Args:
        runs: Run directories, names or beginnings of names, or folders of runs; none means all of `runs_dir`.
        format: `rich`, `md`, `csv` or `json`; the last two have every number in full, whatever `intervals` says.
        intervals: Show 95 % intervals.
        all_runs: Show repeated runs of one measurement, not only the latest.
        runs_dir: Where runs lie; see `evalkit.settings`.

    Raises:
        StoreError: There are no runs, or one cannot be read.
        ConfigError: An unknown format.
    """
    if format not in FORMATS:
        raise ConfigError(f"There is no table format {format!r}.", f"Choose one of: {', '.join(FORMATS)}.")
    folder = read_settings(runs_dir=runs_dir).runs_dir
    print_table(_read(runs, folder), format=format, intervals=intervals, all_runs=all_runs)


def print_table(
    results: Sequence[RunResult], *, format: str = "rich", intervals: bool = True, all_runs: bool = False
) -> None:
    """Print runs that were read already; the arguments are those of `leaderboard`."""
    records, left_out = (all_records(results), 0) if all_runs else latest_only(results)
    if format in ("csv", "json"):
        _emit(to_csv(records) if format == "csv" else to_json(records))
        if left_out:
            stderr().print(f"Earlier runs of the same measurements that are not listed: {left_out} (--all-runs).")
        return
    view = View(intervals=intervals, run_column=all_runs, left_out=left_out, is_default=_default_weights())
    board = arrange(records, view)
    if format == "md":
        _emit(to_markdown(board))
        return
    console = stdout()
    for line in leaderboard_lines(board, width=table_width(console), encoding=console.encoding):
        console.print(line)


def table_width(console: Console) -> int:
    """The columns a table may take."""
    return console.width if console.is_terminal else max(console.width, PIPED_WIDTH)


def _read(runs: Sequence[str | Path], folder: Path) -> list[RunResult]:
    found: dict[Path, Path] = {}
    for path in _paths(runs, folder):
        found.setdefault(path.resolve(), path)  # a run that is named twice is one run
    return sorted((store.read_run(path) for path in found.values()), key=lambda run: run.created)


def _paths(runs: Sequence[str | Path], folder: Path) -> list[Path]:
    if not runs:
        return _all_of(folder)
    paths: list[Path] = []
    for run in runs:
        several = Path(run).is_dir() and not store.is_run(Path(run))
        paths += _all_of(Path(run)) if several else [store.resolve_run(str(run), folder)]
    return paths


def _all_of(folder: Path) -> list[Path]:
    paths = store.find_runs(folder)
    if not paths:
        raise StoreError(
            f"There are no runs in {folder}.",
            "Make one, for example: evalkit run --model conse --task coco_retrieval."
            " Runs that lie elsewhere are named with --runs-dir (or EVALKIT_RUNS).",
        )
    return paths


def _default_weights() -> Callable[[Record], bool]:
    """Whether a record's weights are what its model's card names for its variant and task; False where nobody knows."""
    known: dict[tuple[str, str, str], tuple[str, str | None] | None] = {}

    def is_default(record: Record) -> bool:
        key = (record.model, record.variant, record.task)
        if key not in known:
            known[key] = _card_weights(*key)
        weights = known[key]
        if weights is None or weights[0] != record.checkpoint:
            return False
        return weights[1] is None or record.checkpoint_digest == f"commit:{weights[1]}"

    return is_default


def _card_weights(model: str, variant: str, task: str) -> tuple[str, str | None] | None:
    try:
        ref = checkpoint_ref(load_adapter(model).card, variant, load_task(task).card.purpose)
    except EvalkitError:  # a run of a plugin that is not installed here
        return None
    return ref.source, ref.revision


def _emit(document: str) -> None:
    """Write text as it is: no wrapping, no mark-up."""
    console = stdout()
    console.out(encodable(document, console.encoding), end="", highlight=False)
