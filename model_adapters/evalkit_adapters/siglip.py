"""SigLIP (Zhai et al. 2023): image and text embeddings trained with a sigmoid loss.

The learned scale and bias of its logits change no rank and are left out: scores are cosines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

from evalkit.errors import CheckpointError
from evalkit.types import CheckpointRef, ModelCard, Preprocessing, Variant
from evalkit_adapters.hub_folder import read_config, read_image_transform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.Image import Image
    from transformers import SiglipTokenizer

    from evalkit.types import Checkpoint, FloatArray, Placement
    from evalkit_adapters._dual_encoder import DualEncoder
    from evalkit_adapters.hub_folder import ImageTransform

MAX_TOKENS: Final = 64
"""Of every released model but one, whose configuration says so."""


def _variant(name: str, revision: str) -> Variant:
    source = CheckpointRef(source=f"google/siglip-{name}", revision=revision)
    return Variant(name=name, checkpoints={"default": source})


class SiglipAdapter:
    """SigLIP base and SO400M; the default is the size that papers' tables quote, SO400M at 384 pixels."""

    card: ClassVar[ModelCard] = ModelCard(
        name="siglip",
        version=1,
        summary="SigLIP: image and text embeddings trained with a sigmoid loss.",
        paper="https://arxiv.org/abs/2303.15343",
        licence="Apache-2.0",
        variants=(
            _variant("so400m-patch14-384", "9fdffc58afc957d1a03a25b10dba0329ab15c2a3"),
            _variant("base-patch16-224", "7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed"),
        ),
        libraries=("torch", "transformers", "sentencepiece", "pillow"),
    )

    def __init__(
        self, model: DualEncoder, tokenizer: SiglipTokenizer, transform: ImageTransform, max_tokens: int
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._transform = transform
        self._max_tokens = max_tokens

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The processor's image settings and the treatment of texts.

        Raises:
            CheckpointError: The configuration is missing or of another architecture.
        """
        length = _max_tokens(checkpoint.path)
        transform = read_image_transform(checkpoint.path)
        return Preprocessing(
            image=str(transform),
            text=f"lower case, no punctuation, SentencePiece, padded to {length} tokens that are attended to",
            details=(
                ("image_mean", str(transform.mean)),
                ("image_std", str(transform.std)),
                ("attention", "sdpa"),
            ),
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the weights from a folder of transformers.

        Raises:
            CheckpointError: A file is missing, or the weights are not of this architecture.
        """
        from transformers import SiglipModel, SiglipTokenizer

        from evalkit_adapters._dual_encoder import load_pretrained  # noqa: PLC0415 # imports torch

        length = _max_tokens(checkpoint.path)
        transform = read_image_transform(checkpoint.path)
        if not (checkpoint.path / "spiece.model").is_file():
            raise CheckpointError(
                f"{checkpoint.path} has no spiece.model, SigLIP's vocabulary.",
                "Copy it from the checkpoint's hub page into the folder.",
            )
        tokenizer = SiglipTokenizer.from_pretrained(checkpoint.path, do_lower_case=True, local_files_only=True)
        # the text embedding is that of the last position, which padding on the right fills with end tokens
        tokenizer.padding_side = "right"
        return cls(load_pretrained(SiglipModel, checkpoint.path, placement), tokenizer, transform, length)

    def prepare_image(self, image: Image) -> FloatArray:
        """(3, side, side) float32."""
        return self._transform.apply(image)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, d) float32, L2-normalized."""
        from evalkit_adapters._dual_encoder import embed_images  # noqa: PLC0415 # imports torch

        return embed_images(self._model, images)

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """(n, d) float32, L2-normalized, in the space of the images."""
        from evalkit_adapters._dual_encoder import embed_texts  # noqa: PLC0415 # imports torch

        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self._max_tokens, return_tensors="pt"
        )
        # trained without a mask: the padding is part of the text
        return embed_texts(self._model, tokens, mask_padding=False)


def _max_tokens(folder: Path) -> int:
    length = (read_config(folder, "siglip").get("text_config") or {}).get("max_position_embeddings", MAX_TOKENS)
    return int(length)
