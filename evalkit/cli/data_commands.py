"""The signatures of `evalkit data`."""

from __future__ import annotations

import typer

from evalkit.cli.app import app
from evalkit.cli.flags import DataDir, PlainCommand, TaskArgument

data_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="What data is present, how to get it, whether it is sound."
)
app.add_typer(data_app, name="data")


@data_app.command("status", cls=PlainCommand)
def data_status(task: TaskArgument, data_dir: DataDir = None) -> None:
    """What is present or missing, its source and licence."""
    from evalkit.cli.data import status

    status(task, data_dir)


@data_app.command("prepare", cls=PlainCommand)
def data_prepare(task: TaskArgument, data_dir: DataDir = None) -> None:
    """Download what may be; say what to do for the rest."""
    from evalkit.cli.data import prepare

    prepare(task, data_dir)


@data_app.command("verify", cls=PlainCommand)
def data_verify(task: TaskArgument, data_dir: DataDir = None) -> None:
    """Check checksums, annotations and every image."""
    from evalkit.cli.data import verify

    verify(task, data_dir)
