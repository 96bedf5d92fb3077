"""A trained miniature as a checkpoint folder: weights, the files that real checkpoints have, and a card."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transformers.utils import logging

from evalkit.demo.world.pictures import SIDE
from tools.minis.material import MEAN, STD

if TYPE_CHECKING:
    from pathlib import Path


def save_weights(model: Any, folder: Path) -> None:
    """Weights and configuration, as `save_pretrained` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def write_images(folder: Path, processor: str, *, cropped: bool = False) -> None:
    """How images are prepared: at the world's own size, normalized as officially."""
    settings: dict[str, Any] = {
        "image_processor_type": processor,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_center_crop": cropped,
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": SIDE} if cropped else {"height": SIDE, "width": SIDE},
    }
    if cropped:
        settings["crop_size"] = {"height": SIDE, "width": SIDE}
    write_json(folder / "preprocessor_config.json", settings)


def write_json(file: Path, content: object) -> None:
    """Readable, with a line break at the end."""
    file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
