"""Reproductions as lines for a terminal, Markdown and JSON; every text is made inert for its format."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from evalkit.report.formats import json_document
from evalkit.report.text import inert, markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.published import PublishedResult
    from evalkit.report.attempts import Attempt, Obstacle
    from evalkit.report.reproduction import JudgedNumber, Reproduction, ToldCause

_HEADINGS = ("metric", "published", "ours", "difference", "95 % interval", "verdict")
_EXTRA_DECIMALS = 2
"""Of our numbers beyond those that the source prints, so that it shows how close they are."""


def title(reproduction: Reproduction) -> str:
    """Whose numbers these are."""
    row = reproduction.row
    return f"{row.label} on {row.task}, split {row.split}: {row.paper}, {row.table}"


def cells(number: JudgedNumber) -> tuple[str, ...]:
    """A number's row in the table, in the order of the headings."""
    if number.ours is None or number.low is None or number.high is None:
        return (number.metric, number.printed, "", "", "", number.verdict)
    shown = number.decimals + _EXTRA_DECIMALS
    unknown = math.isnan(number.low) or math.isnan(number.high)
    return (
        number.metric,
        number.printed,
        f"{number.ours:.{shown}f}",
        f"{number.ours - number.published:+.{shown}f}",
        "not known" if unknown else f"[{number.low:.{shown}f}, {number.high:.{shown}f}]",
        number.verdict,
    )


def terminal_lines(reproduction: Reproduction) -> Iterator[str]:
    """A reproduction as inert lines."""
    yield inert(title(reproduction))
    yield inert(f"  run {reproduction.run}; published protocol {reproduction.row.protocol}")
    yield from (f"  {line}" for line in _table([tuple(map(inert, cells(one))) for one in reproduction.numbers]))
    yield f"  verdict: {reproduction.verdict}"
    yield from (f"  not comparable: {inert(reason)}" for reason in reproduction.reasons)
    yield from (f"  note: {inert(note)}" for note in reproduction.notes)
    if reproduction.causes:
        yield "  known causes of such a difference, the likeliest first:"
    for place, told in enumerate(reproduction.causes, start=1):
        yield f"    {place}. {inert(_cause(told))}"
        yield f"       effect: {inert(told.cause.effect)}"
        yield f"       try: {inert(told.cause.remedy)}"


def incomparable_lines(reproductions: Sequence[Reproduction]) -> Iterator[str]:
    """Several rows that one run cannot be compared with, a line each after what is true of all; inert."""
    first = reproductions[0]
    shared = [reason for reason in first.reasons if all(reason in one.reasons for one in reproductions)]
    yield inert(f"{first.run} cannot be compared with any of {len(reproductions)} published rows:")
    yield from (inert(f"  all: {reason}") for reason in shared)
    for one in reproductions:
        own = "; ".join(reason for reason in one.reasons if reason not in shared)
        yield inert(f"  {title(one)}{f': {own}' if own else ''}")
    yield "--label or --variant shows one of them, with its numbers and what makes them differ."


def _cause(told: ToldCause) -> str:
    return f"{told.cause.id}{f' ({told.why})' if told.why else ''}: {told.cause.text}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(_HEADINGS, *rows, strict=True)]
    for row in (_HEADINGS, *rows):
        texts = [
            cell.ljust(width) if place in (0, len(widths) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(texts).rstrip()


def to_markdown(reproductions: Sequence[Reproduction], obstacles: Sequence[Obstacle]) -> str:
    """A section a row, with what could not be tried at the end."""
    parts: list[str] = []
    for one in reproductions:
        lines = [f"### {markdown(title(one))}", "", f"**{one.verdict}**; run {markdown(one.run)}", ""]
        lines += [f"| {' | '.join(_HEADINGS)} |", "| --- | ---: | ---: | ---: | ---: | --- |"]
        lines += [f"| {' | '.join(markdown(cell) for cell in cells(number))} |" for number in one.numbers]
        told = [f"not comparable: {reason}" for reason in one.reasons]
        told += [f"note: {note}" for note in one.notes]
        told += [f"cause {_cause(each)} Effect: {each.cause.effect}. Try: {each.cause.remedy}" for each in one.causes]
        parts.append("\n".join([*lines, *([""] if told else []), *(f"- {markdown(line)}" for line in told)]))
    if obstacles:
        lines = [
            line
            for one in obstacles
            for line in (f"- {markdown(obstacle_line(one))}", *(f"  - {markdown(step)}" for step in one.steps()))
        ]
        parts.append("\n".join(["### Not tried", "", *lines]))
    return "\n\n".join(parts) + "\n"


def to_json(reproductions: Sequence[Reproduction], obstacles: Sequence[Obstacle]) -> str:
    """Every field, numbers in full."""
    return json_document(
        {
            "reproductions": [
                {
                    **asdict(one),
                    "row": _row(one),
                    "numbers": [{**asdict(number), "difference": number.difference} for number in one.numbers],
                    "causes": [{"id": told.cause.id, "why": told.why, **asdict(told.cause)} for told in one.causes],
                }
                for one in reproductions
            ],
            "not_tried": [
                {**_row(one), "kind": one.kind, "problem": one.problem, "remedy": one.remedy, "steps": one.steps()}
                for one in obstacles
            ],
        }
    )


def _row(one: Reproduction | Obstacle) -> dict[str, object]:
    names = ("paper", "url", "table", "label", "model", "variant", "checkpoint", "task", "split", "protocol", "prompt")
    return {name: getattr(one.row, name) for name in names}


def obstacle_line(obstacle: Obstacle) -> str:
    """A row that cannot be measured here, and what can be done."""
    return f"{_named(obstacle.row)}: {obstacle.problem} {obstacle.remedy}".rstrip()


def obstacle_lines(obstacles: Sequence[Obstacle]) -> Iterator[str]:
    """All rows that cannot be measured here, by what is in their way; inert.

    What is the same for several rows is told once: the reason, a run whose answers several phases of a server take, and
    what is done with each run.
    """
    runs: dict[str, list[PublishedResult]] = {}
    then: dict[str, list[str]] = {}
    for one in obstacles:
        if steps := one.steps():
            runs.setdefault(steps[0], []).append(one.row)
            then.setdefault(steps[1], []).append(f"--server-number {one.row.split}=VALUE")
    if runs:
        yield "By an evaluation server alone, as the answers are not public; the run writes its file:"
    for command, rows in runs.items():
        yield from (inert(f"  {_named(row)}: {_numbers(row)}") for row in rows)
        yield inert(f"    {command}")
    for export, numbers in then.items():
        yield "  Then write the file, send it, and judge what the server says:"
        yield inert(f"    {export}")
        yield inert(f"    evalkit reproduce --run RUN {' '.join(dict.fromkeys(numbers))}")
    for kind, heading in _HEADINGS_OF.items():
        if found := [one for one in obstacles if one.kind == kind]:
            yield heading
            yield from (inert(f"  {_named(one.row)}: {one.row.note or one.problem}") for one in found)


_HEADINGS_OF = {
    "no weights": "No checkpoint is on record; if you have the weights, name them with --checkpoint:",
    "no adapter": "No adapter runs these; only their numbers can be compared:",
    "impossible": "These rows are wrong:",
}


def _named(row: PublishedResult) -> str:
    return f"{row.label}, {row.task} {row.split} ({row.table})"


def _numbers(row: PublishedResult) -> str:
    return ", ".join(f"{name} {row.printed(name)}" for name in row.metrics)


def attempt_lines(attempt: Attempt) -> Iterator[str]:
    """What can be reproduced, and what is needed for it; inert."""
    row = attempt.row
    at = f" at {attempt.revision}" if attempt.revision else ""
    yield inert(f"{row.label} on {row.task}, split {row.split}: {row.paper}, {row.table}")
    yield inert(f"  numbers:  {_numbers(row)}")
    yield inert(f"  protocol: {row.protocol}{f', prompt {row.prompt!r}' if row.prompt else ''}")
    yield inert(f"  weights:  {attempt.checkpoint}{at}")
    if attempt.demo:
        yield "  data:     the generated world, which evalkit carries"
    else:
        yield inert(f"  data:     evalkit data status {row.task}")
    yield inert(f"  run:      {attempt.command()}")
    yield from (inert(f"  note:     {note}") for note in (*attempt.notes, *([row.note] if row.note else [])))
