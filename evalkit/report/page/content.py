"""What the page's script reads: samples by column, as plain values for JSON."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.report.page.selection import Selection, select
from evalkit.report.page.thumbnails import Thumbnails, make_thumbnails
from evalkit.report.text import STEERING, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evalkit.progress import Progress
    from evalkit.report.samplesets import SampleSet
    from evalkit.types import ImageRef, SampleView

BUDGET = 30_000_000
"""Characters of a page's thumbnails."""
TEXT_LIMIT = 2000
"""Characters of a text that a page keeps."""
REFERENCES_LIMIT = 20
IMAGES_LIMIT = 8
_CHUNK = 250
"""Thumbnails are read by so many, when the first of them is looked at."""
_KEPT = frozenset("\n\t\u200c\u200d")
"""Line ends, and the joiners that scripts and emoji are written with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The samples of a page."""

    sets: tuple[dict[str, object], ...]
    """As the script reads them."""
    chunks: tuple[tuple[str, ...], ...]
    """Data URIs of thumbnails."""
    notes: tuple[str, ...]
    """What is left out, for the reader."""


def content_of(
    sets: Sequence[SampleSet], *, most: int, thumbnails: bool, threads: int, progress: Progress, budget: int = BUDGET
) -> Content:
    """Choose samples, make their thumbnails, and put both as the script reads them.

    Args:
        sets: All samples.
        most: How many to keep of each set.
        thumbnails: Whether to make any.
        threads: How many images are read at once.
        progress: Told of every thumbnail.
        budget: See `BUDGET`.
    """
    kept = [select(one, most) for one in sets]
    wanted = _in_turn([_images(one, chosen) for one, chosen in zip(sets, kept, strict=True)]) if thumbnails else ()
    made = make_thumbnails(wanted, budget=budget, threads=threads, progress=progress)
    notes = [f"{one.title}: {chosen.rule}" for one, chosen in zip(sets, kept, strict=True)]
    if not thumbnails:
        notes.append("Without images (--no-thumbnails).")
    if made.left_out:
        notes.append(
            f"{made.left_out:,} images are left out, because {budget / 1e6:.0f} MB of thumbnails are there already;"
            " those of failures, flips and the worst samples come first."
        )
    if made.unreadable:
        notes.append(f"Images that cannot be read from here, and are named instead: {len(made.unreadable):,}.")
    plain = tuple(_plain(one, chosen, made) for one, chosen in zip(sets, kept, strict=True))
    cut = sum(_cut_texts(one, chosen) for one, chosen in zip(sets, kept, strict=True))
    if cut:
        notes.append(f"{cut:,} texts are cut after {TEXT_LIMIT:,} characters; each says how many it had.")
    chunks = tuple(made.uris[start : start + _CHUNK] for start in range(0, len(made.uris), _CHUNK))
    return Content(sets=plain, chunks=chunks, notes=tuple(notes))


def _images(samples: SampleSet, chosen: Selection) -> list[ImageRef]:
    return [ref for place in chosen.by_need for ref in samples.views[0][place].images[:IMAGES_LIMIT]]


def _in_turn(lists: Sequence[list[ImageRef]]) -> Iterator[ImageRef]:
    """One of each list after the other, so that every set has its share of the budget."""
    for place in range(max(map(len, lists), default=0)):
        yield from (images[place] for images in lists if place < len(images))


def _plain(samples: SampleSet, chosen: Selection, made: Thumbnails) -> dict[str, object]:
    first = [samples.views[0][place] for place in chosen.places]
    kinds = list(dict.fromkeys(kind for view in first for kind in view.groups))
    values = {kind: list(dict.fromkeys(view.groups[kind] for view in first if kind in view.groups)) for kind in kinds}
    at = {kind: {value: place for place, value in enumerate(values[kind])} for kind in kinds}
    return {
        "title": visible(samples.title),
        "metric": visible(samples.metric),
        "unit": samples.unit,
        "higher": samples.higher_is_better,
        "total": samples.size,
        "chunk": _CHUNK,
        "ids": [visible(view.id) for view in first],
        "asked": [clipped(view.asked) for view in first],
        "references": [_references(view) for view in first],
        "images": [[made.places.get(ref, -1) for ref in view.images[:IMAGES_LIMIT]] for view in first],
        "names": [[visible(ref.id) for ref in view.images[:IMAGES_LIMIT]] for view in first],
        "more": [max(0, len(view.images) - IMAGES_LIMIT) for view in first],
        "groups": [
            {"kind": visible(kind), "values": [visible(value) for value in values[kind]]}
            | {"of": [at[kind][view.groups[kind]] if kind in view.groups else -1 for view in first]}
            for kind in kinds
        ],
        "runs": [
            {"name": visible(name), "route": visible(protocol.route) if protocol else ""}
            | _run_columns([views[place] for place in chosen.places], first)
            for name, protocol, views in zip(samples.runs, samples.protocols, samples.views, strict=True)
        ],
    }


def _run_columns(views: Sequence[SampleView], first: Sequence[SampleView]) -> dict[str, object]:
    return {
        "answers": [clipped(view.answer) for view in views],
        "failures": [None if view.failure is None else clipped(view.failure) for view in views],
        "scores": [_rounded(view.score) for view in views],
        "right": [view.right for view in views],
        "ranks": [_ranks(view) for view in views],
        # where a run was asked in other words than the first one
        "asked": [
            "" if view.asked == other.asked else clipped(view.asked) for view, other in zip(views, first, strict=True)
        ],
    }


def _references(view: SampleView) -> list[list[object]]:
    """Each once, with how often it was given."""
    counts = Counter(view.references).most_common()
    shown: list[list[object]] = [[clipped(text), count] for text, count in counts[:REFERENCES_LIMIT]]
    if len(counts) > REFERENCES_LIMIT:
        shown.append([f"… and {len(counts) - REFERENCES_LIMIT:,} more", 1])
    return shown


def _ranks(view: SampleView) -> str:
    return "; ".join(
        f"{kind}: {', '.join(map(str, ranks[:20]))}{' …' if len(ranks) > 20 else ''}"
        for kind, ranks in view.ranks.items()
        if ranks
    )


def _rounded(score: float | None) -> float | None:
    return None if score is None or not math.isfinite(score) else round(score, 6)


def _cut_texts(samples: SampleSet, chosen: Selection) -> int:
    first = {id(samples.views[0])}
    return sum(
        len(text) > TEXT_LIMIT
        for views in samples.views
        for place in chosen.places
        for text in _texts(views[place], whole=id(views) in first)
    )


def _texts(view: SampleView, *, whole: bool) -> Iterable[str]:
    yield view.answer
    yield view.failure or ""
    if whole:
        yield view.asked
        yield from dict.fromkeys(view.references)


def clipped(text: str) -> str:
    """The text's first `TEXT_LIMIT` characters, and how many there are more."""
    more = len(text) - TEXT_LIMIT
    return visible(text[:TEXT_LIMIT]) + (f" … ({more:,} more characters)" if more > 0 else "")


def visible(text: str) -> str:
    r"""The text with every character as its escape that steers the direction of text, or cannot be seen.

    >>> visible("a\u202eb\n")
    'a\\u202eb\n'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(escape(one) if unicodedata.category(one) in STEERING and one not in _KEPT else one for one in text)
