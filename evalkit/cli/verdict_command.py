"""A command whose exit code is a verdict: that it failed must not be taken for one."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Final

from click.exceptions import Abort, ClickException, Exit, UsageError

from evalkit.cli.console import print_error
from evalkit.cli.flags import PlainCommand
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from click import Context

TROUBLE: Final = 4
"""The exit code where there is no verdict. Python's own for an exception is 1, and that of a wrong flag 2."""


class VerdictCommand(PlainCommand):
    """Exits with `TROUBLE` where it fails, for whatever reason."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: Any
    ) -> Context:
        """Read the flags."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except UsageError as error:
            error.show()
            raise Exit(TROUBLE) from error

    def invoke(self, ctx: Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except EvalkitError as error:
            print_error(error)
            raise Exit(TROUBLE) from error
        except ClickException as error:
            error.show()
            raise Exit(TROUBLE) from error
        except (Exit, Abort):
            raise
        except SystemExit as error:  # rich's, with code 1, where nobody reads the output any more
            raise Exit(TROUBLE) from error
        except Exception as error:  # a bug: its traceback is shown, and its exit code must not be 1, which is a verdict
            traceback.print_exc()
            raise Exit(TROUBLE) from error
