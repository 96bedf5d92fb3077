"""Progress: on a terminal a bar with rate and remaining time; elsewhere a line a minute in phases that take long."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from evalkit.cli.console import stderr
from evalkit.report.text import inert

if TYPE_CHECKING:
    from collections.abc import Callable


FIRST_LINE_AFTER = 30.0
"""Seconds of a phase before its first line, where there is no bar: a short phase has none."""
LINE_EVERY = 60.0


class ConsoleProgress:
    """Shows a bar where stderr is a terminal; where it is not, a line at most once a minute.

    Args:
        clock: Seconds, as `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._started = self._next_line = 0.0
        self._total = self._before = self._done = 0
        self._told = False

    def start(self, label: str, total: int, done: int) -> None:
        """Open a bar for a phase, unless everything is known already."""
        self._label, self._total, self._before, self._done = label, total, done, 0
        self._started, self._told = self._clock(), False
        self._next_line = self._started + FIRST_LINE_AFTER
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
        self._bar.start()

    def advance(self, count: int) -> None:
        """Move the bar, or say how far it is if the last line is a minute old."""
        self._done += count
        now = self._clock()
        rate = self._done / max(now - self._started, 1e-9)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=count, rate=f"{rate:,.1f}/s")
        elif now >= self._next_line and not stderr().is_terminal:
            self._next_line, self._told = now + LINE_EVERY, True
            left = max(0, self._total - self._before - self._done)
            self._say(f", {rate:,.1f}/s, {timedelta(seconds=round(left / max(rate, 1e-9)))} to go")

    def finish(self) -> None:
        """Close the bar; what it showed stays."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None
        elif self._told:
            self._told = False
            self._say(f" in {timedelta(seconds=round(self._clock() - self._started))}")

    def _say(self, more: str) -> None:
        self.note(f"{self._label}: {self._before + self._done:,} of {self._total:,}{more}")

    def note(self, message: str) -> None:
        """Print a line above the bar."""
        console = self._bar.console if self._bar is not None else stderr()
        console.print(Text(inert(message), style="dim"))
