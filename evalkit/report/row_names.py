"""What the rows of a table are called: names that the user gives, and weights without the folders they lie in."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

from evalkit.errors import ConfigError
from evalkit.report.published_rows import PublishedRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.report.records import Record

MOST = 40
"""Characters of a name, at most: tables elide what is longer."""

RecordT = TypeVar("RecordT", bound="Record")


def renamed(records: Sequence[RecordT], names: Mapping[str, str]) -> list[RecordT]:
    """The records under the names that the user gives them.

    Args:
        records: Numbers of runs and of papers.
        names: A run (its directory, its name, or a unique beginning of it) or a row's label (`blip/base`, `BLIP-L`) ->
            what to call it. A run's own name counts before its label's.

    Raises:
        ConfigError: No record, or those of several runs, are meant; suggests the near ones.
    """
    runs = dict.fromkeys(record.run for record in records if record.run)
    labels = dict.fromkeys(map(_label, records))
    of_runs, of_labels = dict[str, str](), dict[str, str]()
    for key, text in names.items():
        wanted = key.removesuffix(" (published)")
        if wanted in labels:
            of_labels[wanted] = text
        else:
            of_runs[_run(key, list(runs), list(labels))] = text
    return [_named(record, of_runs.get(record.run) or of_labels.get(_label(record))) for record in records]


def parse_names(given: Sequence[str]) -> dict[str, str]:
    """`RUN_OR_LABEL=TEXT` as a mapping.

    Raises:
        ConfigError: One has no name, no text, a text that is too long, or is given twice.
    """
    names: dict[str, str] = {}
    for one in given:
        key, sign, text = (part.strip() for part in one.partition("="))
        if not (key and sign and text):
            raise ConfigError(f"--name {one!r} is not RUN=TEXT or LABEL=TEXT.", "For example: --name clip/base=CLIP.")
        if len(text) > MOST:
            raise ConfigError(f"The name {text!r} has {len(text)} characters.", f"Give one of at most {MOST}.")
        if key in names:
            raise ConfigError(f"--name names {key!r} twice.", "Leave one of them out.")
        names[key] = text
    return names


def without_folders(records: Sequence[RecordT]) -> list[RecordT]:
    """The records with local weights under their last name alone, as others need not see where they lie."""
    return [replace(record, checkpoint=_last_names(record.checkpoint, record.checkpoint_digest)) for record in records]


def _last_names(checkpoint: str, digest: str) -> str:
    """Only of weights whose digest is that of files here, and not of those that came from a web address."""
    digests = digest.split(", ")
    sources = checkpoint.split(",") if len(digests) > 1 else [checkpoint]
    if len(sources) != len(digests):  # a folder with a comma in its name; which part is which cannot be told
        return PurePath(checkpoint).name or checkpoint
    return ",".join(
        re.split(r"[/\\]", source.rstrip("/\\"))[-1] or source
        if one.startswith("sha256:") and "://" not in source
        else source
        for source, one in zip(sources, digests, strict=True)
    )


def _label(record: Record) -> str:
    return record.model if isinstance(record, PublishedRecord) else f"{record.model}/{record.variant}"


def _named(record: RecordT, name: str | None) -> RecordT:
    return record if name is None else replace(record, model=name, variant="")


def _run(key: str, runs: Sequence[str], labels: Sequence[str]) -> str:
    name = PurePath(key).name
    found = [run for run in runs if run == name] or [run for run in runs if name and run.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{len(found)} runs begin with {key!r}.", f"Name one of them: {', '.join(found[:5])}")
    near = difflib.get_close_matches(key, [*labels, *runs], n=3, cutoff=0.5) or labels[:6]
    raise ConfigError(
        f"--name: no run and no row is called {key!r}.", f"The tables have, for example: {', '.join(near)}."
    )
