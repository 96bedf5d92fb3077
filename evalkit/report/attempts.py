"""From a published row to the run that measures the same: its options and weights, or why no run here can."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from evalkit import registry
from evalkit.checkpoints import DEMO_PREFIX
from evalkit.errors import ConfigError, EvalkitError
from evalkit.options import options_as_text, parse_options
from evalkit.published import PublishedResult
from evalkit.report.server_numbers import FILE_OF

if TYPE_CHECKING:
    from evalkit.task import TaskClass
    from evalkit.types import ModelCard, Route, Variant

_SIMILARITY = "vqa-similarity"
_CANVAS = "-canvas"
_ASKING = ("prompt", "max_new_tokens", "num_beams", "history", "answer_list")
"""Options that change what a model is asked, or how it answers, and leave the protocol's id as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A run that measures what a row tells of."""

    row: PublishedResult
    variant: str | None
    """None where the card has none for these weights."""
    checkpoint: str
    revision: str | None
    """The card's pinned one, where the card has these weights; else what the user names, or None."""
    options: Mapping[str, str]
    """Of the task."""
    demo: bool
    """Whether the row is of the generated world."""
    notes: tuple[str, ...] = ()
    """Which of the row's numbers the run will not give, and why."""

    def command(self) -> str:
        """The run as a command line."""
        parts = ["evalkit run", f"--model {self.row.model}", f"--task {self.row.task}"]
        if self.demo:
            parts.append("--demo")
        else:
            parts += [f"--variant {self.variant}"] if self.variant else []
            parts.append(f"--checkpoint {shlex.quote(self.checkpoint)}")
            parts += [f"--revision {shlex.quote(self.revision)}"] if self.revision else []
        parts += [f"-o {name}={shlex.quote(value)}" for name, value in self.options.items()]
        return " ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a row cannot be measured here."""

    row: PublishedResult
    kind: Literal["no adapter", "no weights", "server", "impossible"]
    """`impossible`: the row names what is not there, or a protocol that no run of its model has."""
    problem: str
    remedy: str
    attempt: Attempt | None = None
    """Of what a server measures: the run that answers its questions."""

    def steps(self) -> tuple[str, ...]:
        """The commands that lead to a verdict all the same; none where there are none."""
        if self.attempt is None:
            return ()
        return (
            self.attempt.command(),
            f"evalkit export RUN --format {self.row.server} -o answers.json",
            f"evalkit reproduce --run RUN --server-number {self.row.split}=VALUE",
        )


def plan(row: PublishedResult, *, checkpoint: str | None = None, revision: str | None = None) -> Attempt | Obstacle:
    """The run for a row, or what is in its way; nothing is read or downloaded.

    Args:
        row: What was published.
        checkpoint: Weights that the user takes for the published ones; None for the row's own.
        revision: Of them; None for the card's pinned one.
    """
    if not row.model:
        return Obstacle(
            row=row,
            kind="no adapter",
            problem=f"no adapter runs it{_why(row)}.",
            remedy="Only its numbers can be compared.",
        )
    source = checkpoint or row.checkpoint
    if not source:
        return Obstacle(
            row=row,
            kind="no weights",
            problem=f"no checkpoint is on record for it{_why(row)}.",
            remedy="If you have the weights, name them with --checkpoint.",
        )
    try:
        return _plan(row, source, checkpoint is None, revision)
    except EvalkitError as error:
        return Obstacle(row=row, kind="impossible", problem=error.problem, remedy=error.remedy)


def departures(row: PublishedResult, options: Mapping[str, str]) -> tuple[str, ...]:
    """How a stored run was asked otherwise than a run for the row is, where the protocol's id does not show it.

    Args:
        row: What was published.
        options: The run's, of the row's task.
    """
    try:
        task_class = registry.load_task(row.task)
        planned = options_as_text(parse_options(task_class.options_type, _options(row, task_class)[0], row.task))
    except EvalkitError:  # the row's protocol is none of this task: that is what will be told
        return ()
    return tuple(
        f"the run's option {name} is {options[name]!r}, and a run for the row has {planned[name]!r}"
        for name in _ASKING
        if name in planned
        and not (name == "prompt" and row.prompt)  # the protocol has it
        and options.get(name, planned[name]) != planned[name]
    )


def _plan(row: PublishedResult, source: str, of_row: bool, revision: str | None) -> Attempt | Obstacle:
    task_class, adapter = registry.load_task(row.task), registry.load_adapter(row.model)
    demo = source.startswith(DEMO_PREFIX)
    variant = row.variant or None
    of_card = _variant(adapter.card, variant)
    options, notes = _options(row, task_class)
    task = task_class(parse_options(task_class.options_type, options, row.task))
    route = task.route(registry.profile(adapter, variant))
    for assistant in task.assistants():
        registry.load_adapter(assistant.name)  # "itc+blip": a name that is none is an error of the row
    if not demo and (ours := _protocol(task, route, row)) != row.protocol:
        raise ConfigError(
            f"The number was measured by {row.protocol}, and a run here would be {ours}.",
            "It cannot be reproduced with this task; correct the row if the protocol is wrong.",
        )
    pinned = [ref.revision for ref in of_card.checkpoints.values() if ref.source == source] if of_card else []
    attempt = Attempt(
        row=row,
        variant=variant,
        checkpoint=source,
        revision=revision or (pinned[0] if pinned else None),
        options=options,
        demo=demo,
        notes=notes,
    )
    if row.server:
        file = FILE_OF.get((row.task, row.split), row.split)
        return Obstacle(
            row=row,
            kind="server",
            problem=f"the answers of {row.task} {row.split} are not public: its server measures, and no run here can.",
            remedy="Run, write the server's file, send it, and judge what the server says.",
            attempt=replace(attempt, options={**options, "split": file}),
        )
    if of_row and variant is None and not demo:
        note = f"the card pins no revision of {source}: what the hub has now is taken"
        return replace(attempt, notes=(*notes, note))
    return attempt


def _variant(card: ModelCard, name: str | None) -> Variant | None:
    """None for no name.

    Raises:
        ConfigError: The card has no such variant.
    """
    if name is None:
        return None
    known = {variant.name: variant for variant in card.variants}
    if name not in known:
        raise ConfigError(f"{card.name} has no variant {name!r}.", f"It has: {', '.join(known)}.")
    return known[name]


def _options(row: PublishedResult, task_class: TaskClass) -> tuple[dict[str, str], tuple[str, ...]]:
    """The task's options that lead to the row's protocol, and notes on numbers that will be missing."""
    known = {entry.name for entry in fields(task_class.options_type)}
    route, _, k = row.protocol.partition("/")[2].partition("@")
    options: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if "split" in known:
        options["split"] = row.split
    if "rerank_with" in known:
        options["rerank_with"] = "none" if route == "itc" else route.removeprefix("itc+")
        if k.isdecimal():
            options["rerank_k"] = k
    elif "route" in known:
        options["route"] = "similarity" if route == _SIMILARITY else route.removesuffix(_CANVAS)
    if "prompt" in known and row.prompt:
        options["prompt"] = row.prompt
    if "spice" in known and any(name.startswith("spice") for name in row.metrics):
        if reason := _no_spice():
            notes = (f"SPICE will be missing: {reason}",)
        else:
            options["spice"] = "true"
    return options, notes


def _no_spice() -> str:
    from evalkit.metrics.captions.java import missing_for_spice  # noqa: PLC0415 # for captioning alone

    try:
        return missing_for_spice()
    except EvalkitError as error:
        return str(error)


def _protocol(task: Any, route: Route, row: PublishedResult) -> str:
    """`Protocol.id` of a run over the whole split: its data's name, the route, and how many were re-ranked."""
    splits = getattr(task, "splits", None)
    name = splits[task.split].protocol if splits else task.card.protocol
    _, at, k = row.protocol.partition("@")
    return f"{name}/{route.name}{at}{k}"


def _why(row: PublishedResult) -> str:
    return f" ({row.note})" if row.note else ""
