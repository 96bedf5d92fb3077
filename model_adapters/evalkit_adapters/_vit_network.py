"""Vision transformers of transformers: loading, and pooling of their tokens. Imports torch: import it in `load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.nn import functional
from transformers import Dinov2Model, Dinov2WithRegistersModel, ViTModel

from evalkit_adapters._dual_encoder import load_with_report, refuse_absent
from evalkit_adapters.hub_folder import no_pooler

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from evalkit.types import FloatArray, Placement

_CLASSES: Final[dict[str, type[PreTrainedModel]]] = {
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
    "vit": ViTModel,
}


class VisionTransformer:
    """A network and the way its tokens become one vector.

    Args:
        folder: A checkpoint folder of transformers.
        kind: Its `model_type`.
        pooling: `cls`, `mean` or `pooler`.
        placement: Where it runs, and in which precision.

    Raises:
        CheckpointError: The weights are not of this architecture, or have no pooler and it is asked for.
    """

    def __init__(self, folder: Path, kind: str, pooling: str, placement: Placement) -> None:
        model_class = _CLASSES[kind]
        network, absent = load_with_report(model_class, folder, placement)
        poolers = [name for name in absent if name.startswith("pooler.")]
        refuse_absent(model_class, folder, [name for name in absent if name not in poolers])
        if poolers and pooling == "pooler":
            raise no_pooler(folder)
        self._network: Any = network
        # in front of the patches: the class token, and registers, which were added to keep noise out of the patches
        self._first_patch = 1 + getattr(network.config, "num_register_tokens", 0)
        self._pooling = pooling

    def embed(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, d) float32, L2-normalized."""
        pixels = torch.from_numpy(np.stack(images)).to(self._network.device, self._network.dtype)
        with torch.inference_mode():
            output = self._network(pixel_values=pixels)
            states = output.last_hidden_state.float()
            if self._pooling == "pooler":
                pooled = output.pooler_output.float()
            else:
                pooled = states[:, 0] if self._pooling == "cls" else states[:, self._first_patch :].mean(dim=1)
            vectors: FloatArray = functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors
