"""`evalkit show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit import store
from evalkit.cli.console import stdout
from evalkit.cli.leaderboard import table_width
from evalkit.errors import ConfigError
from evalkit.report.formats import json_document
from evalkit.report.terminal import leaderboard_lines, section_lines
from evalkit.report.trace import as_plain, trace
from evalkit.settings import read_settings

if TYPE_CHECKING:
    from pathlib import Path

SHOWN_FAILURES = 10


def show(run: str, *, format: str = "rich", runs_dir: Path | None = None) -> None:
    """Print everything that traces a run's numbers.

    Args:
        run: A run's directory, its name, or a unique beginning of its name.
        format: `rich`, or `json` with every failure.
        runs_dir: Where runs lie; see `evalkit.settings`.

    Raises:
        StoreError: There is no such run, or it cannot be read.
        ConfigError: An unknown format.
    """
    if format not in ("rich", "json"):
        raise ConfigError(f"There is no format {format!r} of a run.", "Choose one of: rich, json.")
    path = store.resolve_run(run, read_settings(runs_dir=runs_dir).runs_dir)
    result, data_dir = store.read_run(path), str(store.read_data_dir(path))
    failures = store.read_failures(path) if result.counts.failed else []
    console = stdout()
    if format == "json":
        document = json_document(as_plain(result, place=str(path), data_dir=data_dir, failures=failures))
        console.out(document, end="", highlight=False)
        return
    told = trace(result, place=str(path), data_dir=data_dir, failures=failures, shown_failures=SHOWN_FAILURES)
    for line in section_lines(told.sections, encoding=console.encoding):
        console.print(line)
    for line in leaderboard_lines(told.numbers, width=table_width(console), encoding=console.encoding):
        console.print(line)
