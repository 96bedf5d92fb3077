"""A command whose exit code is a verdict: that it failed must not be taken for one."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, ClassVar, Final

from click.exceptions import Abort, ClickException, Exit, UsageError

from evalkit.cli.console import print_error
from evalkit.cli.flags import PlainCommand
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click import Context

_ARGUMENTS: Final = "evalkit.arguments"
TROUBLE: Final = 4
"""The exit code where there is no verdict. Python's own for an exception is 1, and that of a wrong flag 2."""


class VerdictCommand(PlainCommand):
    """Exits with `trouble` where it fails, for whatever reason."""

    trouble: ClassVar[int] = TROUBLE

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: Any
    ) -> Context:
        """Read the flags."""
        arguments = tuple(args)
        try:
            context = super().make_context(info_name, args, parent, **extra)
        except UsageError as error:
            error.show()
            self.tell_trouble(arguments, error.format_message())
            raise Exit(self.trouble) from error
        context.meta[_ARGUMENTS] = arguments
        return context

    def invoke(self, ctx: Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except EvalkitError as error:
            print_error(error)
            self.tell_trouble(ctx.meta[_ARGUMENTS], str(error))
            raise Exit(self.trouble) from error
        except ClickException as error:
            error.show()
            self.tell_trouble(ctx.meta[_ARGUMENTS], error.format_message())
            raise Exit(self.trouble) from error
        except (Exit, Abort):
            raise
        except SystemExit as error:  # rich's, with code 1, where nobody reads the output any more
            raise Exit(self.trouble) from error
        except Exception as error:  # a bug: its traceback is shown, and its exit code must not be 1, which is a verdict
            traceback.print_exc()
            self.tell_trouble(ctx.meta[_ARGUMENTS], f"{type(error).__name__}: {error}")
            raise Exit(self.trouble) from error

    def tell_trouble(self, arguments: Sequence[str], problem: str) -> None:
        """Also where a verdict would have been told; nowhere, unless a command says so.

        Args:
            arguments: Of the command line, which may be what the trouble is with.
            problem: One or more lines, as they came.
        """


class GateCommand(VerdictCommand):
    """Tells continuous integration, too, that there is no verdict."""

    def tell_trouble(self, arguments: Sequence[str], problem: str) -> None:
        """On GitHub an annotation and the step's summary; and the file of `--junit`."""
        from evalkit.cli.gate import tell_trouble

        tell_trouble(arguments, problem)
