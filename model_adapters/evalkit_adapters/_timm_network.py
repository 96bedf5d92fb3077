"""A network of timm without its classifier. Imports torch: import it in `load`."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from torch.nn import functional

from evalkit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import FloatArray, Placement


class TimmNetwork:
    """A network that gives its pooled features.

    Args:
        folder: `config.json` and the weights.
        pooling: As timm's `global_pool`.
        placement: Where it runs, and in which precision.

    Raises:
        CheckpointError: A weight is missing or unknown, has another shape, or the network has no such pooling.
    """

    def __init__(self, folder: Path, pooling: str, placement: Placement) -> None:
        try:
            # with its classifier, and taken off afterwards: timm loads strictly only what has the classes of the file
            network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
            network.reset_classifier(0, pooling)
        except (
            OSError,
            ValueError,
            KeyError,
            RuntimeError,
            AssertionError,
            SafetensorError,
            pickle.UnpicklingError,
        ) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"{folder} cannot be loaded by timm, with pooling {pooling!r}: {reason}",
                "Get the checkpoint again, name another one with --checkpoint, or leave -m pooling= out.",
            ) from error
        self._device, self._dtype = placement.device, getattr(torch, placement.dtype)
        self._network = network.to(self._device, self._dtype).eval()

    def embed(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, d) float32, L2-normalized."""
        pixels = torch.from_numpy(np.stack(images)).to(self._device, self._dtype)
        with torch.inference_mode():
            vectors: FloatArray = functional.normalize(self._network(pixels).float(), dim=-1).cpu().numpy()
        return vectors
