"""LLaVA-1.5 and LLaVA-1.6 (Liu et al. 2023, 2024): captions, answers and the likelihood of given answers.

Follows `llava/eval/model_vqa_loader.py` of https://github.com/haotian-liu/LLaVA: the template that the checkpoint was
trained with, the image first, greedy decoding. 1.5 sees the image padded to a square with the mean color, not cropped
as the published processor files say; 1.6 sees it whole and in tiles.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, Self

from evalkit.types import CheckpointRef, Decoding, ModelCard, Preprocessing, Recipe, Variant
from evalkit_adapters.conversations import image_setting, llava_dialect, read_image_settings, read_model_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from evalkit.types import CandidateScore, Checkpoint, GenerateRequest, Generation, Placement, ScoreRequest
    from evalkit_adapters._vision_language import VisionLanguageModel
    from evalkit_adapters.conversations import PreparedImage

MODEL_TYPES: Final = ("llava", "llava_next")
_USAGE: Final = "the field's usage; the authors publish no protocol for captions"


def _variant(name: str, repository: str, revision: str) -> Variant:
    source = CheckpointRef(source=f"llava-hf/{repository}", revision=revision)
    return Variant(name=name, checkpoints={"default": source})


class LlavaAdapter:
    """LLaVA-1.5 on Vicuna, LLaVA-1.6 on Vicuna, Mistral and Yi; which of them is read from the checkpoint."""

    card: ClassVar[ModelCard] = ModelCard(
        name="llava",
        version=1,
        summary="LLaVA-1.5 and 1.6: captions and answers from a language model that sees the image.",
        paper="https://arxiv.org/abs/2310.03744",
        licence="Llama 2 Community License (Vicuna), Apache-2.0 (Mistral, Yi)",
        variants=(
            _variant("1.5-7b", "llava-1.5-7b-hf", "b234b804b114d9e37bb655e11cbbb5f5e971b7a9"),
            _variant("1.5-13b", "llava-1.5-13b-hf", "5dda2880bda009266dda7c4baff660b95ca64540"),
            _variant("1.6-vicuna-7b", "llava-v1.6-vicuna-7b-hf", "c916e6cdcd760b4cecd1dd4907f84ac649f93b23"),
            _variant("1.6-vicuna-13b", "llava-v1.6-vicuna-13b-hf", "e66fcaaa7d502b1037c8465375bb67f4c33758dd"),
            _variant("1.6-mistral-7b", "llava-v1.6-mistral-7b-hf", "52320fb52229c8d942b1dcb8b63b3dc8087bc83b"),
            _variant("1.6-34b", "llava-v1.6-34b-hf", "66b6feb83d0249dc9f31a24bd3abfb63f90e41aa"),
        ),
        recipes={
            "captioning": Recipe(
                prompt="Provide a one-sentence caption for the provided image.",
                decoding=Decoding(max_new_tokens=64),
                source=_USAGE,
            ),
            "vqa": Recipe(
                prompt="{question}\nAnswer the question using a single word or phrase.",
                decoding=Decoding(max_new_tokens=128),
                source="https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md",
            ),
        },
        max_images=1,  # what 1.5 and 1.6 were trained with, in every conversation
        conversations=True,
        libraries=("torch", "transformers", "tokenizers", "pillow"),
        batch_size=16,
    )

    def __init__(self, model: VisionLanguageModel, prepare: Callable[[Image], PreparedImage]) -> None:
        self.model = model
        self._prepare = prepare

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """Padding or tiling, from the processor's settings, and the conversation's template.

        Raises:
            CheckpointError: The configuration is missing or not that of a released LLaVA.
        """
        config = read_model_config(checkpoint.path, MODEL_TYPES)
        setting = partial(image_setting, checkpoint.path, read_image_settings(checkpoint.path))
        side = setting("crop_size", "height")
        tiles = config["model_type"] == "llava_next"
        shape = f"and in tiles of {side}x{side} (anyres)" if tiles else "after padding to a square with the mean color"
        grid = (("image_grid_pinpoints", str(setting("image_grid_pinpoints"))),) if tiles else ()
        return Preprocessing(
            image=f"{side}x{side} whole {shape}, bicubic (PIL)",
            text=f"template {llava_dialect(checkpoint.path, config).name} of the LLaVA repository, image first",
            details=(
                ("image_mean", str(setting("image_mean"))),
                ("image_std", str(setting("image_std"))),
                *grid,
                ("attention", "sdpa"),
                ("candidates", "sum over the candidate's tokens, without the one that ends an answer"),
            ),
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the weights from a folder of transformers.

        Raises:
            CheckpointError: A file is missing, or the weights are not of this architecture.
        """
        from evalkit_adapters._llava_images import anyres, padded_square  # noqa: PLC0415 # imports transformers
        from evalkit_adapters._vision_language import load_tokenizer, load_vision_language  # noqa: PLC0415 # the same

        config = read_model_config(checkpoint.path, MODEL_TYPES)
        dialect = llava_dialect(checkpoint.path, config)
        tokenizer = load_tokenizer(checkpoint.path)
        model = load_vision_language(checkpoint.path, placement, tokenizer, dialect)
        full = model.network.model.config
        if config["model_type"] == "llava":
            return cls(model, padded_square(checkpoint.path, full))
        return cls(model, anyres(checkpoint.path, full, tokenizer))

    def prepare_image(self, image: Image) -> PreparedImage:
        """(1, 3, side, side), or (tiles, 3, side, side) with the whole image first, and its share of the prompt."""
        return self._prepare(image)

    def generate(self, requests: Sequence[GenerateRequest[PreparedImage]]) -> list[Generation]:
        """The answer to each conversation, the prompt not included."""
        return self.model.generate(requests)

    def score_candidates(self, requests: Sequence[ScoreRequest[PreparedImage]]) -> list[list[CandidateScore]]:
        """The log-likelihood of each candidate as the answer."""
        return self.model.score_candidates(requests)
