"""SmolVLM (Marafioti et al. 2025): a small open model, for captions, answers and the likelihood of given answers.

The checkpoint's own chat template, the image whole and in tiles as its processor cuts them, greedy decoding. SmolVLM
comes as transformers' `idefics3`, SmolVLM2 as `smolvlm`; both are read.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

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

MODEL_TYPES: Final = ("idefics3", "smolvlm")
IMAGE_TOKEN: Final = "<image>"
_EDGE: Final = "<fake_token_around_image>"


def _variant(name: str, repository: str, revision: str) -> Variant:
    source = CheckpointRef(source=f"HuggingFaceTB/{repository}", revision=revision)
    return Variant(name=name, checkpoints={"default": source})


class SmolVlmAdapter:
    """SmolVLM and SmolVLM2, from 256 million parameters."""

    card: ClassVar[ModelCard] = ModelCard(
        name="smolvlm",
        version=1,
        summary="SmolVLM: captions and answers from a model of 0.25 to 2.2 billion parameters.",
        paper="https://arxiv.org/abs/2504.05299",
        licence="Apache-2.0",
        variants=(
            _variant("256m", "SmolVLM-256M-Instruct", "7e3e67edbbed1bf9888184d9df282b700a323964"),
            _variant("500m", "SmolVLM-500M-Instruct", "a7da5b986cb59b408707209984f360a5f4ad7e47"),
            _variant("2.2b", "SmolVLM-Instruct", "81cd9a775a4d644f2faf4e7becff4559b46b14c7"),
            _variant("2-500m", "SmolVLM2-500M-Video-Instruct", "7b375e1b73b11138ff12fe22c8f2822d8fe03467"),
        ),
        recipes={
            "captioning": Recipe(
                prompt="Provide a one-sentence caption for the provided image.",
                decoding=Decoding(max_new_tokens=64),
                source="the field's usage; the authors publish no protocol for captions",
            ),
            "vqa": Recipe(
                prompt="{question}\nAnswer the question using a single word or phrase.",
                decoding=Decoding(max_new_tokens=128),
                source="LLaVA-1.5's prompt, by the field's usage; the authors publish none",
            ),
        },
        max_images=7,  # trained with several; 1,100 tokens each with all their tiles, of 8,192 positions
        conversations=True,
        libraries=("torch", "transformers", "tokenizers", "pillow"),
        batch_size=16,
    )

    def __init__(self, model: VisionLanguageModel, images: Any, tokens_a_tile: int) -> None:
        self.model = model
        self._images = images
        self._tile = IMAGE_TOKEN * tokens_a_tile

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The sizes of the image and of its tiles, and the template.

        Raises:
            CheckpointError: The configuration is missing or of another architecture.
        """
        config = read_model_config(checkpoint.path, MODEL_TYPES)
        settings = read_image_settings(checkpoint.path)
        read_chat_template(checkpoint.path)
        setting = partial(image_setting, checkpoint.path, settings)
        tile, longest = setting("max_image_size", "longest_edge"), setting("size", "longest_edge")
        split = settings.get("do_image_splitting", True)
        shape = f", and in tiles of {tile}x{tile} after resizing the longest side to {longest}" if split else ""
        return Preprocessing(
            image=f"{tile}x{tile} whole{shape}; Pillow filter {settings.get('resample', 1)}",
            text="the checkpoint's chat template, image first",
            details=(
                ("architecture", config["model_type"]),
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
        from transformers import Idefics3ImageProcessorPil, SmolVLMImageProcessorPil

        from evalkit_adapters._vision_language import load_tokenizer, load_vision_language  # noqa: PLC0415 # torch

        config = read_model_config(checkpoint.path, MODEL_TYPES)
        kind = Idefics3ImageProcessorPil if config["model_type"] == "idefics3" else SmolVLMImageProcessorPil
        tokenizer = load_tokenizer(checkpoint.path)
        template = read_chat_template(checkpoint.path)
        dialect = chat_dialect(tokenizer, template, marker=IMAGE_TOKEN, answer_prefix=" ")
        model = load_vision_language(checkpoint.path, placement, tokenizer, dialect, images_are_one_sample=True)
        full = model.network.model.config
        tokens = (full.vision_config.image_size // full.vision_config.patch_size) ** 2 // full.scale_factor**2
        return cls(model, kind.from_pretrained(checkpoint.path, local_files_only=True), tokens)

    def prepare_image(self, image: Image) -> PreparedImage:
        """The tiles (tiles, 3, side, side) with the whole image last, and their share of the prompt."""
        found = self._images(image, return_tensors="np", return_row_col_info=True)
        rows, columns = found["rows"][0][0], found["cols"][0][0]
        text = ""
        for row in range(1, rows + 1):
            tiles = (f"{_EDGE}<row_{row}_col_{column}>{self._tile}" for column in range(1, columns + 1))
            text += f"{''.join(tiles)}\n"
        text = f"{text}\n" if text else text
        text += f"{_EDGE}<global-img>{self._tile}{_EDGE}"
        names = ("pixel_values", "pixel_attention_mask")
        return PreparedImage(inputs={name: found[name][0] for name in names}, text=text)

    def generate(self, requests: Sequence[GenerateRequest[PreparedImage]]) -> list[Generation]:
        """The answer to each conversation, the prompt not included."""
        return self.model.generate(requests)

    def score_candidates(self, requests: Sequence[ScoreRequest[PreparedImage]]) -> list[list[CandidateScore]]:
        """The log-likelihood of each candidate as the answer."""
        return self.model.score_candidates(requests)
