"""A comparison as tables, notes and samples, as the readable formats show it; the texts are as they came."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.report.board import number
from evalkit.report.comparison import Comparison, Flips
from evalkit.report.samplesets import samples_protocol
from evalkit.report.text import elide
from evalkit.types import FEW_CLUSTERS, RunResult, SideBySide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evalkit.report.comparison import Compared, Moved, RankMove
    from evalkit.report.records import Record
    from evalkit.types import ImageRef, SampleView

_DECIMALS = {"%": 2, "points": 2, "rank": 2, "score": 4}
_TEXT_WIDTH = 300
"""Answers longer than this are shown with their middle left out; JSON has them whole."""
_REFERENCES = 6
SIGNS = "*"
"""Stands after a p-value that is the sign test's."""
HEADINGS = ("metric", "A", "B", "B - A [95 %]", "B is", "p", "p (Holm)", "detectable", "n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """All that is told of two runs."""

    old: RunResult
    """Run A."""
    new: RunResult
    """Run B."""
    comparison: Comparison
    flips: Flips | None
    """None where samples were not looked at, or cannot be."""
    unasked: bool = False
    """Whether they were not looked at because no number could be compared, and nobody asked for them."""
    left_out: int = 0
    """Samples that failed in one of the two, where both were scored again over the others."""
    across_protocols: bool = False
    same_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Rows of texts under `HEADINGS`."""

    title: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A sample: a heading, and facts by name."""

    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Samples of one kind."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the readable formats show, in order."""

    heading: tuple[tuple[str, str], ...]
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]
    summary: tuple[str, ...]
    """Lines on the samples."""
    parts: tuple[Part, ...]
    hints: tuple[str, ...]
    """What else could be asked for; shown last."""


def tell(found: Compare, *, show: int) -> Told:
    """Arrange a comparison.

    Args:
        found: What is told.
        show: How many samples of each kind are shown.
    """
    return Told(
        heading=(("A", _run(found.old)), ("B", _run(found.new))),
        grids=tuple(_grids(found.comparison)),
        notes=tuple(_notes(found)),
        summary=tuple(_summary(found, show)),
        parts=() if found.flips is None else tuple(part for part in _parts(found.flips, show) if part.blocks),
        hints=tuple(_hints(found)),
    )


def _hints(found: Compare) -> Iterator[str]:
    apart = any(one.why.startswith("the protocols differ") for one in found.comparison.numbers)
    if apart and not found.across_protocols:
        yield "--across-protocols compares each model together with its protocol."
    if found.unasked:
        yield "No number was compared, so no samples are shown; --samples shows them."


def _run(run: RunResult) -> str:
    record = f"{run.model}/{run.variant}"
    return f"{elide(record, 60)}, {elide(run.checkpoint, 80)}, task {run.task}, run {run.run_id}"


# ---------------------------------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------------------------------
def _grids(comparison: Comparison) -> Iterator[Grid]:
    groups: dict[tuple[str, str, str], list[Compared]] = {}
    for one in comparison.numbers:
        protocol = one.new.protocol if one.new.protocol == one.old.protocol else _both_protocols(one)
        groups.setdefault((one.new.task, protocol, one.new.split), []).append(one)
    reasons = _reasons(comparison)
    for (task, protocol, split), numbers in groups.items():
        yield Grid(title=f"{task}: {protocol}, split {split}", rows=tuple(_row(one, reasons) for one in numbers))


def _both_protocols(one: Compared) -> str:
    return f"{one.old.protocol} (A) and {one.new.protocol} (B)"


def _reasons(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(one.why for one in comparison.numbers if one.why))


def _row(one: Compared, reasons: Sequence[str]) -> tuple[str, ...]:
    unit = one.new.unit
    name = f"{one.new.metric} ({unit}{'' if one.new.higher_is_better else ', less is better'})"
    n = str(one.new.n) if one.new.n == one.old.n else f"{one.old.n}, {one.new.n}"
    values = (name, number(one.old.value, unit), number(one.new.value, unit))
    if one.difference is None:
        return (*values, "", f"{one.state} [{reasons.index(one.why) + 1}]", "", "", "", n)
    apart = one.difference
    interval = f"{change(apart.value, unit)} [{change(apart.low, unit)}, {change(apart.high, unit)}]"
    state = one.state + " ~" * one.across_protocols
    return (
        *values,
        interval,
        state,
        p_value(apart.p) + SIGNS * one.by_signs,
        p_value(one.adjusted_p),
        "n/a" if math.isnan(one.smallest) else f"{one.smallest:.{_DECIMALS.get(unit, 4)}f}",
        n,
    )


def change(value: float, unit: str) -> str:
    """A difference, with its sign and a digit more than the numbers have.

    >>> change(0.251, "%"), change(-1.0, "rank"), change(0.0, "score")
    ('+0.25', '-1.00', '0.0000')
    """
    if math.isnan(value):
        return "n/a"
    text = f"{value:+.{_DECIMALS.get(unit, 4)}f}"
    return text[1:] if float(text) == 0 else text


def p_value(p: float) -> str:
    """A p-value to three decimals.

    >>> p_value(0.0123), p_value(1e-9), p_value(float("nan"))
    ('0.012', '<0.001', 'n/a')
    """
    return "n/a" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _notes(found: Compare) -> Iterator[str]:
    comparison = found.comparison
    told = [one for one in comparison.numbers if one.difference is not None]
    if found.same_run:
        yield "A and B are the same run: it is compared with itself."
    if found.old.task != found.new.task:
        yield f"The runs share no number: {found.old.task} and {found.new.task} are different tasks."
    for place, why in enumerate(_reasons(comparison), 1):
        yield f"[{place}] not comparable, A and B: {why}"
    yield from only_one_has(comparison, ("A", "B"))
    if found.left_out:
        yield (
            f"Samples that failed in one of the runs are left out of both: {found.left_out} of"
            f" {found.new.counts.samples}. The numbers above are scored again over the others, and are not those of"
            " the leaderboard."
        )
    if told:
        yield from _statistics(comparison, told)
    for letter, run in (("A", found.old), ("B", found.new)):
        if run.limit is not None:
            yield f"{letter} is limited: only the first {run.limit} samples were evaluated, which are no random choice."
        if run.counts.failed and not found.left_out:
            yield f"{letter} is incomplete: {run.counts.failed} of {run.counts.samples} samples failed."


def _statistics(comparison: Comparison, told: Sequence[Compared]) -> Iterator[str]:
    yield (
        "B - A: the difference with its 95 % interval, which is not corrected; p: two-sided; p (Holm): corrected for"
        f" the {comparison.tested} numbers tested, and what better and worse go by (below 0.05). So an interval may"
        " exclude 0 where no difference is shown."
    )
    if any(one.by_signs for one in told):
        yield (
            f"{SIGNS} few answers differ: p is what a sign test of so few can say at least, and may be far above what"
            " the interval suggests."
        )
    yield (
        "detectable: the smallest true difference that this many samples would show four times in five, before the"
        " correction. A smaller one may be there and not be shown."
    )
    if any(one.across_protocols for one in told):
        differing = dict.fromkeys(_protocols_apart(one) for one in told if one.across_protocols)
        yield f"~ the protocols differ, so the difference is of models and protocols together: {'; '.join(differing)}."
    if any(one.state == "equal" for one in told):
        yield "equal: on every resample too, as numbers of equal answers are."
    if any(one.state == "cannot tell" for one in told):
        yield (
            "cannot tell: of a single image, or where a number is undefined on most resamples, nothing is known of the"
            " spread."
        )
    unpaired = [one.new.metric for one in told if one.difference is not None and not one.difference.paired]
    if unpaired:
        yield (
            "Not paired, so less certain than could be, as a run has no resamples, or some drawn by another numpy"
            f" (`evalkit rescore RUN --write` adds them): {', '.join(dict.fromkeys(unpaired))}."
        )
    few = [one.new.metric for one in told if one.difference is not None and one.difference.clusters < FEW_CLUSTERS]
    if few:
        yield (
            f"Over fewer than {FEW_CLUSTERS} images, or sets of what shares images, a difference says little:"
            f" {', '.join(dict.fromkeys(few))}."
        )
    if any(one.new.metric.endswith("median_rank") for one in told):
        yield "A median rank moves in steps, so that it shows little of a difference; recall and mean rank show more."


def _protocols_apart(one: Compared) -> str:
    return f"{one.old.protocol} ({one.old.protocol_digest}) and {one.new.protocol} ({one.new.protocol_digest})"


def only_one_has(comparison: Comparison, names: tuple[str, str]) -> Iterator[str]:
    """What cannot be compared, as the other run has no such number.

    Args:
        comparison: The two runs' numbers.
        names: What the old run is called, and the new one.
    """
    for name, records in zip(names, (comparison.old_only, comparison.new_only), strict=True):
        if records:
            yield f"Only {name} has: {_listed(records)}."


def _listed(records: Sequence[Record]) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for record in records:
        groups.setdefault((record.protocol, record.split), []).append(record.metric)
    return "; ".join(f"{', '.join(names)} ({protocol}, split {split})" for (protocol, split), names in groups.items())


# ---------------------------------------------------------------------------------------------------------------------
# Samples
# ---------------------------------------------------------------------------------------------------------------------
def _summary(found: Compare, show: int) -> Iterator[str]:
    flips = found.flips
    if flips is None:
        return
    told = f"Samples that both answered: {flips.compared}."
    if flips.left_out:
        told += f" Left out, as one has not answered them: {flips.left_out}."
    yield f"{told} {whose_samples(found.old, found.new, ('A', 'B'))}"
    if flips.none:
        yield "No difference on any sample: all answers, scores and ranks are equal."
        return
    yield (
        f"Wrong in A and right in B: {len(flips.gained)}; right in A and wrong in B: {len(flips.lost)};"
        f" another score ({flips.metric}): {len(flips.moved)}; another answer: {flips.other_answers}."
    )
    for ranks in flips.ranks:
        yield (
            f"{ranks.direction}: {ranks.improved} queries rank better in B, {ranks.worsened} worse,"
            f" {ranks.stayed} as in A."
        )
    longest = max(len(flips.gained), len(flips.lost), len(flips.moved), *(len(one.moves) for one in flips.ranks), 0)
    if longest > show:
        yield f"At most {show} of each kind are shown (--show N; --format json has all flips)."


def whose_samples(old: RunResult, new: RunResult, names: tuple[str, str]) -> str:
    """By which protocol the samples of two runs are shown, and judged right or wrong.

    Args:
        old: The one run.
        new: The other.
        names: What they are called.
    """
    one, other = samples_protocol(old), samples_protocol(new)
    if one is None or other is None:
        return ""
    if one.digest == other.digest:
        return f"The samples are those of {one.id}."
    digests = [f" ({each.digest})" * (one.id == other.id) for each in (one, other)]
    return f"The samples are those of {one.id}{digests[0]} in {names[0]} and of {other.id}{digests[1]} in {names[1]}."


def _parts(flips: Flips, show: int) -> Iterator[Part]:
    seen = _Seen()
    yield _part("Right in A, wrong in B", flips.lost, flips, show, seen)
    yield _part("Wrong in A, right in B", flips.gained, flips, show, seen)
    flipped = {one.new.id for one in (*flips.lost, *flips.gained)}
    rest = [one for one in flips.moved if one.new.id not in flipped]
    yield _part(f"Score ({flips.metric}) moved most, without a flip", rest, flips, show, seen)
    for ranks in flips.ranks:
        yield Part(
            title=f"Ranks moved most, {ranks.direction}",
            blocks=tuple(_rank_block(one, ranks.direction, seen) for one in ranks.moves[:show]),
        )


class _Seen:
    """What was told already of a sample is not told again."""

    def __init__(self) -> None:
        self._told: set[tuple[str, tuple[str, str]]] = set()

    def new(self, sample: str, facts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for fact in facts:
            if (sample, fact) not in self._told:
                self._told.add((sample, fact))
                yield fact


def _part(title: str, moved: Sequence[Moved], flips: Flips, show: int, seen: _Seen) -> Part:
    return Part(title=f"{title} ({len(moved)})", blocks=tuple(_block(one, flips.unit, seen) for one in moved[:show]))


def _block(moved: Moved, unit: str, seen: _Seen) -> Block:
    facts = [
        *seen.new(moved.new.id, _about(moved.new)),
        ("A", _answer(moved.old, unit)),
        ("B", _answer(moved.new, unit)),
    ]
    return Block(title=moved.new.id, facts=tuple(facts))


def _about(view: SampleView) -> Iterator[tuple[str, str]]:
    if view.asked:
        yield "asked", elide(view.asked, _TEXT_WIDTH)
    if view.images:
        yield "image", elide(", ".join(_image(one) for one in view.images), _TEXT_WIDTH)
    if view.references:
        more = len(view.references) - _REFERENCES
        told = " | ".join(elide(one, _TEXT_WIDTH) for one in view.references[:_REFERENCES])
        yield "right", told + (f" | and {more} more" if more > 0 else "")


def _image(image: ImageRef) -> str:
    if isinstance(image.source, SideBySide):
        return " + ".join(_image(one) for one in image.source.images)
    return image.source.name if isinstance(image.source, Path) else image.id


def _answer(view: SampleView, unit: str) -> str:
    score = "" if view.score is None else number(view.score, unit)
    if unit == "rank" and view.score is not None:
        return f"rank {view.score:g}" + (f": {elide(view.answer, _TEXT_WIDTH)}" if view.answer else "")
    return (elide(view.answer, _TEXT_WIDTH) or "(nothing)") + (f"  ({score})" if score else "")


def _rank_block(move: RankMove, direction: str, seen: _Seen) -> Block:
    return Block(
        title=f"{move.new.id}, query {move.query + 1}",
        facts=(
            *seen.new(move.new.id, _asked(move, direction)),
            ("rank", f"{move.old_rank} in A, {move.new_rank} in B"),
        ),
    )


def _asked(move: RankMove, direction: str) -> Iterator[tuple[str, str]]:
    """Of a text's query that text; else what the image goes with."""
    view = move.new
    if direction.startswith("t2") and len(view.references) == len(view.ranks[direction]):
        view = replace(view, asked=view.references[move.query], references=())
    return _about(view)
