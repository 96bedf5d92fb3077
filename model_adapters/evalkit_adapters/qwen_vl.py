"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: captions, answers and the likelihood of given answers.

The checkpoint's own chat template, images at their own resolution within the bounds of the checkpoint's processor,
greedy decoding (the checkpoint's sampling settings and its repetition penalty are not used).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from evalkit.errors import ImageError
from evalkit.types import CheckpointRef, Decoding, ModelCard, Preprocessing, Recipe, Variant
from evalkit_adapters.conversations import (
    PreparedImage,
    chat_dialect,
    image_setting,
    read_chat_template,
    read_image_settings,
    read_model_config,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from evalkit.types import CandidateScore, Checkpoint, GenerateRequest, Generation, Placement, ScoreRequest
    from evalkit_adapters._vision_language import VisionLanguageModel

MODEL_TYPES: Final = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
MAX_ASPECT_RATIO: Final = 200  # as the models' own processor has it
IMAGE_TOKEN: Final = "<|image_pad|>"


def _variant(name: str, revision: str) -> Variant:
    source = CheckpointRef(source=f"Qwen/{name}-Instruct", revision=revision)
    return Variant(name=name.removeprefix("Qwen").lower(), checkpoints={"default": source})


class QwenVlAdapter:
    """The three generations of Qwen's vision-language models; which of them is read from the checkpoint."""

    card: ClassVar[ModelCard] = ModelCard(
        name="qwen_vl",
        version=1,
        summary="Qwen2-VL, Qwen2.5-VL, Qwen3-VL: captions and answers at the image's own resolution.",
        paper="https://arxiv.org/abs/2409.12191",
        licence="Apache-2.0 (2.5-VL-3B: Qwen Research License)",
        variants=(
            _variant("Qwen2.5-VL-7B", "cc594898137f460bfe9f0759e9844b3ce807cfb5"),
            _variant("Qwen2.5-VL-3B", "66285546d2b821cf421d4f5eb2576359d3770cd3"),
            _variant("Qwen2-VL-7B", "eed13092ef92e448dd6875b2a00151bd3f7db0ac"),
            _variant("Qwen2-VL-2B", "895c3a49bc3fa70a340399125c650a463535e71c"),
            _variant("Qwen3-VL-8B", "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b"),
            _variant("Qwen3-VL-4B", "ebb281ec70b05090aa6165b016eac8ec08e71b17"),
            _variant("Qwen3-VL-2B", "89644892e4d85e24eaac8bacfd4f463576704203"),
        ),
        recipes={
            "captioning": Recipe(
                prompt="Describe the image in English:",
                decoding=Decoding(max_new_tokens=30),
                source="https://github.com/QwenLM/Qwen-VL/blob/master/eval_mm/evaluate_caption.py",
            ),
            "vqa": Recipe(
                prompt="{question}\nAnswer the question using a single word or phrase.",
                decoding=Decoding(max_new_tokens=128),
                source="LLaVA-1.5's prompt, by the field's usage; the authors publish none for these models",
            ),
        },
        max_images=8,  # trained with several; how many fit depends on their size, and too many tokens are an error
        conversations=True,
        libraries=("torch", "transformers", "tokenizers", "pillow"),
        batch_size=16,
    )

    def __init__(self, model: VisionLanguageModel, images: Any) -> None:
        self.model = model
        self._images = images

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The bounds on an image's size, and the template.

        Raises:
            CheckpointError: The configuration is missing or of another architecture.
        """
        config = read_model_config(checkpoint.path, MODEL_TYPES)
        settings = read_image_settings(checkpoint.path)
        setting = partial(image_setting, checkpoint.path, settings)
        read_chat_template(checkpoint.path)
        least = settings.get("min_pixels") or setting("size", "shortest_edge")
        most = settings.get("max_pixels") or setting("size", "longest_edge")
        unit = setting("patch_size") * setting("merge_size")
        return Preprocessing(
            image=f"sides to multiples of {unit}, {least} to {most} pixels, aspect ratio kept, bicubic (PIL)",
            text="the checkpoint's chat template, image first",
            details=(
                ("architecture", config["model_type"]),
                ("min_pixels", str(least)),
                ("max_pixels", str(most)),
                ("image_mean", str(setting("image_mean"))),
                ("image_std", str(setting("image_std"))),
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
        from transformers import Qwen2VLImageProcessorPil

        from evalkit_adapters._vision_language import load_tokenizer, load_vision_language  # noqa: PLC0415 # torch

        read_model_config(checkpoint.path, MODEL_TYPES)
        images = Qwen2VLImageProcessorPil.from_pretrained(checkpoint.path, local_files_only=True)
        tokenizer = load_tokenizer(checkpoint.path)
        template = read_chat_template(checkpoint.path)
        dialect = chat_dialect(tokenizer, template, marker=IMAGE_TOKEN, answer_prefix="")
        return cls(load_vision_language(checkpoint.path, placement, tokenizer, dialect), images)

    def prepare_image(self, image: Image) -> PreparedImage:
        """The image's patches (patches, values) and their grid (1, 3), and its share of the prompt.

        Raises:
            ImageError: The image is more than 200 times as long as it is wide.
        """
        if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
            raise ImageError(
                f"An image of {image.width} x {image.height} pixels is too slim for Qwen-VL.", "Leave the image out."
            )
        found = self._images(image, return_tensors="np")
        patches = int(found["image_grid_thw"][0].prod())
        return PreparedImage(
            inputs={name: found[name] for name in ("pixel_values", "image_grid_thw")},
            text=IMAGE_TOKEN * (patches // self._images.merge_size**2),
        )

    def generate(self, requests: Sequence[GenerateRequest[PreparedImage]]) -> list[Generation]:
        """The answer to each conversation, the prompt not included."""
        return self.model.generate(requests)

    def score_candidates(self, requests: Sequence[ScoreRequest[PreparedImage]]) -> list[list[CandidateScore]]:
        """The log-likelihood of each candidate as the answer."""
        return self.model.score_candidates(requests)
