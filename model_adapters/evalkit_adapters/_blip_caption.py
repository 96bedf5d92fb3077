"""BLIP's captioning network: an image, and a text that the decoder continues.

As `BLIP_Decoder.generate` in `models/blip.py` of https://github.com/salesforce/BLIP.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch

from evalkit.types import Generation
from evalkit_adapters._blip_beam import beam_search
from evalkit_adapters._blip_decoder import Decoder
from evalkit_adapters._blip_images import ImageTower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import BlipForConditionalGeneration

    from evalkit.types import Decoding, FloatArray
    from evalkit_adapters._blip_beam import Hypothesis
    from evalkit_adapters.blip_inputs import WordPieces


class BlipCaptionNetwork:
    """Continues texts.

    Args:
        model: transformers' model, in evaluation mode, on its device.
        word_pieces: The tokenizer.
    """

    def __init__(self, model: BlipForConditionalGeneration, word_pieces: WordPieces) -> None:
        self.model = model
        self.tower = ImageTower(model.vision_model)
        self._decoder = Decoder(model.text_decoder)
        self._word_pieces = word_pieces

    @torch.inference_mode()
    def generate(self, asked: Sequence[tuple[FloatArray, str, Decoding]]) -> list[Generation]:
        """Continue each image's text; the text itself is not part of the answer."""
        states, owners = self.tower.encode([image for image, _, _ in asked])
        order = sorted(range(len(asked)), key=lambda number: repr(asked[number][1:]))
        answers: dict[int, Generation] = {}
        for _, members in groupby(order, key=lambda number: asked[number][1:]):
            numbers = list(members)
            _, text, decoding = asked[numbers[0]]
            prompt = (self._word_pieces.dec, *self._word_pieces.encode(text)[1:-1])
            memory = self._decoder.remember(states[[owners[number] for number in numbers]])
            found = beam_search(self._decoder, memory, prompt, decoding, self._word_pieces.sep)
            answers |= {
                number: to_generation(hypothesis, prompt, decoding, self._word_pieces)
                for number, hypothesis in zip(numbers, found, strict=True)
            }
        return [answers[number] for number in range(len(asked))]


def to_generation(
    hypothesis: Hypothesis, prompt: Sequence[int], decoding: Decoding, word_pieces: WordPieces
) -> Generation:
    """The text of a hypothesis, its prompt taken off as officially: by length, and one space more.

    So where a text goes on with a comma or with the end of the prompt's last word, its first character is lost.
    """
    said = word_pieces.decode(prompt)
    text = word_pieces.decode((*prompt, *hypothesis.ids))[len(said) + 1 if said else 0 :]
    cut = min((place for stop in decoding.stop if (place := text.find(stop)) >= 0), default=None)
    ended = hypothesis.ended or cut is not None
    return Generation(
        text=text[:cut],
        finish="stop" if ended else "length",
        tokens=len(hypothesis.ids) + hypothesis.ended,
    )
