"""Baseline files: numbers that later runs are held against, with what a paired comparison needs of the old run.

`NAME.json` has a number a line, so that a change of it can be read; `NAME.resampled.parquet` beside it has the numbers
on the bootstrap's resamples, and its SHA-256 stands in the first. Neither data nor the old run is needed any more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from evalkit.errors import StoreError
from evalkit.metrics.bootstrap import draw_digest
from evalkit.report.numbers import Number
from evalkit.report.records import Record
from evalkit.store.table import MalformedTable, from_parquet, to_parquet
from evalkit.store.values import Json, decode, encode, load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMAT_VERSION = 1
SUFFIX = ".resampled.parquet"
_AGAIN = "Save it again with `evalkit baseline save`, or restore both files from one commit."

Key: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saved:
    """A number of a baseline."""

    number: Number
    code: str
    """The git commit of the evalkit that made it, else its version; empty where the run says neither."""

    @property
    def key(self) -> Key:
        """What a number is of, whatever the weights: a newer one of the same key takes its place."""
        record = self.number.record
        return (
            record.task,
            record.model,
            record.variant,
            record.split,
            record.metric,
            record.options,
            record.protocol,
            record.limit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row of the file of resamples."""

    number: int
    """The place of its number in the other file, from 0."""
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFiles:
    """The content of the two files."""

    document: bytes
    resampled: bytes | None
    """None where no number has resamples."""


def resampled_file(file: Path) -> Path:
    """The file of resamples that belongs to a baseline file."""
    return file.with_name(file.name.removesuffix(".json") + SUFFIX)


def ordered(numbers: Sequence[Saved]) -> list[Saved]:
    """The numbers in the order of the file: by task, model, protocol, main metric first."""
    return sorted(numbers, key=_place)


def _place(saved: Saved) -> tuple[object, ...]:
    one = saved.number.record
    whole = (one.limit is None, one.limit or 0)
    return (one.task, one.model, one.variant, one.split, one.protocol, whole, not one.main, one.metric, one.options)


def merged(old: Sequence[Saved], new: Sequence[Saved]) -> list[Saved]:
    """The old numbers with the new ones in place of those of the same key, in the order of the file."""
    return ordered(list(({one.key: one for one in old} | {one.key: one for one in new}).values()))


def write_baseline(numbers: Sequence[Saved]) -> BaselineFiles:
    """The two files; equal numbers give equal bytes.

    Raises:
        ValueError: Two numbers have the same key.
    """
    if len({one.key for one in numbers}) < len(numbers):
        raise ValueError("two numbers of a baseline are of the same measurement")
    rows = [
        _Row(number=place, values=tuple(saved.number.resampled.tolist()))
        for place, saved in enumerate(numbers)
        if saved.number.resampled is not None
    ]
    resampled = to_parquet(rows) if rows else None
    lines = ",\n".join(json.dumps(_line(saved), ensure_ascii=True, allow_nan=False) for saved in numbers)
    digest = "null" if resampled is None else f'"{hashlib.sha256(resampled).hexdigest()}"'
    head = f'"format_version": {FORMAT_VERSION},\n"resampled_sha256": {digest},\n"drawn": "{draw_digest()}"'
    document = f'{{\n{head},\n"numbers": [\n{lines}\n]\n}}\n'
    return BaselineFiles(document=document.encode("ascii"), resampled=resampled)


def _line(saved: Saved) -> dict[str, Json]:
    record = encode(Record, saved.number.record)
    assert isinstance(record, dict)
    first = {name: record[name] for name in ("task", "model", "variant", "split", "metric", "value")}
    return first | record | {"unanswered": saved.number.unanswered, "code": saved.code}


def read_baseline(file: Path, *, to_update: bool = False) -> tuple[Saved, ...]:
    """Read a baseline and its resamples; without these, where they were drawn otherwise than here, by another numpy.

    Args:
        file: The JSON file.
        to_update: Refuse such a file instead: written again it would lose them.

    Raises:
        StoreError: A file is missing, malformed, of a newer format, or the two do not belong together.
    """
    document = _read_document(file)
    lines, digest = document["numbers"], document["resampled_sha256"]
    assert isinstance(lines, list)
    resampled = {} if digest is None else _read_resampled(file, str(digest), len(lines))
    if document["drawn"] != draw_digest():
        if to_update and resampled:
            raise StoreError(
                f"{file} has resamples that another version of numpy drew, which new ones cannot be beside.",
                "Save a new file, of all its runs; or install the numpy that it was made with.",
            )
        resampled = {}
    saved = tuple(_saved(line, resampled.get(place), file, f"numbers[{place}]") for place, line in enumerate(lines))
    if len({one.key for one in saved}) < len(saved):
        raise _malformed(file, "two of its numbers are of the same measurement")
    return saved


def _read_document(file: Path) -> dict[str, Json]:
    try:
        document = load(_read(file))
    except ValueError as error:
        raise _malformed(file, error) from error
    if not isinstance(document, dict) or "format_version" not in document:
        raise _malformed(file, "it is no baseline: an object with format_version")
    version = document["format_version"]
    if type(version) is not int or version < 1:
        raise _malformed(file, f"its format_version is {version!r}")
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{file} was written by a newer evalkit (format {version}; this one reads {FORMAT_VERSION}).",
            "Upgrade evalkit.",
        )
    if set(document) != {"format_version", "resampled_sha256", "drawn", "numbers"}:
        raise _malformed(file, f"its fields are {', '.join(sorted(document))}")
    if not isinstance(document["numbers"], list) or not isinstance(document["resampled_sha256"], str | None):
        raise _malformed(file, "numbers is no list, or resampled_sha256 no text")
    return document


def _saved(line: Json, resampled: tuple[float, ...] | None, file: Path, where: str) -> Saved:
    known = {one.name for one in fields(Record)}
    if not isinstance(line, dict):
        raise _malformed(file, f"{where} is no object")
    extra = {name: value for name, value in line.items() if name not in known}
    unanswered, code = extra.pop("unanswered", None), extra.pop("code", None)
    if extra or not isinstance(unanswered, str) or not isinstance(code, str):
        unknown = f"has the unknown field {', '.join(sorted(extra))}" if extra else "lacks unanswered or code"
        raise _malformed(file, f"{where} {unknown}")
    try:
        record = decode(Record, {name: value for name, value in line.items() if name in known}, where)
    except ValueError as error:
        raise _malformed(file, error) from error
    values = None if resampled is None else np.array(resampled, np.float64)
    return Saved(number=Number(record=record, unanswered=unanswered, resampled=values), code=code)


def _read_resampled(file: Path, digest: str, count: int) -> dict[int, tuple[float, ...]]:
    beside = resampled_file(file)
    data = _read(beside)
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(f"{beside} does not belong to {file.name}: its SHA-256 is not the one named there.", _AGAIN)
    try:
        rows = from_parquet(data, _Row)
    except MalformedTable as error:
        raise _malformed(beside, error) from error
    found = {row.number: row.values for row in rows}
    if len(found) < len(rows) or not set(found) <= set(range(count)):
        raise _malformed(beside, f"its numbers are not those of {file.name}")
    return found


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        remedy = _AGAIN if file.name.endswith(SUFFIX) else "Save one: evalkit baseline save RUN... -o FILE"
        raise StoreError(f"There is no file {file}.", remedy) from error
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}.", "Name a baseline file, or correct it.") from error


def _malformed(file: Path, detail: object) -> StoreError:
    return StoreError(f"{file} is malformed: {detail}.", _AGAIN)
