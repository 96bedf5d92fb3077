"""The one entry to the caption metrics: captions as they came in, scores out."""

from __future__ import annotations

from collections.abc import Mapping  # dataclass fields are read at run time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from evalkit.errors import ConfigError, DataError
from evalkit.metrics.captions import java
from evalkit.metrics.captions.bleu import BleuCounts, bleu, bleu_counts
from evalkit.metrics.captions.cider import CiderReferences, cider, weigh
from evalkit.metrics.captions.ngrams import Doubles, count_candidates, prepare
from evalkit.metrics.captions.ptb import tokenize_captions
from evalkit.metrics.captions.rouge import rouge_l

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Backend: TypeAlias = Literal["native", "pycocoevalcap"]

NATIVE_METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
"""What both back ends compute, to the same value."""
JAVA_METRICS = ("meteor", "spice")
"""What pycocoevalcap computes besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionMetric:
    """One metric on one set."""

    value: float
    """Of the set. CIDEr, ROUGE-L and SPICE are means over images; BLEU and METEOR are of counts summed over them."""
    per_item: Doubles
    """(images,): each image's own, in the order of `CaptionScores.ids`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionScores:
    """All metrics on one set of images, none scaled: CIDEr 1.2 is the 120 of papers."""

    ids: tuple[str, ...]
    """The images, in the order of the references."""
    metrics: Mapping[str, CaptionMetric]
    """By name: `NATIVE_METRICS`, and of `JAVA_METRICS` what could be computed."""
    bleu_counts: BleuCounts
    """One row an image: sum rows, and `bleu` gives the set's BLEU of those."""
    absent: Mapping[str, str]
    """Metrics that the back end would compute and cannot here, and why."""
    backend: Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionReferences:
    """References of a set of images, tokenized and counted once, to score many sets of candidates."""

    ids: tuple[str, ...]
    """The images."""
    backend: Backend
    """Whose tokens they are."""
    vectors: CiderReferences
    """With the counts, and with the idf over exactly these images."""


def prepare_references(references: Mapping[str, Sequence[str]], backend: Backend = "native") -> CaptionReferences:
    """Tokenize and count references.

    Args:
        references: Each image's references. Their order is the order of the scores, and of the tokenizer's file.
        backend: Whose tokenizer.

    Raises:
        DataError: No image, an image without references, or a reference that is empty.
        ConfigError: An unknown back end, or no Java for pycocoevalcap's.
        PluginError: pycocoevalcap is not installed.

    Example:
        >>> prepare_references({"1": ["A cat."], "2": ["A dog."]}).ids
        ('1', '2')
    """
    if not references:
        raise DataError("There are no references to score captions against.", "Check that the data set is not empty.")
    for image, own in references.items():
        if isinstance(own, str) or not own:
            raise DataError(f"Image {image!r} has no list of reference captions.", "Give at least one for each image.")
        if not all(caption.strip() for caption in own):
            raise DataError(f"A reference caption of image {image!r} is empty.", "Remove it from the annotations.")
    tokens = iter(_tokenize([caption for own in references.values() for caption in own], backend))
    grouped = [[next(tokens) for _ in own] for own in references.values()]
    return CaptionReferences(ids=tuple(references), backend=backend, vectors=weigh(prepare(grouped)))


def score_captions(
    references: Mapping[str, Sequence[str]] | CaptionReferences,
    candidates: Mapping[str, str],
    backend: Backend = "native",
    *,
    metrics: Collection[str] | None = None,
    allow_empty: bool = False,
) -> CaptionScores:
    """Score one caption an image by BLEU-1..4, ROUGE-L and CIDEr, and with pycocoevalcap METEOR and SPICE.

    Both back ends are given captions whose line breaks are replaced by spaces. N of CIDEr's idf is the number of images
    given: for a subset's own idf give its references only.

    Args:
        references: Each image's references, or what `prepare_references` made of them with the same back end.
        candidates: Exactly one caption for each image of the references.
        backend: "native" needs no Java; "pycocoevalcap" runs the reference code.
        metrics: Names to compute of `NATIVE_METRICS` and `JAVA_METRICS`; all that the back end has if None.
        allow_empty: Score an empty candidate as pycocoevalcap would, which is 0 or nearly, instead of refusing it.

    Raises:
        DataError: A candidate is missing, empty or of an unknown image, or the references cannot be used.
        ConfigError: A metric that the back end does not have, an unknown back end, or Java missing or failing.
        PluginError: pycocoevalcap is not installed.

    Example:
        >>> scores = score_captions({"1": ["A cat sits."], "2": ["A dog."]}, {"1": "a cat sits", "2": "the dog"})
        >>> round(scores.metrics["cider"].value, 3), scores.metrics["rouge_l"].per_item.tolist()
        (4.634, [1.0, 0.5])
    """
    wanted = _wanted(metrics, backend)
    prepared = references if isinstance(references, CaptionReferences) else prepare_references(references, backend)
    if prepared.backend != backend:
        raise ConfigError(
            f"The references were tokenized for the back end {prepared.backend!r}, and {backend!r} is asked for.",
            "Prepare them with the same back end.",
        )
    _check(prepared.ids, candidates, allow_empty=allow_empty)
    tokens = _tokenize([candidates[image] for image in prepared.ids], backend)
    counted = count_candidates(tokens, prepared.vectors.references)
    counts = bleu_counts(counted, prepared.vectors.references)
    absent: dict[str, str] = {}
    if backend == "native":
        computed = _native(prepared, tokens, counts, cider(counted, prepared.vectors), wanted)
    else:
        computed = _by_reference(prepared, tokens, wanted, absent)
    return CaptionScores(ids=prepared.ids, metrics=computed, bleu_counts=counts, absent=absent, backend=backend)


def _wanted(metrics: Collection[str] | None, backend: Backend) -> tuple[str, ...]:
    if backend not in ("native", "pycocoevalcap"):
        raise ConfigError(f"There is no caption back end {backend!r}.", "Use native or pycocoevalcap.")
    has = NATIVE_METRICS if backend == "native" else NATIVE_METRICS + JAVA_METRICS
    unknown = sorted(set(metrics or ()) - set(has))
    if unknown:
        hint = "Use the pycocoevalcap back end." if set(unknown) <= set(JAVA_METRICS) else f"It has {', '.join(has)}."
        raise ConfigError(f"The {backend} back end does not compute {', '.join(unknown)}.", hint)
    if metrics is None:
        return has
    reason = java.missing_for_spice() if "spice" in metrics else ""
    if reason:
        raise ConfigError(f"SPICE cannot run: {reason}.", "Put them there, or leave spice out of the metrics.")
    return tuple(name for name in has if name in metrics)


def _check(ids: Sequence[str], candidates: Mapping[str, str], *, allow_empty: bool) -> None:
    missing = [image for image in ids if image not in candidates]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(ids)} images have no caption, the first is {missing[0]!r}.",
            "Give a caption for each, or references of the captioned images only, which changes CIDEr.",
        )
    unknown = candidates.keys() - set(ids)
    if unknown:
        raise DataError(
            f"{len(unknown)} captions are of images without references, one is {min(unknown, key=str)!r}.",
            "Check that captions and references are of the same split and use the same ids.",
        )
    empty = [] if allow_empty else [image for image in ids if not candidates[image].strip()]
    if empty:
        raise DataError(
            f"{len(empty)} captions are empty, the first is of image {empty[0]!r}.", "Check the model's output."
        )


def _tokenize(captions: Sequence[str], backend: Backend) -> list[str]:
    return tokenize_captions(captions) if backend == "native" else java.tokenize_by_java(captions)


def _native(
    references: CaptionReferences, tokens: Sequence[str], counts: BleuCounts, ciders: Doubles, wanted: Sequence[str]
) -> dict[str, CaptionMetric]:
    of_set, of_items = bleu(counts.summed())[0], bleu(counts)
    computed = {
        f"bleu_{n + 1}": CaptionMetric(value=float(of_set[n]), per_item=of_items[:, n]) for n in range(len(of_set))
    }
    computed["cider"] = _mean(ciders)
    if "rouge_l" in wanted:
        computed["rouge_l"] = _mean(rouge_l(tokens, references.vectors.references.texts))
    return {name: computed[name] for name in wanted}


def _by_reference(
    references: CaptionReferences, tokens: Sequence[str], wanted: Sequence[str], absent: dict[str, str]
) -> dict[str, CaptionMetric]:
    texts = references.vectors.references.texts
    scored: dict[str, java.Scored] = {}
    if any(name.startswith("bleu") for name in wanted):
        scored.update(zip(NATIVE_METRICS[:4], java.bleu_by_reference(tokens, texts), strict=True))
    if "rouge_l" in wanted:
        scored["rouge_l"] = java.rouge_l_by_reference(tokens, texts)
    if "cider" in wanted:
        scored["cider"] = java.cider_by_reference(tokens, texts)
    if "meteor" in wanted:
        scored["meteor"] = java.meteor(tokens, texts)
    if "spice" in wanted:
        reason = java.missing_for_spice()
        if reason:
            absent["spice"] = reason
        else:
            scored["spice"] = java.spice(tokens, texts)
    return {name: CaptionMetric(value=scored[name][0], per_item=scored[name][1]) for name in wanted if name in scored}


def _mean(per_item: Doubles) -> CaptionMetric:
    return CaptionMetric(value=float(np.mean(per_item)), per_item=per_item)
