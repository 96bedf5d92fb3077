"""BLEU, ROUGE-L, CIDEr, METEOR and SPICE of captions, as pycocoevalcap computes them, with Java and without.

`score_captions` takes captions as they are. The parts take tokenized ones: `ptb` tokenizes, `ngrams` counts, `bleu`,
`rouge` and `cider` score, and `java` runs the reference.
"""

from evalkit.metrics.captions.score import (
    JAVA_METRICS,
    NATIVE_METRICS,
    Backend,
    CaptionMetric,
    CaptionReferences,
    CaptionScores,
    prepare_references,
    score_captions,
)

__all__ = [
    "JAVA_METRICS",
    "NATIVE_METRICS",
    "Backend",
    "CaptionMetric",
    "CaptionReferences",
    "CaptionScores",
    "prepare_references",
    "score_captions",
]
