"""Progress on a terminal: a bar with rate and remaining time; one line a phase elsewhere."""

from __future__ import annotations

import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from evalkit.cli.console import stderr


class ConsoleProgress:
    """Shows a bar where stderr is a terminal, and nothing but notes where it is not."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = 0.0
        self._done = 0

    def start(self, label: str, total: int, done: int) -> None:
        """Open a bar for a phase, unless everything is known already."""
        if not stderr().is_terminal or done == total:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=stderr(),
        )
        self._task = self._bar.add_task(label, total=total, completed=done, rate="")
        self._started, self._done = time.monotonic(), 0
        self._bar.start()

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._done += count
            rate = self._done / max(time.monotonic() - self._started, 1e-9)
            self._bar.update(self._task, advance=count, rate=f"{rate:,.1f}/s")

    def finish(self) -> None:
        """Close the bar; what it showed stays."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def note(self, message: str) -> None:
        """Print a line above the bar."""
        console = self._bar.console if self._bar is not None else stderr()
        console.print(Text(message, style="dim"))
