"""BLEU, ROUGE-L and CIDEr of captions, as pycocoevalcap computes them, for the `evaluate` library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import datasets  # noqa: TID253 # only `evaluate` imports this file
import evaluate  # noqa: TID253 # as above

from evalkit.metrics.captions import score_captions  # noqa: TID253 # as above

if TYPE_CHECKING:
    from evalkit.metrics.captions import Backend

_CITATION = """\
@article{chen2015microsoft,
  title = {Microsoft {COCO} Captions: Data Collection and Evaluation Server},
  author = {Chen, Xinlei and Fang, Hao and Lin, Tsung-Yi and Vedantam, Ramakrishna and Gupta, Saurabh
            and Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  journal = {arXiv:1504.00325}, year = {2015}
}
"""
_DESCRIPTION = """\
BLEU-1 to BLEU-4, ROUGE-L and CIDEr of image captions after Penn Treebank tokenization, equal to pycocoevalcap's values.
CIDEr's idf is over the images given at once, so scores of parts do not add up to that of the whole.
"""
_INPUTS = """
Args:
    predictions: One caption an image.
    references: For each image, its reference captions.
    backend: "native" (no Java) or "pycocoevalcap" (Java; also METEOR, and SPICE where its models are installed).
    per_item: Whether to give each image's scores besides, under the metric's name with "_per_item".

Returns:
    The set's value by name: bleu_1, bleu_2, bleu_3, bleu_4, rouge_l, cider, meteor, spice; not in percent.
"""
_METRICS = {
    "default": None,
    "bleu": ("bleu_1", "bleu_2", "bleu_3", "bleu_4"),
    "rouge_l": ("rouge_l",),
    "cider": ("cider",),
    "meteor": ("meteor",),
    "spice": ("spice",),
}


class Captions(evaluate.Metric):  # type: ignore[misc] # `evaluate` ships no types
    """All metrics (configuration "default"), or those of one configuration: bleu, rouge_l, cider, meteor, spice."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _METRICS:
            raise ValueError(f"no configuration {self.config_name!r}: there are {', '.join(_METRICS)}")
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        backend: Backend | None = None,
        per_item: bool = False,
    ) -> dict[str, float | list[float]]:
        java = self.config_name in ("meteor", "spice")
        scores = score_captions(
            {str(row): own for row, own in enumerate(references)},
            {str(row): caption for row, caption in enumerate(predictions)},
            backend or ("pycocoevalcap" if java else "native"),
            metrics=_METRICS[self.config_name],
        )
        values: dict[str, float | list[float]] = {name: metric.value for name, metric in scores.metrics.items()}
        if per_item:
            values |= {f"{name}_per_item": metric.per_item.tolist() for name, metric in scores.metrics.items()}
        return values
