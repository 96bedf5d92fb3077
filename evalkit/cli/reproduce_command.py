"""`evalkit reproduce` on the command line: exit code 1 is its verdict "off", which a bug must not look like."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from click.exceptions import Abort, ClickException, Exit

from evalkit.cli.flags import PlainCommand
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from click import Context


class ReproduceCommand(PlainCommand):
    """Exits with 2 where it fails, for whatever reason; Python's own exit code for an exception is 1."""

    def invoke(self, ctx: Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except (EvalkitError, ClickException, Exit, Abort):  # their exit codes are right
            raise
        except Exception as error:  # a bug: its traceback is shown
            traceback.print_exc()
            raise Exit(2) from error
