"""Files of images with captions, in the usual forms; each can be written again with some captions left out.

- BLIP's list: `[{"image": "a/b.jpg", "caption": "a child"}]`, `caption` a text or a list of texts;
- the same as JSON lines;
- a captioner's results: `[{"image_id": 42, "caption": "a child"}]`, as a list or as lines;
- COCO's annotations: `{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}`.

Fields that nobody here knows are kept as they are. An image that loses every caption is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evalkit.datasets.annotation_json import as_list, as_object, id_of, list_of, read_json, relative_path, text_of
from evalkit.datasets.captioned import malformed
from evalkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Form = Literal["list", "lines", "coco"]
_PLACE = re.compile(r"\{image_id(?::0(\d{1,2}))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One caption with its image."""

    record: int
    """Which record of the file it is in."""
    image: str
    """The image's file, below the images' folder."""
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionFile:
    """A file of images with captions."""

    form: Form
    records: tuple[Mapping[str, object], ...]
    """COCO: the annotations."""
    pairs: tuple[Pair, ...]
    """In the file's order."""
    around: Mapping[str, object]
    """COCO: the whole file; else empty."""

    def filtered(self, kept: Sequence[bool]) -> bytes:
        """The file with those captions only, in its own form.

        Args:
            kept: One a pair.
        """
        left: dict[int, list[str]] = {}
        for pair, keep in zip(self.pairs, kept, strict=True):
            if keep:
                left.setdefault(pair.record, []).append(pair.caption)
        records = [_with(self.records[number], captions) for number, captions in left.items()]
        if self.form == "lines":
            return b"".join(json.dumps(record).encode() + b"\n" for record in records)
        if self.form == "list":
            return json.dumps(records).encode() + b"\n"
        return json.dumps({**self.around, "images": self._images(records), "annotations": records}).encode() + b"\n"

    def _images(self, annotations: Sequence[Mapping[str, object]]) -> list[object]:
        """COCO's images without those that lost every caption; those that had none stay."""
        before = {str(each["image_id"]) for each in self.records}
        lost = before - {str(each["image_id"]) for each in annotations}
        images = self.around["images"]
        assert isinstance(images, list)
        return [image for image in images if str(image["id"]) not in lost]


def read_caption_file(file: Path, name_rule: str | None) -> CaptionFile:
    """Read a file of any of the forms.

    Args:
        file: The file.
        name_rule: Where records name an `image_id` only: the image's file, such as
            `val2014/COCO_val2014_{image_id:012}.jpg`.

    Raises:
        DataError: Missing, malformed or of no known form.
        ConfigError: The name rule is missing, or has no place for the id.
    """
    form, content = _content(file)
    if form == "coco":
        return _read_coco(as_object(content, file, "the file"), file)
    where = "line" if form == "lines" else "entry"
    records = [as_object(value, file, f"{where} {n}") for n, value in enumerate(as_list(content, file, "the file"), 1)]
    pairs = [
        Pair(record=number, image=image, caption=caption)
        for number, record in enumerate(records)
        for image, caption in _pairs(record, file, f"{where} {number + 1}", name_rule)
    ]
    return _checked(CaptionFile(form=form, records=tuple(records), pairs=tuple(pairs), around={}), file)


def _content(file: Path) -> tuple[Form, object]:
    if file.suffix in (".jsonl", ".ndjson"):
        return "lines", _read_lines(file)
    if file.is_file() and _begins_with_an_object(file):
        return "lines", _read_lines(file)
    content = read_json(file)
    return ("coco" if isinstance(content, dict) else "list"), content


def _begins_with_an_object(file: Path) -> bool:
    """Whether the first line is a record by itself, as in JSON lines; COCO's annotations on one line are not."""
    with file.open("rb") as stream:
        first = stream.readline()
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "annotations" not in value


def _read_lines(file: Path) -> list[object]:
    """The objects of a file of JSON lines."""
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.", "Check its name and permissions.") from error
    return [_parsed(line, file, number) for number, line in enumerate(lines, 1) if line.strip()]


def _parsed(line: bytes, file: Path, number: int) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise malformed(file, f"line {number} is not JSON ({error})") from error


def _pairs(record: Mapping[str, object], file: Path, where: str, name_rule: str | None) -> Iterator[tuple[str, str]]:
    if "image" in record:
        image = text_of(record, "image", file, where)
    elif "image_id" in record:
        image = _by_rule(name_rule, id_of(record, "image_id", file, where), file)
    else:
        raise malformed(file, f"{where} has neither 'image' nor 'image_id'")
    relative_path(image, file, where)
    if not isinstance(record.get("caption"), list):
        yield image, text_of(record, "caption", file, where)
        return
    for number, caption in enumerate(list_of(record, "caption", file, where)):
        if not isinstance(caption, str):
            raise malformed(file, f"caption {number + 1} of {where} is not a text")
        yield image, caption


def _by_rule(name_rule: str | None, image_id: str, file: Path) -> str:
    if name_rule is None:
        raise ConfigError(
            f"{file} names images by id only.",
            'Say how their files are named: --file-name "COCO_val2014_{image_id:012}.jpg".',
        )
    if not _PLACE.search(name_rule):
        raise ConfigError(
            f"--file-name {name_rule!r} has no place for the image's id.",
            "Write {image_id}, or {image_id:012} for twelve digits.",
        )
    return _PLACE.sub(lambda place: image_id.zfill(int(place[1] or 0)), name_rule)


def _read_coco(content: Mapping[str, object], file: Path) -> CaptionFile:
    names: dict[str, str] = {}
    for index, value in enumerate(list_of(content, "images", file, "the file")):
        where = f"images[{index}]"
        record = as_object(value, file, where)
        name = text_of(record, "file_name", file, where)
        relative_path(name, file, where)
        image = id_of(record, "id", file, where)
        if image in names:
            raise malformed(file, f"image {image} occurs twice, the second time at {where}")
        names[image] = name
    records, pairs = [], []
    for index, value in enumerate(list_of(content, "annotations", file, "the file")):
        where = f"annotations[{index}]"
        record = as_object(value, file, where)
        image = id_of(record, "image_id", file, where)
        if image not in names:
            raise malformed(file, f"{where} is of image {image}, which is not among the images")
        records.append(record)
        pairs.append(Pair(record=index, image=names[image], caption=text_of(record, "caption", file, where)))
    return _checked(CaptionFile(form="coco", records=tuple(records), pairs=tuple(pairs), around=content), file)


def _checked(captions: CaptionFile, file: Path) -> CaptionFile:
    if not captions.pairs:
        raise malformed(file, "it holds no caption")
    without = set(range(len(captions.records))) - {pair.record for pair in captions.pairs}
    if without:
        raise malformed(file, f"record {min(without) + 1} has no caption")
    return captions


def _with(record: Mapping[str, object], captions: Sequence[str]) -> Mapping[str, object]:
    return {**record, "caption": list(captions)} if isinstance(record["caption"], list) else record
