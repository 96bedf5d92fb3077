"""A run beside the published row that it is to reproduce: a verdict a number, and what is known to cause a difference.

A number is `reproduced` if it is what the source prints, at the precision it prints: no further from it than half a
unit of its last decimal. Else it is `within noise` if the published number lies in our 95 % interval, and `off` if not;
without an interval, `not comparable`.
The interval is of other test sets of the same kind. An evaluation is deterministic, and two on one test set should not
differ by its noise: `within noise` says that a reader of the number would draw the same conclusion, no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evalkit.published import Cause, PublishedResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.report.records import Record

Verdict = Literal["reproduced", "within noise", "off", "not comparable"]
_WORST: tuple[Verdict, ...] = ("reproduced", "within noise", "not comparable", "off")
"""The verdict of several numbers is the last of theirs."""
_NOCAPS_SIZES = {"in": 651, "near": 2938, "out": 911}
"""Images of each domain that fit the official server's numbers; inferred from published rows."""
_SLACK = 1e-9
"""Floating point's, far below any printed decimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedNumber:
    """One number of the row, and ours."""

    metric: str
    published: float
    printed: str
    """As the source prints it."""
    decimals: int
    verdict: Verdict
    unit: str = ""
    ours: float | None = None
    """None where the run has no such number, as are the following."""
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float | None:
        """Ours less the published one."""
        return None if self.ours is None else self.ours - self.published


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldCause:
    """A known cause that can be at work."""

    cause: Cause
    why: str
    """What speaks for it beyond its being possible; empty where nothing does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """A run beside a published row."""

    row: PublishedResult
    run: str
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why the run cannot be compared with the row; empty where it can."""
    numbers: tuple[JudgedNumber, ...]
    causes: tuple[ToldCause, ...]
    """Most likely first; empty where everything is reproduced."""
    notes: tuple[str, ...]


def judge(
    row: PublishedResult,
    records: Sequence[Record],
    causes: Sequence[Cause],
    *,
    accepted_checkpoint: str | None = None,
    pinned: str | None = None,
    departures: Sequence[str] = (),
) -> Reproduction:
    """Compare a run with a row.

    Args:
        row: What was published.
        records: Every number of one run; at least one.
        causes: Those that are known.
        accepted_checkpoint: Weights that the user takes for the published ones.
        pinned: The commit of the row's weights that the model's card pins; None where it pins none.
        departures: How the run was asked otherwise than the row; see `evalkit.report.attempts.departures`.
    """
    measured = {one.metric: one for one in records if (one.protocol, one.split) == (row.protocol, row.split)}
    any_record = next(iter(measured.values()), records[-1])
    reasons = (*_reasons(row, any_record, bool(measured), accepted_checkpoint), *departures)
    # for a reader who tries a few samples: numbers of the same kind, though nothing is concluded from them
    shown = measured or {one.metric: one for one in records if one.route == any_record.route}
    numbers = tuple(_judged(row, name, shown.get(name), comparable=not reasons) for name in row.metrics)
    verdict: Verdict = max((one.verdict for one in numbers), key=_WORST.index)
    known = (accepted_checkpoint, pinned)
    signs = _signs(row, any_record, measured, known)
    return Reproduction(
        row=row,
        run=any_record.run,
        verdict=verdict,
        reasons=reasons,
        numbers=numbers,
        causes=_told(row, numbers, causes, signs, comparable=not reasons),
        notes=tuple(_notes(row, any_record, numbers, signs, known, comparable=not reasons)),
    )


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 if all is reproduced or within noise, 1 if anything is off, else 3 if anything cannot be compared.

    >>> exit_code(["reproduced", "within noise"]), exit_code(["off", "not comparable"]), exit_code(["not comparable"])
    (0, 1, 3)
    """
    return 1 if "off" in verdicts else 3 if "not comparable" in verdicts else 0


def verdict_of(ours: float, published: float, decimals: int, low: float, high: float) -> Verdict:
    """See the module. Exactly half a unit is equal, whichever way the source rounds.

    >>> verdict_of(81.94, 81.9, 1, 81.0, 83.0), verdict_of(82.0, 81.9, 1, 81.0, 83.0), verdict_of(84.0, 81.9, 1, 83, 85)
    ('reproduced', 'within noise', 'off')
    """
    if abs(ours - published) <= 0.5 * 10.0**-decimals + _SLACK:
        return "reproduced"
    if math.isnan(ours + low + high):
        return "not comparable"
    return "within noise" if low <= published <= high else "off"


def _reasons(row: PublishedResult, record: Record, measured: bool, accepted: str | None) -> Iterator[str]:
    if record.task != row.task or record.model != row.model:
        yield f"the run is of {record.model} on {record.task}, the row of {row.model or 'no adapter'} on {row.task}"
        return
    if record.limit is not None and record.limit <= record.samples:
        yield f"only the first {record.limit} samples were evaluated (--limit): such a run can reproduce nothing"
    if record.failed:
        yield f"{record.failed} of {record.samples} samples failed"
    if record.split != row.split:
        yield f"the split is {record.split}, and the row's is {row.split}"
    elif not measured:
        yield f"the protocol is {record.protocol}, and the row's is {row.protocol}"
    if row.prompt and record.prompt != row.prompt:
        yield f"the prompt is {record.prompt!r}, and the row's is {row.prompt!r}"
    if row.data_fingerprint and record.data_fingerprint != row.data_fingerprint:
        yield f"the data are other ones: fingerprint {record.data_fingerprint}, the official {row.data_fingerprint}"
    if row.checkpoint != record.checkpoint and record.checkpoint != accepted:
        published = row.checkpoint or "not on record"
        yield f"the weights are {record.checkpoint}, and the row's {published} (--checkpoint says they are the same)"


def _judged(row: PublishedResult, metric: str, record: Record | None, *, comparable: bool) -> JudgedNumber:
    published, decimals = row.metrics[metric], row.decimals.get(metric, 1)
    printed = row.printed(metric)
    if record is None:
        return JudgedNumber(
            metric=metric, published=published, printed=printed, decimals=decimals, verdict="not comparable"
        )
    low, high = _interval(record)
    verdict = verdict_of(record.value, published, decimals, low, high)
    return JudgedNumber(
        metric=metric,
        published=published,
        printed=printed,
        decimals=decimals,
        verdict=verdict if comparable else "not comparable",
        unit=record.unit,
        ours=record.value,
        low=low,
        high=high,
    )


def _interval(record: Record) -> tuple[float, float]:
    """The bootstrap's; where all or no clusters are right, which no resample changes, by the rule of three."""
    if record.unit != "%" or not record.low == record.value == record.high or record.value not in (0, 100):
        return record.low, record.high
    room = 100 * min(1, 3 / (record.clusters or record.n or 1))
    return max(0, record.low - room), min(100, record.high + room)


def _notes(
    row: PublishedResult,
    record: Record,
    numbers: Sequence[JudgedNumber],
    signs: dict[str, bool],
    known: tuple[str | None, str | None],
    *,
    comparable: bool,
) -> Iterator[str]:
    accepted, pinned = known
    if row.note:
        yield row.note
    missing = [one.metric for one in numbers if one.ours is None]
    if comparable and missing:
        yield f"the run has no {', '.join(missing)}, of which nothing can be said"
    if comparable and not row.data_fingerprint:
        yield f"data fingerprint {record.data_fingerprint}: none of the official data is on record to compare it with"
    if comparable and row.checkpoint != record.checkpoint:
        yield f"weights: {accepted} ({record.checkpoint_digest}), which you take for the published ones"
    elif comparable and signs["other_weights"]:
        yield f"weights: {record.checkpoint_digest}, and the card pins commit:{pinned}"
    if comparable and signs["dtype"]:
        yield f"precision: {record.dtype}, and not float32"


# ---------------------------------------------------------------------------------------------------------------------
# Causes
# ---------------------------------------------------------------------------------------------------------------------
def _signs(
    row: PublishedResult, record: Record, measured: dict[str, Record], known: tuple[str | None, str | None]
) -> dict[str, bool]:
    """Of each sign of `evalkit.published.SIGNS`, whether the run shows it.

    Args:
        row: What was published.
        record: One of the run's numbers.
        measured: All of the row's.
        known: The weights that the user takes for the published ones, and the commit that the card pins.
    """
    accepted, pinned = known
    name, _, route = row.protocol.partition("/")
    domains = {of: measured.get(f"cider_{of}") for of in _NOCAPS_SIZES}
    return {
        "dtype": record.dtype not in ("", "float32"),
        "float32": record.dtype == "float32",
        "other_weights": record.checkpoint != row.checkpoint
        or (pinned is not None and record.checkpoint_digest not in (pinned, f"commit:{pinned}")),
        "tuned_on": record.checkpoint not in (row.checkpoint, accepted)
        and _trunk(record.checkpoint) == _trunk(row.checkpoint),
        "other_data": record.split == row.split and record.protocol_name != name,
        "val": record.split != row.split and record.split in ("val", "minival"),
        "domain_sizes": any(one is not None and one.n != _NOCAPS_SIZES[of] for of, one in domains.items()),
        "rank_rule": (record.route, route) == ("rank", "rank_paper"),
        "rerank_k": record.route != route and record.route.partition("@")[0] == route.partition("@")[0],
        "prompt": bool(row.prompt) and record.prompt != row.prompt,
    }


def _trunk(checkpoint: str) -> str:
    """What fine-tuned weights of one kind share.

    >>> _trunk("Salesforce/blip-itm-large-coco")
    'Salesforce/blip-itm-large'
    """
    return checkpoint.removesuffix("-coco").removesuffix("-flickr")


def _told(
    row: PublishedResult,
    numbers: Sequence[JudgedNumber],
    causes: Sequence[Cause],
    signs: dict[str, bool],
    *,
    comparable: bool,
) -> tuple[ToldCause, ...]:
    """A cause that leaves a sign is told where the run shows it, others where a number is not reproduced.

    One whose size is known, and fits no difference, is not told. Of a run that cannot be compared only what leaves a
    sign is: its numbers say nothing.
    """
    differing = [one for one in numbers if one.verdict in ("within noise", "off")]
    ranked: list[tuple[tuple[int, int], ToldCause]] = []
    for cause in (one for one in causes if one.concerns(row)):
        if cause.sign:
            if signs[cause.sign] and (differing or not comparable):
                ranked.append(((0, cause.likelihood), ToldCause(cause=cause, why="the run shows it")))
            continue
        moved = [one.difference for one in differing if cause.explains(one.metric) and one.difference is not None]
        if cause.shift is None and moved:
            ranked.append(((2, cause.likelihood), ToldCause(cause=cause, why="")))
        elif cause.shift and any(cause.shift[0] <= one <= cause.shift[1] for one in moved):
            ranked.append(((1, cause.likelihood), ToldCause(cause=cause, why="its size fits")))
    return tuple(told for _, told in sorted(ranked, key=lambda each: each[0]))
