"""Reading a checkpoint folder of timm without timm or torch: architecture, pooling, and how images are prepared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from evalkit.errors import CheckpointError
from evalkit_adapters.hub_folder import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from evalkit.types import FloatArray

OWN_POOLING: Final = "checkpoint"
"""The value of the setting that means what the checkpoint says."""

_FILTERS: Final = ("bicubic", "bilinear")
_CROPS: Final = ("center", "squash")
# timm's own, where a file leaves something out
_DEFAULTS: Final[dict[str, Any]] = {
    "crop_mode": "center",
    "crop_pct": 0.875,
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmTransform:
    """timm's evaluation transform: resize with a filter of Pillow's, crop, scale to 0..1, normalize by channel."""

    resize: int
    """Length of the shortest side after resizing; of both for `squash`."""
    crop: int
    """Side of the square that is cut from the middle."""
    mode: Literal["center", "squash"]
    filter: Literal["bicubic", "bilinear"]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        size = f"{self.resize}x{self.resize} squash" if self.mode == "squash" else f"shortest side {self.resize}"
        return f"{size}, {self.filter} (PIL), center crop {self.crop}x{self.crop} (offsets rounded to the nearest)"

    def apply(self, image: Image) -> FloatArray:
        """(3, crop, crop) float32 of an RGB image, as torchvision's transforms compute it."""
        import numpy as np
        from PIL.Image import Resampling

        width, height = image.size
        shortest = min(width, height)
        target = (self.resize, self.resize)
        if self.mode == "center":
            target = (self.resize * width // shortest, self.resize * height // shortest)
        resized = image.resize(target, resample=Resampling[self.filter.upper()])
        left, top = round((target[0] - self.crop) / 2), round((target[1] - self.crop) / 2)
        pixels: FloatArray = np.asarray(resized.crop((left, top, left + self.crop, top + self.crop)), np.float32)
        pixels = pixels / np.float32(255)
        pixels -= np.asarray(self.mean, np.float32)
        pixels /= np.asarray(self.std, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmFolder:
    """What a folder says."""

    architecture: str
    """As timm names it."""
    pooling: str
    """As timm's `global_pool`."""
    transform: TimmTransform


def read_timm_folder(folder: Path, pooling: str, size: str) -> TimmFolder:
    """Read a folder as timm's hub repositories are: `config.json` and the weights.

    Args:
        folder: The checkpoint's folder.
        pooling: A value of timm's `global_pool`, or `checkpoint` for what the folder says.
        size: `train` for the size of images that the weights were trained at, `test` for the larger one that the
            folder names for testing, where it names one.

    Raises:
        CheckpointError: The file is missing, is not timm's, or asks for something that `TimmTransform` does not do.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder.", "Name a folder with timm's config.json and the weights.")
    config = read_json(folder / "config.json") or {}
    settings, architecture = config.get("pretrained_cfg"), config.get("architecture")
    if not isinstance(settings, dict) or not isinstance(architecture, str):
        raise CheckpointError(
            f"{folder} has no config.json of timm's, with an architecture and a pretrained_cfg.",
            "Name a repository timm/... of the hub, or a folder as timm's push_to_hf_hub writes it.",
        )
    pooled = config.get("global_pool") if pooling == OWN_POOLING else pooling
    if not isinstance(pooled, str) or not pooled:
        raise CheckpointError(
            f"{folder}/config.json names no global_pool, so that features have no one vector.",
            "Choose one: -m pooling=avg.",
        )
    return TimmFolder(architecture=architecture, pooling=pooled, transform=_transform(folder, settings, size))


def _transform(folder: Path, settings: dict[str, Any], size: str) -> TimmTransform:
    told = _DEFAULTS | {name: settings[name] for name in _DEFAULTS if settings.get(name) is not None}
    trained = told["input_size"]
    if size == "test":
        told |= {name: settings[f"test_{name}"] for name in ("input_size", "crop_pct") if settings.get(f"test_{name}")}
    shape, share = told["input_size"], told["crop_pct"]
    if not (isinstance(shape, list) and len(shape) == 3 and shape[0] == 3 and shape[1] == shape[2]):
        raise _unsupported(folder, "input_size", shape)
    if settings.get("fixed_input_size") and shape != trained:
        raise _unsupported(folder, "test_input_size", shape)
    if not (isinstance(share, int | float) and 0 < share <= 1):
        raise _unsupported(folder, "crop_pct", share)
    for name, known in (("interpolation", _FILTERS), ("crop_mode", _CROPS)):
        if told[name] not in known:
            raise _unsupported(folder, name, told[name])
    for name in ("mean", "std"):
        if not (isinstance(told[name], list) and len(told[name]) == 3):
            raise _unsupported(folder, name, told[name])
    return TimmTransform(
        resize=math.floor(shape[1] / share),
        crop=shape[1],
        mode=told["crop_mode"],
        filter=told["interpolation"],
        mean=tuple(told["mean"]),
        std=tuple(told["std"]),
    )


def _unsupported(folder: Path, name: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{folder}/config.json: the {name} {value} of pretrained_cfg is not something this adapter does.",
        "Use another checkpoint, or -m size=train.",
    )
