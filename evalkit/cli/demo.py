"""`evalkit demo`."""

from __future__ import annotations

import io
import re
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from evalkit.cli.console import stderr, stdout
from evalkit.cli.leaderboard import table_width
from evalkit.demo.matrix import demo_configs, run_all
from evalkit.report.board import Leaderboard, View, number
from evalkit.report.formats import to_markdown
from evalkit.report.leaderboard import leaderboard
from evalkit.report.notes import BEST
from evalkit.report.paper_tables import paper_tables
from evalkit.report.records import Record, latest_only
from evalkit.report.terminal import leaderboard_lines
from evalkit.settings import read_settings
from evalkit.store import read_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import RunResult

TITLE = "The demo: miniatures on a generated world"
PROTOCOLS = "Each model is asked in its own way: the whole leaderboard names every number's protocol."
_PICTURE_WIDTH = 110


def demo_command(
    *, workers: int, report: Path, picture: Path | None, cache_dir: Path | None, runs_dir: Path | None
) -> None:
    """Run every cell, then print the matrix and say where all the numbers lie.

    Args:
        workers: Processes.
        report: The Markdown file of the whole leaderboard.
        picture: An SVG file of the matrix; None for none.
        cache_dir: See `evalkit.settings`.
        runs_dir: As above.
    """
    started = time.monotonic()
    settings = read_settings(cache_dir=cache_dir, runs_dir=runs_dir)
    configs = demo_configs(settings.cache_dir, settings.runs_dir)
    done: dict[tuple[str, str], RunResult] = {}
    try:
        for config, run_dir in run_all(configs, workers):
            result = done[config.model, config.task] = read_run(run_dir)
            stderr().print(Text(f"[{len(done)}/{len(configs)}] {_line(result)}"))
    except KeyboardInterrupt:
        stderr().print("stopped: the same command continues")
        sys.exit(130)
    results = [done[config.model, config.task] for config in configs]
    records = latest_only(results)[0]
    board = overview(records)
    console = stdout()
    styled = console.color_system is not None
    for line in leaderboard_lines(board, width=table_width(console), encoding=console.encoding, styled=styled):
        console.print(line)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(to_markdown(leaderboard(records, View())), "utf-8")
    if picture is not None:
        picture.write_text(_drawn(board), "utf-8")
    asked = sum(sum(result.counts.asked.values()) for result in results)
    stderr().print(
        Text(f"{len(results)} runs, {asked:,} answers, {time.monotonic() - started:.0f} s; every number: {report}")
    )


def _line(result: RunResult) -> str:
    main = [metric for metric in result.metrics if metric.metric == result.main_metric][-1]
    value, low, high = (number(one, main.unit) for one in (main.value, main.low, main.high))
    return f"{result.model} x {result.task}: {main.metric} {value} [{low}, {high}]"


def overview(records: Sequence[Record]) -> Leaderboard:
    """The main numbers, a row a model: the layout `wide`, without notes, as the whole leaderboard has them."""
    board = paper_tables(records, "wide", View(intervals=False, across_protocols=True))
    tables = (
        replace(
            table,
            title=TITLE,
            rows=tuple(
                replace(row, numbers=tuple(cell and replace(cell, marks=()) for cell in row.numbers))
                for row in table.rows
            ),
        )
        for table in board.tables
    )
    ranks = [note for note in board.footnotes if note.startswith(BEST)]
    return Leaderboard(tables=tuple(tables), footnotes=(*ranks, PROTOCOLS), sources=())


def _drawn(board: Leaderboard) -> str:
    """The matrix as SVG that needs nothing from anywhere: rich names a font on a server of somebody else's."""
    console = Console(record=True, width=_PICTURE_WIDTH, file=io.StringIO(), highlight=False)
    for line in leaderboard_lines(board, width=_PICTURE_WIDTH):
        console.print(line)
    drawn = console.export_svg(title="evalkit demo", unique_id="demo")
    return re.sub(r"@font-face\s*{[^}]*}", "", drawn).replace("Fira Code, monospace", "monospace")
