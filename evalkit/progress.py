"""How the client tells somebody how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Whoever shows progress: the command line, a notebook, nobody."""

    def start(self, label: str, total: int, done: int) -> None:
        """A phase begins: `done` of `total` were known already."""
        ...

    def advance(self, count: int) -> None:
        """`count` more are done."""
        ...

    def finish(self) -> None:
        """The phase is over."""
        ...

    def note(self, message: str) -> None:
        """Something the user should know that is not an error."""
        ...


class SilentProgress:
    """Shows nothing."""

    def start(self, label: str, total: int, done: int) -> None:
        """Do nothing."""

    def advance(self, count: int) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def note(self, message: str) -> None:
        """Do nothing."""
