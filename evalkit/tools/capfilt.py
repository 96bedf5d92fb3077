"""BLIP's data filter as a tool: drop the captions of a file that a model says are not of their image.

A caption is kept where P(match) is above the threshold. At 0.5 that is BLIP's rule: a text is noisy where the ITM head
predicts "unmatched" (https://arxiv.org/abs/2201.12086, section 3.3; https://github.com/salesforce/BLIP/issues/46).
Of a model that answers yes or no, P(match) is P(yes) / (P(yes) + P(no)).
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit import registry
from evalkit.errors import ConfigError, DataError
from evalkit.families.caption_judging import ITM, YES_NO, Captioned, judge, judging_route
from evalkit.opening import Chosen, ModelChoice, Resources, Workbench, choose
from evalkit.report.text import spreadsheet
from evalkit.tools.caption_files import CaptionFile, read_caption_file
from evalkit.tools.writing import check_target, write_whole
from evalkit.types import Failure, ImageRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.progress import Progress

_PURPOSE = "retrieval/coco"
_COLUMNS = ("image", "caption", "p_match", "kept", "failure")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig:
    """What to filter, and how.

    Raises:
        ConfigError: A threshold that is no probability.
    """

    file: Path
    images: Path
    """The folder that the file's image names are relative to."""
    output: Path
    choice: ModelChoice
    resources: Resources
    threshold: float = 0.5
    scores: Path | None = None
    """Also a CSV file with P(match) of every pair."""
    name_rule: str | None = None
    """How files are named where the captions name an image's id only: `COCO_val2014_{image_id:012}.jpg`."""
    prompt: str = ""
    """Of a model that is asked by a question; empty for its own."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold < 1.0:
            raise ConfigError(f"threshold {self.threshold} keeps nothing, or is no probability.", "Give 0 to below 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """What became of the captions. `kept` + `dropped` + `unjudged` are all of them."""

    kept: int
    dropped: int
    unjudged: int
    """Captions of images that failed: they are not in the output."""
    failures: tuple[Failure, ...]
    """One an image."""
    route: str
    """`itm`, `yes-no`."""


def filter_captions(config: FilterConfig, progress: Progress) -> Filtered:
    """Read, judge, and write what is kept; each output appears whole or not at all.

    Answers are kept in the cache as they come, so that the same call goes on where one was stopped.

    Raises:
        EvalkitError: Of the kind that says what is wrong.
    """
    if not config.images.is_dir():
        raise DataError(f"{config.images}: there is no such folder.", "Correct --images.")
    captions = read_caption_file(config.file, config.name_rule)
    read = (config.file, *(config.images / name for name in dict.fromkeys(pair.image for pair in captions.pairs)))
    check_target(config.output, read)
    if config.scores is not None:
        check_target(config.scores, (*read, config.output))
    adapter = registry.load_adapter(config.choice.name)
    chosen = choose(
        config.choice,
        adapter,
        lambda model: judging_route(model, (ITM, YES_NO), config.prompt, "The caption filter"),
        _PURPOSE,
    )
    judged = _judged(captions, config, chosen, progress)
    failures = {odds: None for odds in judged if isinstance(odds, Failure)}
    unjudged = sum(isinstance(odds, Failure) for odds in judged)
    if unjudged == len(judged):
        raise DataError(f"Every image failed; the first: {next(iter(failures)).reason}", "Check the images' folder.")
    kept = [not isinstance(odds, Failure) and probability(odds) > config.threshold for odds in judged]
    if config.scores is not None:
        write_whole(config.scores, _table(captions, judged, kept))
    write_whole(config.output, captions.filtered(kept))
    return Filtered(
        kept=sum(kept),
        dropped=len(kept) - sum(kept) - unjudged,
        unjudged=unjudged,
        failures=tuple(failures),
        route=chosen.route.name,
    )


def _judged(captions: CaptionFile, config: FilterConfig, chosen: Chosen, progress: Progress) -> list[float | Failure]:
    """For each pair its log-odds, or why there are none."""
    texts: dict[str, dict[str, int]] = {}
    for pair in captions.pairs:
        of_image = texts.setdefault(pair.image, {})
        of_image.setdefault(pair.caption, len(of_image))
    asked = [
        Captioned(image=ImageRef(id=name, source=config.images / name), captions=tuple(of_image))
        for name, of_image in texts.items()
    ]
    with Workbench(config.resources, progress) as bench:
        model = bench.open(chosen.choice, chosen.purpose)
        answers = dict(zip(texts, judge(model, asked, chosen.route), strict=True))
        model.close()
    judged: list[float | Failure] = []
    for pair in captions.pairs:
        answer = answers[pair.image]
        judged.append(answer if isinstance(answer, Failure) else float(answer[texts[pair.image][pair.caption]]))
    return judged


def _table(captions: CaptionFile, judged: Sequence[float | Failure], kept: Sequence[bool]) -> bytes:
    """All pairs as CSV; no cell is a formula to a spreadsheet."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for pair, odds, keep in zip(captions.pairs, judged, kept, strict=True):
        names = spreadsheet(pair.image), spreadsheet(pair.caption)
        if isinstance(odds, Failure):
            writer.writerow((*names, "", "", spreadsheet(odds.reason)))
        else:
            writer.writerow((*names, repr(probability(odds)), "yes" if keep else "no", ""))
    return stream.getvalue().encode()


def probability(log_odds: float) -> float:
    """P(match) of log-odds.

    >>> probability(0.0), probability(-1000.0)
    (0.5, 0.0)
    """
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    grown = math.exp(log_odds)
    return grown / (1.0 + grown)
