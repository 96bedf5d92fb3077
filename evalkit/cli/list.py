"""`evalkit list`: imports the plugins' cards and nothing heavy."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.markup import escape
from rich.table import Column, Table

from evalkit.cli.console import stdout
from evalkit.errors import ConfigError
from evalkit.registry import all_adapters, all_tasks, missing_extra, route_or_reason
from evalkit.types import Route


def list_command(*, matrix: bool, format: Literal["rich", "markdown"]) -> None:
    """Print tasks, models, and the matrix of what runs with what.

    Args:
        matrix: Also why, where a model cannot run a task.
        format: `markdown`: the matrix alone, as a page.

    Raises:
        ConfigError: The matrix is the only thing that is written as a page.
    """
    if format == "markdown":
        if not matrix:
            raise ConfigError("--format markdown writes the matrix.", "Add --matrix.")
        from evalkit.matrix import cells, markdown  # noqa: PLC0415 # reads the published numbers, which a list does without

        stdout().out(markdown(cells()), end="", highlight=False)
        return
    tasks, adapters = all_tasks(), all_adapters()
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

    table = _table("What runs with what", "model", *map(escape, tasks))
    reasons: list[str] = []
    for name, adapter in adapters.items():
        routes = []
        for task_name, task in tasks.items():
            route = route_or_reason(task, adapter)
            routes.append(escape(route.name) if isinstance(route, Route) else "-")
            if not isinstance(route, Route):
                reasons.append(f"{name} x {task_name}: {route}")
        table.add_row(escape(name), *routes)
    console.print(table)
    if matrix:
        for reason in reasons:
            console.print(escape(reason))
    elif reasons:
        console.print("A dash: cannot run; `evalkit list --matrix` says why.")


def _table(title: str, *columns: str) -> Table:
    return Table(
        *(Column(column, overflow="fold") for column in columns), box=box.SIMPLE, title=title, title_justify="left"
    )
