"""`evalkit rescore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from evalkit import store
from evalkit.cli.console import stderr, stdout
from evalkit.errors import ConfigError
from evalkit.options import parse_pairs
from evalkit.runner import rescore
from evalkit.settings import read_settings

if TYPE_CHECKING:
    from pathlib import Path


def rescore_command(run: str, *, data_dir: Path | None, options: list[str], write: bool, runs_dir: Path | None) -> None:
    """Print each number beside the stored one; with `write`, store the new ones.

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
    table = Table("protocol", "split", "metric", "now", "stored", box=box.SIMPLE)
    changed = len(before) - len(metrics)
    for metric in metrics:
        old = before.get((metric.protocol, metric.split, metric.metric))
        changed += old != metric
        shown = "absent" if old is None else repr(old.value)
        table.add_row(escape(metric.protocol), escape(metric.split), escape(metric.metric), repr(metric.value), shown)
    stdout().print(table)
    verdict = (
        "the stored numbers are reproduced" if not changed else f"{abs(changed)} numbers differ from the stored ones"
    )
    stderr().print(verdict)
    if write:
        store.replace_metrics(run_dir, metrics)
        stderr().print(f"written: {escape(str(run_dir))}")
