"""Vision transformers that see images only: ViT (Dosovitskiy et al. 2021), DINO (Caron et al. 2021) and DINOv2.

An image's embedding is its class token, the mean of its patches, or what the checkpoint's own pooler makes of the
class token: `-m pooling=cls`, `mean` or `pooler`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

from evalkit.errors import CheckpointError
from evalkit.types import CheckpointRef, ModelCard, Preprocessing, Variant
from evalkit_adapters.hub_folder import no_pooler, read_config, read_image_transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from evalkit.types import Checkpoint, FloatArray, Placement
    from evalkit_adapters._vit_network import VisionTransformer
    from evalkit_adapters.hub_folder import ImageTransform

_POOLED: Final = {
    "cls": "class token of the last layer, normalized by the layer norm",
    "mean": "mean of the patch tokens of the last layer, normalized by the layer norm",
    "pooler": "the checkpoint's own pooler, of the class token",
}
_KINDS: Final = ("vit", "dinov2", "dinov2_with_registers")


def _variant(source: str, revision: str, *trained_on: str) -> Variant:
    reference = CheckpointRef(source=source, revision=revision)
    return Variant(name=source.partition("/")[2], checkpoints={"default": reference}, trained_on=trained_on)


class VitAdapter:
    """ViT, DINO and DINOv2 with and without registers, through transformers."""

    card: ClassVar[ModelCard] = ModelCard(
        name="vit",
        version=1,
        summary="ViT, DINO, DINOv2: image embeddings from vision transformers that were never shown a text.",
        paper="https://arxiv.org/abs/2010.11929",
        licence="Apache-2.0",
        variants=(
            _variant("facebook/dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415"),
            _variant("facebook/dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056"),
            _variant("facebook/dinov2-large", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"),
            _variant("facebook/dinov2-giant", "611a9d42f2335e0f921f1e313ad3c1b7178d206d"),
            _variant("facebook/dinov2-with-registers-large", "e4c89a4e05589de9b3e188688a303d0f3c04d0f3"),
            _variant("facebook/dino-vitb16", "f205d5d8e640a89a2b8ef0369670dfc37cc07fc2"),
            # DINO and DINOv2 saw images of ImageNet, but no labels
            _variant(
                "google/vit-base-patch16-224",
                "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3",
                "ImageNet-21k",
                "ImageNet-1k",
            ),
            _variant("google/vit-base-patch16-224-in21k", "b4569560a39a0f1af58e3ddaf17facf20ab919b0", "ImageNet-21k"),
            _variant("google/vit-large-patch16-224-in21k", "6074eaf2211423e928c93b93ef773d5da618aa7e", "ImageNet-21k"),
        ),
        settings={"pooling": tuple(_POOLED)},
        libraries=("torch", "transformers", "pillow"),
    )

    def __init__(self, network: VisionTransformer, transform: ImageTransform) -> None:
        self._network = network
        self._transform = transform

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The processor's image settings, and what is pooled.

        Raises:
            CheckpointError: The configuration is missing, of another architecture, or not that of the images.
        """
        kind, transform = _read(checkpoint)
        pooling = checkpoint.setting("pooling")
        return Preprocessing(
            image=str(transform),
            text="",
            details=(
                ("architecture", kind),
                ("image_mean", str(transform.mean)),
                ("image_std", str(transform.std)),
                ("pooling", f"{pooling}: {_POOLED[pooling]}"),
                ("attention", "sdpa"),
            ),
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the weights from a folder of transformers.

        Raises:
            CheckpointError: A file is missing, the weights are not of this architecture, or have no pooler.
        """
        from evalkit_adapters._vit_network import VisionTransformer  # noqa: PLC0415 # imports torch

        kind, transform = _read(checkpoint)
        network = VisionTransformer(checkpoint.path, kind, checkpoint.setting("pooling"), placement)
        return cls(network, transform)

    def prepare_image(self, image: Image) -> FloatArray:
        """(3, side, side) float32."""
        return self._transform.apply(image)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, d) float32, L2-normalized."""
        return self._network.embed(images)


def _read(checkpoint: Checkpoint) -> tuple[str, ImageTransform]:
    """The architecture, and what is done to images."""
    folder = checkpoint.path
    config = read_config(folder, *_KINDS)
    kind = str(config["model_type"])
    # the processors' own defaults: ViT's is bilinear, BiT's, which DINOv2 is used with, bicubic
    transform = read_image_transform(folder, ("bilinear", "bicubic") if kind == "vit" else ("bicubic", "bilinear"))
    # DINOv2 interpolates its positions, as it was trained to
    if kind == "vit" and transform.side != config.get("image_size", 224):
        raise CheckpointError(
            f"{folder}: images come out at {transform.side} pixels, and the network takes {config.get('image_size')}.",
            "Set size in preprocessor_config.json to image_size in config.json.",
        )
    if kind != "vit" and checkpoint.setting("pooling") == "pooler":
        raise no_pooler(folder)
    return kind, transform
