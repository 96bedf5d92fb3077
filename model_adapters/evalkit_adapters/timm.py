"""Image classifiers and other image encoders of timm: ResNet, Inception v3 and v4, Inception-ResNet, EfficientNet.

An image's embedding is the pooled output of the last layer before the classifier. Images are prepared with Pillow, as
timm's own evaluation transform does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from evalkit.types import CheckpointRef, ModelCard, Preprocessing, Variant
from evalkit_adapters.timm_folder import OWN_POOLING, read_timm_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from evalkit.types import Checkpoint, FloatArray, Placement
    from evalkit_adapters._timm_network import TimmNetwork
    from evalkit_adapters.timm_folder import TimmFolder, TimmTransform


def _variant(name: str, revision: str, *trained_on: str) -> Variant:
    reference = CheckpointRef(source=f"timm/{name}", revision=revision)
    return Variant(name=name, checkpoints={"default": reference}, trained_on=trained_on)


class TimmAdapter:
    """Whatever timm loads from a hub repository of its form, or a local folder of that form."""

    card: ClassVar[ModelCard] = ModelCard(
        name="timm",
        version=1,
        summary="ResNet, Inception, EfficientNet and the rest of timm: pooled image features.",
        paper="https://github.com/huggingface/pytorch-image-models",
        licence="Apache-2.0",
        variants=(
            _variant("resnet50.a1_in1k", "767268603ca0cb0bfe326fa87277f19c419566ef", "ImageNet-1k"),
            _variant("tf_efficientnet_b0.in1k", "8186ca4217f9c67824ebe7566008bdc69976d15a", "ImageNet-1k"),
        ),
        settings={"pooling": (OWN_POOLING, "avg", "max", "avgmax", "catavgmax"), "size": ("train", "test")},
        libraries=("torch", "timm", "pillow"),
        extra="timm",
        modules=("timm",),
    )

    def __init__(self, network: TimmNetwork, transform: TimmTransform) -> None:
        self._network = network
        self._transform = transform

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The evaluation transform, and what is pooled.

        Raises:
            CheckpointError: The configuration is missing, is not timm's, or asks for what this adapter does not do.
        """
        folder = _read(checkpoint)
        return Preprocessing(
            image=str(folder.transform),
            text="",
            details=(
                ("architecture", folder.architecture),
                ("image_mean", str(folder.transform.mean)),
                ("image_std", str(folder.transform.std)),
                ("pooling", folder.pooling),
                ("size", checkpoint.setting("size")),
            ),
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the weights.

        Raises:
            CheckpointError: A file is missing, or the weights are not of this architecture.
        """
        from evalkit_adapters._timm_network import TimmNetwork  # noqa: PLC0415 # imports torch

        folder = _read(checkpoint)
        return cls(TimmNetwork(checkpoint.path, folder.pooling, placement), folder.transform)

    def prepare_image(self, image: Image) -> FloatArray:
        """(3, side, side) float32."""
        return self._transform.apply(image)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, d) float32, L2-normalized."""
        return self._network.embed(images)


def _read(checkpoint: Checkpoint) -> TimmFolder:
    return read_timm_folder(checkpoint.path, checkpoint.setting("pooling"), checkpoint.setting("size"))
