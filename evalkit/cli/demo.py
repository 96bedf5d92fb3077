"""`evalkit demo`."""

from __future__ import annotations

import io
import re
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from evalkit.cli.console import stderr, stdout
from evalkit.cli.leaderboard import table_width
from evalkit.demo.matrix import demo_configs, run_all
from evalkit.demo.running import TASKS
from evalkit.report.formats import to_markdown
from evalkit.report.leaderboard import View, leaderboard
from evalkit.report.overview import Overview, overview, overview_table
from evalkit.report.records import latest_only
from evalkit.settings import read_settings
from evalkit.store import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.types import RunResult

TITLE = "The demo: miniatures on a generated world"
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
    board = overview(results, TASKS)
    Console(width=table_width(stdout()), highlight=False).print(overview_table(board, TITLE))
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(to_markdown(leaderboard(latest_only(results)[0], View())), "utf-8")
    if picture is not None:
        picture.write_text(_drawn(board), "utf-8")
    asked = sum(sum(result.counts.asked.values()) for result in results)
    stderr().print(
        Text(f"{len(results)} runs, {asked:,} answers, {time.monotonic() - started:.0f} s; every number: {report}")
    )


def _line(result: RunResult) -> str:
    main = [metric for metric in result.metrics if metric.metric == result.main_metric][-1]
    return f"{result.model} x {result.task}: {main.metric} {main.value:.1f} [{main.low:.1f}, {main.high:.1f}]"


def _drawn(board: Overview) -> str:
    """The matrix as SVG that needs nothing from anywhere: rich names a font on a server of somebody else's."""
    console = Console(record=True, width=_PICTURE_WIDTH, file=io.StringIO(), highlight=False)
    console.print(overview_table(board, TITLE))
    drawn = console.export_svg(title="evalkit demo", unique_id="demo")
    return re.sub(r"@font-face\s*{[^}]*}", "", drawn).replace("Fira Code, monospace", "monospace")
