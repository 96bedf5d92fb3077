"""The `evalkit` command: one module a command, imported when it runs."""

from __future__ import annotations

import sys

from evalkit.cli import data_commands, gates, publishing, results, tools  # noqa: F401 # each adds its commands
from evalkit.cli.app import app
from evalkit.cli.console import print_error
from evalkit.errors import EvalkitError


def main() -> None:
    """The console script: an `EvalkitError` becomes one line on stderr and exit code 2, without a traceback."""
    try:
        app()
    except EvalkitError as error:
        print_error(error)
        sys.exit(2)
