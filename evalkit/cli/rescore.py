"""`evalkit rescore`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.text import Text

from evalkit import store
from evalkit.cli.console import stderr, stdout
from evalkit.errors import ConfigError
from evalkit.options import parse_pairs
from evalkit.reopening import rescore
from evalkit.report.text import inert
from evalkit.settings import read_settings

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.types import MetricValue


def rescore_command(run: str, *, data_dir: Path | None, options: list[str], write: bool, runs_dir: Path | None) -> None:
    """Print the numbers that differ from the stored ones; with `write`, store the new ones; else exit 1 for such.

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
    differing = [key for key in now | before if now.get(key) != before.get(key)]
    for key in differing:
        protocol, split, name = key
        told = f"{name} ({protocol}, split {split}): {_in_full(now.get(key))} now, {_in_full(before.get(key))} stored"
        stdout().print(Text(inert(told)))
    total = len(now | before)
    stdout().print(f"{total - len(differing)} of {total} numbers reproduced")
    changed = len(differing)
    stderr().print(f"{changed} numbers differ from the stored ones" if changed else "the stored numbers are reproduced")
    if write:
        store.replace_metrics(run_dir, metrics)
        stderr().print(f"written: {escape(str(run_dir))}")
    elif changed and not changed_options:
        sys.exit(1)


def _in_full(metric: MetricValue | None) -> str:
    """A number and its interval, every digit."""
    return "absent" if metric is None else f"{metric.value!r} [{metric.low!r}, {metric.high!r}] n={metric.n}"
