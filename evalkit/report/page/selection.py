"""Which samples a page keeps where there are more than it can hold."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalkit.report.samplesets import SampleSet

SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Samples by their places in the set, in order, and what the reader is told of them."""

    places: tuple[int, ...]
    by_need: tuple[int, ...]
    """The same, those first that are wanted most: thumbnails go to these first."""
    rule: str


def select(samples: SampleSet, most: int) -> Selection:
    """Failures and flips first; of the places left half for the worst scores, half for a seeded draw.

    Args:
        samples: All of a set's samples.
        most: How many to keep.
    """
    size = samples.size
    draw = random.Random(SEED)
    striking = [place for place in range(size) if _is_striking(samples, place)]
    if len(striking) > most:
        by_need = draw.sample(striking, most)
        rule = (
            f"{most:,} of {size:,} samples are here, drawn at random (seed {SEED}) from the {len(striking):,} that"
            " failed or flipped (right in one run, wrong in another)."
        )
        return Selection(places=tuple(sorted(by_need)), by_need=tuple(by_need), rule=rule)
    taken = set(striking)
    rest = sorted((place for place in range(size) if place not in taken), key=lambda place: _badness(samples, place))
    if size <= most:
        drawn = draw.sample(rest, len(rest))
        rule = f"All {size:,} samples are here."
        return Selection(places=tuple(range(size)), by_need=(*striking, *drawn), rule=rule)
    worst = rest[: (most - len(striking) + 1) // 2]
    drawn = draw.sample(rest[len(worst) :], most - len(striking) - len(worst))
    rule = (
        f"{most:,} of {size:,} samples are here: {len(striking):,} that failed or flipped (right in one run, wrong in"
        f" another), the {len(worst):,} worst of the others, and {len(drawn):,} drawn at random (seed {SEED}). What the"
        " browser counts is therefore no estimate of the whole; the tables and plots above are over all samples."
    )
    by_need = [*striking, *worst, *drawn]
    return Selection(places=tuple(sorted(by_need)), by_need=tuple(by_need), rule=rule)


def _is_striking(samples: SampleSet, place: int) -> bool:
    views = [views[place] for views in samples.views]
    rights = {view.right for view in views if view.right is not None}
    return len(rights) > 1 or any(view.failure is not None for view in views)


def _badness(samples: SampleSet, place: int) -> tuple[bool, float]:
    """Smallest for the worst; what has no score comes last."""
    scores = [views[place].score for views in samples.views]
    known = [score for score in scores if score is not None and math.isfinite(score)]
    mean = math.fsum(known) / len(known) if known else 0.0
    return not known, mean if samples.higher_is_better else -mean
