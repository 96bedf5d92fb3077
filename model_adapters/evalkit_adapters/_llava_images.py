"""Images for LLaVA: padded to a square for 1.5, cut into tiles for 1.6. Imports transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from transformers import LlavaNextImageProcessorPil, LlavaNextProcessor

from evalkit_adapters.conversations import LLAVA_MARKER, PreparedImage
from evalkit_adapters.hub_folder import read_image_transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase


def pad_to_square(image: Image.Image, color: tuple[int, ...]) -> Image.Image:
    """`expand2square` of llava/mm_utils.py: the image in the middle of a square of one color."""
    side = max(image.size)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), color)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def padded_square(folder: Path, config: Any) -> Callable[[Image.Image], PreparedImage]:
    """What prepares an image for LLaVA-1.5.

    Args:
        folder: The checkpoint.
        config: The model's configuration.

    Raises:
        CheckpointError: The processor's settings are missing or not those of CLIP.
    """
    transform = read_image_transform(folder)
    color = tuple(int(channel * 255) for channel in transform.mean)
    side = transform.crop or transform.size
    text = LLAVA_MARKER * ((side // config.vision_config.patch_size) ** 2 + _extra_tokens(config))

    def prepare(image: Image.Image) -> PreparedImage:
        pixels = transform.apply(pad_to_square(image, color))
        return PreparedImage(inputs={"pixel_values": pixels[None]}, text=text)

    return prepare


def anyres(folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase) -> Callable[[Image.Image], PreparedImage]:
    """What prepares an image for LLaVA-1.6: the whole, and the tiles of the grid that fits it best.

    Args:
        folder: The checkpoint.
        config: The model's configuration.
        tokenizer: Its tokenizer.
    """
    images: Any = LlavaNextImageProcessorPil.from_pretrained(folder, local_files_only=True)
    kind: Any = LlavaNextProcessor
    processor = kind(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy="full",  # the extra tokens are counted here
        num_additional_image_tokens=_extra_tokens(config),
    )

    def prepare(image: Image.Image) -> PreparedImage:
        found = images(image, return_tensors="np")
        tiles = np.ascontiguousarray(found["pixel_values"][0], dtype=np.float32)
        sizes = np.asarray(found["image_sizes"], dtype=np.int64)
        text = processor.replace_image_token({"pixel_values": [tiles], "image_sizes": sizes.tolist()}, 0)
        return PreparedImage(inputs={"pixel_values": tiles, "image_sizes": sizes}, text=text)

    return prepare


def _extra_tokens(config: Any) -> int:
    """Tokens of the vision tower beside the patches, as far as they are used: CLIP's class token is dropped."""
    return int(config.vision_feature_select_strategy == "full")
