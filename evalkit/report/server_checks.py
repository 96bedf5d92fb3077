"""Whether a file is what an evaluation server takes, for files made here and elsewhere.

The rules are those of the official code that reads such files: `vqaTools/vqa.py` of GT-Vision-Lab/VQA, COCO's results
format and its evaluation code, `evaluate.py` of visdial-challenge-starter-pytorch, `nlvr2/eval/metrics.py` of
lil-lab/nlvr. A rule that their code does not check, but that changes a score in silence, is checked here all the same.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from evalkit.errors import DataError
from evalkit.families.dialog import DialogSample
from evalkit.metrics.captions.sanitise import single_line
from evalkit.report.server_files import check_identifier, keys_of, number_of
from evalkit.report.text import elide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evalkit.types import Prediction, Sample

Key: TypeAlias = int | str | tuple[int, int]
"""A question's or image's number, an identifier, or an image and a round."""

VERDICTS = ("true", "false", "unparsed")
"""In any case of letters, as the official script reads them; what is neither of the first two counts as wrong."""
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a whole file answers."""

    key: str
    """What the server calls a sample: `question_id`, `image_id`, `identifier`."""
    value: str
    """What answers it: `answer`, `caption`, `rounds`."""
    asked: Mapping[Key, int]
    """What is to be answered, in the split's order -> how many candidates are to be ranked, 0 where none are."""


def expected_of(kind: type[Prediction], samples: Sequence[Sample]) -> Expected:
    """What a server expects for the samples of a split.

    Args:
        kind: What the task predicts.
        samples: The whole split, or the part of it that is asked for.

    Raises:
        ConfigError: No server takes such predictions.
        DataError: A sample's id is not one of a server's, or occurs twice.
    """
    key, value = keys_of(kind, "auto")
    asked: dict[Key, int] = {}
    for sample in samples:
        for one, options in _asked(sample, key):
            if one in asked:
                raise DataError(f"{key} {_name(one)} occurs twice.", "Correct the split's annotation file.")
            asked[one] = options
    return Expected(key=key, value=value, asked=asked)


def _asked(sample: Sample, key: str) -> Iterable[tuple[Key, int]]:
    if key == "identifier":
        return [(check_identifier(sample.id), 0)]
    number = number_of(sample.id)
    if not isinstance(sample, DialogSample):
        return [(number, 0)]
    rounds = enumerate(sample.rounds, 1)
    return [((number, place), len(one.options)) for place, one in rounds if one.options]


def check_server_file(content: bytes, expected: Expected, name: str) -> None:
    """Refuse a file that the server would refuse, or would score otherwise than it looks.

    Args:
        content: The file.
        expected: What it should answer.
        name: What to call it in the message.

    Raises:
        DataError: Names the first things that are wrong with it, and how many there are.
    """
    found = problems(content, expected)
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DataError(
            f"{name} is not what the server takes: {'; '.join(found[:_SHOWN])}{more}.",
            "Correct what wrote it; docs/exporting.md shows each server's file.",
        )


def problems(content: bytes, expected: Expected) -> list[str]:
    """Everything that is wrong with a file, in its order, then what is missing from it; empty for a good one."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return [f"it is not UTF-8 (byte {error.start})"]
    if text.startswith("\ufeff"):
        return ["it begins with a byte order mark, which no official code expects"]
    if expected.key == "identifier":
        found = list(_line_problems(text, expected))
        keys: list[Key] = [fields[0] for fields in _lines(text)]
    else:
        try:
            rows = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            return [f"it is not JSON ({error})"]
        if not isinstance(rows, list):
            return ["it is not a JSON list"]
        found = [problem for place, row in enumerate(rows) for problem in _row_problems(row, place, expected)]
        keys = [key for row in rows if (key := _key_of(row, expected)) is not None]
    return found + list(_count_problems(keys, expected))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys are all different: of equal ones the reader would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{_shown(twice)} occurs twice in one object")
    return found


def _count_problems(keys: Sequence[Key], expected: Expected) -> Iterator[str]:
    counted = Counter(keys)
    for key, count in counted.items():
        if key not in expected.asked:
            yield f"{expected.key} {_name(key)} is not of this split"
        elif count > 1:
            yield f"{expected.key} {_name(key)} occurs {count} times"
    missing = [key for key in expected.asked if key not in counted]
    if missing:
        names = ", ".join(_name(key) for key in missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        yield f"{len(missing):,} of {len(expected.asked):,} have no answer: {expected.key} {names}"


def _name(key: Key) -> str:
    return f"{key[0]}, round {key[1]}" if isinstance(key, tuple) else elide(str(key), 60)


# ---------------------------------------------------------------------------------------------------------------------
# JSON: VQA, captions, VisDial
# ---------------------------------------------------------------------------------------------------------------------
def _row_problems(row: object, place: int, expected: Expected) -> Iterator[str]:
    where = f"entry {place}"
    names = (expected.key, "round_id", "ranks") if expected.value == "rounds" else (expected.key, expected.value)
    if not isinstance(row, dict):
        yield f"{where} is not an object"
        return
    if set(row) != set(names):
        yield f"{where} has the fields {', '.join(map(repr, sorted(row)))}, not {', '.join(map(repr, names))}"
        return
    for name in names[:-1]:
        if type(row[name]) is not int:  # true is an int to isinstance
            yield f"{name} of {where} is {_shown(row[name])}, which is not a whole number"
    if expected.value == "rounds":
        yield from _rank_problems(row, where, expected)
    else:
        yield from _text_problems(row[expected.value], f"{expected.value} of {where}", caption=names[-1] == "caption")


def _text_problems(text: object, where: str, *, caption: bool) -> Iterator[str]:
    """An empty text is allowed: the official code counts it as a wrong answer, or scores it as a caption without words.

    A line break within a caption is replaced by the official code if it is a line feed; after any other one, the
    captions that follow are scored against the wrong images.
    """
    if not isinstance(text, str):
        yield f"{where} is {_shown(text)}, which is not a text"
    elif any("\ud800" <= one <= "\udfff" for one in text):
        yield f"{where} has a lone surrogate, which is no character"
    elif caption and single_line(text) != text:
        yield f"{where} has a line break in it"


def _rank_problems(row: dict[str, object], where: str, expected: Expected) -> Iterator[str]:
    ranks, key = row["ranks"], _key_of(row, expected)
    if not isinstance(ranks, list) or any(type(rank) is not int for rank in ranks):
        yield f"ranks of {where} is not a list of whole numbers"
        return
    wanted = expected.asked.get(key) if key is not None else None
    if wanted is None:
        return  # `_count_problems` says it
    if sorted(ranks) != list(range(1, wanted + 1)):
        yield f"ranks of {where} ({expected.key} {_name(key or 0)}) is not each of 1 to {wanted} once"


def _key_of(row: object, expected: Expected) -> Key | None:
    if not isinstance(row, dict):
        return None
    number = row.get(expected.key)
    if type(number) is not int:
        return None
    if expected.value != "rounds":
        return number
    place = row.get("round_id")
    return (number, place) if type(place) is int else None


def _shown(value: object) -> str:
    return elide(repr(value), 60)


# ---------------------------------------------------------------------------------------------------------------------
# Lines: NLVR2
# ---------------------------------------------------------------------------------------------------------------------
def _lines(text: str) -> list[list[str]]:
    """As the official script takes lines apart: blanks belong to a field, but for those at both ends of the line.

    It reads two fields and ignores others. An empty line is one too, and makes it fail.
    """
    return [line.strip().split(",") for line in io.StringIO(text, newline=None)]


def _line_problems(text: str, expected: Expected) -> Iterator[str]:
    for number, (identifier, *values) in enumerate(_lines(text), 1):
        if not values:
            yield f"line {number} is {_shown(identifier)}, not an {expected.key}, a comma and a verdict"
        elif values[0].lower() not in VERDICTS:
            yield f"the verdict of {_name(identifier)} is {_shown(values[0])}, not True or False"


# ---------------------------------------------------------------------------------------------------------------------
# What a good file is good for
# ---------------------------------------------------------------------------------------------------------------------
_ADVICE = {
    "vqav2-test-dev": "EvalAI's phases test-dev and test-standard both take the answers to all of test2015: send the"
    " file of -o split=test-std to either.",
    "coco-karpathy-caption": "COCO's own server takes all of val2014 and all of test2014; this is Karpathy's test split"
    " in the same form, for COCO's evaluation code.",
}


def advice(protocol: str) -> str:
    """What to know before sending a file of a split; empty where there is nothing.

    Args:
        protocol: `Protocol.name`; of a part of a split too.
    """
    return next((text for name, text in _ADVICE.items() if protocol.startswith(name)), "")
