"""What the BLIP family declares: its checkpoints, and how it is officially asked. Revisions are hub commits."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from evalkit.errors import CapabilityError
from evalkit.types import CheckpointRef, Decoding, Recipe, Variant

Ability: TypeAlias = Literal["retrieval", "captioning", "vqa", "nlvr2", "visdial"]
"""What a checkpoint of the family is trained for: which of its networks the weights fill."""

_ORIGINALS: Final = "https://storage.googleapis.com/sfr-vision-language-research/BLIP/models"
_ABILITIES: Final[dict[str, Ability]] = {name: name for name in get_args(Ability)}


def ability_of(purpose: str) -> Ability:
    """The network that a purpose needs.

    Raises:
        CapabilityError: BLIP has none for it.
    """
    ability = _ABILITIES.get(purpose.partition("/")[0])
    if ability is None:
        raise CapabilityError(
            f"blip has no network for {purpose!r}: it has one each for {', '.join(_ABILITIES)}.",
            "Choose another model for this task.",
        )
    return ability


def _retrieval(size: str, *, coco: str, flickr: str) -> dict[str, CheckpointRef]:
    on_coco = CheckpointRef(source=f"Salesforce/blip-itm-{size}-coco", revision=coco)
    on_flickr = CheckpointRef(source=f"Salesforce/blip-itm-{size}-flickr", revision=flickr)
    return {"retrieval": on_coco, "retrieval/coco": on_coco, "retrieval/flickr30k": on_flickr}


VARIANTS: Final = (
    Variant(
        name="base",
        checkpoints={
            **_retrieval(
                "base",
                coco="7eaa90c11850c0b17fc38c6a11e7d88bd6ac231f",
                flickr="1de29e660d91ae1786c1876212ea805a22eab251",
            ),
            "captioning": CheckpointRef(
                source="Salesforce/blip-image-captioning-base", revision="89b09ea1789f7addf2f6d6f0dfc4ce10ab58ef84"
            ),
            "vqa": CheckpointRef(
                source="Salesforce/blip-vqa-base", revision="c7df8e7cd7aa2ee9af18f56e2b29e59a92651b64"
            ),
            # never converted to transformers, and published without a checksum. For visdial nothing was published.
            "nlvr2": CheckpointRef(source=f"{_ORIGINALS}/model_base_nlvr.pth"),
        },
        # pre-training begins with an image classifier's weights (models/blip.py): for `base` those of DeiT
        trained_on=("ImageNet-1k",),
    ),
    Variant(
        name="large",
        checkpoints={
            **_retrieval(
                "large",
                coco="fef05cafc05298067cbbca00b125749394a77a6f",
                flickr="bda12e6506758f54261b5ab174b2c55a3ba143fb",
            ),
            "captioning": CheckpointRef(
                source="Salesforce/blip-image-captioning-large", revision="2227ac38c9f16105cb0412e7cab4759978a8fd90"
            ),
        },
        trained_on=("ImageNet-21k",),
    ),
    # the network of `base`: "large" in the name is the size of the captioner that cleaned its training data
    Variant(
        name="base-capfilt-large",
        checkpoints={
            "vqa": CheckpointRef(
                source="Salesforce/blip-vqa-capfilt-large", revision="e53f95265aeab69013fabb5380500ab984adbbb4"
            )
        },
        trained_on=("ImageNet-1k",),
    ),
)

_CODE = "https://github.com/salesforce/BLIP"
_CAPTION_PROMPT = "a picture of "

RECIPES: Final = {
    # max_length 20 and min_length 5 there count the four tokens of [DEC] and the prompt
    "captioning": Recipe(
        prompt=_CAPTION_PROMPT,
        decoding=Decoding(max_new_tokens=16, min_new_tokens=1, num_beams=3),
        source=f"{_CODE}: configs/caption_coco.yaml, train_caption.py, models/blip.py",
    ),
    "captioning/nocaps": Recipe(
        prompt=_CAPTION_PROMPT,
        decoding=Decoding(max_new_tokens=16, min_new_tokens=1, num_beams=3, repetition_penalty=1.1),
        source=f"{_CODE}: configs/nocaps.yaml, eval_nocaps.py, models/blip.py",
    ),
    # max_length 10 and min_length 1 there count [DEC]
    "vqa": Recipe(
        prompt="{question}",
        decoding=Decoding(max_new_tokens=9, num_beams=3),
        scoring="rank",
        source=f"{_CODE}: configs/vqa.yaml, train_vqa.py, models/blip_vqa.py",
    ),
}

SCORINGS: Final = ("loglikelihood", "rank", "rank_paper")
