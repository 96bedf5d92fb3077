"""Reading a checkpoint folder of transformers without torch: its architecture, and how its images are prepared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from evalkit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.Image import Image

    from evalkit.types import FloatArray

Filter: TypeAlias = Literal["bilinear", "bicubic"]
"""Of Pillow, for resizing."""

_FILTERS: dict[int, Filter] = {2: "bilinear", 3: "bicubic"}  # by Pillow's numbers
_SCALE = 1 / 255
_REQUIRED = {"do_resize": True, "do_rescale": True, "do_normalize": True}


def read_config(folder: Path, *model_types: str) -> dict[str, Any]:
    """A folder's `config.json`.

    Args:
        folder: The checkpoint's folder.
        model_types: The architectures it may be of, as transformers names them.

    Raises:
        CheckpointError: There is none, or it is of another architecture.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder.", "Name a folder as `save_pretrained` writes it.")
    config = read_json(folder / "config.json")
    if config is None:
        raise CheckpointError(f"{folder} has no config.json.", "Name a folder as `save_pretrained` writes it.")
    if config.get("model_type") not in model_types:
        raise CheckpointError(
            f"{folder} holds a model of type {config.get('model_type')!r}, and "
            f"{' or '.join(map(repr, model_types))} is needed.",
            "Name a checkpoint of this architecture, or another --model (`evalkit list`).",
        )
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """Resize with a filter of Pillow's, crop, scale to 0..1, normalize by channel."""

    size: int
    """Length of the shortest side after resizing; of both where `crop` is None."""
    crop: int | None
    """Side of the square that is cut from the middle; None where images are squashed to a square instead."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    filter: Filter = "bicubic"

    def __str__(self) -> str:
        if self.crop is None:
            return f"{self.size}x{self.size} squash, {self.filter} (PIL)"
        return f"shortest side {self.size}, {self.filter} (PIL), center crop {self.crop}x{self.crop}"

    @property
    def side(self) -> int:
        """Of the square that the network sees, in pixels."""
        return self.size if self.crop is None else self.crop

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
        resized = image.resize(target, resample=Resampling[self.filter.upper()])
        if self.crop is not None:
            left, top = (target[0] - self.crop) // 2, (target[1] - self.crop) // 2
            resized = resized.crop((left, top, left + self.crop, top + self.crop))
        pixels: FloatArray = np.asarray(resized, np.float32) * np.float32(_SCALE)
        pixels -= np.asarray(self.mean, np.float32)
        pixels /= np.asarray(self.std, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_image_transform(folder: Path, filters: Sequence[Filter] = ("bicubic",)) -> ImageTransform:
    """What a folder's processor file says is done to images.

    Args:
        folder: The checkpoint's folder.
        filters: Those that the architecture was trained with; the first is the processor's own default.

    Raises:
        CheckpointError: There is no such file, or it asks for something that `ImageTransform` does not do.
    """
    # transformers 5 writes one file for the whole processor, earlier versions one for the image half
    settings = read_json(folder / "preprocessor_config.json")
    if settings is None:
        settings = (read_json(folder / "processor_config.json") or {}).get("image_processor")
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{folder} has no preprocessor_config.json, which says how images are resized.",
            "Copy it from the checkpoint's hub page into the folder.",
        )
    for name, expected in _REQUIRED.items():
        if settings.get(name, expected) != expected:
            raise _unsupported(folder, name, settings[name])
    number = settings.get("resample")
    named = filters[0] if number is None else _FILTERS.get(number) if isinstance(number, int) else None
    if named is None or named not in filters:
        raise _unsupported(folder, "resample", settings["resample"])
    if abs(settings.get("rescale_factor", _SCALE) - _SCALE) > 1e-9:
        raise _unsupported(folder, "rescale_factor", settings["rescale_factor"])
    crop = _side(settings.get("crop_size")) if settings.get("do_center_crop") else None
    size = _side(settings.get("size"), shortest=crop is not None)
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if size is None or (crop is None) is bool(settings.get("do_center_crop")) or (crop or 0) > size:
        raise _unsupported(folder, "size", [settings.get("size"), settings.get("crop_size")])
    if not (isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == 3):
        raise _unsupported(folder, "image_mean", [mean, std])
    return ImageTransform(size=size, crop=crop, mean=tuple(mean), std=tuple(std), filter=named)


def no_pooler(folder: Path) -> CheckpointError:
    """The error for a pooling that a checkpoint was not trained with."""
    return CheckpointError(
        f"{folder} has no pooler: its weights give tokens alone.", "Leave -m pooling=pooler out, or give another."
    )


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


def read_json(file: Path) -> dict[str, Any] | None:
    """The settings in a JSON file; None where there is no file.

    Raises:
        CheckpointError: It is not JSON, or holds no settings.
    """
    content = read_any_json(file)
    if content is not None and not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no settings.", "Get the file again.")
    return content


def read_any_json(file: Path) -> object:
    """What a JSON file holds; None where there is no file.

    Raises:
        CheckpointError: It is not JSON, or holds nothing: `null`.
    """
    if not file.is_file():
        return None
    try:
        content: object = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}.", "Get the file again.") from error
    if content is None:
        raise CheckpointError(f"{file} holds nothing.", "Get the file again.")
    return content


def vocabulary_of(file: Path) -> dict[str, int]:
    """The entries of a `tokenizer.json` whose tokenizer cuts words into pieces: text -> id.

    Raises:
        CheckpointError: It is not JSON, or of another kind, as T5's, whose entries are a list.
    """
    model = (read_json(file) or {}).get("model")
    entries = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(number, int) for number in entries.values()):
        raise CheckpointError(
            f"{file} cannot be read as a vocabulary of word pieces: `vocab` of its `model` is no table of numbers.",
            "Name a checkpoint of this architecture, or get the file again.",
        )
    return entries
