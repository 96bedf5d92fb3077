"""`evalkit list NAME`: everything that a task's or a model's card says, and the options that they take."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit.adapter import capabilities_of
from evalkit.cli.console import stdout
from evalkit.errors import PluginError
from evalkit.options import field_docs
from evalkit.registry import adapter_names, load_adapter, load_task, missing_extra, task_names
from evalkit.report.text import inert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.adapter import AdapterClass
    from evalkit.task import TaskClass
    from evalkit.types import ModelCard, TaskCard, Variant


def describe_command(names: Sequence[str]) -> None:
    """Print what is known of tasks and models by name.

    Raises:
        PluginError: A name is of neither.
    """
    tasks, models = task_names(), adapter_names()
    for name in names:
        if name not in tasks and name not in models:
            near = difflib.get_close_matches(name, (*tasks, *models), n=3, cutoff=0.5)
            raise PluginError(
                f"There is no task and no model named {name!r}.",
                f"Did you mean {' or '.join(near)}?" if near else "`evalkit list` shows all.",
            )
    for place, name in enumerate(names):
        lines = [""] if place else []
        if name in tasks:
            lines += _task_lines(load_task(name))
        if name in models:
            lines += _model_lines(load_adapter(name))
        for line in lines:
            stdout().print(Text(inert(line)))


def _task_lines(task: TaskClass) -> Iterator[str]:
    card: TaskCard = task.card
    yield f"task {card.name}: {card.summary}"
    yield f"  paper         {card.paper}"
    yield f"  data          {card.dataset.name}; `evalkit data status {card.name}` shows its files"
    yield f"  main metric   {card.main_metric}"
    yield f"  protocol      {card.protocol or 'named after your data'}"
    yield "  routes, best first, and what a model needs for each:"
    for route in card.routes:
        yield f"    {route.name}: {' and '.join(route.needs)}"
    if splits := getattr(task, "splits", {}):
        yield f"  splits        {', '.join(splits)} (-o split=)"
    docs = field_docs(task.options_type)
    if docs:
        yield "  options, -o NAME=VALUE, with their defaults:"
    defaults = task.options_type()
    for entry in fields(task.options_type):
        yield f"    {entry.name}={getattr(defaults, entry.name)}"
        if docs[entry.name]:
            yield f"        {docs[entry.name]}"


def _model_lines(adapter: AdapterClass) -> Iterator[str]:
    card: ModelCard = adapter.card
    yield f"model {card.name}: {card.summary}"
    yield f"  paper         {card.paper}"
    yield f"  licence       {card.licence}"
    yield f"  can           {', '.join(capabilities_of(adapter))}"
    if missing := missing_extra(card):
        yield f"  to install    {missing}"
    yield "  variants, the default first, and their weights by purpose:"
    for variant in card.variants:
        yield f"    {variant.name}: {_weights(variant)}"
    if card.settings:
        yield "  options, -m NAME=VALUE, the default first:"
    for name, values in card.settings.items():
        yield f"    {name}: {', '.join(values)}"


def _weights(variant: Variant) -> str:
    told = [
        f"{purpose} {ref.source}{f' at {ref.revision[:8]}' if ref.revision else ''}"
        for purpose, ref in variant.checkpoints.items()
    ]
    return "; ".join(told) or "none pinned: name some with --checkpoint"
