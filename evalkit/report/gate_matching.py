"""Which numbers of which runs a gate holds against which of a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.errors import ConfigError
from evalkit.report.gate import Gated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from evalkit.report.baseline import Saved
    from evalkit.report.margins import Margins
    from evalkit.report.numbers import Number
    from evalkit.report.records import Record

    Run = Sequence[Number]
    """The numbers of one run."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """What is gated, and what a reader should know of what is not."""

    gated: tuple[Gated, ...]
    notes: tuple[str, ...]


def match(runs: Sequence[Run], baseline: Sequence[Saved], margins: Margins) -> Matched:
    """Hold each run against the baseline's numbers of its task; weights may differ, that is the point.

    Of a task that the baseline has one model of, a run of any model is held against that. Of several, the one of the
    run's family and variant; or of its family, where that has one variant. What a run of the very family and variant is
    held against, no other is.

    Raises:
        ConfigError: A margin is of no number of the baseline, or nothing is gated at all.
    """
    olds = [saved.number for saved in baseline]
    margins.check(number.record for number in olds)
    gated: list[Gated] = []
    notes: list[str] = []
    held: set[int] = set()
    given = {_model(run[0].record) for run in runs if run}
    for run in runs:
        if not run:
            continue
        first = run[0].record
        candidates = _of_its_model(first, [old for old in olds if old.record.task == first.task], given)
        found = _pairs(run, candidates, margins)
        if not candidates:
            notes.append(
                f"{first.run} is held against nothing: "
                f"the baseline has no {first.model} {first.variant} on {first.task}."
            )
        elif not found:
            notes.append(f"{first.run} is held against nothing: no margin is of its numbers.")
        held |= {id(one.old) for one in found}
        gated += found
    for old in olds:
        margin = margins.of(old.record)
        if id(old) not in held and margin is not None:
            gated.append(Gated(old=old, new=None, margin=margin))
    if not gated:
        raise ConfigError(
            " ".join(["Nothing is gated.", *notes[:3]]), "See what the baseline has: evalkit baseline show FILE"
        )
    return Matched(gated=tuple(gated), notes=tuple(notes))


def _model(record: Record) -> tuple[str, str, str]:
    return (record.task, record.model, record.variant)


def _of_its_model(run: Record, olds: Sequence[Number], given: AbstractSet[tuple[str, str, str]]) -> list[Number]:
    """Those of the run's task that it is held against; `given` are the models of all runs."""
    exact = [old for old in olds if _model(old.record) == _model(run)]
    if exact:
        return exact
    family = [old for old in olds if old.record.model == run.model]
    others = family or olds
    several = len({_model(old.record) for old in others}) > 1
    return [] if several else [old for old in others if _model(old.record) not in given]


def _pairs(run: Run, candidates: Sequence[Number], margins: Margins) -> list[Gated]:
    """Each candidate that has a margin, with the run's number of the same measure; of equal options, where any are."""
    alike = [old for old in candidates if old.record.options == run[0].record.options] or list(candidates)
    wanted = [(old, margin) for old in alike if (margin := _margin(old.record, margins)) is not None]
    left = list(run)
    pairs: dict[int, Number] = {}
    for is_same in _WAYS:
        for old, _ in wanted:
            if id(old) not in pairs:
                found = [new for new in left if _measure(new.record) == _measure(old.record) and is_same(new, old)]
                if len(found) == 1:
                    pairs[id(old)] = found[0]
                    left.remove(found[0])
    first = run[0].record
    return [
        Gated(
            old=old,
            new=pairs.get(id(old)),
            margin=margin,
            part=first.samples if first.limit is not None and old.record.limit is None else None,
        )
        for old, margin in wanted
    ]


def _margin(old: Record, margins: Margins) -> float | None:
    named = margins.of(old)
    return margins.of_the_rest if named is None and old.main else named


def _measure(record: Record) -> tuple[str, str]:
    return (record.metric, record.split)


def _same_protocol(new: Number, old: Number) -> bool:
    return new.record.protocol_digest == old.record.protocol_digest


def _same_route(new: Number, old: Number) -> bool:
    return new.record.route == old.record.route


def _any(new: Number, old: Number) -> bool:
    return True


_WAYS: tuple[Callable[[Number, Number], bool], ...] = (_same_protocol, _same_route, _any)
"""How the number of a run is found that a baseline's one is held against: what differs then is said by the verdict."""
