"""Reading a checkpoint folder of transformers without torch: its architecture, and how its images are prepared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from evalkit.types import FloatArray

_BICUBIC = 3  # Pillow's number
_SCALE = 1 / 255
_REQUIRED = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": _BICUBIC}


def read_config(folder: Path, model_type: str) -> dict[str, Any]:
    """A folder's `config.json`.

    Args:
        folder: The checkpoint's folder.
        model_type: The architecture it must be of, as transformers names it.

    Raises:
        CheckpointError: There is none, or it is of another architecture.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder.", "Name a folder as `save_pretrained` writes it.")
    config = _read_json(folder / "config.json")
    if config is None:
        raise CheckpointError(f"{folder} has no config.json.", "Name a folder as `save_pretrained` writes it.")
    if config.get("model_type") != model_type:
        raise CheckpointError(
            f"{folder} holds a model of type {config.get('model_type')!r}, and {model_type!r} is needed.",
            "Name a checkpoint of this architecture, or another --model (`evalkit list`).",
        )
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """Resize with Pillow's bicubic filter, crop, scale to 0..1, normalize by channel."""

    size: int
    """Length of the shortest side after resizing; of both where `crop` is None."""
    crop: int | None
    """Side of the square that is cut from the middle; None where images are squashed to a square instead."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        if self.crop is None:
            return f"{self.size}x{self.size} squash, bicubic (PIL)"
        return f"shortest side {self.size}, bicubic (PIL), center crop {self.crop}x{self.crop}"

    def apply(self, image: Image) -> FloatArray:
        """(3, side, side) float32 of an RGB image, as transformers' Pillow processors compute it."""
        import numpy as np
        from PIL.Image import Resampling

        width, height = image.size
        shortest = min(width, height)
        target = (self.size, self.size)
        if self.crop is not None:
            # rounded down, both here and in the crop's offset
            target = (int(self.size * width / shortest), int(self.size * height / shortest))
        resized = image.resize(target, resample=Resampling.BICUBIC)
        if self.crop is not None:
            left, top = (target[0] - self.crop) // 2, (target[1] - self.crop) // 2
            resized = resized.crop((left, top, left + self.crop, top + self.crop))
        pixels: FloatArray = np.asarray(resized, np.float32) * np.float32(_SCALE)
        pixels -= np.asarray(self.mean, np.float32)
        pixels /= np.asarray(self.std, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_image_transform(folder: Path) -> ImageTransform:
    """What a folder's processor file says is done to images.

    Raises:
        CheckpointError: There is no such file, or it asks for something that `ImageTransform` does not do.
    """
    # transformers 5 writes one file for the whole processor, earlier versions one for the image half
    settings = _read_json(folder / "preprocessor_config.json")
    if settings is None:
        settings = (_read_json(folder / "processor_config.json") or {}).get("image_processor")
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{folder} has no preprocessor_config.json, which says how images are resized.",
            "Copy it from the checkpoint's hub page into the folder.",
        )
    for name, expected in _REQUIRED.items():
        if settings.get(name, expected) != expected:
            raise _unsupported(folder, name, settings[name])
    if abs(settings.get("rescale_factor", _SCALE) - _SCALE) > 1e-9:
        raise _unsupported(folder, "rescale_factor", settings["rescale_factor"])
    crop = _side(settings.get("crop_size")) if settings.get("do_center_crop") else None
    size = _side(settings.get("size"), shortest=crop is not None)
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if size is None or (crop is None) is bool(settings.get("do_center_crop")) or (crop or 0) > size:
        raise _unsupported(folder, "size", [settings.get("size"), settings.get("crop_size")])
    if not (isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == 3):
        raise _unsupported(folder, "image_mean", [mean, std])
    return ImageTransform(size=size, crop=crop, mean=tuple(mean), std=tuple(std))


def _side(size: object, *, shortest: bool = False) -> int | None:
    """A square's side, or an image's shortest, in pixels. Early files give a bare number, later ones name it."""
    if isinstance(size, dict):
        if shortest:
            size = size.get("shortest_edge")
        else:
            size = size.get("height") if size.get("height") == size.get("width") else None
    return size if isinstance(size, int) else None


def _unsupported(folder: Path, name: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{folder}: the image processor's {name} = {value} is not something this adapter does.",
        "Correct the file, or use another checkpoint.",
    )


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}.", "Get the file again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no settings.", "Get the file again.")
    return content
