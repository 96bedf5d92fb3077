"""Runs at a glance: one row a model, one column a task, the main metric in each cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.report.text import inert
from evalkit.types import MetricValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The main numbers of some runs."""

    models: tuple[str, ...]
    tasks: tuple[tuple[str, str], ...]
    """Task, and its main metric with unit."""
    cells: dict[tuple[str, str], MetricValue]
    """Model and task -> the number; what was not run is absent."""


def overview(results: Sequence[RunResult], order: Sequence[str]) -> Overview:
    """The main metric of each run, of its main protocol (the last); of repeated runs the latest.

    Args:
        results: The runs; models stand in their order.
        order: The tasks, in order; others are left out.
    """
    cells: dict[tuple[str, str], MetricValue] = {}
    tasks: dict[str, str] = {}
    for result in sorted(results, key=lambda result: result.created):
        main = [metric for metric in result.metrics if metric.metric == result.main_metric]
        if main:
            cells[result.model, result.task] = main[-1]
            tasks[result.task] = f"{result.main_metric} ({main[-1].unit})"
    return Overview(
        models=tuple(dict.fromkeys(result.model for result in results)),
        tasks=tuple((task, tasks[task]) for task in order if task in tasks),
        cells=cells,
    )


def overview_table(board: Overview, title: str) -> Table:
    """For a terminal: the best of each column is bold, all of them where several are equal."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for task, metric in board.tasks:
        table.add_column(Text(f"{inert(task)}\n{inert(metric)}"), justify="right")
    best = {
        task: _best([board.cells[model, task] for model in board.models if (model, task) in board.cells])
        for task, _ in board.tasks
    }
    for model in board.models:
        row = [Text(inert(model))]
        for task, _ in board.tasks:
            number = board.cells.get((model, task))
            value = "-" if number is None else f"{number.value:.1f}"
            row.append(Text(value, style="bold" if value == f"{best[task]:.1f}" else ""))
        table.add_row(*row)
    return table


def _best(numbers: Sequence[MetricValue]) -> float:
    values = [number.value for number in numbers]
    return max(values) if numbers[0].higher_is_better else min(values)
