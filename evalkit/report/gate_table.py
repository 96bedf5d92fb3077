"""A gate's verdicts as rows of text, for a terminal and for Markdown: the worst first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.report.gate import EXIT_CODES, State, exit_code
from evalkit.report.text import elide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evalkit.report.gate import Verdict
    from evalkit.report.records import Record

HEADINGS = ("state", "number", "baseline", "new", "difference", "95 % interval", "margin")
_WIDEST = 60
LEFT = 2
"""So many of the columns are text."""
_ORDER = tuple(EXIT_CODES)
MANY = 30
"""Rows above which those that pass are counted, and not shown: the others must fit on one screen."""
_MOST = 15
"""Of the others that are shown, which have a reason each: the worst."""
_MOST_TRACED = 6
"""Pairs of runs that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """Texts as they came: names are of plugins and runs."""

    state: State
    cells: tuple[str, ...]
    """One a heading."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTable:
    """What is shown of a gate."""

    rows: tuple[GateRow, ...]
    passed: int
    """Rows that pass and are not shown."""
    others: int
    """Further rows that are not shown."""
    summary: str
    """`regressed: 1 regressed, 21 pass.`"""


def gate_table(verdicts: Sequence[Verdict], *, most: int = _MOST) -> GateTable:
    """Arrange verdicts.

    Args:
        verdicts: Of one gate.
        most: Rows that do not pass above which the rest of them is counted.
    """
    named = list(zip(verdicts, labels(verdicts), strict=True))
    ranked = sorted(named, key=lambda one: _ORDER.index(one[0].state))
    others = [one for one in ranked if one[0].state is not State.passed]
    passed = ranked[len(others) :] if len(ranked) <= MANY else []
    return GateTable(
        rows=tuple(_row(verdict, label) for verdict, label in (*others[:most], *passed)),
        passed=len(ranked) - len(others) - len(passed),
        others=max(0, len(others) - most),
        summary=summary(verdicts),
    )


def summary(verdicts: Sequence[Verdict]) -> str:
    """The gate's verdict and how many numbers there are of each state."""
    counts = {state: sum(verdict.state is state for verdict in verdicts) for state in _ORDER}
    whole = next(state for state, code in EXIT_CODES.items() if code == exit_code(verdicts))
    return f"{whole}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count) + "."


def traced(verdict: Verdict) -> str:
    """The runs that a verdict's two numbers are from, for `evalkit show`."""
    old, new = verdict.gated.old.record, verdict.gated.new
    return f"run {new.record.run} against the baseline's {old.run}" if new else f"the baseline's run {old.run}"


def trace_notes(verdicts: Sequence[Verdict]) -> list[str]:
    """A note that names the runs of a table's numbers; the first ones where they are many."""
    pairs = list(
        dict.fromkeys(traced(one) for one in verdicts if one.gated.new is not None and not one.gated.ambiguous)
    )
    if not pairs:
        return []
    more = f"; and {len(pairs) - _MOST_TRACED} more, which --format json names" if len(pairs) > _MOST_TRACED else ""
    return [f"Compared: {'; '.join(pairs[:_MOST_TRACED])}{more}."]


def labels(verdicts: Sequence[Verdict]) -> list[str]:
    """`task.metric` of each; where several are called so, with what tells it apart."""
    alike: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        alike.setdefault(_name(verdict), []).append(verdict)
    told = [" ".join([_name(one), *(f"[{part}]" for part in _told_apart(one, alike[_name(one)]))]) for one in verdicts]
    # runs of one name in two folders, or numbers that nothing short tells apart
    return [f"{one} [{told[: place + 1].count(one)}]" if told.count(one) > 1 else one for place, one in enumerate(told)]


def _name(verdict: Verdict) -> str:
    record = verdict.gated.old.record
    return f"{record.task}.{record.metric}"


def _told_apart(verdict: Verdict, alike: Sequence[Verdict]) -> list[str]:
    told = []
    for look in _LOOKS:
        mine = elide(look(verdict), _WIDEST)  # two that are alike then are told apart by the next
        same = [one for one in alike if elide(look(one), _WIDEST) == mine]
        if len(same) < len(alike):
            told.append(mine)
            alike = same
    return told


def _model(verdict: Verdict) -> str:
    return f"{_of(verdict).model} {_of(verdict).variant}"


def _of(verdict: Verdict) -> Record:
    return (verdict.gated.new or verdict.gated.old).record


_LOOKS: tuple[Callable[[Verdict], str], ...] = (
    _model,
    lambda verdict: verdict.gated.old.record.split,
    lambda verdict: verdict.gated.old.record.route,
    lambda verdict: verdict.gated.old.record.prompt,
    lambda verdict: _of(verdict).checkpoint,
    lambda verdict: _of(verdict).checkpoint_digest,
    lambda verdict: _of(verdict).dtype,
    lambda verdict: _of(verdict).options,
    lambda verdict: _of(verdict).run,
)


def _row(verdict: Verdict, label: str) -> GateRow:
    old, new, difference = verdict.gated.old.record, verdict.gated.new, verdict.difference
    if difference is None:
        apart, ends = "", ""
    else:
        apart = f"{difference.value:+.2f}"
        ends = "" if math.isnan(difference.low) else f"[{difference.low:+.2f}, {difference.high:+.2f}]"
    unit = "" if old.unit == "%" else f" {old.unit}"
    direction = "" if old.higher_is_better else " (less is better)"
    return GateRow(
        state=verdict.state,
        cells=(
            verdict.state.value,
            label + direction,
            "" if verdict.gated.ambiguous else f"{old.value:.2f}",
            "" if new is None else f"{new.record.value:.2f}",
            apart,
            ends,
            "" if math.isnan(verdict.gated.margin) else f"{verdict.gated.margin:g}{unit}",
        ),
        note=verdict.note,
    )
