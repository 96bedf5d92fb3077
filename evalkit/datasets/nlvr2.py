"""NLVR2 (https://lil.nlp.cornell.edu/nlvr/): the official files, and the lists that BLIP and LAVIS are evaluated with.

- Official `dev.json`, `test1.json`, `test2.json`: one JSON object a line, `{"identifier": "dev-850-0-0", "sentence",
  "label": "True", "left_url", "right_url", ...}`. The identifier is split, image set, image pair and sentence; the
  pair's images are `dev-850-0-img0.png` (left) and `dev-850-0-img1.png`. Training examples also name the `directory`
  below `images/train` in which their images lie.
- BLIP's `nlvr_dev.json`, `nlvr_test.json`: a JSON list, `{"sentence", "label", "images": ["dev/dev-850-0-img0.png",
  "dev/dev-850-0-img1.png"]}`. It has no identifiers, but the image set and the sentence say the same.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from evalkit.datasets.annotation_json import as_list, as_object, list_of, read_json, read_json_lines, text_of
from evalkit.datasets.captioned import malformed
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Subset = Literal["balanced", "unbalanced", ""]
_IMAGE = re.compile(r"(?:(?P<folders>.*)/)?(?P<pair>[^/]+-\d+-\d+)-img(?P<side>[01])\.png")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A sentence about two images."""

    id: str
    """The official identifier; from a list that has none, one that ends in `s1` or `s2`, which no official one does."""
    sentence: str
    images: tuple[ImageRef, ImageRef]
    """Left and right."""
    label: Literal["True", "False", ""]
    """Empty where it is not public."""
    group: str
    """The same for the examples of one sentence in one image set: they are consistent together."""
    image_set: str
    """`dev-850`: the up to four image pairs and two sentences that were made together, and share images."""
    subset: Subset = ""
    """`balanced`: the image pair stands in several examples of the whole split, with both labels. `unbalanced`: in
    several, all of one label. Empty: in one example only, or labels are not public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    statement: Statement
    pair: Hashable


def read_nlvr2(file: Path, images: Path) -> tuple[Statement, ...]:
    """Read a split from any of its files, in the file's order.

    Args:
        file: An official file, or BLIP's list.
        images: The folder that the images lie in, or for training examples the one with their directories. Not looked
            at here.

    Raises:
        DataError: The file is missing, malformed or empty, or an identifier occurs twice.
    """
    if _is_list(file):
        rows = _blip_rows(as_list(read_json(file), file, "the file"), file, images)
    else:
        rows = _official_rows(read_json_lines(file), file, images)
    if not rows:
        raise malformed(file, "the split is empty: it holds no statement")
    seen: set[str] = set()
    for row in rows:
        if row.statement.id in seen:
            raise malformed(file, f"{row.statement.id} occurs twice")
        seen.add(row.statement.id)
    subsets = subsets_of([row.pair for row in rows], [row.statement.label for row in rows])
    return tuple(replace(row.statement, subset=subset) for row, subset in zip(rows, subsets, strict=True))


def subsets_of(pairs: Sequence[Hashable], labels: Sequence[str]) -> list[Subset]:
    """The subset of each example of a whole split, as the official `filter_data.py` tells them apart.

    Args:
        pairs: What identifies the image pair of each: officially the two URLs.
        labels: Of each, empty where it is not public.

    Example:
        >>> subsets_of(["a", "a", "b", "b", "c"], ["True", "False", "True", "True", "False"])
        ['balanced', 'balanced', 'unbalanced', 'unbalanced', '']
    """
    found: defaultdict[Hashable, list[str]] = defaultdict(list)
    for pair, label in zip(pairs, labels, strict=True):
        found[pair].append(label)

    def subset(labels_of_pair: list[str]) -> Subset:
        if len(labels_of_pair) < 2 or "" in labels_of_pair:
            return ""
        return "balanced" if len(set(labels_of_pair)) > 1 else "unbalanced"

    return [subset(found[pair]) for pair in pairs]


def _is_list(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(64).lstrip()[:1] == b"["
    except OSError:
        return False  # whoever reads the file says what is wrong with it


def _official_rows(records: Sequence[object], file: Path, images: Path) -> list[_Row]:
    rows = []
    for index, value in enumerate(records):
        record = as_object(value, file, f"record {index}")
        identifier = text_of(record, "identifier", file, f"record {index}")
        where = f"record {index} ({identifier})"
        if not re.fullmatch(r"[^-/\\]+(-\d+){3}", identifier):
            raise malformed(file, f"the identifier of {where} is not of the form split-set-pair-sentence")
        split, image_set, number, sentence_number = identifier.split("-")
        folder = images
        if "directory" in record:
            directory = str(record["directory"])
            if not directory.isdecimal():
                raise malformed(file, f"the directory of {where} is {directory!r}, not a number")
            folder = images / directory
        name = f"{split}-{image_set}-{number}"
        urls = (record.get("left_url"), record.get("right_url"))
        statement = Statement(
            id=identifier,
            sentence=text_of(record, "sentence", file, where),
            images=_pair(name, folder),
            label=_label(record, file, where),
            group=f"{split}-{image_set}--{sentence_number}",
            image_set=f"{split}-{image_set}",
        )
        rows.append(_Row(statement=statement, pair=name if None in urls else tuple(map(str, urls))))
    return rows


def _blip_rows(records: Sequence[object], file: Path, images: Path) -> list[_Row]:
    rows = []
    numbers: defaultdict[str, dict[str, int]] = defaultdict(dict)  # image set -> sentence -> its number there
    for index, value in enumerate(records):
        where = f"record {index}"
        record = as_object(value, file, where)
        names = list_of(record, "images", file, where)
        sides = [_IMAGE.fullmatch(name) if isinstance(name, str) else None for name in names]
        match sides:
            case [re.Match() as left, re.Match() as right] if left["pair"] == right["pair"]:
                pair = left["pair"]
            case _:
                raise malformed(file, f"the images of {where} are {names!r}, not the two of one pair")
        if (left["side"], right["side"]) != ("0", "1"):
            raise malformed(file, f"the images of {where} are {names!r}, not first the left one, img0")
        sentence = text_of(record, "sentence", file, where)
        image_set = pair.rpartition("-")[0]
        number = numbers[image_set].setdefault(sentence, len(numbers[image_set]) + 1)
        inner = (left["folders"] or "").rpartition("/")[2]
        statement = Statement(
            id=f"{pair}-s{number}",
            sentence=sentence,
            images=_pair(pair, images / inner if inner.isdecimal() else images),
            label=_label(record, file, where),
            group=f"{image_set}--s{number}",
            image_set=image_set,
        )
        rows.append(_Row(statement=statement, pair=pair))
    return rows


def _pair(name: str, folder: Path) -> tuple[ImageRef, ImageRef]:
    left, right = (ImageRef(id=f"{name}-img{side}", source=folder / f"{name}-img{side}.png") for side in (0, 1))
    return left, right


def _label(record: Mapping[str, object], file: Path, where: str) -> Literal["True", "False", ""]:
    label = record.get("label")
    match label.lower() if isinstance(label, str) else label:
        case "true":
            return "True"
        case "false":
            return "False"
        case None:
            return ""
    raise malformed(file, f"the label of {where} is {label!r}, neither True nor False")
