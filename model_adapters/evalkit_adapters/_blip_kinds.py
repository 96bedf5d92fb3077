"""What the weights of each of BLIP's networks look like, in transformers' folders and in original files.

In a folder the vision tower has transformers' names (`vision_model.*`), in an original file those of
https://github.com/salesforce/BLIP (`visual_encoder.*`); everything else has the original names in both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from transformers import BlipForConditionalGeneration, BlipForImageTextRetrieval, BlipForQuestionAnswering

from evalkit_adapters._blip_nlvr2 import BlipForNlvr2
from evalkit_adapters._blip_visdial import BlipForVisdial

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evalkit_adapters.blip_card import Ability

POSITION_IDS: Final = "text_encoder.embeddings.position_ids"
"""0, 1, 2 and so on: original files carry it, and it is no weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the weights of one ability look like."""

    name: str
    """As in messages."""
    model: type[Any]
    words: str
    """Where the text tower begins, in transformers' names; tells its sizes."""
    unused: re.Pattern[str]
    """Names in files that are no weights of the model."""
    resampled: bool = False
    """Whether a folder's position embeddings are resampled to the size that its processor makes."""
    example: str
    """An original file of this kind."""
    hint: str
    """What to do where the weights are others."""


_POSITION_IDS = re.compile(re.escape(POSITION_IDS))

KINDS: Final[dict[Ability, Kind]] = {
    "retrieval": Kind(
        name="retrieval",
        model=BlipForImageTextRetrieval,
        words="text_encoder",
        # momentum copies, queues and temperature serve training, the decoder serves captions, position ids are 0, 1, 2
        unused=re.compile(
            r"(visual_encoder|text_encoder|vision_proj|text_proj)_m\..*|text_decoder\..*|temp|"
            r"(image|text|idx|ptr)_queue|queue_ptr|text_encoder\.embeddings\.position_ids"
        ),
        example="model_base_retrieval_coco.pth",
        hint="Name a retrieval (itm) checkpoint; captioning and question-answering ones lack the matching head. One "
        "that was trained for visual dialog needs -o route=match.",
    ),
    "captioning": Kind(
        name="captioning",
        model=BlipForConditionalGeneration,
        words="text_decoder.bert",
        unused=re.compile(r"text_decoder\.bert\.embeddings\.position_ids"),
        example="model_base_caption_capfilt_large.pth",
        hint="Name a captioning checkpoint; retrieval ones lack the decoder, and that of question-answering ones reads "
        "questions, not images.",
    ),
    "vqa": Kind(
        name="question-answering",
        model=BlipForQuestionAnswering,
        words="text_encoder",
        unused=re.compile(r"(text_encoder|text_decoder\.bert)\.embeddings\.position_ids"),
        resampled=True,
        example="model_base_vqa_capfilt_large.pth",
        hint="Name a question-answering (vqa) checkpoint; retrieval and captioning ones lack one half of it.",
    ),
    "nlvr2": Kind(
        name="NLVR2",
        model=BlipForNlvr2,
        words="text_encoder",
        unused=_POSITION_IDS,
        resampled=True,
        example="model_base_nlvr.pth",
        hint="Name an NLVR2 checkpoint; no other has cross-attention to two images.",
    ),
    "visdial": Kind(
        name="visual-dialog",
        model=BlipForVisdial,
        words="text_encoder",
        unused=_POSITION_IDS,
        resampled=True,
        example="one that you trained, since none was ever published",
        hint="Name a checkpoint trained for visual dialog; a retrieval (itm) one needs the task's zero-shot route.",
    ),
}
_NAMES = (
    ("cls_token", "embeddings.class_embedding"),
    ("pos_embed", "embeddings.position_embedding"),
    ("patch_embed.proj.", "embeddings.patch_embedding."),
    ("blocks.<N>.norm<K>.", "encoder.layers.<N>.layer_norm<K>."),
    ("blocks.<N>.attn.qkv.", "encoder.layers.<N>.self_attn.qkv."),
    ("blocks.<N>.attn.proj.", "encoder.layers.<N>.self_attn.projection."),
    ("blocks.<N>.mlp.", "encoder.layers.<N>.mlp."),
    ("norm.", "post_layernorm."),
)
"""In the vision tower: the original name, and transformers'; one that ends with a dot is the beginning of several."""

_Rules: TypeAlias = tuple[tuple[re.Pattern[str], str], ...]


def _rules(names: Iterable[tuple[str, str]], tower: str, new_tower: str) -> _Rules:
    return tuple(
        (
            re.compile(
                re.escape(f"{tower}.{name}").replace("<N>", r"(\d+)").replace("<K>", "([12])")
                + ("" if name.endswith(".") else "$")
            ),
            f"{new_tower}.{new}".replace("<N>", r"\1").replace("<K>", r"\2"),
        )
        for name, new in names
    )


_RENAMED = _rules(_NAMES, "visual_encoder", "vision_model")
_BACK = _rules([(new, old) for old, new in _NAMES], "vision_model", "visual_encoder")


def convert_original(original: Mapping[str, torch.Tensor], ability: Ability = "retrieval") -> dict[str, torch.Tensor]:
    """The weights of an original state dict under transformers' names, without those that the ability does not use."""
    converted = {}
    for name, tensor in original.items():
        if KINDS[ability].unused.fullmatch(name):
            continue
        converted[_renamed(name, _RENAMED)] = tensor
    return converted


def restore_original(converted: Mapping[str, torch.Tensor], positions: int) -> dict[str, torch.Tensor]:
    """The inverse of `convert_original` for a network whose original file holds its weights and nothing else.

    Args:
        converted: The weights under transformers' names.
        positions: Of the text encoder; original files list them.
    """
    original = {_renamed(name, _BACK): tensor for name, tensor in converted.items()}
    return {**original, POSITION_IDS: torch.arange(positions)[None]}


def _renamed(name: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        new, changed = pattern.subn(replacement, name)
        if changed:
            return new
    return name
