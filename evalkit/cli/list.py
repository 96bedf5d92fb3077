"""`evalkit list`: imports the plugins' cards and nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich import box
from rich.markup import escape
from rich.table import Column, Table

from evalkit.cli.console import stdout
from evalkit.errors import ConfigError, PluginError
from evalkit.registry import all_adapters, all_tasks, missing_extra, route_or_reason
from evalkit.types import Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from evalkit.adapter import AdapterClass
    from evalkit.task import TaskClass


def list_command(*, matrix: bool, format: Literal["rich", "md", "markdown"]) -> None:
    """Print tasks, models, and the matrix of what runs with what.

    Args:
        matrix: Every pair of task and model; where a model cannot run a task, why.
        format: `md` or `markdown`: the matrix alone, as a page.

    Raises:
        ConfigError: The matrix is the only thing that is written as a page.
    """
    if format != "rich":
        if not matrix:
            raise ConfigError("--format md writes the matrix.", "Add --matrix.")
        from evalkit.matrix import cells, markdown  # noqa: PLC0415 # reads the published numbers, which a list does without

        stdout().out(markdown(cells()), end="", highlight=False)
        return
    broken: list[PluginError] = []
    tasks, adapters = all_tasks(broken), all_adapters(broken)
    console = stdout()

    table = _table("Tasks", "task", "what it measures", "main metric")
    for name, task in tasks.items():
        table.add_row(escape(name), escape(task.card.summary), escape(task.card.main_metric))
    console.print(table)

    table = _table("Models", "model", "what it is", "variants", "to install")
    for name, adapter in adapters.items():
        card = adapter.card
        variants = ", ".join(variant.name for variant in card.variants)
        table.add_row(escape(name), escape(card.summary), escape(variants), escape(missing_extra(card) or ""))
    console.print(table)

    if broken:
        console.print("Broken plugins")
        for error in broken:
            console.print(f"  {escape(error.problem)} {escape(error.remedy)}")

    if matrix:
        _print_every_cell(console, tasks, adapters)
    else:
        console.print(_what_runs(tasks, adapters))
        console.print("Other models cannot run it: `evalkit list --matrix` says why.")


def _what_runs(tasks: Mapping[str, TaskClass], adapters: Mapping[str, AdapterClass]) -> Table:
    table = _table("What runs with what", "task", "models, and the best way each has through it")
    for name, task in tasks.items():
        routes = {model: route_or_reason(task, adapter) for model, adapter in adapters.items()}
        runs = [f"{model} ({route.name})" for model, route in routes.items() if isinstance(route, Route)]
        table.add_row(escape(name), escape(", ".join(runs)))
    return table


def _print_every_cell(console: Console, tasks: Mapping[str, TaskClass], adapters: Mapping[str, AdapterClass]) -> None:
    """One line a cell, however long, so that it can be searched."""
    console.print("What runs with what: the best way through the task, or why there is none")
    for name, task in tasks.items():
        for model, adapter in adapters.items():
            route = route_or_reason(task, adapter)
            console.print(escape(f"{name} x {model}: {route.name if isinstance(route, Route) else f'n/a: {route}'}"))


def _table(title: str, first: str, *others: str) -> Table:
    """The first column holds names, which are not broken into lines."""
    columns = (Column(first, no_wrap=True), *(Column(other, overflow="fold") for other in others))
    return Table(*columns, box=box.SIMPLE, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
