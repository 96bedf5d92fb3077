"""Which numbers of a column are the best and the second, and which differ from the best by no more than chance.

Only comparable numbers compete: on the same data, of as many failed samples, with the same limit; and of one protocol
(its digest: preprocessing is part of it), unless `View.across_protocols`. Ties are honest, and decided by what is
shown: every number that reads as the best is the best. The second is what reads as the next one, several where they
tie, and none where the best are several. A number without a competitor is neither. What a paper published competes
beside the runs whose protocol has its id and its prompt, where that is one protocol; published numbers alone do not
compete.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from evalkit.report.board import number
from evalkit.report.published_rows import PublishedRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evalkit.report.board import View
    from evalkit.report.records import Record

ALPHA = 0.05
Group: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of a number."""

    rank: Literal["", "best", "second"] = ""
    close: bool = False
    """Its difference to the best was tested and is not significant."""
    tested: bool = False
    """Its difference to the best was tested."""
    untested: bool = False
    """A test was asked for and could not be made."""


def verdicts(column: Sequence[Record | None], view: View, decimals: int | None = None) -> list[Verdict]:
    """What is said of each number of a column, in order."""
    found = [Verdict()] * len(column)
    for members in _groups(column, view):
        ranked = _ranks([record for _, record in members], decimals)
        tested = _tests([record for _, record in members], ranked, view)
        for (place, _), rank, (close, untested) in zip(members, ranked, tested, strict=True):
            made = view.p_values is not None and rank != "best" and not untested
            found[place] = Verdict(rank=rank, close=close, tested=made, untested=untested)
    return found


def _groups(column: Sequence[Record | None], view: View) -> list[list[tuple[int, Record]]]:
    """The comparable numbers of a column, with their places; only where there are several."""
    numbers = [(place, record) for place, record in enumerate(column) if record and math.isfinite(record.value)]
    groups: dict[Group, list[tuple[int, Record]]] = {}
    for place, record in numbers:
        if not isinstance(record, PublishedRecord):
            groups.setdefault(_group(record, view), []).append((place, record))
    for place, record in numbers:
        if isinstance(record, PublishedRecord):
            alike = {
                (key, one.protocol_digest)
                for key, members in groups.items()
                for _, one in members
                if _agrees(record, one)
            }
            if len(alike) == 1:
                groups[alike.pop()[0]].append((place, record))
    return [members for members in groups.values() if len(members) > 1]


def _group(record: Record, view: View) -> Group:
    told = (record.protocol_name, record.protocol_version) if view.across_protocols else record.protocol_digest
    return (told, record.data_fingerprint, record.limit, record.failed)


def _agrees(published: PublishedRecord, record: Record) -> bool:
    same = published.protocol == record.protocol and published.prompt in ("", record.prompt)
    return same and record.complete and not isinstance(record, PublishedRecord)


def shown_value(record: Record, decimals: int | None) -> str:
    """A number as its column shows it; a published one as its source prints it."""
    if isinstance(record, PublishedRecord):
        return record.printed
    return number(record.value, record.unit, decimals)


def shown_decimals(column: Iterable[Record | None], usual: int) -> int:
    """How many a column shows: as many as the most precise published number in it, so that what differs reads so."""
    printed = [record.printed for record in column if isinstance(record, PublishedRecord)]
    return max(usual, *(len(text.partition(".")[2]) for text in printed)) if printed else usual


def _ranks(records: Sequence[Record], decimals: int | None) -> list[Literal["", "best", "second"]]:
    shown = [float(shown_value(record, decimals)) for record in records]
    order = sorted(set(shown), reverse=records[0].higher_is_better)
    several = shown.count(order[0]) > 1
    named: dict[float, Literal["", "best", "second"]] = {order[0]: "best"}
    if len(order) > 1 and not several:
        named[order[1]] = "second"
    return [named.get(value, "") for value in shown]


def _tests(records: Sequence[Record], ranks: Sequence[str], view: View) -> list[tuple[bool, bool]]:
    """Of each, whether it is close to the best and whether that could not be told."""
    if view.p_values is None:
        return [(False, False)] * len(records)
    sign = 1 if records[0].higher_is_better else -1
    best = max(records, key=lambda record: sign * record.value)
    tested = [record for record, rank in zip(records, ranks, strict=True) if rank != "best"]
    adjusted = iter(view.p_values(tested, best))
    found = [1.0 if rank == "best" else next(adjusted) for rank in ranks]
    return [(rank != "best" and p >= ALPHA, math.isnan(p)) for p, rank in zip(found, ranks, strict=True)]
