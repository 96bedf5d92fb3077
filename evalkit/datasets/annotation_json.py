"""Annotation files as JSON: every error names the file and the place in it."""

from __future__ import annotations

import gc
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from evalkit.datasets.captioned import malformed
from evalkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def read_json(file: Path) -> object:
    """The whole content of a JSON file.

    Raises:
        DataError: Missing, unreadable, empty, truncated or malformed; names line and column.
    """
    return _parsed(_content(file), file)


def read_json_lines(file: Path) -> list[object]:
    """The values of a file that has one JSON value a line; blank lines are passed over.

    Raises:
        DataError: As `read_json`.
    """
    lines = _content(file).split(b"\n")
    return [_parsed(line, file, before) for before, line in enumerate(lines) if line.strip()]


def _content(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"{file}: there is no such file.",
            "Correct its name; a benchmark's own file comes with `evalkit data prepare TASK`.",
        ) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.", "Check what it is and its permissions.") from error
    if not data.strip():
        raise malformed(file, "the file is empty")
    return data


def _parsed(data: bytes, file: Path, lines_before: int = 0) -> object:
    try:
        return _parse(data)
    except json.JSONDecodeError as error:
        # A cut-off file fails where it ends, or at the beginning of the string that it cuts.
        at_end = not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated string")
        what = "the JSON is truncated" if at_end else "the JSON is malformed"
        place = f"line {lines_before + error.lineno}, column {error.colno}"
        raise malformed(file, f"{what} at {place} ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise malformed(file, f"the JSON is malformed: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise malformed(file, "the JSON is malformed: nested too deeply") from error


def _parse(data: bytes) -> object:
    # Nothing in a parsed tree is garbage, but the collector walks the growing tree again and again: without it, the
    # 144 MB of dataset_coco.json take 0.8 s instead of 4.4 s.
    enabled = gc.isenabled()
    gc.disable()
    try:
        return json.loads(data)
    finally:
        if enabled:
            gc.enable()


def as_object(value: object, file: Path, where: str) -> Mapping[str, object]:
    """A JSON object, or an error that says where one is missing."""
    if not isinstance(value, dict):
        raise malformed(file, f"{where} is {_kind(value)}, not an object")
    return value


def as_list(value: object, file: Path, where: str) -> Sequence[object]:
    """A JSON list, or an error that says where one is missing, or which of its texts is none."""
    if not isinstance(value, list):
        raise malformed(file, f"{where} is {_kind(value)}, not a list")
    for index, item in enumerate(value):
        if isinstance(item, str):
            _check_text(item, file, f"entry {index} of {where}")
    return value


def text_of(record: Mapping[str, object], key: str, file: Path, where: str) -> str:
    """A text field of a record, or an error that names the record."""
    value = _present(record, key, file, where)
    if not isinstance(value, str):
        raise malformed(file, f"{key!r} of {where} is {_kind(value)}, not a text")
    _check_text(value, file, f"{key!r} of {where}")
    return value


def id_of(record: Mapping[str, object], key: str, file: Path, where: str) -> str:
    """An id field of a record, integer or text, as text; or an error that names the record."""
    value = _present(record, key, file, where)
    if not isinstance(value, (int, str)) or isinstance(value, bool) or value == "":
        raise malformed(file, f"{key!r} of {where} is {_kind(value)}, not an id")
    if isinstance(value, str):
        _check_text(value, file, f"{key!r} of {where}")
    return str(value)


def list_of(record: Mapping[str, object], key: str, file: Path, where: str) -> Sequence[object]:
    """A list field of a record, or an error that names the record."""
    return as_list(_present(record, key, file, where), file, f"{key!r} of {where}")


def relative_path(text: str, file: Path, where: str) -> PurePosixPath:
    """A path below the images' folder, or an error: an annotation file has no business elsewhere on the machine."""
    path = PurePosixPath(text)
    if not path.name or path.is_absolute() or ".." in path.parts or "\0" in text:
        raise malformed(file, f"{where} names {text!r}, which is not a file below the images' folder")
    return path


def _present(record: Mapping[str, object], key: str, file: Path, where: str) -> object:
    if key not in record:
        raise malformed(file, f"{where} has no {key!r}")
    return record[key]


def _check_text(value: str, file: Path, what: str) -> None:
    # JSON can spell half of a surrogate pair, which is no character: nothing could print, tokenize or store it.
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = value[error.start]
        raise malformed(file, f"{what} has half a surrogate pair, \\u{ord(half):04x}, at {error.start}") from error


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value)
    shown = text if len(text) <= 40 else f"{text[:37]}..."
    return f"the text {shown}" if isinstance(value, str) else shown
