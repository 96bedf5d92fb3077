"""`evalkit rescore`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Column, Table

from evalkit import store
from evalkit.cli.console import stderr, stdout
from evalkit.cli.leaderboard import table_width
from evalkit.errors import ConfigError
from evalkit.options import parse_pairs
from evalkit.runner import rescore
from evalkit.settings import read_settings

if TYPE_CHECKING:
    from pathlib import Path


def rescore_command(run: str, *, data_dir: Path | None, options: list[str], write: bool, runs_dir: Path | None) -> None:
    """Print each number beside the stored one; with `write`, store the new ones; else exit 1 where one differs.

    Raises:
        ConfigError: An option cannot be used, or would be stored beside numbers it did not make.
    """
    changed_options = parse_pairs(options)
    if write and changed_options:
        raise ConfigError("--write stores numbers of the run's own options only.", "Leave out --option or --write.")
    settings = read_settings(runs_dir=runs_dir)
    run_dir = store.resolve_run(run, settings.runs_dir)
    stored = store.read_run(run_dir)
    data_root = read_settings(data_dir=data_dir).data_dir if data_dir else store.read_data_dir(run_dir)
    metrics = rescore(run_dir, data_root, changed_options)
    before = {(metric.protocol, metric.split, metric.metric): metric for metric in stored.metrics}
    now = {(metric.protocol, metric.split, metric.metric): metric for metric in metrics}
    columns = (Column(name, overflow="fold") for name in ("protocol", "split", "metric", "now", "stored"))
    table = Table(*columns, box=box.SIMPLE)
    for key in now | before:
        table.add_row(*map(escape, key), *(repr(one[key].value) if key in one else "absent" for one in (now, before)))
    console = stdout()
    console.print(table, width=table_width(console))
    changed = sum(now.get(key) != before.get(key) for key in now | before)
    stderr().print(f"{changed} numbers differ from the stored ones" if changed else "the stored numbers are reproduced")
    if write:
        store.replace_metrics(run_dir, metrics)
        stderr().print(f"written: {escape(str(run_dir))}")
    elif changed and not changed_options:
        sys.exit(1)
