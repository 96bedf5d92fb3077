"""`evalkit export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from evalkit import store
from evalkit.cli.console import stderr, stdout
from evalkit.errors import StoreError
from evalkit.registry import load_task
from evalkit.reopening import reopen
from evalkit.report.server_files import keys_of, server_file
from evalkit.settings import read_settings
from evalkit.tools.writing import check_target, write_whole

if TYPE_CHECKING:
    from pathlib import Path


def export_command(
    run: str,
    *,
    format: str,
    output: Path | None,
    allow_subset: bool,
    data_dir: Path | None,
    runs_dir: Path | None,
) -> None:
    """Check that the run answers every sample of its split, and write the server's file.

    Raises:
        StoreError: The run was limited or is on a part of the split, and `allow_subset` does not say that it may be; or
            the file cannot be written.
        DataError: The run's samples are not those of the split, or one has no answer.
        ConfigError: The format is not one for these answers.
    """
    run_dir = store.resolve_run(run, read_settings(runs_dir=runs_dir).runs_dir)
    if output is not None:
        check_target(output, run_dir.iterdir())
    result = store.read_run(run_dir)
    keys_of(load_task(result.task).prediction_type, format)
    limit = result.limit
    if limit is not None and not allow_subset:
        raise StoreError(
            f"The run {run_dir.name} has the first {limit} samples only, and the server takes whole splits.",
            "Run it without --limit, or write the file all the same with --allow-subset.",
        )
    data_root = read_settings(data_dir=data_dir).data_dir if data_dir else store.read_data_dir(run_dir)
    stored = reopen(run_dir, data_root)
    protocol = stored.result.protocols[-1].name
    if "-subset-" in protocol and not allow_subset:
        raise StoreError(
            f"The run answers {protocol}, which is not the whole official split, and the server takes whole splits.",
            "Run it on the whole annotation file, or write the file all the same with --allow-subset.",
        )
    content = server_file(stored.predictions, format)
    if output is None:
        stdout().out(content.decode(), end="", highlight=False)
    else:
        write_whole(output, content)
    stderr().print(Text(f"{len(stored.predictions)} answers, one for every sample of {protocol}."))
