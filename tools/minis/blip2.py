"""BLIP-2: what a Q-Former reads off the vision tower stands in front of a text that an OPT goes on with."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from transformers import Blip2Config, Blip2ForConditionalGeneration

from evalkit_adapters.blip2_inputs import clean_question
from tools.minis.eyes import PICTURE, SIZES, WIDTH
from tools.minis.talking import ANSWERED, GIVEN, TOLD, Row, batch, next_words, talk
from tools.minis.training import Schedule
from tools.minis.words import byte_pairs

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

    from tools.minis.material import Material
    from tools.minis.talking import Talk

BATCH: Final = 64
SCHEDULE: Final = Schedule(steps=1500, rate=1.5e-3, slower=("vision_model.",))
QUERIES: Final = 12
CAPTION: Final = "a photo of"
QUESTION: Final = "Question: {question} Answer:"
START, PAD, IMAGE = "</s>", "<pad>", "<image>"


def tokenizer() -> Any:
    """GPT-2's kind of byte pairs, with OPT's special tokens; OPT starts every text with its end token."""
    from tokenizers import AddedToken, ByteLevelBPETokenizer, Tokenizer
    from tokenizers.processors import TemplateProcessing

    vocabulary, merges = byte_pairs()
    pieces = Tokenizer.from_str(ByteLevelBPETokenizer(vocabulary, merges).to_str())
    pieces.add_special_tokens([AddedToken(token, special=True) for token in (START, PAD, IMAGE)])
    start = pieces.token_to_id(START)
    pieces.post_processor = TemplateProcessing(single=f"{START} $A", special_tokens=[(START, start)])
    return pieces


def build(eyes: dict[str, Tensor]) -> Any:
    """The model, its vision tower trained before."""
    pieces = tokenizer()
    start, padding, image = (pieces.token_to_id(token) for token in (START, PAD, IMAGE))
    sizes = {name: value for name, value in SIZES.items() if name != "num_hidden_layers"}
    language = {
        "model_type": "opt",
        "hidden_size": WIDTH,
        "word_embed_proj_dim": WIDTH,
        "ffn_dim": 4 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": pieces.get_vocab_size(),
        "max_position_embeddings": 512,
        "dropout": 0.0,
        "init_std": 0.05,
        "bos_token_id": start,
        "eos_token_id": start,
        "pad_token_id": padding,
    }
    config = Blip2Config(
        vision_config={**SIZES, **PICTURE, "layer_norm_eps": 1e-6},
        qformer_config={
            **sizes,
            "num_hidden_layers": 2,
            "cross_attention_frequency": 1,
            "encoder_hidden_size": WIDTH,
            "vocab_size": 8,  # of a text that this Q-Former never reads
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        text_config=language,
        num_query_tokens=QUERIES,
        image_token_index=image,
    )
    model: Any = Blip2ForConditionalGeneration(config)
    model.vision_model.load_state_dict(eyes)
    torch.nn.init.normal_(model.query_tokens, std=1.0)
    return model


class TalkLoss:
    """Captions, answers and dialogs as the adapter writes them, ended by a line break; every answer is learned."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._pieces = tokenizer()
        self._start, self._image = self._pieces.token_to_id(START), self._pieces.token_to_id(IMAGE)
        self._ids = lru_cache(maxsize=None)(self._encode)

    def __call__(self, model: Any, rng: random.Random) -> tuple[Tensor, str]:
        """See `Loss`."""
        numbers = rng.choices(range(len(self._material.scenes)), k=BATCH)
        talks = [talk(self._material.scenes[number], rng) for number in numbers]
        ids, mask, kinds = batch([self._row(one) for one in talks], self._start)
        logits = model(pixel_values=self._material.pictures(numbers), input_ids=ids, attention_mask=mask).logits
        return next_words(logits, ids, kinds)

    def _row(self, said: Talk) -> Row:
        parts: list[tuple[Sequence[int], int]] = [([self._image] * QUERIES, GIVEN), ([self._start], GIVEN)]
        kind = GIVEN
        for number, (question, answer) in enumerate(said.turns):
            prompt = CAPTION if said.kind == "caption" else QUESTION.format(question=self._asked(question, said))
            # an earlier answer ends with a full stop, the last one with the line
            parts.append((self._ids(f". {prompt}" if number else prompt), GIVEN))
            kind = ANSWERED if number or said.kind == "question" else TOLD
            parts.append((self._ids(f" {answer}"), kind))
        return Row.of(*parts, (self._ids("\n"), kind))

    @staticmethod
    def _asked(question: str, said: Talk) -> str:
        return clean_question(question) if said.kind == "question" else question

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._pieces.encode(text, add_special_tokens=False).ids)


def write_tokenizer(folder: Path) -> None:
    """As beside BLIP-2's weights."""
    tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "TokenizersBackend", "bos_token": START, "eos_token": START, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
