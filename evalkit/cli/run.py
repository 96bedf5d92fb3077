"""`evalkit run`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from evalkit.cli.console import stderr
from evalkit.cli.leaderboard import print_table
from evalkit.cli.progress import ConsoleProgress
from evalkit.errors import ConfigError, remedies_for
from evalkit.options import parse_pairs
from evalkit.runner import RunConfig, run
from evalkit.settings import read_settings
from evalkit.store import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.opening import Dtype


def run_command(
    *,
    model: str,
    task: str,
    variant: str | None,
    checkpoint: str | None,
    revision: str | None,
    model_options: list[str],
    demo: bool,
    data_dir: Path | None,
    cache_dir: Path | None,
    runs_dir: Path | None,
    limit: int | None,
    options: list[str],
    rerank_with: str | None,
    assistant_checkpoint: str | None,
    rerank_k: int | None,
    device: str,
    dtype: Dtype,
    batch_size: int | None,
    on_error: Literal["stop", "skip"],
    threads: int,
) -> None:
    """Run, then print the run's table and where it lies."""
    settings = read_settings(data_dir=data_dir, cache_dir=cache_dir, runs_dir=runs_dir)
    named = {"rerank_with": rerank_with, "rerank_k": rerank_k}
    config = RunConfig(
        model=model,
        task=task,
        variant=variant,
        checkpoint=checkpoint,
        revision=revision,
        model_options=parse_pairs(model_options),
        data_dir=settings.data_dir,
        cache_dir=settings.cache_dir,
        runs_dir=settings.runs_dir,
        limit=limit,
        assistant_checkpoint=assistant_checkpoint,
        options=parse_pairs([*options, *(f"{name}={value}" for name, value in named.items() if value is not None)]),
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        on_error=on_error,
        threads=threads,
    )
    if demo:
        from evalkit.demo.running import demo_config  # noqa: PLC0415 # the demo is not needed otherwise

        if data_dir is not None:
            raise ConfigError("--demo brings data of its own.", "Leave out --data-dir.")
        config = demo_config(config)
    try:
        with remedies_for(task):
            run_dir = run(config, ConsoleProgress())
    except KeyboardInterrupt:
        stderr().print("stopped: the same command continues this run")
        sys.exit(130)
    result = read_run(run_dir)
    print_table([result])
    if not any(metric.metric == result.main_metric for metric in result.metrics):
        stderr().print(
            Text(
                f"{result.main_metric} cannot be computed here: the answers of this split are not public. "
                f"Write the server's file: evalkit export {result.run_id}"
            )
        )
    if result.counts.failed:
        stderr().print(
            Text(f"{result.counts.failed} of {result.counts.samples} samples failed: this run is incomplete.")
        )
    stderr().print(Text(f"run: {run_dir}", style="dim"))
