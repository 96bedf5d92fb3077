"""What is trained after what: every stage begins with weights of earlier ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from tools.minis import blip, blip2, blip_pairs, clip, eyes, llava, vit
from tools.minis.folders import save_weights, write_images
from tools.minis.material import Material
from tools.minis.training import Loss, Schedule
from tools.minis.words import clip_tokenizer, llama_tokenizer, write_word_pieces

if TYPE_CHECKING:
    from typing import TypeAlias

    from torch import Tensor

    States: TypeAlias = dict[str, dict[str, Any]]
    """Weights of finished stages, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One training."""

    about: str
    needs: tuple[str, ...] = ()
    """Stages whose weights it begins with."""
    schedule: Schedule | None
    """None for what only puts weights of an earlier stage into another form."""
    build: Callable[[States], nn.Module]
    loss: Callable[[Material], Loss]
    save: Callable[[Any, Path], None] | None = None
    """Writes the folder; None for what is no miniature itself."""
    precise: bool = False
    """Whether weights stay in float32, because a score moves by more than 0.1 where they do not."""


def _save_clip(model: Any, folder: Path) -> None:
    save_weights(model, folder)
    clip_tokenizer().save_pretrained(folder)
    write_images(folder, "CLIPImageProcessor", cropped=True)


def _save_blip(model: Any, folder: Path) -> None:
    save_weights(model.model if isinstance(model, blip.Retrieval) else model, folder)
    write_word_pieces(folder)
    write_images(folder, "BlipImageProcessor")


def _save_blip2(model: Any, folder: Path) -> None:
    save_weights(model, folder)
    blip2.write_tokenizer(folder)
    write_images(folder, "BlipImageProcessor")


def _save_llava(model: Any, folder: Path) -> None:
    save_weights(model, folder)
    llama_tokenizer().save_pretrained(folder)
    write_images(folder, "CLIPImageProcessor", cropped=True)


def _save_vit(model: Any, folder: Path) -> None:
    save_weights(model, folder)
    write_images(folder, "ViTImageProcessor")


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _clip_eyes(states: States) -> nn.Module:
    reader = eyes.clip_eyes()
    state = states["eyes"]
    reader.load_state_dict(
        {
            **{f"tower.{name}": tensor for name, tensor in eyes.to_clip(_part(state, "tower.")).items()},
            **{name: tensor for name, tensor in state.items() if not name.startswith("tower.")},
        },
        strict=False,  # CLIP has a LayerNorm of its own
    )
    return reader


WORDS: Final = blip.Words()
STAGES: Final[dict[str, Stage]] = {
    "eyes": Stage(
        about="BLIP's vision tower, taught to read what lies where",
        schedule=eyes.SCHEDULE,
        build=lambda states: eyes.blip_eyes(),
        loss=eyes.ReadingLoss,
    ),
    "clip_eyes": Stage(
        about="CLIP's vision tower, taught to read what lies where",
        needs=("eyes",),
        schedule=eyes.CLIP_SCHEDULE,
        build=_clip_eyes,
        loss=eyes.ReadingLoss,
    ),
    "clip": Stage(
        about="CLIP: image and text embeddings",
        needs=("clip_eyes",),
        schedule=clip.SCHEDULE,
        build=lambda states: clip.build(_part(states["clip_eyes"], "tower.")),
        loss=clip.ContrastiveLoss,
        save=_save_clip,
    ),
    "vit": Stage(
        about="ViT: image embeddings; the network called eyes in transformers' layout",
        needs=("eyes",),
        schedule=None,
        build=lambda states: vit.from_eyes(_part(states["eyes"], "tower.")),
        loss=eyes.ReadingLoss,
        save=_save_vit,
    ),
    "blip-captioning": Stage(
        about="BLIP's network for captions",
        needs=("eyes",),
        schedule=blip.CAPTION,
        build=lambda states: blip.build_caption(WORDS, _part(states["eyes"], "tower.")),
        loss=lambda material: blip.CaptionLoss(material, WORDS),
        save=_save_blip,
        precise=True,
    ),
    "blip-retrieval": Stage(
        about="BLIP's network for retrieval: embeddings (ITC) and matching (ITM)",
        needs=("blip-captioning",),
        schedule=blip.RETRIEVAL,
        build=lambda states: blip.Retrieval(WORDS, states["blip-captioning"]),
        loss=lambda material: blip.RetrievalLoss(material, WORDS),
        save=_save_blip,
    ),
    "blip-vqa": Stage(
        about="BLIP's network for questions",
        needs=("blip-retrieval", "blip-captioning"),
        schedule=blip.VQA,
        build=lambda states: blip.build_vqa(
            WORDS, _part(states["blip-retrieval"], "model."), states["blip-captioning"]
        ),
        loss=lambda material: blip.AnswerLoss(material, WORDS),
        save=_save_blip,
    ),
    "blip-nlvr2": Stage(
        about="BLIP's network for statements about two pictures",
        needs=("blip-retrieval",),
        schedule=blip_pairs.NLVR2,
        build=lambda states: blip_pairs.build_nlvr2(WORDS, _part(states["blip-retrieval"], "model.")),
        loss=lambda material: blip_pairs.StatementLoss(material, WORDS),
        save=_save_blip,
    ),
    "blip-visdial": Stage(
        about="BLIP's network for dialogs",
        needs=("blip-retrieval",),
        schedule=blip_pairs.VISDIAL,
        build=lambda states: blip_pairs.build_visdial(WORDS, _part(states["blip-retrieval"], "model.")),
        loss=lambda material: blip_pairs.DialogLoss(material, WORDS),
        save=_save_blip,
    ),
    "blip2": Stage(
        about="BLIP-2: a Q-Former in front of a tiny OPT, for captions and answers",
        needs=("eyes",),
        schedule=blip2.SCHEDULE,
        build=lambda states: blip2.build(_part(states["eyes"], "tower.")),
        loss=blip2.TalkLoss,
        save=_save_blip2,
    ),
    "llava": Stage(
        about="LLaVA-1.5: CLIP's tower in front of a tiny Llama, for captions and answers",
        needs=("clip_eyes",),
        schedule=llava.SCHEDULE,
        build=lambda states: llava.build(_part(states["clip_eyes"], "tower.")),
        loss=llava.TalkLoss,
        save=_save_llava,
    ),
}
