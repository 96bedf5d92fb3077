"""The command tree. Only signatures live here, so that `--help` imports nothing heavy; each command's work is in its own module."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
