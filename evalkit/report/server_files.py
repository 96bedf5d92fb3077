"""A run's answers as the files that evaluation servers take.

VQA (EvalAI): `[{"question_id": 42000, "answer": "white"}]`. nocaps and COCO captions: `[{"image_id": 0, "caption":
"a child"}]`. VisDial (EvalAI): `[{"image_id": 1, "round_id": 10, "ranks": [3, 1, 2]}]`, a rank from 1 for each
candidate of a round; equal scores are ranked in the candidates' order. NLVR2 (its server is closed; for the official
scripts): lines of `dev-850-0-0,False`, and `unparsed` where a text is no verdict, which they count as wrong. Every
question, image, round or statement to answer stands in it once, in the split's order. JSON is written in ASCII, so that
no server's locale matters. A caption's line breaks become spaces, as they do where captions are scored here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

from evalkit.errors import ConfigError, DataError
from evalkit.families.captioning import CaptionPrediction
from evalkit.families.dialog import DialogPrediction
from evalkit.families.question_answering import VqaPrediction
from evalkit.families.statements import StatementPrediction
from evalkit.metrics.captions.sanitise import single_line
from evalkit.metrics.visdial import whole_ranks
from evalkit.types import Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMED = 10
FORMATS = ("vqa", "nocaps", "coco", "visdial", "nlvr2")
Row: TypeAlias = "dict[str, int | str | list[int]]"


def server_file(predictions: Sequence[Prediction], format: str = "auto") -> bytes:
    """The server's file as JSON; for NLVR2, lines of values between commas.

    Args:
        predictions: One a sample of the whole split, in order.
        format: `vqa`, `nocaps`, `coco`, `visdial`, `nlvr2`, or `auto` for what the predictions are of.

    Raises:
        ConfigError: The predictions are of another kind than the format.
        DataError: A sample has no answer, occurs twice, or has an id that is not a number.
    """
    kinds = {type(one) for one in predictions}
    key, value = keys_of(kinds.pop() if len(kinds) == 1 else Prediction, format)
    _refuse_failed(predictions)
    if key == "identifier":
        return _verdict_lines([one for one in predictions if isinstance(one, StatementPrediction)])
    rows: dict[int, list[Row]] = {}
    for one in predictions:
        number = number_of(one.sample_id)
        if number in rows:
            raise DataError(f"{key} {number} occurs twice.", "Correct the split's annotation file.")
        rows[number] = [{key: number, **answer} for answer in _answers(one, value)]
    return json.dumps([row for of_one in rows.values() for row in of_one]).encode() + b"\n"


def number_of(sample_id: str) -> int:
    """A sample's id as the number that a server knows it by.

    Raises:
        DataError: It is none.
    """
    if not (sample_id.isascii() and sample_id.isdecimal()):
        raise DataError(f"The server's ids are numbers, and {sample_id!r} is none.", "It has no such file.")
    return int(sample_id)


def check_identifier(sample_id: str) -> str:
    """An official identifier of NLVR2, as it is.

    Raises:
        DataError: BLIP's list of the statements has none.
    """
    if not sample_id.rpartition("-")[2].isdecimal():
        raise DataError(
            f"{sample_id!r} is not an official identifier: BLIP's list of the statements has none.",
            "Run it on the official file: `evalkit data prepare nlvr2`.",
        )
    return sample_id


def _refuse_failed(predictions: Sequence[Prediction]) -> None:
    failed = [one for one in predictions if one.failure is not None]
    if not failed:
        return
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    others = f" Others: {', '.join(one.sample_id for one in failed[1:_NAMED])}{more}." if len(failed) > 1 else ""
    raise DataError(
        f"{len(failed)} of {len(predictions)} samples have no answer, the first is {failed[0].sample_id}: "
        f"{failed[0].failure}.{others}",
        "The server takes whole splits only: correct the cause and run the same command again.",
    )


def _verdict_lines(predictions: Sequence[StatementPrediction]) -> bytes:
    lines: dict[str, str] = {}
    for one in predictions:
        if check_identifier(one.sample_id) in lines:
            raise DataError(f"identifier {one.sample_id} occurs twice.", "Correct the split's annotation file.")
        lines[one.sample_id] = f"{one.sample_id},{one.answer or 'unparsed'}\n"
    return "".join(lines.values()).encode()


def _answers(prediction: Prediction, field: str) -> list[Row]:
    if isinstance(prediction, DialogPrediction):
        return [{"round_id": one.round_id, "ranks": whole_ranks(one.scores)} for one in prediction.rounds]
    if isinstance(prediction, CaptionPrediction):
        return [{field: single_line(prediction.caption)}]
    return [{field: getattr(prediction, field)}]


def empty_answers(predictions: Sequence[Prediction]) -> int:
    """How many answers hold nothing that a server could count as right: no words, or a verdict that is none."""
    texts = (VqaPrediction, CaptionPrediction, StatementPrediction)
    return sum(not _text_of(one).strip() for one in predictions if isinstance(one, texts))


def _text_of(prediction: VqaPrediction | CaptionPrediction | StatementPrediction) -> str:
    return prediction.caption if isinstance(prediction, CaptionPrediction) else prediction.answer


def keys_of(kind: type[Prediction], format: str) -> tuple[str, str]:
    """What the server calls a sample, and the field of a prediction that answers it.

    Args:
        kind: What the predictions are.
        format: As `server_file`.

    Raises:
        ConfigError: No server takes such predictions, or not in that format.
    """
    fits: tuple[str, ...]
    if issubclass(kind, VqaPrediction):
        fits, keys = ("vqa",), ("question_id", "answer")
    elif issubclass(kind, CaptionPrediction):
        fits, keys = ("nocaps", "coco"), ("image_id", "caption")
    elif issubclass(kind, DialogPrediction):
        fits, keys = ("visdial",), ("image_id", "rounds")
    elif issubclass(kind, StatementPrediction):
        fits, keys = ("nlvr2",), ("identifier", "answer")
    else:
        raise ConfigError("No server takes answers of this kind.", f"There are files for: {', '.join(FORMATS)}.")
    if format not in ("auto", *fits):
        raise ConfigError(f"These answers are no {format} file.", f"Give --format {' or '.join(fits)}.")
    return keys
