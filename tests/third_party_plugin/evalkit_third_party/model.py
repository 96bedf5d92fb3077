"""A model adapter in one file: knows the colors of images and of words."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from evalkit.types import CheckpointRef, ModelCard, Preprocessing, Variant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from evalkit.types import Checkpoint, FloatArray, Placement

COLORS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "white": (1, 1, 1)}
WEIGHTS = CheckpointRef(source="package:evalkit-third-party")


class ColorModel:
    """An image's embedding is its mean color, a text's the sum of the colors it names."""

    card: ClassVar[ModelCard] = ModelCard(
        name="third_party_model",
        version=1,
        summary="Mean colors.",
        paper="none",
        licence="Apache-2.0",
        variants=(Variant(name="only", checkpoints={"default": WEIGHTS}),),
        libraries=("numpy", "pillow"),
    )

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """Nothing depends on the checkpoint."""
        return Preprocessing(image="1x1 squash, box (PIL)", text="words, lower case")

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """There is nothing to load."""
        return cls()

    def prepare_image(self, image: Image) -> FloatArray:
        """(3,) float32 in 0..1: the mean color."""
        import numpy as np
        from PIL.Image import Resampling

        return np.asarray(image.resize((1, 1), resample=Resampling.BOX), np.float32).reshape(3) / np.float32(255)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, 4) float32, L2-normalized."""
        return _normalized([tuple(image.tolist()) for image in images])

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """(n, 4) float32, L2-normalized."""
        named = [[COLORS[word] for word in text.lower().split() if word in COLORS] for text in texts]
        return _normalized([tuple(map(sum, zip((0, 0, 0), *colors, strict=True))) for colors in named])


def _normalized(colors: Sequence[tuple[float, ...]]) -> FloatArray:
    import numpy as np

    # a fourth component, so that black has a direction
    vectors = np.array([(*color, 0.1) for color in colors], np.float64)
    unit: FloatArray = (vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))).astype(np.float32)
    return unit
