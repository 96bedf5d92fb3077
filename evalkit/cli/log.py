"""`evalkit log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from evalkit import store
from evalkit.cli.console import stdout
from evalkit.errors import ConfigError
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.tools.logged_run import logged_run
from evalkit.tools.logging_mlflow import log_to_mlflow
from evalkit.tools.logging_wandb import log_to_wandb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TRACKERS = {"mlflow": log_to_mlflow, "wandb": log_to_wandb}


def log_command(runs: Sequence[str], *, to: str, project: str, files: bool, runs_dir: Path | None) -> None:
    """Log runs to an experiment tracker, in order; each is read before any is logged.

    Raises:
        StoreError: A run cannot be read, or the tracker does not take it.
        PluginError: The tracker is not installed.
        ConfigError: An unknown tracker.
    """
    if to not in _TRACKERS:
        raise ConfigError(f"There is no tracker {to!r}.", f"Choose one of: {', '.join(_TRACKERS)}.")
    folder = read_settings(runs_dir=runs_dir).runs_dir
    places = {path.resolve(): path for path in (store.resolve_run(run, folder) for run in runs)}
    taken = [
        logged_run(store.read_run(path), tuple(sorted(path.iterdir())) if files else ()) for path in places.values()
    ]
    for run in taken:
        place = _TRACKERS[to](run, project)
        stdout().print(Text(inert(f"{run.name}: {len(run.metrics)} numbers logged to {place}")))
