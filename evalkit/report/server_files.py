"""A run's answers as the files that evaluation servers take.

VQA (EvalAI): `[{"question_id": 42000, "answer": "white"}]`. nocaps and COCO captions: `[{"image_id": 0, "caption":
"a child"}]`. Every question or image of the split stands in it once, in the split's order.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from evalkit.errors import ConfigError, DataError
from evalkit.families.captioning import CaptionPrediction
from evalkit.families.question_answering import VqaPrediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import Prediction

FORMATS = ("vqa", "nocaps", "coco")


def server_file(predictions: Sequence[Prediction], format: str = "auto") -> bytes:
    """The server's file as JSON.

    Args:
        predictions: One a sample of the whole split, in order.
        format: `vqa`, `nocaps`, `coco`, or `auto` for what the predictions are of.

    Raises:
        ConfigError: The predictions are of another kind than the format.
        DataError: A sample has no answer, occurs twice, or has an id that is not a number.
    """
    key, value = _keys(predictions, format)
    failed = [one for one in predictions if one.failure is not None]
    if failed:
        raise DataError(
            f"{len(failed)} of {len(predictions)} samples have no answer, the first is {failed[0].sample_id}: "
            f"{failed[0].failure}",
            "The server takes whole splits only: correct the cause and run the same command again.",
        )
    rows: dict[int, dict[str, int | str]] = {}
    for one in predictions:
        if not one.sample_id.isdecimal():
            raise DataError(f"The server's ids are numbers, and {one.sample_id!r} is none.", "It has no such file.")
        number = int(one.sample_id)
        if number in rows:
            raise DataError(f"{key} {number} occurs twice.", "Correct the split's annotation file.")
        rows[number] = {key: number, value: getattr(one, value)}
    return json.dumps(list(rows.values()), ensure_ascii=False).encode() + b"\n"


def _keys(predictions: Sequence[Prediction], format: str) -> tuple[str, str]:
    fits: tuple[str, ...]
    if all(isinstance(one, VqaPrediction) for one in predictions):
        fits, keys = ("vqa",), ("question_id", "answer")
    elif all(isinstance(one, CaptionPrediction) for one in predictions):
        fits, keys = ("nocaps", "coco"), ("image_id", "caption")
    else:
        raise ConfigError("No server takes answers of this kind.", f"There are files for: {', '.join(FORMATS)}.")
    if format not in ("auto", *fits):
        raise ConfigError(f"These answers are no {format} file.", f"Give --format {' or '.join(fits)}.")
    return keys
