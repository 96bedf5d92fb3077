"""CIDEr, as pycocoevalcap computes it, over all captions at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalkit.metrics.captions.ngrams import ORDERS, CountedCandidates, Counts, Doubles, PreparedReferences

_SIGMA = 6.0
_SCALE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CiderReferences:
    """References with their tf-idf vectors."""

    references: PreparedReferences
    idf: tuple[Doubles, ...]
    """Of each order, (n-grams,)"""
    weights: tuple[Doubles, ...]
    """Of each order, (counts of the references,): times * idf."""
    norms: Doubles
    """(references, orders)"""


def weigh(references: PreparedReferences) -> CiderReferences:
    """Give each n-gram of each reference its weight: tf * (log(images) - log(images with it in a reference))."""
    unseen = np.log(float(references.size))
    idf = tuple(unseen - np.log(np.maximum(1.0, table.document_frequency)) for table in references.orders)
    weights = tuple(table.counts.times * idf[n][table.counts.ngrams] for n, table in enumerate(references.orders))
    rows = len(references.images)
    norms = np.stack([_norms(table.counts, weights[n], rows) for n, table in enumerate(references.orders)], axis=1)
    return CiderReferences(references=references, idf=idf, weights=weights, norms=norms)


def cider(candidates: CountedCandidates, references: CiderReferences) -> Doubles:
    """Mean over n = 1..4 and references of the clipped tf-idf cosine, damped by the lengths' difference, times 10.

    The idf is log(N) - log(max(1, df)) over the N images that are given, df counting images of which a reference has
    the n-gram: a subset changes every score, and one image gives 0. Each weight of the candidate is clipped to the
    reference's in the product, not in the norm. The factor is exp(-d^2 / 72), d the difference in numbers of bigrams.
    This is the CIDEr-D form with which the literature's "CIDEr" is computed.

    Args:
        candidates: From `count_candidates`, with the same references.
        references: From `weigh`.

    Returns:
        (images,): each image's score; the set's is their mean.

    Example:
        >>> from evalkit.metrics.captions.ngrams import count_candidates, prepare
        >>> prepared = prepare([["a cat on a mat", "the cat sat"], ["a dog"]])
        >>> cider(count_candidates(["a cat on a mat", "two dogs"], prepared), weigh(prepared)).round(4).tolist()
        [5.3941, 0.0]
    """
    prepared = references.references
    products = np.zeros((len(prepared.images), ORDERS))
    norms = np.empty((prepared.size, ORDERS))
    unseen = np.log(float(prepared.size))
    for n, (counts, pairs, table) in enumerate(zip(candidates.orders, candidates.pairs, prepared.orders, strict=True)):
        idf = np.append(references.idf[n], unseen)
        weights = counts.times * idf[np.minimum(counts.ngrams, len(idf) - 1)]
        norms[:, n] = _norms(counts, weights, prepared.size)
        own = np.zeros(len(table.pairs))
        own[pairs[pairs >= 0]] = weights[pairs >= 0]
        of_references = references.weights[n]
        clipped = np.minimum(own[table.pair_of], of_references) * of_references
        products[:, n] = np.bincount(table.counts.groups, clipped, len(products))
    scale = norms[prepared.images] * references.norms
    cosines = np.divide(products, scale, out=products, where=scale != 0)
    bigrams = np.maximum(candidates.lengths - 1, 0)[prepared.images] - np.maximum(prepared.lengths - 1, 0)
    damped = cosines.mean(axis=1) * np.exp(-(bigrams.astype(np.float64) ** 2) / (2 * _SIGMA**2))
    per_image = np.bincount(prepared.images, damped, prepared.size) / np.bincount(prepared.images)
    scores: Doubles = _SCALE * per_image
    return scores


def _norms(counts: Counts, weights: Doubles, rows: int) -> Doubles:
    """(rows,): the length of each caption's vector."""
    return np.sqrt(np.bincount(counts.groups, weights**2, rows))
