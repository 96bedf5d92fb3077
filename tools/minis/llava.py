"""LLaVA-1.5: the patches of CLIP's tower, projected, stand in the conversation of a Llama."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from transformers import LlavaConfig, LlavaForConditionalGeneration

from evalkit.types import Turn
from evalkit_adapters.conversations import LLAVA_MARKER, render_vicuna_v1
from evalkit_adapters.llava import LlavaAdapter
from tools.minis.eyes import PICTURE, SIZES, WIDTH
from tools.minis.talking import ANSWERED, GIVEN, TOLD, Row, batch, next_words, talk
from tools.minis.training import Schedule
from tools.minis.words import llama_tokenizer

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from torch import Tensor

    from tools.minis.material import Material
    from tools.minis.talking import Talk

BATCH: Final = 48
SCHEDULE: Final = Schedule(steps=1500, rate=1.5e-3, slower=("model.vision_tower.",))
PATCHES: Final = (PICTURE["image_size"] // PICTURE["patch_size"]) ** 2


def build(eyes: dict[str, Tensor]) -> LlavaForConditionalGeneration:
    """The model, its vision tower trained before."""
    tokenizer = llama_tokenizer()
    language = {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 1024,
        "initializer_range": 0.05,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    settings: Any = LlavaConfig  # typed without some of its settings
    config = settings(
        vision_config={
            "model_type": "clip_vision_model",
            **SIZES,
            **PICTURE,
            "hidden_act": "gelu",
            "projection_dim": 64,
        },
        text_config=language,
        image_token_id=tokenizer.convert_tokens_to_ids(LLAVA_MARKER),
        image_seq_length=PATCHES,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(eyes)
    return model


class TalkLoss:
    """Conversations as the adapter renders them; each answer is learned, and the end token after it."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._tokenizer = llama_tokenizer()
        self._image = self._tokenizer.convert_tokens_to_ids(LLAVA_MARKER)
        self._ids = lru_cache(maxsize=None)(self._encode)

    def __call__(self, model: Any, rng: random.Random) -> tuple[Tensor, str]:
        """See `Loss`."""
        numbers = rng.choices(range(len(self._material.scenes)), k=BATCH)
        talks = [talk(self._material.scenes[number], rng) for number in numbers]
        ids, mask, kinds = batch([self._row(one) for one in talks], self._tokenizer.eos_token_id)
        logits = model(pixel_values=self._material.pictures(numbers), input_ids=ids, attention_mask=mask).logits
        return next_words(logits, ids, kinds)

    def _row(self, said: Talk) -> Row:
        end = self._tokenizer.eos_token_id
        recipes = LlavaAdapter.card.recipes
        first, *later = [
            {
                "caption": recipes["captioning"].prompt,
                "question": recipes["vqa"].prompt.format(question=question),
                "dialog": question,
            }[said.kind]
            for question, _ in said.turns
        ]
        before, after = render_vicuna_v1([Turn(role="user", text=first)], 1).split(LLAVA_MARKER)
        # what stands before an image and after it is tokenized alone, as the adapter does
        parts: list[tuple[Sequence[int], int]] = [
            ((self._tokenizer.bos_token_id, *self._ids(before)), GIVEN),
            ([self._image] * PATCHES, GIVEN),
            (self._ids(after), GIVEN),
        ]
        for number, (_, answer) in enumerate(said.turns):
            kind = ANSWERED if number or said.kind == "question" else TOLD
            if number:
                # the first token is learned with the answer before it
                parts.append((self._ids(f"{self._tokenizer.eos_token}USER: {later[number - 1]} ASSISTANT:")[1:], GIVEN))
            parts.append(((*self._ids(f" {answer}"), end), kind))
        return Row.of(*parts)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)
