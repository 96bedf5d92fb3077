"""BLIP's retrieval network: what goes in and out of it as numpy arrays and token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from evalkit_adapters._blip_itm import PackedMatcher, judged, pad
from evalkit_adapters.blip_inputs import ENC_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import BlipForImageTextRetrieval

    from evalkit.types import FloatArray


class BlipRetrievalNetwork:
    """Embeddings and matching logits.

    Args:
        model: transformers' model, in evaluation mode, on its device.
        enc: Id of [ENC].
    """

    def __init__(self, model: BlipForImageTextRetrieval, enc: int = ENC_ID) -> None:
        self.model = model
        self._matcher = PackedMatcher(model, enc=enc)
        self._latest: tuple[FloatArray, Tensor] | None = None

    @torch.inference_mode()
    def embed_images(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, d): the projected first token of the vision tower."""
        return _unit(self.model.vision_proj(self.image_states(images)[:, 0]))

    @torch.inference_mode()
    def embed_texts(self, token_ids: Sequence[Sequence[int]]) -> FloatArray:
        """(n, d): the projected [CLS] of the text encoder, without cross-attention."""
        ids, mask = pad(token_ids, self.model.device)
        hidden = self.model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return _unit(self.model.text_proj(hidden[:, 0]))

    @torch.inference_mode()
    def match(
        self, image: FloatArray, token_ids: Sequence[Sequence[int]], scoring: Literal["logit", "log_odds"]
    ) -> FloatArray:
        """(n,): each text's logit of "match", or log-odds. The latest image's states are kept for the next call."""
        if self._latest is None or self._latest[0] is not image:
            self._latest = None  # frees the memory before it is needed again
            self._latest = (image, self.image_states([image])[0])
        return judged(self._matcher.logits(self._latest[1], token_ids), scoring)

    @torch.inference_mode()
    def image_states(self, images: Sequence[FloatArray]) -> Tensor:
        """(n, patches + 1, width): the vision tower's last hidden state."""
        pixels = torch.from_numpy(np.stack(images)).to(self.model.device, self.model.dtype)
        # not pooler_output: transformers applies the last LayerNorm twice there
        states: Tensor = self.model.vision_model(pixel_values=pixels).last_hidden_state
        return states


def _unit(vectors: Tensor) -> FloatArray:
    unit: FloatArray = normalize(vectors.float(), dim=-1).cpu().numpy()
    return unit
