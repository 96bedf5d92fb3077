"""Which model runs on which task, by which protocol and weights, and what was published: read off the cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.published import PublishedResult, read_published
from evalkit.registry import all_adapters, all_tasks, profile, route_or_reason
from evalkit.types import CheckpointRef, Route, TaskCard, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evalkit.adapter import AdapterClass
    from evalkit.task import TaskClass

_NONE_PINNED = "none pinned: name one with --checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A variant of a model on a task."""

    task: TaskCard
    model: str
    variant: str
    route: str
    """The best route, with default options; empty where there is none."""
    reason: str
    """Why there is none; else empty."""
    checkpoint: CheckpointRef | None
    """The card's weights for it; None where it pins none, or there is no route."""
    seen: tuple[str, ...]
    """Data sets whose labels those weights learnt, though the task takes them for unseen."""
    published: tuple[PublishedResult, ...]
    """Numbers of these very weights on this task."""

    @property
    def protocol(self) -> str:
        """Of the whole default split: `coco-karpathy-5k/itc+itm`."""
        part = next((route.part for route in self.task.routes if route.name == self.route), "")
        return f"{self.task.protocol or 'own data'}{part and f'-{part}'}/{self.route}"


def cells() -> tuple[Cell, ...]:
    """Every task, and under it every model: its first variant, and those with published numbers on the task."""
    published = read_published()
    adapters = all_adapters()
    return tuple(
        cell
        for task in all_tasks().values()
        for adapter in adapters.values()
        for cell in _cells_of(task, adapter, published)
    )


def _cells_of(task: TaskClass, adapter: AdapterClass, published: Sequence[PublishedResult]) -> Iterator[Cell]:
    for variant in adapter.card.variants:
        numbers = tuple(
            each
            for each in published
            if (each.task, each.model, each.variant) == (task.card.name, adapter.card.name, variant.name)
        )
        if numbers or variant is adapter.card.variants[0]:
            yield _cell(task, adapter, variant, numbers)


def _cell(
    task_class: TaskClass, adapter: AdapterClass, variant: Variant, published: tuple[PublishedResult, ...]
) -> Cell:
    card: TaskCard = task_class.card
    model = profile(adapter, variant.name)
    found = route_or_reason(task_class, adapter, variant.name)
    route, reason = (found, "") if isinstance(found, Route) else (None, found)
    return Cell(
        task=card,
        model=adapter.card.name,
        variant=variant.name,
        route=route.name if route else "",
        reason=reason,
        checkpoint=model.checkpoint(route.purpose or card.purpose) if route else None,
        seen=model.seen(card) if route else (),
        published=published,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The page of the documentation
# ---------------------------------------------------------------------------------------------------------------------
_HEAD = """\
# What runs with what

This page is written by `evalkit list --matrix --format markdown` from the plugins' own declarations; change those, then
write it again. A cell of the first table is the best route of the model's first variant through the task; a dash means
that there is none, and the task's section says why.
"""


def markdown(matrix: Sequence[Cell]) -> str:
    """The page: one table of all, then a section for each task."""
    by_task: dict[str, list[Cell]] = {}
    for cell in matrix:
        by_task.setdefault(cell.task.name, []).append(cell)
    parts = [_HEAD, *_overview(by_task)]
    for group in by_task.values():
        parts += ["", *_section(group)]
    return "\n".join(parts) + "\n"


def _overview(by_task: Mapping[str, Sequence[Cell]]) -> Iterator[str]:
    models = list(dict.fromkeys(cell.model for group in by_task.values() for cell in group))
    yield _row("task", *models)
    yield _row(*["---"] * (len(models) + 1))
    for task, group in by_task.items():
        routes: dict[str, str] = {}
        for cell in group:
            routes.setdefault(cell.model, cell.route or "-")
        yield _row(f"[{task}](#{task})", *(routes[model] for model in models))


def _section(group: Sequence[Cell]) -> Iterator[str]:
    task = group[0].task
    yield f"## {task.name}"
    yield ""
    yield f"{task.summary}. Main metric: `{task.main_metric}`."
    yield ""
    runnable = [cell for cell in group if cell.route]
    if runnable:
        yield _row("model", "variant", "protocol", "weights", "published")
        yield _row(*["---"] * 5)
    for cell in runnable:
        numbers = "; ".join(_number(one, task.main_metric) for one in cell.published)
        yield _row(cell.model, cell.variant, f"`{cell.protocol}`", _weights(cell), numbers)
    reasons: dict[str, list[str]] = {}
    for cell in group:
        if cell.reason:
            reasons.setdefault(cell.reason, []).append(cell.model)
    if reasons:
        yield ""
    for reason, models in reasons.items():
        yield f"- not {', '.join(dict.fromkeys(models))}: {_escaped(reason)}"


def _weights(cell: Cell) -> str:
    ref = cell.checkpoint
    if ref is None:
        return _NONE_PINNED
    if ref.source == "http://":  # how the card of a served model says that it has none of its own
        return "the server's: `--checkpoint URL#MODEL`"
    at = f" at `{ref.revision[:8]}`" if ref.revision else ""
    seen = f"; learnt the labels of {' and '.join(cell.seen)}, numbers on which are too high" if cell.seen else ""
    return f"`{ref.source}`{at}{seen}"


def _number(result: PublishedResult, main_metric: str) -> str:
    """The main metric where it was published, else R@1 both ways, else the first number."""
    named = [main_metric] if main_metric in result.metrics else [m for m in result.metrics if m.endswith("_r@1")]
    values = ", ".join(f"{name} {result.printed(name)}" for name in named or list(result.metrics)[:1])
    prompt = f"; prompt `{result.prompt}`" if result.prompt else ""
    note = f"; {result.note}" if result.note else ""
    return f"{result.split}: {values} ([{result.paper}, {result.table}]({result.url}){prompt}{note})"


def _row(*entries: str) -> str:
    return f"| {' | '.join(_escaped(entry) for entry in entries)} |"


def _escaped(text: str) -> str:
    """Inert in a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
