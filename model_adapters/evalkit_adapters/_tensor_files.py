"""Reading files of tensors that torch has saved: nothing in them is run. Imports torch: import it in `load`."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Final

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from evalkit.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

UNREADABLE: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)
"""What torch raises at a damaged file of tensors, and transformers at settings that are not those of a network."""


def read_tensors(file: Path) -> object:
    """What a file holds that `torch.save` wrote: tensors, and containers of them.

    Raises:
        CheckpointError: It is damaged, no such file, or holds other Python objects.
    """
    try:
        content: object = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        # torch's own message recommends loading unsafely
        raise CheckpointError(
            f"{file} cannot be read as a checkpoint of tensors ({type(error).__name__}).",
            f"Delete {file} and get it again; one that holds other Python objects must be saved anew, its tensors "
            "alone.",
        ) from error
    return content
