"""Loading and running the dual encoders of transformers (CLIP, SigLIP). Imports torch: import it in `load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch
from torch.nn import functional

from evalkit.errors import CheckpointError
from evalkit_adapters._quiet_loading import quietly
from evalkit_adapters._tensor_files import UNREADABLE
from evalkit_adapters.hub_folder import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import BatchEncoding, PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    from evalkit.types import FloatArray, Placement

ATTENTION: Final = "sdpa"
"""One implementation, so that two installations give the same numbers; transformers would choose by what it finds."""


class DualEncoder(Protocol):
    """What `CLIPModel` and `SiglipModel` have in common."""

    device: torch.device
    dtype: torch.dtype

    def get_image_features(self, *, pixel_values: torch.Tensor) -> BaseModelOutputWithPooling:
        """The embeddings are its `pooler_output`, not normalized."""
        ...

    def get_text_features(
        self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> BaseModelOutputWithPooling:
        """The embeddings are its `pooler_output`, not normalized."""
        ...


def load_pretrained(model_class: type[PreTrainedModel], folder: Path, placement: Placement) -> Any:
    """A model with all of its weights, in evaluation mode, in the precision asked for.

    Raises:
        CheckpointError: A weight is missing, has another shape, or the file cannot be read.
    """
    model, absent = load_with_report(model_class, folder, placement)
    refuse_absent(model_class, folder, absent)
    return model


def load_with_report(
    model_class: type[PreTrainedModel], folder: Path, placement: Placement
) -> tuple[Any, tuple[str, ...]]:
    """As `load_pretrained`, and the names of the weights that the files do not have, which are then random.

    Raises:
        CheckpointError: A weight has another shape, or the file cannot be read.
    """
    read_json(folder / "generation_config.json")  # at anything but settings transformers fails without naming it
    loaded: Any  # annotated as the model alone, and a pair with `output_loading_info`
    try:
        with quietly():
            loaded = model_class.from_pretrained(
                folder,
                dtype=getattr(torch, placement.dtype),  # the default, "auto", would be the file's own precision
                attn_implementation=ATTENTION,
                local_files_only=True,
                output_loading_info=True,
            )
    except UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"The weights in {folder} cannot be loaded as {model_class.__name__}: {reason}",
            "Get the checkpoint again, or name another one with --checkpoint.",
        ) from error
    model, report = loaded
    return model.to(placement.device).eval(), tuple(sorted(report["missing_keys"]))


def refuse_absent(model_class: type[PreTrainedModel], folder: Path, absent: Sequence[str]) -> None:
    """Raise an error that says which weights are missing, where some are.

    Raises:
        CheckpointError: A weight is missing.
    """
    if absent:
        raise CheckpointError(
            f"The weights in {folder} lack {len(absent)} tensors of {model_class.__name__}, {absent[0]} among them.",
            "Get the checkpoint again, or name another one with --checkpoint.",
        )


def embed_images(model: DualEncoder, images: Sequence[FloatArray]) -> FloatArray:
    """(n, d) float32, L2-normalized."""
    pixels = torch.from_numpy(np.stack(images)).to(model.device, model.dtype)
    with torch.inference_mode():
        return _normalized(model.get_image_features(pixel_values=pixels))


def embed_texts(model: DualEncoder, tokens: BatchEncoding, *, mask_padding: bool) -> FloatArray:
    """(n, d) float32, L2-normalized.

    Args:
        model: The model.
        tokens: `input_ids` and, where padding is masked, `attention_mask`.
        mask_padding: Whether the network must not attend to padding.
    """
    mask = tokens["attention_mask"].to(model.device) if mask_padding else None
    with torch.inference_mode():
        return _normalized(model.get_text_features(input_ids=tokens["input_ids"].to(model.device), attention_mask=mask))


def _normalized(output: BaseModelOutputWithPooling) -> FloatArray:
    if output.pooler_output is None:
        raise CheckpointError("The model has no pooled output.", "Name a checkpoint with its pooling head.")
    vectors: FloatArray = functional.normalize(output.pooler_output.float(), dim=-1).cpu().numpy()
    return vectors
