"""BLIP's five networks, each begun with the parts that an earlier one has already.

Captions come first: a word of them teaches the cross-attention as much as a whole caption that does or does not match.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BlipConfig, BlipForConditionalGeneration, BlipForImageTextRetrieval, BlipForQuestionAnswering

from evalkit.demo.world.captions import captions
from evalkit.demo.world.questions import questions
from evalkit_adapters.blip_inputs import WordPieces, clean_question
from tools.minis.eyes import PICTURE, SIZES
from tools.minis.mutations import WORDINGS, untrue_caption
from tools.minis.training import Schedule
from tools.minis.words import word_pieces

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from tools.minis.material import Material

PROMPT: Final = "a picture of"
POSITIONS: Final = 192
"""Tokens of a text, of which a dialog needs most."""
EMBEDDING: Final = 4
"""Numbers an embedding: so few that the matcher, which sees everything, has something to add. With 12 the embeddings
alone found 93 of 100, and left it nothing."""
RETRIEVAL: Final = Schedule(steps=1400, rate=1.5e-3, slower=("model.vision_model.",))
CAPTION: Final = Schedule(steps=900, rate=1.5e-3, slower=("vision_model.",))
VQA: Final = Schedule(steps=1200, rate=1.5e-3, slower=("vision_model.",))


class Words:
    """Texts to ids, as BLIP's adapter has them."""

    def __init__(self) -> None:
        self.ids = {piece: number for number, piece in enumerate(word_pieces())}
        self._pieces = WordPieces(self.ids)
        self.encode = lru_cache(maxsize=None)(self._encode)

    def _encode(self, text: str, first: str = "[CLS]") -> tuple[int, ...]:
        return (self.ids[first], *self._pieces.encode(text)[1:])


def pad(token_ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(n, longest) ids, padded with 0, and the mask that is 1 at real tokens."""
    longest = max(map(len, token_ids))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in token_ids])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in token_ids])
    return ids, mask


def config(words: Words, *, layers: int = 3) -> BlipConfig:
    """Of every network; the marks' ids are those of the vocabulary."""
    marks = {"bos_token_id": words.ids["[DEC]"], "eos_token_id": words.ids["[SEP]"], "sep_token_id": words.ids["[SEP]"]}
    return BlipConfig(
        text_config={
            **SIZES,
            **marks,
            "pad_token_id": words.ids["[PAD]"],
            "num_hidden_layers": layers,
            "vocab_size": len(words.ids),
            "max_position_embeddings": POSITIONS,
        },
        vision_config={**SIZES, **PICTURE, "layer_norm_eps": 1e-6},
        image_text_hidden_size=EMBEDDING,
    )


def take(state: dict[str, Tensor], *renamed: tuple[str, str]) -> dict[str, Tensor]:
    """Those weights whose names begin with the first of a pair, under names that begin with the second."""
    return {
        new + name.removeprefix(old): tensor
        for old, new in renamed
        for name, tensor in state.items()
        if name.startswith(old)
    }


def fill(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights that are part of a model's.

    Raises:
        ValueError: One of them is none of the model's.
    """
    unknown = model.load_state_dict(state, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"The model has no {unknown[0]}.")


class Retrieval(nn.Module):
    """The retrieval network and the temperature that it is trained with."""

    def __init__(self, words: Words, caption: dict[str, Tensor]) -> None:
        super().__init__()
        self.model = BlipForImageTextRetrieval(config(words))
        self.scale = nn.Parameter(torch.tensor(2.6))
        fill(self.model, take(caption, ("vision_model.", "vision_model."), ("text_decoder.bert.", "text_encoder.")))


class RetrievalLoss:
    """Contrast over the batch, and matching: each true pair beside one that is not, and is hard to tell."""

    batch: Final = 128

    def __init__(self, material: Material, words: Words) -> None:
        self._material = material
        self._words = words

    def __call__(self, model: Any, rng: random.Random) -> tuple[Tensor, str]:
        """See `Loss`."""
        network = model.model
        numbers = rng.choices(range(len(self._material.scenes)), k=self.batch)
        scenes = [self._material.scenes[number] for number in numbers]
        told = [captions(scene, rng, WORDINGS) for scene in scenes]
        known = [frozenset(each) for each in told]
        texts = [rng.choice(each) for each in told]
        states = network.vision_model(pixel_values=self._material.pictures(numbers)).last_hidden_state
        ids, mask = pad([self._words.encode(text) for text in texts])
        hidden = network.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        image = functional.normalize(network.vision_proj(states[:, 0]), dim=-1)
        text = functional.normalize(network.text_proj(hidden[:, 0]), dim=-1)
        true = torch.tensor([[one in each for one in texts] for each in known])
        own = torch.eye(len(texts), dtype=torch.bool)
        logits = (image @ text.T * model.scale.exp().clamp(max=100)).masked_fill(true & ~own, -torch.inf)
        target = torch.arange(len(texts))
        contrast = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        # what does not match: the hardest by the embeddings, drawn by their softmax, or a caption changed a little
        unlike = logits.detach().masked_fill(true | own, -torch.inf)
        owners, asked = list(range(len(texts))), list(texts)
        hard_text, hard_image = (torch.multinomial(each.softmax(1), 1)[:, 0].tolist() for each in (unlike, unlike.T))
        for row, scene in enumerate(scenes):
            match rng.randrange(4):
                case 0:
                    owners.append(row)
                    asked.append(texts[hard_text[row]])
                case 1:
                    owners.append(hard_image[row])
                    asked.append(texts[row])
                case _:
                    owners.append(row)
                    asked.append(untrue_caption(scene, known[row], rng))
        ids, mask = pad([self._words.encode(one, "[ENC]") for one in asked])
        hidden = network.text_encoder(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=states[owners]
        ).last_hidden_state
        verdict = network.itm_head(hidden[:, 0])
        truth = torch.tensor([1] * len(texts) + [0] * len(texts))
        matching = functional.cross_entropy(verdict, truth)
        found = (logits.argmax(1) == target).float().mean()
        return contrast + matching, f"found: {found:.2f}, judged: {(verdict.argmax(1) == truth).float().mean():.2f}"


class CaptionLoss:
    """Each word of a caption after the words before it."""

    batch: Final = 128

    def __init__(self, material: Material, words: Words) -> None:
        self._material = material
        self._words = words

    def __call__(self, model: Any, rng: random.Random) -> tuple[Tensor, str]:
        """See `Loss`."""
        numbers = rng.choices(range(len(self._material.scenes)), k=self.batch)
        texts = [rng.choice(captions(self._material.scenes[number], rng, WORDINGS)) for number in numbers]
        states = model.vision_model(pixel_values=self._material.pictures(numbers)).last_hidden_state
        ids, mask = pad([self._words.encode(f"{PROMPT} {text}", "[DEC]") for text in texts])
        logits = model.text_decoder(input_ids=ids, attention_mask=mask, encoder_hidden_states=states).logits
        given = len(self._words.encode(PROMPT)) - 1  # the prompt and [DEC]
        return _spelling(logits, ids, mask, given)


class AnswerLoss:
    """Each word of the answer, from the states of a question that is read beside its picture."""

    batch: Final = 160

    def __init__(self, material: Material, words: Words) -> None:
        self._material = material
        self._words = words

    def __call__(self, model: Any, rng: random.Random) -> tuple[Tensor, str]:
        """See `Loss`."""
        numbers = rng.choices(range(len(self._material.scenes)), k=self.batch)
        asked = [questions(self._material.scenes[number], rng, 1)[0] for number in numbers]
        states = model.vision_model(pixel_values=self._material.pictures(numbers)).last_hidden_state
        ids, mask = pad([self._words.encode(clean_question(one.text), "[ENC]") for one in asked])
        read = model.text_encoder(input_ids=ids, attention_mask=mask, encoder_hidden_states=states).last_hidden_state
        said, said_mask = pad([self._words.encode(one.answer, "[DEC]") for one in asked])
        logits = model.text_decoder(
            input_ids=said, attention_mask=said_mask, encoder_hidden_states=read, encoder_attention_mask=mask
        ).logits
        return _spelling(logits, said, said_mask, 1)


def _spelling(logits: Tensor, ids: Tensor, mask: Tensor, given: int) -> tuple[Tensor, str]:
    """Cross-entropy of the words after the first `given`, and how many of the texts are right at every word."""
    wanted = ids.masked_fill(mask == 0, -100)[:, given:]
    logits = logits[:, given - 1 : -1]
    loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
    right = ((logits.argmax(-1) == wanted) | (wanted == -100)).all(1).float().mean()
    return loss, f"right to the last word: {right:.2f}"


def build_caption(words: Words, eyes: dict[str, Tensor]) -> BlipForConditionalGeneration:
    """The model, its vision tower trained before."""
    model = BlipForConditionalGeneration(config(words))
    fill(model, take(eyes, ("", "vision_model.")))
    return model


def build_vqa(words: Words, retrieval: dict[str, Tensor], caption: dict[str, Tensor]) -> BlipForQuestionAnswering:
    """Begun with the tower and the text encoder of retrieval, and the decoder of captions."""
    model = BlipForQuestionAnswering(config(words))
    begun = take(retrieval, ("vision_model.", "vision_model."), ("text_encoder.", "text_encoder."))
    fill(model, {**begun, **take(caption, ("text_decoder.", "text_decoder."))})
    return model
