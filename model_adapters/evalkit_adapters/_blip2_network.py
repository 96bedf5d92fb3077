"""BLIP-2's retrieval network: what goes in and out of it as numpy arrays and token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import Blip2ForImageTextRetrieval

from evalkit.errors import CheckpointError
from evalkit_adapters._blip2_itm import ImageKeys, MatchScoring, PackedMatcher, pad
from evalkit_adapters._dual_encoder import load_pretrained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import FloatArray, Placement


class Blip2RetrievalNetwork:
    """Embeddings and matching logits.

    Args:
        model: transformers' model, in evaluation mode, on its device.
    """

    def __init__(self, model: Blip2ForImageTextRetrieval) -> None:
        self.model = model
        self._matcher = PackedMatcher(model)
        self._latest: tuple[FloatArray, ImageKeys] | None = None

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> Blip2RetrievalNetwork:
        """Load the weights.

        Raises:
            CheckpointError: A file or a weight is missing, or the Q-Former has no text half.
        """
        model = load_pretrained(Blip2ForImageTextRetrieval, folder, placement)
        if not model.config.qformer_config.use_qformer_text_input:
            raise CheckpointError(
                f"{folder}/config.json: the Q-Former takes no text (use_qformer_text_input is false).",
                "Name a BLIP-2 retrieval (itm) checkpoint.",
            )
        return cls(model)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, queries, d): the projected outputs of the queries."""
        states = self.image_states(images)
        queries = self.model.query_tokens.expand(len(states), -1, -1)
        hidden = self.model.qformer(query_embeds=queries, encoder_hidden_states=states).last_hidden_state
        projection = self.model.vision_projection
        return _unit(projection(hidden.to(projection.weight.dtype)))

    @torch.inference_mode()
    def embed_texts(self, token_ids: Sequence[Sequence[int]]) -> FloatArray:
        """(n, d): the projected [CLS] of the Q-Former's text half, without queries."""
        ids, mask = pad(token_ids, self.model.device)
        embedded = self.model.embeddings(input_ids=ids)
        hidden = self.model.qformer(query_embeds=embedded, query_length=0, attention_mask=mask).last_hidden_state
        projection = self.model.text_projection
        return _unit(projection(hidden[:, 0].to(projection.weight.dtype)))

    @torch.inference_mode()
    def match(self, image: FloatArray, token_ids: Sequence[Sequence[int]], scoring: MatchScoring) -> FloatArray:
        """(n,): one number a text. What the latest image contributes is kept for the next call."""
        if self._latest is None or self._latest[0] is not image:
            self._latest = None  # frees the memory before it is needed again
            self._latest = (image, self._matcher.image_keys(self.image_states([image])[0]))
        logits: FloatArray = self._matcher.match(self._latest[1], token_ids, scoring).float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def image_states(self, images: Sequence[FloatArray]) -> Tensor:
        """(n, patches + 1, width): the vision tower's last hidden state."""
        pixels = torch.from_numpy(np.stack(images)).to(self.model.device, self.model.vision_model.dtype)
        # not pooler_output: transformers applies the last LayerNorm twice there
        states: Tensor = self.model.vision_model(pixel_values=pixels).last_hidden_state
        return states


def _unit(vectors: Tensor) -> FloatArray:
    unit: FloatArray = normalize(vectors.float(), dim=-1).cpu().numpy()
    return unit
