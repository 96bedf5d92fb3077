"""What BLIP does to images and captions before the network.

As `data/__init__.py` and `data/utils.py` of https://github.com/salesforce/BLIP do it. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from evalkit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL.Image import Image

    from evalkit.types import FloatArray

MAX_WORDS: Final = 30
MAX_TOKENS: Final = 35
ENC_ID: Final = 30523
"""[ENC] marks the image-grounded encoder. Given by number: tokenizers saved beside weights often lack it."""
BASE_VOCABULARY: Final = 30522
"""Entries of bert-base-uncased; [DEC] and [ENC] follow."""
OFFICIAL_SIZE: Final = 384
OFFICIAL_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
OFFICIAL_STD: Final = (0.26862954, 0.26130258, 0.27577711)

_PUNCTUATION = re.compile(r'[.!"()*#:;~]')
_SPACES = re.compile(r"\s{2,}")
_BASE_VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"  # of its vocab.txt
_BICUBIC = 3


def clean_caption(caption: str) -> str:
    r"""A caption as BLIP's retrieval sees it.

    Lower case; each of `. ! " ( ) * # : ; ~` becomes a space; runs of white space become one space; the ends are
    trimmed; at most 30 words remain. Commas, hyphens and apostrophes stay.

    >>> clean_caption('A man (left)... holds  a "well-made" cup, doesn\'t he?')
    "a man left holds a well-made cup, doesn't he?"
    """
    spaced = _SPACES.sub(" ", _PUNCTUATION.sub(" ", caption.lower()))
    return " ".join(spaced.rstrip("\n").strip(" ").split(" ")[:MAX_WORDS])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """Squash to a square with Pillow's bicubic filter, scale to 0..1, normalize by channel."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, image: Image) -> FloatArray:
        """(3, size, size) float32 of an RGB image; the aspect ratio is not kept."""
        import numpy as np
        from PIL.Image import Resampling

        square = image.resize((self.size, self.size), resample=Resampling.BICUBIC)
        pixels: FloatArray = np.asarray(square, dtype=np.float32) / np.float32(255)
        pixels -= np.asarray(self.mean, np.float32)
        pixels /= np.asarray(self.std, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_image_transform(path: Path) -> ImageTransform:
    """The transform of a checkpoint: the official one of an original file, else as its processor's file says.

    Raises:
        CheckpointError: The folder has no processor file, or one that asks for something else than BLIP does.
    """
    if path.is_file():
        return ImageTransform(size=OFFICIAL_SIZE, mean=OFFICIAL_MEAN, std=OFFICIAL_STD)
    file, settings = _processor_settings(path)
    for name, expected in (("do_resize", True), ("do_rescale", True), ("do_normalize", True), ("resample", _BICUBIC)):
        if settings.get(name, expected) != expected:
            raise CheckpointError(
                f"{file}: BLIP's preprocessing needs {name} = {expected}, and this file says {settings[name]}.",
                "Correct the file, or use another checkpoint.",
            )
    size = settings.get("size", OFFICIAL_SIZE)
    height, width = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    if not isinstance(height, int) or height != width:
        raise CheckpointError(
            f"{file}: `size` is {size}, and BLIP squashes images to a square.", 'Set it to {"height": N, "width": N}.'
        )
    mean, std = settings.get("image_mean", OFFICIAL_MEAN), settings.get("image_std", OFFICIAL_STD)
    if len(mean) != 3 or len(std) != 3:
        raise CheckpointError(f"{file}: image_mean and image_std must have three values each.", "Correct the file.")
    return ImageTransform(size=height, mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]))


def _processor_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    # transformers 5 writes one file for the whole processor, earlier versions one for the image half
    for name, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        file = folder / name
        if file.is_file():
            try:
                settings = json.loads(file.read_text("utf-8"))
            except ValueError as error:
                raise CheckpointError(f"{file} is not JSON: {error}.", "Get the file again.") from error
            if part is not None and isinstance(settings, dict):
                settings = settings.get(part)
            if isinstance(settings, dict):
                return file, settings
            raise CheckpointError(f"{file} has no settings of an image processor.", "Get the file again.")
    raise CheckpointError(
        f"{folder} has no preprocessor_config.json, which says how images are resized.",
        "Copy it from the checkpoint's hub page into the folder.",
    )


def load_tokenizer(source: Path) -> Callable[[str], tuple[int, ...]]:
    """The bert-base-uncased tokenizer over a vocabulary file, as a function from caption to token ids.

    The function cleans the caption and gives [CLS] words [SEP], at most 35 ids, no padding. It remembers its answers: a
    caption is asked about with many images.

    Args:
        source: A `vocab.txt`, or a `tokenizer.json` of the tokenizers library; entries after those of
            bert-base-uncased ([DEC], [ENC]) are allowed.

    Raises:
        CheckpointError: The file is not the vocabulary of bert-base-uncased.
    """
    from tokenizers import BertWordPieceTokenizer

    vocabulary = _read_vocabulary(source)
    base = sorted(vocabulary, key=vocabulary.__getitem__)[:BASE_VOCABULARY]
    if hashlib.sha256(("\n".join(base) + "\n").encode()).hexdigest() != _BASE_VOCABULARY_SHA256:
        raise CheckpointError(
            f"{source} is not the vocabulary of bert-base-uncased, which BLIP was trained with.",
            "Put the vocab.txt of hub repository google-bert/bert-base-uncased in its place.",
        )
    # built from the words alone: the settings in tokenizer files (truncation, padding, case) vary between copies
    tokenizer = BertWordPieceTokenizer(vocab=vocabulary, lowercase=True)
    tokenizer.enable_truncation(max_length=MAX_TOKENS)

    @lru_cache(maxsize=1 << 16)
    def tokenize(caption: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(clean_caption(caption)).ids)

    return tokenize


def _read_vocabulary(source: Path) -> dict[str, int]:
    try:
        text = source.read_text("utf-8")
        if source.suffix == ".json":
            vocabulary: dict[str, int] = json.loads(text)["model"]["vocab"]
            return vocabulary
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{source} cannot be read as a vocabulary: {error!r}.", "Get the file again.") from error
    return {token: number for number, token in enumerate(text.rstrip("\n").split("\n"))}
