"""The two consoles and the one way an error reaches the user."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.errors import EvalkitError


@functools.cache
def stdout() -> Console:
    """Results go here."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


@functools.cache
def stderr() -> Console:
    """Progress, notes and errors go here."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(error: EvalkitError) -> None:
    """One line: what is wrong and what to do."""
    _say("error: ", "bold red", str(error))


def print_warning(message: str) -> None:
    """One line: what is not as it was wanted."""
    _say("warning: ", "bold yellow", message)


def _say(word: str, style: str, message: str) -> None:
    from rich.text import Text

    from evalkit.report.text import inert

    stderr().print(Text.assemble((word, style), inert(" ".join(message.split()))))
