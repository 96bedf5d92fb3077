"""Which numbers of which runs a gate holds against which of a baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalkit.errors import ConfigError
from evalkit.report.gate import Gated
from evalkit.report.numbers import Number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from evalkit.report.baseline import Saved
    from evalkit.report.margins import Margins
    from evalkit.report.records import Record


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A run that is gated; it has numbers."""

    numbers: Sequence[Number]
    named: bool = True
    """By itself: it must be held against something. A folder may have runs that are of nothing in the baseline."""

    @property
    def of(self) -> tuple[str, ...]:
        """What several runs of one candidate have in common: one need not have what another has."""
        one = self.numbers[0].record
        return (one.task, one.model, one.variant, one.checkpoint_digest, one.dtype, one.options)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """What is gated, and what a reader should know of what is not."""

    gated: tuple[Gated, ...]
    notes: tuple[str, ...]
    absent: tuple[str, ...]
    """The main numbers of the baseline that no run has, and that are not gated for it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Held:
    """A run and what it is held against."""

    run: Candidate
    pairs: Sequence[tuple[Number, Number | None]] = ()
    """A number of the baseline and the run's own; None where it has none."""
    note: str = ""
    """Why it is held against nothing."""
    ambiguous: Sequence[Number] = field(default=())
    """Of several models, and nobody can say which."""

    @property
    def first(self) -> Record:
        return self.run.numbers[0].record

    @property
    def limited(self) -> bool:
        return self.first.limit is not None


def match(
    runs: Sequence[Candidate],
    baseline: Sequence[Saved],
    margins: Margins,
    *,
    against: str | None = None,
    require_all: bool = False,
) -> Matched:
    """Hold each run against the baseline's numbers of its task; weights may differ, that is the point.

    Args:
        runs: The candidates.
        baseline: What they are held against.
        margins: What is gated.
        against: `variant` or `model/variant` of the baseline for runs that it does not have by their own.
        require_all: Gate every main number of the baseline that no run has: it is not comparable.

    Raises:
        ConfigError: A margin or `against` is of no number of the baseline, or nothing is gated at all.
    """
    olds = [saved.number for saved in baseline]
    margins.check(number.record for number in olds)
    if against and not any(against in _variants(old.record) for old in olds):
        known = ", ".join(dict.fromkeys(_variants(old.record)[1] for old in olds))
        raise ConfigError(f"The baseline has no {against!r} to hold a run against.", f"It has {known}.")
    given = {_model(run.numbers[0].record) for run in runs}
    held = [_hold(run, olds, given, against) for run in runs]
    had = {id(old): None for one in held for old, new in one.pairs if new is not None or one.limited}
    by_candidate = {(one.run.of, id(old)) for one in held for old, new in one.pairs if new is not None}
    gated: list[Gated] = []
    notes: list[str] = []
    for one in held:
        found = _gated(one, margins, had, by_candidate)
        gated += found
        if note := one.note or ("" if found else "no margin is of its numbers that other runs do not have"):
            notes.append(f"{one.first.run} is held against nothing: {note}.")
    absent = []
    looked = {id(one.old) for one in gated if not one.ambiguous}
    for old in olds:
        if id(old) in looked or id(old) in had:
            continue
        margin = margins.of(old.record)
        if margin is not None and _must_be_there(old.record, margins, [one.old.record for one in gated]):
            gated.append(Gated(old=old, new=None, margin=margin))
        elif old.record.main and require_all:
            gated.append(Gated(old=old, new=None, margin=math.nan if margin is None else margin))
        elif old.record.main:
            absent.append(f"{old.record.task}.{old.record.metric} ({old.record.model} {old.record.variant})")
    if not gated:
        raise ConfigError(
            " ".join(["Nothing is gated.", *notes[:3]]), "See what the baseline has: evalkit baseline show FILE"
        )
    return Matched(gated=tuple(gated), notes=tuple(notes), absent=tuple(absent))


def _must_be_there(old: Record, margins: Margins, gated: Sequence[Record]) -> bool:
    """Whether a number with a margin is missed: not where the margin is of another model's number, which is gated."""
    if margins.names_model(old) or any((one.model, one.variant) == (old.model, old.variant) for one in gated):
        return True
    return not any((one.task, one.split, one.metric) == (old.task, old.split, old.metric) for one in gated)


# ---------------------------------------------------------------------------------------------------------------------
# One run
# ---------------------------------------------------------------------------------------------------------------------
def _model(record: Record) -> tuple[str, str, str]:
    return (record.task, record.model, record.variant)


def _variants(record: Record) -> tuple[str, str]:
    return (record.variant, f"{record.model}/{record.variant}")


def _hold(
    run: Candidate, every: Sequence[Number], given: AbstractSet[tuple[str, str, str]], against: str | None
) -> _Held:
    """Find what a run is held against: its family and variant, else its family, else the only model that there is.

    Args:
        run: The run.
        every: The numbers of the baseline.
        given: The models of all runs: of a folder, a run of another family is no candidate where the model's own is.
        against: As `match`.
    """
    first = run.numbers[0].record
    olds = [old for old in every if old.record.task == first.task]
    exact = [old for old in olds if _model(old.record) == _model(first)]
    if against and not exact:
        olds = [old for old in olds if against in _variants(old.record)]
    family = [old for old in olds if old.record.model == first.model]
    others = exact or family or olds
    if not others:
        return _Held(run=run, note=f"the baseline has no {first.model} {first.variant} on {first.task}")
    if not family and not run.named and any(_model(old.record) in given for old in others):
        note = f"the baseline has no {first.model} {first.variant} on {first.task}, and other models have runs"
        return _Held(run=run, note=note)
    if len({_model(old.record) for old in others}) > 1:
        return _Held(run=run, ambiguous=others)
    return _Held(run=run, pairs=_pairs(run.numbers, others))


def _gated(
    one: _Held,
    margins: Margins,
    had: Mapping[int, None],
    by_candidate: AbstractSet[tuple[tuple[str, ...], int]],
) -> list[Gated]:
    if one.ambiguous:
        return _ambiguous(one, margins)
    # a run of a folder that is of something else altogether, such as another split, misses nothing that others have
    elsewhere = not one.run.named and all(new is None and id(old) in had for old, new in one.pairs)
    return [
        Gated(
            old=old,
            new=new,
            margin=margin,
            part=one.first.samples if one.limited and old.record.limit is None else None,
        )
        for old, new in one.pairs
        if (margin := _margin(old.record, margins)) is not None
        and (new is not None or not (elsewhere or (one.run.of, id(old)) in by_candidate))
    ]


def _ambiguous(one: _Held, margins: Margins) -> list[Gated]:
    """A number of the run each that would be gated, with one of those of the baseline."""
    names = " and ".join(dict.fromkeys(f"{old.record.model}/{old.record.variant}" for old in one.ambiguous))
    note = f"the baseline has {names}: say which with --against"
    found: dict[tuple[str, str], Gated] = {}
    for old in one.ambiguous:
        margin = _margin(old.record, margins)
        new = next((new for new in one.run.numbers if _measure(new.record) == _measure(old.record)), None)
        if margin is not None and new is not None:
            found.setdefault(_measure(old.record), Gated(old=old, new=new, margin=margin, ambiguous=note))
    return list(found.values())


def _pairs(run: Sequence[Number], candidates: Sequence[Number]) -> list[tuple[Number, Number | None]]:
    """Each candidate, with the run's number of the same measure; those of equal options, where any are."""
    alike = [old for old in candidates if old.record.options == run[0].record.options] or list(candidates)
    left = list(run)
    pairs: dict[int, Number] = {}
    for is_same in _WAYS:
        for old in alike:
            if id(old) not in pairs:
                found = [new for new in left if _measure(new.record) == _measure(old.record) and is_same(new, old)]
                if len(found) == 1:
                    pairs[id(old)] = found[0]
                    left.remove(found[0])
    return [(old, pairs.get(id(old))) for old in alike]


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
