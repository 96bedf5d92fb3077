"""BLIP's visual-dialog network, after the paper's words: is a candidate the answer in a dialog about an image?

https://arxiv.org/abs/2201.12086 on VisDial: image and caption embeddings are concatenated and passed to the dialog
encoder through cross-attention; the dialog encoder is trained with the ITM loss to tell whether the answer is right for
a question, given the whole dialog. Neither code nor weights were ever released, so what the paper leaves open is this
module's reading of it:

- The caption is read by the text encoder alone ([CLS], no cross-attention). Caption and dialog share that encoder's
  weights, as the unimodal and the image-grounded encoder do in BLIP's pre-training and retrieval: the dialog is read by
  it with [ENC] and cross-attention. So every weight of a pre-trained BLIP has its place.
- The states are concatenated along the sequence, image first; so both towers must be of one width, as in BLIP base.
- The parameters have BLIP's names: in an original file `visual_encoder`, `text_encoder` and `itm_head` under `model`,
  in a folder `vision_model` for the first of them (see `_blip_kinds`).
- A dialog that is longer than there are positions (512) loses its oldest words, never the candidate at its end.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import BlipConfig, BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip import BlipPreTrainedModel, BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from evalkit_adapters._blip_images import ImageTower
from evalkit_adapters._blip_itm import PackedMatcher, judged
from evalkit_adapters.blip_inputs import MAX_TOKENS, clean_caption, dialog_ids, image_and_caption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import FloatArray, MatchRequest
    from evalkit_adapters.blip_inputs import WordPieces


class BlipForVisdial(BlipPreTrainedModel):  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    """The network's parameters, saved and loaded as a model of transformers is."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__(config)
        text, vision = config.text_config, config.vision_config
        if not isinstance(text, BlipTextConfig) or not isinstance(vision, BlipVisionConfig):
            raise TypeError("BlipConfig makes both of its halves")  # tells the type checker
        self.vision_model = BlipVisionModel(vision)
        self.text_encoder = BlipTextModel(text, add_pooling_layer=False)
        self.itm_head = nn.Linear(text.hidden_size, 2)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped


class BlipVisdialNetwork:
    """Judges the candidates of dialogs.

    Args:
        model: In evaluation mode, on its device.
        word_pieces: The tokenizer.
    """

    def __init__(self, model: BlipForVisdial, word_pieces: WordPieces) -> None:
        self.model = model
        self._tower = ImageTower(model.vision_model)
        self._matcher = PackedMatcher(model, enc=word_pieces.enc)
        self._word_pieces = word_pieces
        self._positions = model.text_encoder.embeddings.position_embeddings.num_embeddings

    @torch.inference_mode()
    def match(self, requests: Sequence[MatchRequest[FloatArray]]) -> list[FloatArray]:
        """For each request and text, a dialog that ends with a candidate, the logit of "match", or the log-odds.

        Keys and values of image and caption are computed once for all rounds and candidates of a dialog.

        Raises:
            CapabilityError: A request has another number of images than one, or no context.
        """
        asked = [image_and_caption(request) for request in requests]
        states, rows = self._tower.encode([image for image, _ in asked])
        about = [(row, caption) for row, (_, caption) in zip(rows, asked, strict=True)]
        answers: dict[int, FloatArray] = {}
        for (row, caption), members in groupby(sorted(range(len(asked)), key=about.__getitem__), about.__getitem__):
            numbers = list(members)
            texts = [text for number in numbers for text in requests[number].texts]
            logits = self._matcher.logits(
                self.memory(states[row], caption),
                [dialog_ids(text, self._word_pieces, self._positions) for text in texts],
            )
            parts = torch.split(logits, [len(requests[number].texts) for number in numbers])
            for number, part in zip(numbers, parts, strict=True):
                answers[number] = judged(part, requests[number].scoring)
        return [answers[number] for number in range(len(asked))]

    @torch.inference_mode()
    def memory(self, states: Tensor, caption: str) -> Tensor:
        """(patches + 1 + caption tokens, width): what the dialog encoder attends to.

        Args:
            states: (patches + 1, width) of the vision tower.
            caption: Of the image, as the data set has it.
        """
        ids = self._word_pieces.encode(clean_caption(caption), MAX_TOKENS)
        words = self.model.text_encoder(input_ids=torch.tensor([ids], device=states.device)).last_hidden_state[0]
        return torch.cat([states, words])
