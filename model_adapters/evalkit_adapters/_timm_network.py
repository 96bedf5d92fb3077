"""A network of timm without its classifier. Imports torch: import it in `load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from timm.models import clean_state_dict
from timm.models._hub import load_model_config_from_path
from torch.nn import functional

from evalkit.errors import CheckpointError
from evalkit_adapters._tensor_files import UNREADABLE, read_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import FloatArray, Placement

_FILES: Final = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
_OTHER_FILES: Final = ("*.safetensors", "*.pth", "*.bin")
_NESTS: Final = ("state_dict_ema", "model_ema", "state_dict", "model")  # of a training checkpoint, as timm looks


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
        weights = _read_weights(folder)
        try:
            network = _build(folder, weights)
            network.reset_classifier(0, pooling)
        except UNREADABLE as error:
            told = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(
                f"{folder} cannot be loaded by timm, with pooling {pooling!r}: {told[:300]}",
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


def _build(folder: Path, weights: dict[str, torch.Tensor]) -> Any:
    """What `create_model("local-dir:FOLDER", pretrained=True)` makes, but of weights that were read here.

    timm below 1.0.26 runs what a `.bin` has pickled, and cuts the name of a folder at `#` and `?`. The classifier is
    made too, and taken off afterwards: timm loads strictly only what has the classes of the file.
    """
    settings, architecture, arguments = load_model_config_from_path(folder)
    if not timm.is_model(architecture):  # a name may be an address as well
        raise ValueError(f"Unknown model ({architecture})")
    settings |= {"source": "", "url": "", "file": "", "hf_hub_id": None, "state_dict": weights}
    # the first three by name: arguments of the file must not be able to name other weights
    network = timm.create_model(
        architecture,
        checkpoint_path="",
        cache_dir=None,
        pretrained_cfg_overlay=None,
        pretrained=True,
        pretrained_cfg=settings,
        **arguments,
    )
    network.pretrained_cfg["state_dict"] = None
    told = settings.get("num_classes", network.num_classes)
    if network.num_classes != told or arguments.get("in_chans") not in (None, 3):
        raise ValueError(f"its model_args contradict its {told} classes or its images of 3 channels")
    return network


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the first file that timm looks for; nothing in it is run."""
    found = [file for name in _FILES if (file := folder / name).is_file()]
    found += [file for pattern in _OTHER_FILES for file in sorted(folder.glob(pattern))]
    if not found:
        raise CheckpointError(
            f"{folder} has no weights: looked for {', '.join((*_FILES, *_OTHER_FILES))}.",
            "Get the checkpoint again (`hf download ORG/NAME`), or name another one with --checkpoint.",
        )
    content: Any = _read_safetensors(found[0]) if found[0].suffix == ".safetensors" else read_tensors(found[0])
    if isinstance(content, dict):
        content = next((content[name] for name in _NESTS if isinstance(content.get(name), dict)), content)
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            weights: dict[str, torch.Tensor] = clean_state_dict(content)
            return weights
    raise CheckpointError(f"{found[0]} holds other things than weights.", "Name another one with --checkpoint.")


def _read_safetensors(file: Path) -> object:
    try:
        return load_file(file)
    except UNREADABLE as error:
        raise CheckpointError(
            f"{file} cannot be read as a file of tensors ({type(error).__name__}).", f"Delete {file} and get it again."
        ) from error
