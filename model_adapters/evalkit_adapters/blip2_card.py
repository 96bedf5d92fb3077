"""What BLIP-2's adapter declares: the checkpoints of each language model, and how each is officially asked.

The COCO-captioning checkpoints of OPT-2.7b and FlanT5-XL are left to `--checkpoint`: no pinned revision is on record.
FlanT5-XXL has none. Retrieval needs no language model, so all variants share it, on Flickr30k too, as in the paper.
"""

from __future__ import annotations

from typing import Final

from evalkit.types import CheckpointRef, Decoding, ModelCard, Recipe, Variant


def _variant(name: str, revision: str, *, cue: str, least: int, coco: str | None = None) -> Variant:
    """A language model's size.

    Args:
        name: As in the hub's names.
        revision: Of the pretrained checkpoint, which answers questions without fine-tuning.
        cue: What follows the question in the prompt.
        least: The official min_length of 8 in new tokens: it counts OPT's prompt (4 tokens) and T5's start token.
        coco: Revision of the checkpoint that is fine-tuned for captions; None where none is pinned.
    """
    checkpoints = {
        "retrieval": CheckpointRef(
            source="Salesforce/blip2-itm-vit-g-coco", revision="b1c997706e13245bbd2af5b2717239488d849f07"
        ),
        "vqa": CheckpointRef(source=f"Salesforce/blip2-{name}", revision=revision),
    }
    if coco is not None:
        checkpoints["captioning"] = CheckpointRef(source=f"Salesforce/blip2-{name}-coco", revision=coco)
    caption = Decoding(
        max_new_tokens=30, min_new_tokens=least, num_beams=5, length_penalty=0.0, repetition_penalty=1.15
    )
    answer = Decoding(max_new_tokens=10, num_beams=5, length_penalty=-1.0)
    talk = Decoding(max_new_tokens=30, num_beams=5)
    return Variant(
        name=name,
        checkpoints=checkpoints,
        recipes={
            "captioning": Recipe(
                prompt="a photo of",
                decoding=caption,
                source="LAVIS: lengths and beams of caption_coco_*_eval.yaml, penalties of its later CaptionTask",
            ),
            "vqa": Recipe(prompt=f"Question: {{question}} {cue}:", decoding=answer, source="BLIP-2 paper, section 4.1"),
            # with FlanT5 too: it is what the demonstration talks to
            "vqa/visdial": Recipe(
                prompt="Question: {question} Answer:",
                decoding=talk,
                source="LAVIS: examples/blip2_instructed_generation.ipynb, and the defaults of `generate`",
            ),
        },
    )


CARD: Final = ModelCard(
    name="blip2",
    version=1,
    summary="BLIP-2: a Q-Former between ViT-g and OPT or FlanT5; embeddings, matching, captions and answers.",
    paper="https://arxiv.org/abs/2301.12597",
    licence="MIT",
    variants=(
        _variant(
            "opt-6.7b",
            "1d33d60155fd1323b97556e0f1dd5148a9749f5b",
            cue="Answer",
            least=4,
            coco="0d580de59320a25a4d2c386387bcef310d5f286e",
        ),
        _variant("opt-2.7b", "59a1ef6c1e5117b3f65523d1c6066825bcf315e3", cue="Answer", least=4),
        _variant("flan-t5-xl", "0eb0d3b46c14c1f8c7680bca2693baafdb90bb28", cue="Short answer", least=7),
        _variant("flan-t5-xxl", "43206cbc865b9d5b3dd7d080e5d94b4143ca8e74", cue="Short answer", least=7),
    ),
    conversations=True,
    libraries=("torch", "transformers", "tokenizers", "pillow"),
    batch_size=16,
)
