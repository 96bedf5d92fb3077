"""Two runs side by side: every number's difference, and which samples changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from evalkit.metrics.comparison import Difference, holm, smallest_difference, unpaired_difference
from evalkit.report.numbers import cautious_difference, why_not_comparable
from evalkit.report.records import Record
from evalkit.types import SampleView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from evalkit.report.numbers import Number
    from evalkit.types import SampleViews

SIGNIFICANT = 0.05
"""Of the p-value as corrected for all numbers of the comparison."""

State: TypeAlias = Literal["better", "worse", "no difference shown", "equal", "cannot tell", "not comparable"]
"""What is said of the new number. `no difference shown`: there may be one that so few samples do not show. `equal`: on
every resample too, as numbers of equal answers are. `cannot tell`: nothing is known of the spread."""


# ---------------------------------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """A number of two runs."""

    new: Record
    old: Record
    state: State
    why: str
    """Why they are not comparable; empty where they are."""
    difference: Difference | None
    """New less old; None where they are not comparable."""
    adjusted_p: float
    """The difference's p-value by Holm, over all numbers of the comparison; NaN where there is none."""
    smallest: float
    """The smallest difference that as many samples show four times in five; NaN where nothing is known of the spread,
    or none was seen."""
    across_protocols: bool
    """Whether the two were measured by different protocols."""
    by_signs: bool
    """Whether the p-value is the sign test's, which so few changes allow no smaller one than, and not Student's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The numbers of two runs: those of two main protocols of other routes first, then in the new one's order."""

    numbers: tuple[Compared, ...]
    new_only: tuple[Record, ...]
    """Those that the old run has not."""
    old_only: tuple[Record, ...]

    @property
    def tested(self) -> int:
        """How many numbers were tested, which the correction is over."""
        return sum(not math.isnan(one.adjusted_p) for one in self.numbers)

    @property
    def equal(self) -> bool:
        """Whether all numbers are the same in both, on every resample too."""
        return bool(self.numbers) and all(one.state == "equal" for one in self.numbers)


def compare(new: Sequence[Number], old: Sequence[Number], *, across_protocols: bool = False) -> Comparison:
    """Compare what two runs share.

    Numbers belong together that have the same task, metric, split and protocol name and route. Where one of a metric
    and split is then left over in both, those two belong together too, so that it can be said why they differ.
    Across protocols each run's main numbers belong together as well, where the two main protocols have one name and
    other routes: a model that only embeds and one that reranks are compared by what each is known for.

    Args:
        new: The numbers of the one run; a difference is these less the others.
        old: Those of the other.
        across_protocols: See `why_not_comparable`.
    """
    partners = _partners(new, old)
    pairs = sorted(partners.items())
    if across_protocols:
        pairs = [*(pair for pair in _of_main_protocols(new, old) if pair not in pairs), *pairs]
    reasons = [why_not_comparable(old[other], new[place], across_protocols=across_protocols) for place, other in pairs]
    differences = [
        None if why else cautious_difference(new[place], old[other])
        for (place, other), why in zip(pairs, reasons, strict=True)
    ]
    adjusted = holm([math.nan if one is None else one.p for one in differences])
    ours, theirs = {place for place, _ in pairs}, {other for _, other in pairs}
    return Comparison(
        numbers=tuple(
            _compared(new[place].record, old[other].record, why=why, difference=difference, adjusted_p=p)
            for (place, other), why, difference, p in zip(pairs, reasons, differences, adjusted, strict=True)
        ),
        new_only=tuple(one.record for place, one in enumerate(new) if place not in ours),
        old_only=tuple(one.record for place, one in enumerate(old) if place not in theirs),
    )


def _of_main_protocols(new: Sequence[Number], old: Sequence[Number]) -> Iterator[tuple[int, int]]:
    """Places in `new` and `old` of what the two main protocols measure alike, but by other routes."""
    ours, theirs = _main(new), _main(old)
    if ours is None or theirs is None or ours.protocol_name != theirs.protocol_name or ours.route == theirs.route:
        return
    places = {_loose(one.record): place for place, one in enumerate(old) if one.record.protocol == theirs.protocol}
    for place, one in enumerate(new):
        if one.record.protocol == ours.protocol and _loose(one.record) in places:
            yield place, places[_loose(one.record)]


def _main(numbers: Sequence[Number]) -> Record | None:
    """A number of a run's main protocol, which is the last that measures the main metric."""
    records = [one.record for one in reversed(numbers)]
    return next((one for one in records if one.main), records[0] if records else None)


def _partners(new: Sequence[Number], old: Sequence[Number]) -> dict[int, int]:
    """Place in `new` -> place in `old`."""
    partners: dict[int, int] = {}
    for key in (_exact, _loose):
        taken = set(partners.values())
        ours = _places(key, ((place, one) for place, one in enumerate(new) if place not in partners))
        theirs = _places(key, ((place, one) for place, one in enumerate(old) if place not in taken))
        partners |= {
            places[0]: theirs[name][0]
            for name, places in ours.items()
            if len(places) == 1 and len(theirs.get(name, ())) == 1
        }
    return partners


def _exact(record: Record) -> tuple[str, ...]:
    return (record.task, record.metric, record.split, record.protocol)


def _loose(record: Record) -> tuple[str, ...]:
    return (record.task, record.metric, record.split)


def _places(
    key: Callable[[Record], tuple[str, ...]], numbers: Iterable[tuple[int, Number]]
) -> Mapping[tuple[str, ...], list[int]]:
    found: dict[tuple[str, ...], list[int]] = {}
    for place, number in numbers:
        found.setdefault(key(number.record), []).append(place)
    return found


def _compared(new: Record, old: Record, *, why: str, difference: Difference | None, adjusted_p: float) -> Compared:
    smallest = math.nan
    if difference is not None and difference.standard_error > 0:
        smallest = smallest_difference(difference.standard_error, difference.clusters)
    return Compared(
        new=new,
        old=old,
        state=_state(difference, adjusted_p, higher_is_better=new.higher_is_better),
        why=why,
        difference=difference,
        adjusted_p=adjusted_p,
        smallest=smallest,
        across_protocols=new.protocol_digest != old.protocol_digest,
        by_signs=difference is not None and _by_signs(difference),
    )


def _by_signs(difference: Difference) -> bool:
    """Whether p is larger than what the interval's own standard error gives."""
    normal = unpaired_difference(
        new_value=difference.value,
        new_error=difference.standard_error,
        old_value=0,
        old_error=0,
        clusters=difference.clusters,
    )
    return difference.p > normal.p + 1e-9


def _state(difference: Difference | None, adjusted_p: float, *, higher_is_better: bool) -> State:
    if difference is None:
        return "not comparable"
    if difference.none:
        return "equal"
    if math.isnan(adjusted_p):
        return "cannot tell"
    if adjusted_p >= SIGNIFICANT:
        return "no difference shown"
    return "better" if (difference.value > 0) == higher_is_better else "worse"


# ---------------------------------------------------------------------------------------------------------------------
# Samples
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A sample that both runs answered, and not alike."""

    new: SampleView
    old: SampleView
    change: float
    """New score less old; NaN where one has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMove:
    """A query whose right answer stands elsewhere now."""

    new: SampleView
    query: int
    """Which of the sample's queries, from 0."""
    new_rank: int
    """From 1."""
    old_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMoves:
    """What happened to the queries of one direction."""

    direction: str
    improved: int
    worsened: int
    stayed: int
    moves: tuple[RankMove, ...]
    """Those that did not stay, the largest first: by the ratio of the ranks, as 1 to 10 says more than 101 to 110."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """What changed on the samples that both runs answered."""

    metric: str
    """What the scores are; see `SampleViews.metric`."""
    unit: str
    higher_is_better: bool
    compared: int
    """Samples that both answered."""
    left_out: int
    """Samples that one of them has not, or that failed in one."""
    gained: tuple[Moved, ...]
    """Wrong before, right now; in the order of the samples."""
    lost: tuple[Moved, ...]
    """Right before, wrong now."""
    moved: tuple[Moved, ...]
    """All whose score changed, the largest change first."""
    other_answers: int
    """Samples whose answer changed, whatever that did to the score."""
    ranks: tuple[RankMoves, ...]

    @property
    def none(self) -> bool:
        """Whether all answers, scores and ranks are equal."""
        return not (
            self.gained
            or self.lost
            or self.moved
            or self.other_answers
            or any(one.improved or one.worsened for one in self.ranks)
        )


def flips(new: SampleViews, old: SampleViews) -> Flips:
    """Which samples went from wrong to right and back, whose score moved most, and how ranks changed.

    Args:
        new: The samples of the one run.
        old: Those of the other, over the same data.
    """
    before = {view.id: view for view in old.views}
    both = [(view, before[view.id]) for view in new.views if view.id in before]
    answered = [(one, other) for one, other in both if one.failure is None and other.failure is None]
    pairs = [Moved(new=one, old=other, change=_change(one, other)) for one, other in answered]
    scored = (
        [one for one in pairs if one.change != 0 and not math.isnan(one.change)] if new.metric == old.metric else []
    )
    return Flips(
        metric=new.metric,
        unit=new.unit,
        higher_is_better=new.higher_is_better,
        compared=len(answered),
        left_out=len({*before, *(view.id for view in new.views)}) - len(answered),
        gained=tuple(one for one in pairs if one.old.right is False and one.new.right is True),
        lost=tuple(one for one in pairs if one.old.right is True and one.new.right is False),
        moved=tuple(sorted(scored, key=lambda one: -abs(one.change))),
        other_answers=sum(one.new.answer != one.old.answer for one in pairs),
        ranks=tuple(_rank_moves(answered)),
    )


def _change(new: SampleView, old: SampleView) -> float:
    return math.nan if new.score is None or old.score is None else new.score - old.score


def _rank_moves(answered: Sequence[tuple[SampleView, SampleView]]) -> Iterator[RankMoves]:
    for direction in dict.fromkeys(name for one, _ in answered for name in one.ranks):
        moves = [
            RankMove(new=one, query=query, new_rank=new_rank, old_rank=old_rank)
            for one, other in answered
            # a sample of which the runs asked different queries is none that both answered
            if len(one.ranks.get(direction, ())) == len(other.ranks.get(direction, ()))
            for query, (new_rank, old_rank) in enumerate(
                zip(one.ranks.get(direction, ()), other.ranks.get(direction, ()), strict=True)
            )
        ]
        yield RankMoves(
            direction=direction,
            improved=sum(one.new_rank < one.old_rank for one in moves),
            worsened=sum(one.new_rank > one.old_rank for one in moves),
            stayed=sum(one.new_rank == one.old_rank for one in moves),
            moves=tuple(
                sorted(
                    (one for one in moves if one.new_rank != one.old_rank),
                    key=lambda one: -abs(math.log(one.new_rank / one.old_rank)),
                )
            ),
        )
