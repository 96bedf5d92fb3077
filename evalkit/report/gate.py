"""The gate's rule: whether a release got worse, by intervals against margins. Why so: docs/decisions/0005."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from evalkit.metrics.comparison import Difference, clusters_needed, holm, smallest_difference, worse_p
from evalkit.report.numbers import Number, cautious_difference, why_not_comparable
from evalkit.types import FEW_CLUSTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.report.records import Record

ALPHA = 0.025
"""One-sided: the share of gates, not of numbers, that may say "regressed" where nothing did. At 0.05 simulated gates
came out above 5 % at times, and a number could be said to have regressed whose interval of 95 % reaches above 0."""
_LEAST_P = 1e-4
_CIDER_RANGE, _PERCENT_RANGE = 1000.0, 100.0


class State(StrEnum):
    """What is said of one number."""

    passed = "pass"
    regressed = "regressed"
    cannot_tell = "cannot tell"
    not_comparable = "not comparable"


EXIT_CODES = {State.regressed: 1, State.not_comparable: 3, State.cannot_tell: 2, State.passed: 0}
"""In the order in which one outweighs the next."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gated:
    """A number that is held against a baseline."""

    old: Number
    new: Number | None
    """None where no run has it."""
    margin: float
    """NaN where none is named, and the number has to be there only."""
    part: int | None = None
    """Where no run has it, and one would if it had not evaluated so many samples of the split only."""
    ambiguous: str = ""
    """Why nobody can say which of the baseline's numbers `new` is held against; `old` is one of them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What a gate says of one number, and by what."""

    gated: Gated
    state: State
    note: str
    """Why, as a phrase; empty where the interval says all."""
    difference: Difference | None = None
    """New less old; None where they cannot be compared."""
    p: float = math.nan
    """One-sided, of being no worse, adjusted by Holm over the gate's numbers; NaN where it was not tested."""
    samples_needed: int | None = None
    """How many samples would probably show that equal models are within the margin, where these do not."""
    visible: float | None = None
    """The smallest difference that these samples can see."""


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 where all pass, 1 where any regressed, else 3 where any is not comparable, else 2."""
    states = {verdict.state for verdict in verdicts}
    return next(code for state, code in EXIT_CODES.items() if state in states)


def decide(gated: Sequence[Gated]) -> tuple[Verdict, ...]:
    """A verdict of each number, in order."""
    looked = [_look(one) for one in gated]
    tested = [
        worse_p(one, higher_is_better=each.old.record.higher_is_better) if isinstance(one, Difference) else math.nan
        for each, one in zip(gated, looked, strict=True)
    ]
    return tuple(
        one if isinstance(one, Verdict) else _judge(each, one, p)
        for each, one, p in zip(gated, looked, holm(tested), strict=True)
    )


def _look(gated: Gated) -> Difference | Verdict:
    """The difference where it says something, else the verdict that needs none."""
    new, old = gated.new, gated.old
    if gated.ambiguous:
        return Verdict(gated=gated, state=State.not_comparable, note=gated.ambiguous)
    if new is None and gated.part is not None:
        note = f"{gated.part:,} of {old.record.samples:,} samples were evaluated, which this number needs more of"
        return Verdict(gated=gated, state=State.cannot_tell, note=note)
    if new is None:
        return Verdict(gated=gated, state=State.not_comparable, note="missing: no run has this number")
    if part := _part_of_the_split(new.record, old.record):
        needed = old.record.samples if old.record.limit is None else None
        return Verdict(gated=gated, state=State.cannot_tell, note=part, samples_needed=needed)
    new = _of_the_same_limit(new, old)
    if reason := why_not_comparable(new, old):
        return Verdict(gated=gated, state=State.not_comparable, note=reason)
    if math.isnan(new.record.value) or math.isnan(old.record.value):
        which = "new number" if math.isnan(new.record.value) else "baseline's number"
        return Verdict(gated=gated, state=State.not_comparable, note=f"the {which} is undefined (NaN)")
    difference = _difference(new, old)
    if difference.none and not _limited(new.record):
        return Verdict(gated=gated, state=State.passed, note="equal", difference=difference)
    if note := _nothing_known(new.record, difference):
        return Verdict(gated=gated, state=State.cannot_tell, note=note, difference=difference)
    return difference


def _nothing_known(new: Record, difference: Difference) -> str:
    """Why the spread, and with it the interval, cannot be known; empty where it can."""
    if difference.clusters < FEW_CLUSTERS:
        return f"{difference.clusters} images, or sets of what shares images, are too few to tell a spread by"
    if math.isnan(difference.standard_error):
        return "nothing is known of the spread: a number has no interval"
    if difference.standard_error == 0 and _limited(new) and math.isinf(_range(new)):
        return "no change in a part of the split says nothing of the rest, where a rank can change by any number"
    return ""


def _judge(gated: Gated, difference: Difference, p: float) -> Verdict:
    assert gated.new is not None
    margin, better = gated.margin, gated.old.record.higher_is_better
    apart = "" if difference.paired else "not paired: one of the two has no resamples that are drawn as here"
    if (difference.low if better else -difference.high) > -margin:
        notes = (f"worse, but within {margin:g}" if p < ALPHA else "", apart)
        state = State.passed
    elif p < ALPHA:
        notes = (f"p = {p:.2g}" if p >= _LEAST_P else f"p < {_LEAST_P:g}", apart)
        state = State.regressed
    else:
        return _undecided(gated, difference, p, apart)
    return Verdict(gated=gated, state=state, note=_joined(notes), difference=difference, p=p)


def _undecided(gated: Gated, difference: Difference, p: float, apart: str) -> Verdict:
    assert gated.new is not None
    record = _of_the_same_limit(gated.new, gated.old).record
    needed = _samples_needed(record, difference, gated.margin)
    visible = smallest_difference(difference.standard_error, difference.clusters)
    return Verdict(
        gated=gated,
        state=State.cannot_tell,
        note=_joined((_too_few(record, needed, visible), apart)),
        difference=difference,
        p=p,
        samples_needed=needed,
        visible=visible,
    )


def _joined(notes: Sequence[str]) -> str:
    return "; ".join(note for note in notes if note)


def _difference(new: Number, old: Number) -> Difference:
    found = cautious_difference(new, old)
    if not _limited(new.record) or math.isinf(_range(new.record)):
        return found
    reach = 3 / found.clusters * _range(new.record)
    return replace(found, low=min(found.low, found.value - reach), high=max(found.high, found.value + reach))


def _range(record: Record) -> float:
    """How far one sample can move a number over one sample; infinite where nobody knows.

    What no sample of a part of the split shows may still happen to 3 of n of the others (the rule of three, 95 %).
    """
    if record.metric.startswith("cider"):
        return _CIDER_RANGE
    return _PERCENT_RANGE if record.unit == "%" else math.inf


def _part_of_the_split(new: Record, old: Record) -> str:
    """What to say where one of the two is of a part of the other's samples and nothing else differs; else empty."""
    if new.limit == old.limit or _same_samples(new, old) or _asked(new) != _asked(old):
        return ""
    if old.limit is None:
        return f"{new.samples:,} of {old.samples:,} samples were evaluated, another set: all are needed"
    if new.limit is None:
        return f"the baseline is of {old.samples:,} of the split's {new.samples:,} samples: save a whole one"
    return f"{new.samples:,} samples were evaluated, and the baseline is of {old.samples:,}: of parts of a split"


def _asked(record: Record) -> tuple[object, ...]:
    """How it was measured but for the size of the data, which `Protocol.name` and the candidates of a route have."""
    return (
        record.task,
        record.split,
        record.metric,
        record.unit,
        re.sub(r"@[\d:]+", "", record.route),
        record.protocol_version,
        record.prompt,
        record.image_preprocessing,
        record.text_preprocessing,
        record.preprocessing_details,
        record.decoding,
        record.tie_rule,
    )


def _same_samples(new: Record, old: Record) -> bool:
    """Whatever --limit said: one that is larger than the split left nothing out."""
    return (new.data_fingerprint, new.protocol_digest) == (old.data_fingerprint, old.protocol_digest)


def _of_the_same_limit(new: Number, old: Number) -> Number:
    same = _same_samples(new.record, old.record)
    return replace(new, record=replace(new.record, limit=old.record.limit)) if same else new


def _limited(record: Record) -> bool:
    return record.limit is not None and record.limit <= record.samples


def _samples_needed(record: Record, difference: Difference, margin: float) -> int | None:
    """How many samples would probably do; None where none do."""
    if margin == 0:
        return None
    error = difference.standard_error
    clusters = clusters_needed(margin, error, difference.clusters) if error > 0 else 0
    if _limited(record) and not math.isinf(_range(record)):
        clusters = max(clusters, math.floor(3 * _range(record) / margin) + 1)
    return math.ceil(clusters / difference.clusters * record.samples)


def _too_few(record: Record, needed: int | None, visible: float) -> str:
    if needed is None:
        return "no number of samples shows a margin of 0, unless every answer is equal: name a larger one"
    sees = f"these {record.samples:,} see {visible:.2g}" if visible > 0 else f"there are {record.samples:,}"
    return f"about {needed:,} samples are needed; {sees}"
